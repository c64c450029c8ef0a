"""Mouth: what shows between the lips.

Where the portrait shows its own teeth they are used (`own_mouth`). Behind them lie upper teeth, lower teeth and tongue
of the face rig, placed by the portrait's fit and lit like the portrait: the upper layer follows the head, the lower
ones the jaw.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from puppet.errors import InputError
from puppet.generate.anatomy import Anatomy
from puppet.generate.canvas import Canvas
from puppet.generate.layers import in_colours, mix, split_alpha
from puppet.generate.motion import HeadPose
from puppet.generate.own_mouth import OwnLook, read_own_mouth
from puppet.generate.slit import Opening
from puppet.landmarks import LIDS
from puppet.rig import LandmarkRig
from puppet.tensors import BYTES, REAL, Layout, read_tensors

MOUTH_FILE = "mouth.safetensors"
DEFAULT_PATH = Path(__file__).parent.parent / "models" / MOUTH_FILE

CAVITY = np.array([36.0, 13.0, 12.0], np.float32)
TONGUE_FOLLOWS = 0.6  # of the jaw's motion: its root hangs from the skull
_TONGUE_LIGHT = 1.45  # the rig's is rendered in the shade of a mouth that is closed
_DENSEST = 0.8  # pixels of a drawn layer for one of the portrait: sharper teeth than it has skin look pasted
_IMAGE = np.array([1.0, -1.0, -1.0])


_LAYOUTS = {name: Layout(BYTES, ("H", "W", 4), 0, 255) for name in ("upper", "lower", "tongue")} | {
    "anchor_cm": Layout(REAL, (3, 3)),
    "upper_action_cm": Layout(REAL, ("A", 3, 3)),
    "lower_action_cm": Layout(REAL, ("A", 3, 3)),
}


@dataclass(frozen=True)
class MouthPictures:
    """A mouth, the rig's or a person's own: `upper`, `lower`, `tongue` `(H, W, 4)` uint8 RGBA, frontal.

    They are `px_per_cm` dense; 255 stands for `white` times what is white in a portrait's light.

    `anchor_cm` `(3, 3)` head-frame points that carry a layer, `upper_action_cm`, `lower_action_cm` `(A, 3, 3)` how
    actions move them at weight 1.
    """

    upper: np.ndarray
    lower: np.ndarray
    tongue: np.ndarray
    anchor_cm: np.ndarray
    upper_action_cm: np.ndarray
    lower_action_cm: np.ndarray
    px_per_cm: float
    left_top_cm: tuple[float, float]
    white: float = 1.0

    @classmethod
    def load(cls, path: str | Path | None = None) -> MouthPictures:
        """The packaged pictures, or those in a file made by `python -m trainer mouth` or `generator --finetune`.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = Path(path) if path is not None else DEFAULT_PATH
        try:
            arrays, metadata = read_tensors(path, _LAYOUTS)
            left, top = (float(value) for value in json.loads(metadata["left_top_cm"]))
            px_per_cm, white = float(metadata["px_per_cm"]), float(metadata.get("white", 1.0))
            if not (abs(left) <= 100 and abs(top) <= 100 and 1 <= px_per_cm <= 1000 and 0.1 <= white <= 10):
                raise ValueError(f"{px_per_cm:g} pixels a centimetre from ({left:g}, {top:g}), white {white:g}")
            return cls(**arrays, px_per_cm=px_per_cm, left_top_cm=(left, top), white=white)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise InputError(
                f"mouth pictures {path} can't be read ({exc}): expected a file made by `python -m trainer mouth`. "
                "Reinstall the package or make it again."
            ) from exc

    def anchors_in_picture(self) -> np.ndarray:
        """`(3, 2)` float32 pixel positions of the anchors in the pictures."""
        left, top = self.left_top_cm
        return (np.stack([self.anchor_cm[:, 0] - left, top - self.anchor_cm[:, 1]], 1) * self.px_per_cm).astype(
            np.float32
        )


