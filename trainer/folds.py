"""`python -m trainer folds`: what every action does to the light on the skin, from a face model and from faces.

A ridge regression for each pixel of a chart of the face (`trainer.face_chart`), of the logarithm of the skin's
brightness on the actions that the program reads (Liu, Shan and Zhang 2001 for the ratio of two expressions). Three
sources speak together: the face model, whose surface bends under each action, says what to expect before any picture
is seen; two pictures of one person say what changed; stills of many people, each alone, say what goes with an action.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track as progress
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix

from puppet import facs
from puppet.errors import InputError
from puppet.generate.folds import DEFAULT_PATH
from puppet.landmarks import FACE_COUNT
from puppet.rig import LandmarkRig
from trainer import tracking
from trainer.clip_frames import FRAME_PX, cut_frames, most_neutral, place_face
from trainer.face_chart import FaceChart, rasterize
from trainer.prepare import MOST_OF_A_PERSON
from trainer.readings import ActionReader
from trainer.rig import IctModel, landmark_places, neutral_landmarks
from trainer.split import is_held_out

ACTIONS = facs.INTENSITY_NAMES
LEFT_OUT = ("AU45_L", "AU45_R", "mouth_L", "mouth_R")
"""Known to the regression and not kept: lids are repainted, and the tracker takes a turned head for a shifted mouth."""
_MIRRORED = [
    ACTIONS.index(name[:-1] + {"L": "R", "R": "L"}[name[-1]] if name.endswith(("_L", "_R")) else name)
    for name in ACTIONS
]
_FACE = slice(0, 9409)  # of the model's vertices
_LIPS_PART = ("AU10_L", "AU10_R", "AU16_L", "AU16_R")  # the model has no AU25: it reaches as far as these

# What a bent surface is worth in brightness: of the normal's part that looks up, of the one that looks at the camera,
# and of hollows. Found once on pairs and clips together, by least squares.
_LIGHT_ABOVE, _LIGHT_AHEAD, _HOLLOW = 0.15, 0.35, -0.6
_HOLLOW_RINGS = 4  # rings of neighbours that a hollow is told from

_DARKEST = 16.0  # grey levels added to all before the logarithm: dark pixels are noise
_STEEPEST = 0.7
_SMOOTHEST_PX = 16.0  # broader changes of the light are the room's
_FADE_PX = 5.0  # from the openings and the face's border
_REACH = 0.25  # of the greatest displacement: an action's folds lie where it moves skin this far, or close by
_NEAR_PX, _SOFT_PX, _LEAST_REACH = 9, 4.0, 0.02
_MOST_TURNED_RAD, _WORST_FIT = 0.5, 95  # percentile
_FRAMES = 90
_WHOLE_PERSON = 12  # pairs of one person count as this many at most
_SHARED_RIDGE = 1e-2
_FADED_REACH = 0.1  # below this reach an action fades out
_PIXELS_AT_ONCE = 2000
_TILES_ACROSS = 7
_GRAIN_PX = 1.2  # finer than this maps show the tracker's triangles

_Seen = tuple[np.ndarray, np.ndarray]
"""Light `(P,)` and actions `(A,)` of one face."""


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


@dataclass(frozen=True)
class _Faces:
    """Faces each alone, or each less another one of the same person.

    `light` `(N, P)` logarithm of brightness on the chart's skin, `actions` `(N, A)` 0-1, `people` `(N,)` str; `shared`
    `(N, S)` what else the light of faces alone may follow.
    """

    light: np.ndarray
    actions: np.ndarray
    people: np.ndarray
    shared: np.ndarray | None = None

    def take(self, chosen: np.ndarray) -> _Faces:
        kept = {name: value for name, value in vars(self).items() if value is not None}
        return _Faces(**{name: value[chosen] for name, value in kept.items()})


def make_folds(config: FoldsConfig) -> None:
    """Write the fold maps, made without the people who are held out, and print what they explain of those.

    Raises:
        InputError: the face model or the faces are missing, or the output is no picture.
    """
    if config.dry_run:
        print(f"would read {config.rig_dir} and {config.faces_dir}, write {config.output}")
        return
    if config.sheet is not None and config.sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"--sheet {config.sheet}: expected a picture to write, as in runs/folds.png.")
    rig = LandmarkRig.load()
    folds = _Folds(config, rig)
    stills, pairs = folds.of_stills(), folds.of_pairs()
    if config.groups:
        _cross_validate(config, folds, stills, pairs)
    away = np.array([is_held_out(person) for person in pairs.people])
    kept = np.array([not is_held_out(person) for person in stills.people])
    learned = folds.fit(stills.take(kept), pairs.take(~away))
    for label, maps in (("the face model", folds.expected), ("what was learned", learned)):
        _print_explained(pairs.take(away), maps, f"{label}, on people held out")
    maps = {name: plane for name, plane in zip(ACTIONS, folds.on_chart(learned), strict=True) if name not in LEFT_OUT}
    _save(config.output, folds.chart, maps)
    print(f"{config.output}: {len(maps)} actions")
    if config.sheet is not None:
        _draw(config.sheet, maps)


class _Folds:
    """The chart with what is known of it before any picture is seen."""

    def __init__(self, config: FoldsConfig, rig: LandmarkRig) -> None:
        self._config, self._rig = config, rig
        self.chart = FaceChart(rig)
        self._skin = self.chart.skin
        self._reader = ActionReader()
        places = np.full(self._skin.shape, -1)
        places[self._skin] = np.arange(self._skin.sum())
        self._mirrored = places[:, ::-1][self._skin]
        self._reach = _reach(self.chart, rig)[:, self._skin]
        self.expected = self._of_model()

    def on_chart(self, maps: np.ndarray) -> np.ndarray:
        """`(A, height, width)` of `(A, P)`, without the edges of triangles, fading towards openings and border."""
        out = np.zeros((len(maps), *self._skin.shape), np.float32)
        distance = cv2.distanceTransform(np.pad(self._skin.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        out[:, self._skin] = maps
        fade = np.clip((distance - 1) / _FADE_PX, 0, 1)
        return np.stack([cv2.GaussianBlur(plane, (0, 0), _GRAIN_PX) * fade for plane in out])

    def of_stills(self) -> _Faces:
        """All stills that look ahead; beside actions their light may follow the head's turn and the collection."""
        stills = tracking.stills(self._config.faces_dir, self._config.cache_dir)
        collections = np.array([Path(file).parent.name for file in stills.files])
        seen, turned, residuals = [], [], []
        for n in progress(range(len(stills.files)), description="reading stills"):
            fit = self._rig.fit(stills.landmarks_px[n])
            seen.append(self._still(stills, n))
            turned.append(_turned(fit.rotation))
            residuals.append(fit.residual)
        turned, residuals = np.array(turned), np.array(residuals)
        usable = (np.abs(turned[:, 0]) < _MOST_TURNED_RAD) & (residuals < np.percentile(residuals, _WORST_FIT))
        shared = np.concatenate([turned, collections[:, None] == np.unique(collections)], 1)
        light, actions = (np.stack(column) for column in zip(*seen, strict=True))
        return _Faces(light, actions, stills.persons, shared=shared).take(usable)

    def of_pairs(self) -> _Faces:
        """Every two stills of a person who has two to four of them, and frames of clips against a neutral one."""
        stills = tracking.stills(self._config.faces_dir, self._config.cache_dir)
        changes: list[tuple[_Seen, _Seen, str]] = []
        for person in np.unique(stills.persons):
            own = np.flatnonzero(stills.persons == person)
            if 1 < len(own) <= MOST_OF_A_PERSON:
                shown = [self._still(stills, n) for n in own]
                changes += [(a, b, person) for n, a in enumerate(shown) for b in shown[n + 1 :]]
        rng = np.random.default_rng(self._config.seed)
        people = {Path(row["file"]).stem: row["person"] for row in tracking.manifest(self._config.faces_dir)}
        for path in sorted(self._config.faces_dir.glob("train/clips/*")):
            if path.suffix in (".mp4", ".mov"):
                first, others = self._of_clip(path, rng)
                changes += [(first, other, people[path.stem]) for other in others]
        before, after, who = zip(*changes, strict=True)
        light, actions = (
            np.stack(new) - np.stack(old)
            for old, new in zip(zip(*before, strict=True), zip(*after, strict=True), strict=True)
        )
        return _Faces(np.clip(light, -_STEEPEST, _STEEPEST), actions, np.array(who))

    def fit(self, stills: _Faces, pairs: _Faces) -> np.ndarray:
        """`(A, P)`: logarithm of the ratio at intensity 5, learned from both, which are seen in a mirror as well."""
        counts = dict(zip(*np.unique(pairs.people, return_counts=True), strict=True))
        weight = np.array([self._config.pair_weight * min(1, _WHOLE_PERSON / counts[who]) for who in pairs.people])
        own, shared = len(ACTIONS), stills.shared.shape[1]
        gram = np.diag(np.r_[np.zeros(own), np.full(shared, _SHARED_RIDGE)])
        answer = np.zeros((own + shared, stills.light.shape[1]))
        turned_left = np.r_[-1.0, np.ones(shared - 1)]  # the head's turn to the side changes its sign in a mirror
        for order, pixels, signs in (
            (slice(None), slice(None), 1.0),
            (_MIRRORED, self._mirrored, turned_left),
        ):
            known = np.concatenate([stills.actions[:, order], stills.shared * signs], 1)
            gram += known.T @ known
            answer += known.T @ stills.light[:, pixels]
            some = pairs.actions[:, order]
            gram[:own, :own] += (some * weight[:, None]).T @ some
            answer[:own] += (some * weight[:, None]).T @ pairs.light[:, pixels]
        # What the light shares with other things is solved with the actions and left behind.
        away = np.linalg.solve(gram[own:, own:], gram[own:, :own]).T
        gram, answer = gram[:own, :own] - away @ gram[own:, :own], answer[:own] - away @ answer[own:]
        # An action's ridge grows where it does not move the skin: no ring of a beard's colour round every smile.
        ridge = self._config.ridge / np.maximum(self._reach, _LEAST_REACH) ** 2
        answer += ridge * self.expected
        maps = np.empty_like(answer)
        for first in range(0, answer.shape[1], _PIXELS_AT_ONCE):
            some = slice(first, first + _PIXELS_AT_ONCE)
            systems = gram + ridge[:, some].T[:, :, None] * np.eye(own)
            maps[:, some] = np.linalg.solve(systems, answer[:, some].T[..., None])[..., 0].T
        return maps * np.clip(self._reach / _FADED_REACH, 0, 1)

    def _of_clip(self, path: Path, rng: np.random.Generator) -> tuple[_Seen, list[_Seen]]:
        """The most neutral frame of a clip and some others."""
        tracked = tracking.clip(path, self._config.cache_dir)
        matrix, numbers, points = place_face(tracked, path)
        actions = self._reader.clip(points, (FRAME_PX, FRAME_PX))
        first = most_neutral(points)
        chosen = rng.choice(len(points), min(_FRAMES, len(points)), replace=False)
        frames = cut_frames(path, matrix, numbers[np.unique([first, *chosen])])
        if numbers[first] not in frames:
            raise InputError(f"{path}: its frame {numbers[first]} can't be decoded.")

        def seen(n: int) -> _Seen:
            return self._seen(frames[numbers[n]], points[n], actions[n])

        return seen(first), [seen(n) for n in chosen if numbers[n] in frames]

    def _still(self, stills: tracking.Stills, n: int) -> _Seen:
        rgb, points = tracking.read_rgb(self._config.faces_dir / stills.files[n]), stills.landmarks_px[n]
        return self._seen(rgb, points, self._reader.still(points, tuple(stills.sizes[n])))

    def _seen(self, rgb: np.ndarray, landmarks_px: np.ndarray, control: np.ndarray) -> _Seen:
        grey = cv2.cvtColor(self.chart.unwrap(rgb, landmarks_px), cv2.COLOR_RGB2GRAY).astype(np.float32)
        light = np.clip(self._details(np.log(grey + _DARKEST)), -_STEEPEST, _STEEPEST)
        return light, control[: len(ACTIONS)] / facs.MAX_INTENSITY

    def _details(self, plane: np.ndarray) -> np.ndarray:
        """`(P,)` what of a plane on the chart is finer than the light in a room."""
        skin = self._skin.astype(np.float32)
        broad = cv2.GaussianBlur(plane * skin, (0, 0), _SMOOTHEST_PX)
        broad /= np.maximum(cv2.GaussianBlur(skin, (0, 0), _SMOOTHEST_PX), 1e-3)
        return (plane - broad)[self._skin]

    def _of_model(self) -> np.ndarray:
        """`(A, P)` what the face model's surface lets expect; nothing for actions that it does not have."""
        model = IctModel.load(self._config.rig_dir)
        triangles = model.triangles[(model.triangles < _FACE.stop).all(1)]
        surface = _Surface(triangles, _FACE.stop)
        rest = model.neutral_cm[_FACE]
        places, _ = landmark_places(model, neutral_landmarks(self._config.faces_dir, self._config.cache_dir))
        at = self.chart.place(rest, places(model.neutral_cm))
        covered, share = rasterize(at, triangles, self._skin.shape, nearness=rest[:, 2])
        out = np.zeros((len(ACTIONS), self._skin.sum()), np.float32)
        for name in self._rig.actions:
            change = surface.light(rest + model.action(name)[_FACE]) - surface.light(rest)
            plane = (change[triangles[np.maximum(covered, 0)]] * share).sum(-1).astype(np.float32)
            out[ACTIONS.index(name)] = self._details(plane)
        return out


