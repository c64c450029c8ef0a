"""Painter: the learned texture step. Two small networks repaint the mouth and the eyes of a motion picture.

What depends on the portrait alone is encoded once; a frame costs one run for the mouth and one for both eyes. Where the
picture is still the portrait's own nothing is painted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import engines
from puppet import facs
from puppet.easing import smooth_step
from puppet.errors import InputError
from puppet.generate.layers import split_alpha
from puppet.generate.region import PACKAGED, SHAPES, SLITS, RegionCrop, RegionShape, action_input, cut, lay_back
from puppet.generate.texture import MotionPicture, Patch

MODELS = Path(__file__).parent.parent / "models"
_GAZE_PITCH = facs.INDEX["gaze_pitch_rad"]
_FEATURES = ("near", "deep", "style")
# Axes after the batch, as the file has them. The batch is fixed to the region's crops: that compiles to faster code.
_PORTRAIT_INPUTS = {"rest": (None,) * 3}
_PAINT_INPUTS = {"moved": (None,) * 3, "actions": (None,), "near": (None,) * 3, "deep": (None,) * 3, "style": (None,)}
CLOSING_EYE = (0.05, 0.2)  # share of the portrait's own opening that a lid has covered
CAST_DOWN_RAD, SHUTTING = (0.08, 0.25), (1.0, 2.5)
"""Lids that go down with the eyes are moved well and not painted, unless AU45 shuts them, too."""
OPENING_MOUTH_PX = (30.0, 150.0)  # of the crop's pixels
MOVING_FACE = (0.3, 2.0)  # mean grey levels by which its crop differs from the portrait's
LEAST_ATTENTION = 1.5 / 255  # under this a patch changes no grey level


class TextureNetworks:
    """The packaged networks, loaded once for all portraits.

    Raises:
        InputError: a model file is missing.
        EngineError: a model or backend does not load.
    """

    def __init__(
        self,
        *,
        engine: str = "auto",
        device: str = "auto",
        folder: str | Path = MODELS,
        regions: tuple[str, ...] = PACKAGED,
        load: Callable[..., engines.Engine] | None = None,
    ) -> None:
        """`folder` has `texture_<region>_portrait.onnx` and `texture_<region>_paint.onnx` for each of `regions`.

        `load(path, shapes=...)` opens one of them; None: `engine` on `device`, and what runs in every frame in the
        precision that is fastest there and right.
        """
        open_portrait = open_paint = load
        if load is None:
            open_portrait = partial(engines.load, backend=engine, device=device)
            open_paint = partial(open_portrait, precision="auto")
        self._engines: dict[str, tuple[engines.Engine, engines.Engine]] = {}
        self._paths: dict[str, Path] = {}
        for region in regions:
            paths = [Path(folder) / f"texture_{region}_{part}.onnx" for part in ("portrait", "paint")]
            for path in paths:
                if not path.is_file():
                    raise InputError(
                        f"texture network {path} is missing: expected a file made by `python -m trainer generator`. "
                        "Reinstall the package, give their folder with --texture-models, or --texture off."
                    )
            shapes = [
                {name: (len(SLITS[region]), *rest) for name, rest in inputs.items()}
                for inputs in (_PORTRAIT_INPUTS, _PAINT_INPUTS)
            ]
            self._engines[region] = (
                open_portrait(paths[0], shapes=shapes[0]),
                open_paint(paths[1], shapes=shapes[1]),
            )
            self._paths[region] = paths[1]

    def prepare(self, rest: MotionPicture) -> PortraitPainter:
        """The painter of one portrait, which is given at rest."""
        memories = {}
        for region, (portrait, _) in self._engines.items():
            crops = [cut(rest, slit) for slit in SLITS[region]]
            if any(crop is None for crop in crops):
                continue
            rows, columns = SHAPES[region].seen
            planes = np.stack([crop.network_input()[:4, rows, columns] for crop in crops])
            memories[region] = Memory(portrait.run({"rest": planes}), crops)
        return PortraitPainter({name: pair[1] for name, pair in self._engines.items()}, memories, self._paths)

    def close(self) -> None:
        for pair in self._engines.values():
            for engine in pair:
                engine.close()


@dataclass(frozen=True)
class Memory:
    """What is kept of one portrait's region: features, and its own crops to know it by."""

    features: dict[str, np.ndarray]
    rest: list[RegionCrop]

    def amounts(self, region: str, crops: list[RegionCrop | None], control: np.ndarray) -> list[float]:
        """How much of each crop is painted, 0-1: a mouth as far as it is open, eyes as they close, a face that moved.

        Nothing of the portrait at rest. An open eye is the portrait's own: it is moved, never replaced.
        """
        amounts = []
        for slit, crop, rest in zip(SLITS[region], crops, self.rest, strict=True):
            if crop is None or np.array_equal(crop.rgb, rest.rgb):
                amounts.append(0.0)
            elif region == "eye":
                covered = 1 - float(crop.mask.sum()) / max(float(rest.mask.sum()), 1.0)
                amounts.append(smooth_step(covered, *CLOSING_EYE) * closing_share(control, slit))
            elif region == "face":
                amounts.append(smooth_step(float(cv2.absdiff(crop.rgb, rest.rgb).mean()), *MOVING_FACE))
            else:
                amounts.append(smooth_step(float(crop.mask.sum()), *OPENING_MOUTH_PX))
        return amounts


