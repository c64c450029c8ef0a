"""`python -m trainer mouth`: teeth, gums and tongue as three pictures, from the ICT face model.

The generator lays them between the lips. Each is a frontal orthographic render with alpha: the upper teeth belong to
the skull, the lower teeth and the tongue to the jaw. How the jaw carries its layers is kept as the displacement of
three anchor points per action, from which the runtime makes one affine map a frame.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file
from scipy.spatial import cKDTree

from puppet.errors import InputError
from puppet.generate.mouth import DEFAULT_PATH
from trainer.face_chart import rasterize
from trainer.rig import ACTION_SHAPES, ACTIONS
from trainer.topology import vertex_normals

INSIDE = slice(14062, 21451)  # gums, tongue, teeth
TEETH_START = 17039
_GUM_REACH_CM = 0.45
_THROAT_CM = 4.5  # what lies behind this is the throat
_WIDEST_GAP_CM = 0.16  # between two neighbours' teeth
_GAP_LIGHT = 0.62  # of the teeth beside it: no throat shows between them
_TONGUE_CM = (-3.45, 1.45)  # height of its middle, and half its own: no throat shows above it
ANCHORS_CM = np.array([[-1.5, -3.4, 9.6], [1.5, -3.4, 9.6], [0.0, -4.9, 9.9]], np.float32)
"""Three points near the front teeth whose motion carries a layer."""
_LIGHT = np.array([0.15, 0.45, 0.88])
_SHADED_TEETH = (0.55, 0.3)  # in the cheeks' shade teeth and gums fade: black ones would lie on the tongue
_GUM_LIGHT_CM = 0.2  # along the row: gums are as light as the teeth that stand in them
_ALBEDO = {"teeth": (0.93, 0.90, 0.83), "gums": (0.84, 0.53, 0.50), "tongue": (0.72, 0.36, 0.36)}


@dataclass(frozen=True)
class MouthConfig:
    """Render the inside of the mouth from the ICT face model."""

    rig_dir: Path = Path("../shared/rig")
    """Folder with ict_facekit.npz."""
    output: Path = DEFAULT_PATH
    """Where the safetensors file goes."""
    px_per_cm: float = 40.0
    """Resolution of the pictures."""


def build_mouth(config: MouthConfig) -> None:
    """Write the mouth pictures.

    Raises:
        InputError: the face model is missing.
    """
    path = config.rig_dir / "ict_facekit.npz"
    if not path.exists():
        raise InputError(f"{path} does not exist: expected the ICT face model. Name its folder with --rig-dir.")
    with np.load(path) as rig:
        vertices = rig["neutral_cm"]
        triangles = rig["triangles"]
        names = [str(name) for name in rig["expression_names"]]
        shapes = rig["expression_cm"].astype(np.float32)
    layers = _split_layers(vertices, triangles, shapes[names.index("jawOpen")])
    low = vertices[INSIDE].min(0) - 0.1
    high = vertices[INSIDE].max(0) + 0.1
    arrays = {}
    for name, faces in layers.items():
        is_teeth, picture = _render(vertices, faces, low, high, config.px_per_cm)
        picture = _trimmed(picture, is_teeth, name)
        arrays[name] = _close_gaps(picture, is_teeth & (picture[..., 3] > 0.5), config.px_per_cm)
    arrays["tongue"] = _paint_tongue(low, high, config.px_per_cm)
    arrays["anchor_cm"] = ANCHORS_CM
    arrays["upper_action_cm"] = _carry(shapes, names, vertices, np.unique(layers["upper"]))
    arrays["lower_action_cm"] = _carry(shapes, names, vertices, np.unique(layers["lower"]))
    metadata = {
        "actions": json.dumps(ACTIONS),
        "px_per_cm": str(config.px_per_cm),
        "left_top_cm": json.dumps([float(low[0]), float(high[1])]),
        "licence": "MIT (derived from ICT-FaceKit, USC Institute for Creative Technologies)",
    }
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, config.output, metadata)
    config.output.chmod(0o644)


def _split_layers(vertices: np.ndarray, triangles: np.ndarray, jaw: np.ndarray) -> dict[str, np.ndarray]:
    """Triangles of the upper teeth with their gums and of the lower ones.

    Gums and tongue are one mesh: what the jaw does not carry is upper, what lies close to a lower tooth is gum.
    """
    inside = triangles[((triangles >= INSIDE.start) & (triangles < INSIDE.stop)).all(1)]
    carried = np.linalg.norm(jaw, axis=1) > 0.05
    lower_teeth = np.flatnonzero(carried[TEETH_START : INSIDE.stop]) + TEETH_START
    near, _ = cKDTree(vertices[lower_teeth]).query(vertices)
    moves = carried[inside].any(1)
    is_gum_or_tooth = (inside[:, 0] >= TEETH_START) | (near[inside].min(1) < _GUM_REACH_CM)
    in_front = vertices[inside, 2].min(1) > _THROAT_CM
    return {"upper": inside[~moves & in_front], "lower": inside[moves & is_gum_or_tooth & in_front]}


def _render(
    vertices: np.ndarray, faces: np.ndarray, low: np.ndarray, high: np.ndarray, px_per_cm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where teeth are, `(H, W)` bool, and `(H, W, 4)` float32 RGBA 0-1.

    Drawn at twice the size and averaged; light from above the camera, darker to the back.
    """
    fine = 2 * px_per_cm
    width, height = (int(np.ceil((high[i] - low[i]) * fine / 2)) * 2 for i in (0, 1))
    corners = np.stack([vertices[:, 0] - low[0], high[1] - vertices[:, 1]], 1) * fine
    at, share = rasterize(corners, faces, (height, width), nearness=vertices[:, 2])
    is_drawn = at >= 0
    triangles, share = faces[at[is_drawn]], share[is_drawn]
    depth = np.einsum("pk,pk->p", share, vertices[triangles, 2])
    normals = np.einsum("pk,pkc->pc", share, vertex_normals(vertices, faces)[triangles])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    light = 0.35 + 0.65 * np.clip(np.abs(normals @ _LIGHT), 0, 1)
    front = vertices[np.unique(faces), 2].max()
    in_cheeks = np.clip(1.05 - (front - depth) / 4.5, 0.15, 1)  # their shade on the back teeth
    light *= in_cheeks
    is_tooth = triangles[:, 0] >= TEETH_START
    columns = np.nonzero(is_drawn)[1]
    along = _light_along(light[is_tooth], columns[is_tooth], width, _GUM_LIGHT_CM * fine)
    light = np.where(is_tooth, light, along[columns])
    albedo = np.where(is_tooth[:, None], _ALBEDO["teeth"], _ALBEDO["gums"])
    colour, is_teeth = np.zeros((height, width, 4), np.float32), np.zeros((height, width), bool)
    lit, shaded = _SHADED_TEETH
    alpha = np.clip((in_cheeks - shaded) / (lit - shaded), 0, 1)[:, None]
    colour[is_drawn] = np.c_[albedo * light[:, None] * alpha, alpha]
    is_teeth[is_drawn] = is_tooth
    small = colour.reshape(height // 2, 2, width // 2, 2, 4).mean((1, 3))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return is_teeth.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) >= 0.5, np.clip(small, 0, 1)


def _light_along(light: np.ndarray, columns: np.ndarray, width: int, sigma_px: float) -> np.ndarray:
    """`(width,)` float32 mean light of the teeth's pixels in each column, smoothed along the row.

    `light` `(P,)` 0-1 and `columns` `(P,)` are the pixels', one or more.
    By their own shape gums would be near black between the teeth, which real ones never look.
    """
    count = np.bincount(columns, minlength=width)
    known = np.flatnonzero(count)
    mean = np.bincount(columns, light, minlength=width)[known] / count[known]
    row = np.interp(np.arange(width), known, mean).astype(np.float32)
    return cv2.GaussianBlur(row[None], (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE)[0]


def _trimmed(picture: np.ndarray, is_teeth: np.ndarray, layer: str) -> np.ndarray:
    """`(H, W, 4)` without roots of teeth on the far side of the gums and without gums beyond the teeth's edge.

    `is_teeth` `(H, W)` bool; the upper layer's teeth point down, the lower one's up.
    """
    upright = slice(None) if layer == "upper" else slice(None, None, -1)
    picture, is_teeth = picture[upright].copy(), is_teeth[upright]
    is_gum = (picture[..., 3] > 0.5) & ~is_teeth
    above_gum = np.arange(len(picture))[:, None] < np.where(is_gum.any(0), is_gum.argmax(0), 0)
    picture[above_gum, 3] = 0
    edge = len(picture) - 1 - is_teeth[::-1].argmax(0)
    below_teeth = is_teeth.any(0) & (np.arange(len(picture))[:, None] > edge)
    picture[below_teeth & (picture[..., 3] > 0.5), 3] = 0  # what is fainter is the teeth's own soft edge
    return picture[upright]


def _close_gaps(picture: np.ndarray, is_teeth: np.ndarray, px_per_cm: float) -> np.ndarray:
    """`(H, W, 4)` uint8: narrow gaps between teeth are filled with their colour in the shade, behind them."""
    width = int(_WIDEST_GAP_CM * px_per_cm) | 1
    teeth = is_teeth.astype(np.uint8)
    is_gap = cv2.morphologyEx(teeth, cv2.MORPH_CLOSE, np.ones((1, width), np.uint8)) > teeth
    spread = (2 * width + 1, 3)
    share = cv2.blur(teeth.astype(np.float32), spread)
    colour = cv2.blur(picture[..., :3] * teeth[..., None], spread) / np.maximum(share, 1e-3)[..., None]
    alpha = picture[..., 3:]
    filled = picture[..., :3] * alpha + _GAP_LIGHT * colour * (1 - alpha)
    out = np.where(is_gap[..., None], np.concatenate([filled, np.ones_like(alpha)], -1), picture)
    return np.round(out * 255).astype(np.uint8)


def _paint_tongue(low: np.ndarray, high: np.ndarray, px_per_cm: float) -> np.ndarray:
    """`(H, W, 4)` uint8 RGBA: a rounded mound behind the lower teeth.

    The model's tongue lies at the palate of a closed mouth; what an open one shows is its front, sunk to the jaw.
    """
    width, height = (int(np.ceil((high[i] - low[i]) * px_per_cm)) for i in (0, 1))
    x, y = np.meshgrid(low[0] + (np.arange(width) + 0.5) / px_per_cm, high[1] - (np.arange(height) + 0.5) / px_per_cm)
    radius = np.sqrt((x / 2.1) ** 2 + ((y - _TONGUE_CM[0]) / _TONGUE_CM[1]) ** 2)
    furrow = 1 - 0.1 * np.exp(-((x / 0.28) ** 2)) * np.clip((y + 3.8) / 1.0, 0, 1)
    light = (0.36 + 0.42 * np.clip(1 - radius, 0, 1) ** 0.6) * furrow * np.clip(0.75 - 0.35 * (y + 3.35), 0.4, 1)
    out = np.empty((height, width, 4), np.float32)
    out[..., :3] = np.array(_ALBEDO["tongue"]) * light[..., None]
    out[..., 3] = np.clip((1.0 - radius) / 0.08, 0, 1)
    return np.round(np.clip(out, 0, 1) * 255).astype(np.uint8)


def _carry(shapes: np.ndarray, names: list[str], vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`(A, 3 anchors, 3)` cm: how each action at intensity 5 carries the anchors with the layer of `points`.

    An affine map is fitted to the layer's vertices, for the anchors lie beside them.
    """
    at = np.c_[vertices[points], np.ones(len(points))]
    anchors = np.c_[ANCHORS_CM, np.ones(len(ANCHORS_CM))]
    moved = _actions(shapes, names, points)
    flat = moved.transpose(1, 0, 2).reshape(len(points), -1)
    solution = np.linalg.lstsq(at, flat, rcond=None)[0]
    return (anchors @ solution).reshape(len(ANCHORS_CM), len(ACTIONS), 3).transpose(1, 0, 2).astype(np.float32)


def _actions(shapes: np.ndarray, names: list[str], vertices: np.ndarray) -> np.ndarray:
    """`(A, n, 3)` cm displacement of vertices at intensity 5."""
    out = np.zeros((len(ACTIONS), len(vertices), 3), np.float32)
    for row, action in enumerate(ACTIONS):
        side = f"_{action[-1]}" if action.endswith(("_L", "_R")) else ""
        for shape, weight in ACTION_SHAPES.get(action) or ACTION_SHAPES[action.removesuffix(side)]:
            name = shape if shape in names else f"{shape}{side}"
            out[row] += weight * shapes[names.index(name), vertices]
    return out