class _Surface:
    """How bright a bent surface is in light from the camera and a little from above, dimmed in hollows."""

    def __init__(self, triangles: np.ndarray, count: int) -> None:
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
        edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
        linked = csr_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
        self._triangles, self._linked = triangles, linked
        self._degree = np.maximum(np.asarray(linked.sum(1)), 1)

    def light(self, points_cm: np.ndarray) -> np.ndarray:
        """`(V,)` of points `(V, 3)`."""
        a, b, c = (points_cm[self._triangles[:, k]] for k in range(3))
        normals = np.zeros_like(points_cm)
        for k in range(3):
            np.add.at(normals, self._triangles[:, k], np.cross(b - a, c - a))
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        around = points_cm
        for _ in range(_HOLLOW_RINGS):
            around = (self._linked @ around) / self._degree
        hollow = ((around - points_cm) * normals).sum(1)  # cm
        return _LIGHT_ABOVE * normals[:, 1] + _LIGHT_AHEAD * normals[:, 2] + _HOLLOW * hollow


def _reach(chart: FaceChart, rig: LandmarkRig) -> np.ndarray:
    """`(A, height, width)` 0-1: where on the skin an action has any say."""
    out = np.zeros((len(ACTIONS), chart.height, chart.width), np.float32)
    for name, moved in zip(rig.actions, rig.action_cm[:, :FACE_COUNT], strict=True):
        far = chart.spread(np.linalg.norm(moved, axis=1))
        out[ACTIONS.index(name)] = np.clip(far / (_REACH * np.percentile(far, 99.5)), 0, 1)
    out[ACTIONS.index("AU25")] = np.maximum.reduce([out[ACTIONS.index(name)] for name in _LIPS_PART])
    near = np.ones((_NEAR_PX, _NEAR_PX), np.uint8)
    return np.stack([cv2.GaussianBlur(cv2.dilate(plane, near), (0, 0), _SOFT_PX) for plane in out])