def closing_share(control: np.ndarray, side: str) -> float:
    """How much of what covers an eye ("L", "R") is a lid that closes: 1, to 0 for one that goes down with the gaze.

    `control` is `(SIZE,)`.
    """
    down = smooth_step(-float(control[_GAZE_PITCH]), *CAST_DOWN_RAD)
    return 1 - down * (1 - smooth_step(float(control[facs.INDEX[f"AU45_{side}"]]), *SHUTTING))


class PortraitPainter:
    """Paints one portrait's frames; made by `TextureNetworks.prepare`, whose engines it borrows.

    `memories` has the regions that are painted, `model_paths` their networks' files.
    """

    def __init__(
        self, networks: dict[str, engines.Engine], memories: dict[str, Memory], model_paths: dict[str, Path]
    ) -> None:
        self._networks, self.memories, self.model_paths = networks, memories, model_paths

    def paint(self, picture: MotionPicture, control: np.ndarray) -> list[Patch]:
        """Colour and attention round the mouth and the eyes; nothing where the crop is the portrait's own."""
        patches = []
        for region, memory in self.memories.items():
            crops = [cut(picture, slit) for slit in SLITS[region]]
            amounts = memory.amounts(region, crops, control)
            if not any(amounts):
                continue
            change, attention = self._run(region, memory, crops, control)
            for n, (crop, amount) in enumerate(zip(crops, amounts, strict=True)):
                if crop is None or not amount:
                    continue
                patch = _patch(change[n], attention[n] * np.float32(amount), crop, SHAPES[region], picture)
                if patch is not None:
                    patches.append(patch)
        return patches

    def close(self) -> None:
        """Nothing to let go: the engines serve other portraits too."""

    def _run(
        self, region: str, memory: Memory, crops: list[RegionCrop | None], control: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = SHAPES[region]
        rows, columns = shape.seen
        empty = np.zeros((5, *shape.seen_size), np.float32)
        moved = np.stack([empty if crop is None else crop.network_input()[:, rows, columns] for crop in crops])
        actions = np.stack([action_input(control, is_mirrored=slit == "L") for slit in SLITS[region]])
        features = {name: memory.features[name] for name in _FEATURES}
        out = self._networks[region].run({"moved": moved, "actions": actions, **features})
        return out["change"], out["attention"]


def _patch(
    change: np.ndarray, attention: np.ndarray, crop: RegionCrop, shape: RegionShape, picture: MotionPicture
) -> Patch | None:
    """The change is laid over the picture's own pixels: what the network keeps stays as sharp as it was."""
    x, y, width, height = cv2.boundingRect((attention[0] > LEAST_ATTENTION).astype(np.uint8))
    if not width:
        return None
    planes = cv2.merge([*change, attention[0]])
    shown = (max(0, x - 1), max(0, y - 1), x + width + 1, y + height + 1)
    seen = replace(crop, crop_from_frame=shape.seen_from_frame(crop.crop_from_frame))
    laid = lay_back(planes, seen, picture.rgb.shape, shown=shown)
    if laid is None:
        return None
    (x, y), planes = laid
    height, width = planes.shape[:2]
    change, cover = split_alpha(planes)
    cover[cover < LEAST_ATTENTION] = 0
    under = picture.rgb[y : y + height, x : x + width].astype(np.float32)
    return Patch((x, y), cv2.add(under, change), cover)