class MouthInterior:
    """Draws the inside of one portrait's mouth."""

    def __init__(
        self, canvas: Canvas, anatomy: Anatomy, rig: LandmarkRig, pictures: MouthPictures, rest: Opening | None
    ) -> None:
        """`rest` is the mouth's opening in the portrait itself, None where it is closed.

        Raises:
            InputError: pictures made for a rig with other actions.
        """
        if len(pictures.upper_action_cm) != len(rig.actions):
            raise InputError(
                f"the mouth pictures know {len(pictures.upper_action_cm)} actions, the landmark rig "
                f"{len(rig.actions)}: expected files made together. Reinstall the package."
            )
        self._anatomy = anatomy
        self._pictures = pictures
        fit = anatomy.fit
        own = rig.points(fit.identity, np.zeros(len(rig.actions)))
        width = np.linalg.norm(own[291] - own[61]) / np.linalg.norm(rig.mean_cm[291] - rig.mean_cm[61])
        size = float(np.clip(width, 0.85, 1.2))
        to_px = (fit.scale_px_per_cm * fit.rotation).T
        anchors = (pictures.anchor_cm - rig.mean_cm[13]) * size + own[13]
        posed = rig.points(fit.identity, fit.weights)[13]
        residual = anatomy.points_px[13] - fit.project(posed)
        self.anchors_px = fit.project(anchors) + residual
        self.upper_action_px = (size * pictures.upper_action_cm @ to_px) * _IMAGE
        self.lower_action_px = (size * pictures.lower_action_cm @ to_px) * _IMAGE
        self.light = mouth_light(canvas.still, anatomy.points_px)
        layers = {name: self._lit(getattr(pictures, name)) for name in ("upper", "lower", "tongue")}
        layers["tongue"][..., :3] *= _TONGUE_LIGHT
        shrink = min(1.0, _DENSEST * size * fit.scale_px_per_cm / pictures.px_per_cm)
        self.layers = {name: _shrunk(layer, shrink) for name, layer in layers.items()}
        """Premultiplied float32 RGBA in the portrait's light, no finer than the portrait."""
        height, width = pictures.upper.shape[:2]
        by = np.array(self.layers["upper"].shape[1::-1], np.float32) / (width, height)
        self._picture_anchors = pictures.anchors_in_picture()
        self.layer_anchors = ((self._picture_anchors + 0.5) * by - 0.5).astype(np.float32)
        self.own = None
        if rest is not None:
            skin = skin_colour(canvas.still, anatomy.points_px)
            self.own = read_own_mouth(canvas, anatomy, rest, 255 * self.light, skin)
        self.px_per_cm = fit.scale_px_per_cm

    def draw(
        self, opening: Opening, weights: np.ndarray, rest_weights: np.ndarray, pose: HeadPose, follow: float
    ) -> np.ndarray:
        """`(rows, columns, 3)` float32 RGB of the opening's window.

        `weights` `(A,)` are the rig weights beyond the portrait's own `rest_weights` `(A,)`.
        """
        x0, y0, x1, y1 = opening.window
        size = (x1 - x0, y1 - y0)
        shade = self.shade(opening)
        out = np.empty((size[1], size[0], 3), np.float32)
        out[:] = CAVITY * self.light
        total = weights + rest_weights
        upper, lower = (
            self._affine(self.layer_anchors, action_px, total, pose, follow, (x0, y0))
            for action_px in (self.upper_action_px, self.lower_action_px)
        )
        tongue = upper + (lower - upper) * TONGUE_FOLLOWS
        for name, matrix in (("tongue", tongue), ("lower", lower), ("upper", upper)):
            layer = cv2.warpAffine(self.layers[name], matrix, size, flags=cv2.INTER_LINEAR)
            colours, covered = split_alpha(layer)  # premultiplied
            cv2.multiply(out, 1 - in_colours(covered), dst=out)
            cv2.add(out, colours, dst=out)
        cv2.multiply(out, in_colours(shade), dst=out)
        if self.own is not None:
            look = self.own.look(float(opening.gap_px.max()))
            out = self._lay_own(out, look, weights, pose, follow, (x0, y0), size)
        return out

    def planes(self, weights: np.ndarray, pose: HeadPose, follow: float) -> tuple[np.ndarray, np.ndarray]:
        """`(2, 3)` maps from the upper and the lower of `MouthPictures` to the canvas; `weights` `(A,)` of the rig."""
        return (
            self._affine(self._picture_anchors, self.upper_action_px, weights, pose, follow, (0, 0)),
            self._affine(self._picture_anchors, self.lower_action_px, weights, pose, follow, (0, 0)),
        )

    def _affine(
        self,
        anchors: np.ndarray,
        action_px: np.ndarray,
        weights: np.ndarray,
        pose: HeadPose,
        follow: float,
        origin: tuple[int, int],
    ) -> np.ndarray:
        """`(2, 3)` map to the window from a picture in which the anchors lie at `anchors` `(3, 2)` px."""
        rest = self.anchors_px
        at = rest + np.tensordot(weights, action_px, 1) @ pose.linear.T + (pose.move(rest) - rest) * follow
        return cv2.getAffineTransform(anchors, (at[:, :2] - origin).astype(np.float32))

    def _lay_own(
        self,
        out: np.ndarray,
        look: OwnLook,
        weights: np.ndarray,
        pose: HeadPose,
        follow: float,
        origin: tuple[int, int],
        size: tuple[int, int],
    ) -> np.ndarray:
        """Lay the portrait's own teeth over the rig's: first what goes with the jaw, then what stays with the skull."""
        rest = self.anchors_px
        for alpha, action_px in ((look.lower_alpha, self.lower_action_px), (look.upper_alpha, self.upper_action_px)):
            at = rest + np.tensordot(weights, action_px, 1) @ pose.linear.T + (pose.move(rest) - rest) * follow
            source = (rest[:, :2] - self.own.origin).astype(np.float32)
            matrix = cv2.getAffineTransform(source, (at[:, :2] - origin).astype(np.float32))
            rgb = cv2.warpAffine(look.rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            out = mix(out, rgb, cv2.warpAffine(alpha, matrix, size, flags=cv2.INTER_LINEAR))
        return out

    def shade(self, opening: Opening) -> np.ndarray:
        """`(rows, columns)` light inside: less under the upper lip, at the corners and in a narrow gap."""
        under_lip = np.clip(opening.depth_px / (0.3 * self.px_per_cm), 0, 1)
        wide = np.clip(opening.gap_px.max() / (0.8 * self.px_per_cm), 0, 1)
        across = np.minimum(opening.along * opening.along, 1)
        sideways = (1 + 0.2 * across) * (1 - 0.5 * across * across)  # the layers themselves darken to the sides
        return (0.7 + 0.3 * under_lip) * sideways * (0.85 + 0.15 * wide)

    def _lit(self, picture: np.ndarray) -> np.ndarray:
        """Premultiplied float32 RGBA in the portrait's light."""
        rgba = picture.astype(np.float32)
        alpha = rgba[..., 3:] / 255
        rgb = np.minimum(rgba[..., :3] * (self.light * np.float32(self._pictures.white)), 255)
        return np.concatenate([rgb * alpha, alpha], -1)


def _shrunk(picture: np.ndarray, by: float) -> np.ndarray:
    """A picture averaged to `by` of its size: what is sampled at fewer pixels than it has gets ragged edges."""
    return picture if by == 1 else cv2.resize(picture, None, fx=by, fy=by, interpolation=cv2.INTER_AREA)


def mouth_light(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`(3,)` colour of white in a picture's light, 1 for full white: from the eyes' whites and the skin.

    `points` `(N, 2 or more)` px are the face's landmarks in the picture `(H, W, 3)` uint8.
    """
    mask = np.zeros(rgb.shape[:2], np.uint8)
    for upper, lower in LIDS.values():
        outline = np.concatenate([points[list(upper), :2], points[list(lower)[::-1], :2]])
        cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
    eyes = rgb[mask > 0].astype(np.float32)
    skin = skin_colour(rgb, points)
    white = skin
    if len(eyes) >= 12:
        luminance = eyes @ np.array([0.3, 0.59, 0.11], np.float32)
        white = eyes[luminance >= np.percentile(luminance, 80)].mean(0)
    grey = white.mean()
    bright = max(1.5 * grey, 1.17 * skin.mean())
    # The whites of painted and photographed eyes are often bluish from shade: teeth take more of the skin's warmth.
    tint = 0.75 + 0.1 * white / max(grey, 1.0) + 0.15 * skin / max(skin.mean(), 1.0)
    return np.clip(tint * bright / 255, 0.08, 1.0).astype(np.float32)


def skin_colour(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`(3,)` float32 0-255: the cheeks of a face, see `mouth_light`."""
    cheeks = points[[50, 280, 205, 425, 117, 346], :2].round().astype(int)
    limit = np.array(rgb.shape[1::-1]) - 1
    return np.array([rgb[y, x] for x, y in np.clip(cheeks, 0, limit)], np.float32).mean(0)
