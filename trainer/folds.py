"""`python -m trainer folds`: what every action does to the light on the skin, from a face model and from faces.

A ridge regression for each pixel of a chart of the face (`trainer.face_chart`), of the logarithm of the skin's
brightness on the actions that the program reads (Liu, Shan and Zhang 2001 for the ratio of two expressions). Three
sources speak together: the face model, whose surface bends under each action, says what to expect before any picture
is seen; two pictures of one person say what changed; stills of many people, each alone, say what goes with an action.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

from puppet.generate.folds import DEFAULT_PATH
from puppet.rig import LandmarkRig
from trainer.bent_surface import expected_light, reach
from trainer.disk import check_picture_name
from trainer.face_chart import FaceChart
from trainer.fold_faces import FaceLight, is_filmed
from trainer.fold_regression import ACTIONS, Faces, explained, regress
from trainer.rig import IctModel, landmark_places, neutral_landmarks
from trainer.split import is_held_out

LEFT_OUT = ("AU45_L", "AU45_R", "mouth_L", "mouth_R", "AU28")
"""Known to the regression and not kept: lids are repainted, the tracker takes a turned head for a shifted mouth, and
hardly anybody sucks their lips, so that the face model speaks alone: a bright patch where red lips were."""
_TILES_ACROSS = 7


@dataclass(frozen=True)
class FoldsConfig:
    """Learn what actions do to the light on the skin."""

    rig_dir: Path = Path("../shared/rig")
    """Folder with ict_facekit.npz and mediapipe_to_vertex.npy."""
    faces_dir: Path = Path("../shared/faces")
    """Folder with manifest.csv, the training stills and clips."""
    cache_dir: Path = Path("data")
    """Where tracked landmarks are kept."""
    output: Path = DEFAULT_PATH
    """Where the safetensors file goes."""
    ridge: float = 80.0
    """How many pictures with an action at intensity 5 weigh as much as the face model."""
    pair_weight: float = 8.0
    """What two pictures of one person weigh, a still of anybody being 1."""
    groups: int = 0
    """Before the maps are made, leave out one of so many groups of people, and each clip's person, in turn and print
    what is explained of their pictures; 0: only of the people who are always held out."""
    sheet: Path | None = None
    """Picture to draw of all maps."""
    seed: int = 0
    """Seeds the choice of a clip's frames."""
    dry_run: bool = False
    """Print what would be done and stop."""


def make_folds(config: FoldsConfig) -> None:
    """Write the fold maps, made without the people who are held out, and print what they explain of those.

    Raises:
        InputError: the face model or the faces are missing, or `sheet` is no picture.
    """
    if config.dry_run:
        print(f"would read {config.rig_dir} and {config.faces_dir}, write {config.output}")
        return
    if config.sheet is not None:
        check_picture_name("--sheet", config.sheet)
    rig = LandmarkRig.load()
    chart = FaceChart(rig)
    model = IctModel.load(config.rig_dir)
    places, _ = landmark_places(model, neutral_landmarks(config.faces_dir, config.cache_dir))
    expected = expected_light(chart, rig, model, places(model.neutral_cm))
    light = FaceLight(chart, rig, faces_dir=config.faces_dir, cache_dir=config.cache_dir, seed=config.seed)
    stills, pairs = light.of_stills(), light.of_pairs()
    learn = partial(
        regress,
        expected=expected,
        reach=reach(chart, rig),
        mirrored=chart.mirrored,
        ridge=config.ridge,
        pair_weight=config.pair_weight,
    )
    if config.groups:
        _cross_validate(learn, stills, pairs, config.groups)
    away = np.array([is_held_out(person) for person in pairs.people])
    kept = np.array([not is_held_out(person) for person in stills.people])
    learned = learn(stills.take(kept), pairs.take(~away))
    for label, maps in (("the face model", expected), ("what was learned", learned)):
        _print_explained(pairs.take(away), maps, f"{label}, on people held out")
    maps = {name: plane for name, plane in zip(ACTIONS, chart.lay(learned), strict=True) if name not in LEFT_OUT}
    _save(config.output, chart, maps)
    print(f"{config.output}: {len(maps)} actions")
    if config.sheet is not None:
        _draw(config.sheet, maps)


def _cross_validate(learn: Callable[[Faces, Faces], np.ndarray], stills: Faces, pairs: Faces, groups: int) -> None:
    """Every group of people in turn is left out, clips' people each alone."""
    others = [f"group {zlib.crc32(who.encode()) % groups + 1}" for who in pairs.people]
    names = np.where(is_filmed(pairs), pairs.people, others)
    for name in np.unique(names):
        away = names == name
        strangers = ~np.isin(stills.people, pairs.people[away])
        maps = learn(stills.take(strangers), pairs.take(~away))
        _print_explained(pairs.take(away), maps, f"without {name}")


def _print_explained(pairs: Faces, maps: np.ndarray, label: str) -> None:
    """One figure for each person of a clip, one for the others together."""
    filmed = is_filmed(pairs)
    groups = {"two stills": ~filmed} | {who: pairs.people == who for who in np.unique(pairs.people[filmed])}
    told = [f"{name} {100 * explained(pairs.take(some), maps):.1f} %" for name, some in groups.items() if some.any()]
    print(f"{label}: explains {', '.join(told)} of the change of light")


def _save(path: Path, chart: FaceChart, maps: dict[str, np.ndarray]) -> None:
    stored = [name for name in maps if not name.endswith("_R")]
    arrays = {
        "maps": np.stack([maps[name] for name in stored]).astype(np.float16),
        "landmarks": chart.landmarks.astype(np.float32),
    }
    metadata = {
        "actions": json.dumps(stored),
        "licence": "MIT; from ICT-FaceKit (USC ICT, MIT) and the stills and clips named in TEXTURE.md",
        "version": "1",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata=metadata)
    path.chmod(0o644)


def _draw(path: Path, maps: dict[str, np.ndarray]) -> None:
    """All maps, grey where nothing changes."""
    tiles = []
    for name, plane in maps.items():
        tile = np.clip(128 + 320 * plane, 0, 255).astype(np.uint8)
        tiles.append(cv2.putText(tile, name, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1, cv2.LINE_AA))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _TILES_ACROSS)
    rows = [np.hstack(tiles[n : n + _TILES_ACROSS]) for n in range(0, len(tiles), _TILES_ACROSS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows))