def _turned(rotation: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch, rad, of a head's rotation `(3, 3)`."""
    return float(np.arctan2(rotation[0, 2], rotation[2, 2])), float(np.arcsin(np.clip(rotation[1, 2], -1, 1)))


def _is_filmed(pairs: _Faces) -> np.ndarray:
    """`(N,)` bool: of people in clips, who are seen more often than anybody of whom there are stills."""
    people, counts = np.unique(pairs.people, return_counts=True)
    return np.isin(pairs.people, people[counts > MOST_OF_A_PERSON * (MOST_OF_A_PERSON - 1) // 2])


def _explained(pairs: _Faces, maps: np.ndarray) -> float:
    """Share of the pairs' change of light."""
    left = pairs.light - pairs.actions @ maps
    return 1 - float((left**2).sum() / (pairs.light**2).sum())


def _print_explained(pairs: _Faces, maps: np.ndarray, label: str) -> None:
    """One figure for each person of a clip, one for the others together."""
    is_filmed = _is_filmed(pairs)
    groups = {"two stills": ~is_filmed} | {who: pairs.people == who for who in np.unique(pairs.people[is_filmed])}
    told = [f"{name} {100 * _explained(pairs.take(m), maps):.1f} %" for name, m in groups.items() if m.any()]
    print(f"{label}: explains {', '.join(told)} of the change of light")


def _cross_validate(config: FoldsConfig, folds: _Folds, stills: _Faces, pairs: _Faces) -> None:
    """Every group of people in turn is left out, clips' people each alone."""
    others = [f"group {zlib.crc32(who.encode()) % config.groups + 1}" for who in pairs.people]
    groups = np.where(_is_filmed(pairs), pairs.people, others)
    for name in np.unique(groups):
        away = groups == name
        others = ~np.isin(stills.people, pairs.people[away])
        maps = folds.fit(stills.take(others), pairs.take(~away))
        _print_explained(pairs.take(away), maps, f"without {name}")


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
