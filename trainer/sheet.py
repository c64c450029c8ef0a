"""`python -m trainer sheet`. Portraits beside each other doing the same expressions, without and with the networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from puppet import facs
from puppet.errors import InputError, PortraitError
from puppet.generate.folds import FoldMaps
from puppet.generate.painter import MODELS, TextureNetworks
from puppet.generate.region import PACKAGED
from puppet.input_file import pictures_in
from puppet.picture import SUFFIXES
from puppet.puppet import Puppet
from trainer.disk import check_picture_name

EXPRESSIONS: dict[str, dict[str, float]] = {
    "laugh": {"AU12": 4, "AU06": 3, "AU25": 3.2, "AU26": 2},
    "open": {"AU26": 4.5, "AU25": 5},
    "closed": {"AU45": 5},
    "wink": {"AU45_L": 5, "AU12_L": 1.5, "AU06_L": 2},
    "glance": {"gaze_yaw_rad": 0.5},
    "frown": {"AU04": 4, "AU15": 3, "AU17": 2},
}


@dataclass(frozen=True)
class SheetConfig:
    """Look at portraits doing expressions, with texture off and on."""

    portraits: Path
    """A folder of portraits, or one."""
    output: Path = Path("runs/sheet.png")
    """Picture to write."""
    models: Path = MODELS
    """Folder of texture networks."""
    regions: tuple[str, ...] = PACKAGED
    """Which networks paint."""
    expressions: tuple[str, ...] = tuple(EXPRESSIONS)
    """Which expressions, of laugh, open, closed, wink, glance, frown."""
    tile: int = 224
    """Width of one picture, px."""
    dry_run: bool = False
    """Print what would be done and stop."""


def make_sheet(config: SheetConfig) -> None:
    """Two rows a portrait, moved alone and painted; first the portrait itself, then a column an expression.

    Raises:
        InputError: no portraits, an unknown expression, networks are missing, or the output is no picture.
    """
    folder = config.portraits
    paths = pictures_in(folder, SUFFIXES) if folder.is_dir() else [folder]
    if unknown := [name for name in config.expressions if name not in EXPRESSIONS]:
        raise InputError(f"unknown expression {unknown[0]!r}: expected some of {', '.join(EXPRESSIONS)}.")
    check_picture_name("--output", config.output)
    if config.dry_run:
        print(f"would show {len(paths)} portraits doing {', '.join(config.expressions)} in {config.output}")
        return
    networks = TextureNetworks(folder=config.models, regions=config.regions)
    rows = []
    for path in paths:
        try:
            rows.append(_rows(path, config, networks))
        except PortraitError as exc:
            print(f"left out {path.name}: {exc}")
    networks.close()
    if not rows:
        raise InputError(f"none of the {len(paths)} pictures in {folder} can be animated.")
    config.output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(config.output), np.vstack(rows)[..., ::-1])
    print(f"{config.output}: two rows a portrait (moved, painted); columns portrait, {', '.join(config.expressions)}")


def _rows(path: Path, config: SheetConfig, networks: TextureNetworks) -> np.ndarray:
    puppet = Puppet.load(path, framing="head", texture=networks, folds=FoldMaps.load())
    painted = (puppet.generator.texture, puppet.generator.folds)
    window = _face_window(puppet.landmarks_px, puppet.size)
    rows = []
    for texture, folds in ((None, None), painted):
        puppet.generator.texture, puppet.generator.folds = texture, folds
        shown = [puppet.still, *(puppet.render(facs.control(**EXPRESSIONS[name])) for name in config.expressions)]
        size = (config.tile, config.tile * 5 // 4)
        rows.append(np.hstack([cv2.resize(rgb[window], size, interpolation=cv2.INTER_AREA) for rgb in shown]))
    puppet.close()
    return np.vstack(rows)


def _face_window(landmarks_px: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a box 4 wide and 5 high round the face, inside the picture as far as it goes."""
    low, high = landmarks_px[:, :2].min(0), landmarks_px[:, :2].max(0)
    height = min(1.3 * float((high - low).max()), size[1], size[0] * 1.25)
    box = np.array([0.8 * height, height])
    corner = np.clip((low + high) / 2 + [0, 0.05 * height] - box / 2, 0, np.array(size) - box).astype(int)
    return slice(corner[1], corner[1] + int(box[1])), slice(corner[0], corner[0] + int(box[0]))
