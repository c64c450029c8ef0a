"""`python -m trainer inspect`. What the texture step does to a portrait: moved, folded, attention, colour, result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from puppet import facs
from puppet.composite import blend
from puppet.gallery import portrait_paths
from puppet.generate.canvas import default_size, frame_portrait
from puppet.generate.folds import FoldMaps
from puppet.generate.generator import Generator
from puppet.generate.motion import head_pose
from puppet.generate.mouth import MouthPictures
from puppet.generate.painter import MODELS, TextureNetworks
from puppet.generate.region import PACKAGED
from puppet.generate.texture import Patch
from puppet.portrait import Portrait
from puppet.rig import LandmarkRig
from trainer.sheet import EXPRESSIONS


@dataclass(frozen=True)
class InspectConfig:
    """Look at the texture step."""

    target: Path
    """A portrait, or a folder of them."""
    output: Path = Path("runs/inspect")
    """Folder of sheets."""
    models: Path = MODELS
    """Folder of texture networks."""
    regions: tuple[str, ...] = PACKAGED
    """Which networks paint."""
    dry_run: bool = False
    """Print what would be done and stop."""


def inspect_texture(config: InspectConfig) -> None:
    """Write a sheet a portrait: rows of expressions, columns moved, folded, attention, colour, result.

    Raises:
        PortraitError: a picture can't be animated.
        InputError: networks are missing.
    """
    paths = portrait_paths(str(config.target))
    if config.dry_run:
        print(f"would write {len(paths)} sheets into {config.output}")
        return
    config.output.mkdir(parents=True, exist_ok=True)
    networks = TextureNetworks(folder=config.models, regions=config.regions)
    rig, pictures = LandmarkRig.load(), MouthPictures.load()
    for path in paths:
        portrait = Portrait.load(path)
        canvas = frame_portrait(portrait, default_size(portrait))
        generator = Generator(canvas, rig, pictures, texture=networks, folds=FoldMaps.load())
        sheet = np.vstack([_row(generator, facs.control(**e)) for e in EXPRESSIONS.values()])
        cv2.imwrite(str(config.output / f"{path.stem}.png"), sheet[..., ::-1])
        print(
            f"{config.output / path.stem}.png: rows {', '.join(EXPRESSIONS)}; "
            "columns moved, folded, attention, colour, result"
        )
    networks.close()


def _row(generator: Generator, control: np.ndarray) -> np.ndarray:
    """Moved, folded, attention, colour and result, cut to the face."""
    weights, pose = generator.weights_at(control), head_pose(control, generator.field)
    moved = generator.move(weights, pose, control)
    picture = generator.move(weights, pose, control, is_folded=True)
    attention = np.zeros_like(picture.rgb)
    colour, result = picture.rgb.copy(), picture.rgb.copy()
    for patch in generator.texture.paint(picture, control):
        blend(result, patch)
        blend(colour, Patch(patch.origin, patch.colour, np.ones_like(patch.attention)))
        blend(attention, Patch(patch.origin, np.full_like(patch.colour, 255), patch.attention))
    points = generator.anatomy.points_px[:, :2]
    low = np.clip(points.min(0) - 10, 0, None).astype(int)
    high = points.max(0).astype(int) + 30
    columns = [rgb[low[1] : high[1], low[0] : high[0]] for rgb in (moved.rgb, picture.rgb, attention, colour, result)]
    return np.hstack(columns)
