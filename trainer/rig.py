"""`python -m trainer rig`: the compact landmark rig that the program ships, from the ICT face model.

The ICT-FaceKit light model (Li et al. 2020, MIT) has 26,719 vertices. The tracker sees 478 points; what animates a
portrait is where those points go. So every array is evaluated at the landmarks' places on the surface (refined on
photographs of neutral faces, `trainer.correspondence`), and the 100 identity shapes are compressed by a principal
component analysis of the displacements that remain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.spatial import cKDTree

from puppet import facs
from puppet.errors import InputError
from puppet.landmarks import FACE_COUNT, LEFT_LOWER_LID, LEFT_UPPER_LID, RIGHT_LOWER_LID, RIGHT_UPPER_LID
from puppet.rig import DEFAULT_PATH
from trainer import correspondence, tracking
from trainer.topology import mesh_triangles

# Action -> (expression shape, weight) at intensity 5. Unsided shape names get the column's side appended. Shapes that
# look weaker than a FACS E at weight 1 on real faces (brow lowering, nose wrinkle) are taken further.
ACTION_SHAPES: dict[str, tuple[tuple[str, float], ...]] = {
    "AU01": (("browInnerUp", 1.0),),
    "AU02": (("browOuterUp", 1.0),),
    "AU04": (("browDown", 1.5),),
    "AU05": (("eyeWide", 1.0),),
    "AU06": (("cheekRaiser", 1.0), ("cheekSquint", 1.0)),
    "AU07": (("eyeSquint", 1.2),),
    "AU09": (("noseSneer", 1.5),),
    "AU10": (("mouthUpperUp", 1.0),),
    "AU12": (("mouthSmile", 1.0),),
    "AU14": (("mouthDimple", 1.0),),
    "AU15": (("mouthFrown", 1.3),),
    "AU16": (("mouthLowerDown", 1.0),),
    "AU20": (("mouthStretch", 1.0),),
    "AU45": (("eyeBlink", 1.0),),
    "mouth_L": (("mouthLeft", 1.0),),
    "mouth_R": (("mouthRight", 1.0),),
    "AU17": (("mouthShrugLower", 1.0), ("mouthShrugUpper", 0.4)),
    "AU18": (("mouthPucker", 1.0),),
    "AU22": (("mouthFunnel", 1.0),),
    # The model has no lip tightener: lips thinned by a little rolling and narrowed by a little pucker.
    "AU23": (("mouthRollLower", 0.5), ("mouthRollUpper", 0.5), ("mouthPucker", 0.35)),
    "AU24": (("mouthPress_L", 1.3), ("mouthPress_R", 1.3)),
    "AU26": (("jawOpen", 1.0),),
    "AU28": (("mouthRollLower", 1.0), ("mouthRollUpper", 1.0)),
    "AU29": (("jawForward", 1.0),),
    "AU30_L": (("jawLeft", 1.0),),
    "AU30_R": (("jawRight", 1.0),),
    "AU34": (("cheekPuff_L", 1.0), ("cheekPuff_R", 1.0)),
}

# What the lids do as both eyes turn to the person's left, right, up and down.
LOOK_SHAPES = (
    ("eyeLookOut_L", "eyeLookIn_R"),
    ("eyeLookIn_L", "eyeLookOut_R"),
    ("eyeLookUp_L", "eyeLookUp_R"),
    ("eyeLookDown_L", "eyeLookDown_R"),
)
LOOK_RAD = 0.6
"""Turn of the eyes at weight 1; the model's eyeballs carry none, this is about where eyes stop."""

ACTIONS = tuple(name for name in facs.INTENSITY_NAMES if name != "AU25")

EYEBALLS = {"R": slice(23021, 24591), "L": slice(21451, 23021)}
EYEBALL_RADIUS_CM = 1.53
IRIS_RADIUS_CM = 0.6
HEAD = slice(6706, 11248)


@dataclass(frozen=True)
class RigConfig:
    """Make the landmark rig from the ICT face model."""

    rig_dir: Path = Path("../shared/rig")
    """Folder with ict_facekit.npz and mediapipe_to_vertex.npy."""
    faces_dir: Path = Path("../shared/faces")
    """Folder with manifest.csv and the training stills; those of neutral faces place the landmarks."""
    cache_dir: Path = Path("data")
    """Where tracked landmarks are kept."""
    output: Path = DEFAULT_PATH
    """Where the safetensors file goes."""
    identity_count: int = 50
    """Identity shapes that are kept."""
    outline_count: int = 120
    """Points on ears, skull and neck, about."""
    dry_run: bool = False
    """Print what would be done and stop."""


@dataclass(frozen=True)
class IctModel:
    """The face model as it is on disk; arrays as in the rig folder's README."""

    neutral_cm: np.ndarray
    triangles: np.ndarray
    identity_cm: np.ndarray
    expression_cm: np.ndarray
    expression_names: tuple[str, ...]
    landmark_vertex: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> IctModel:
        """Read the model.

        Raises:
            InputError: a file is missing or lacks an array.
        """
        try:
            with np.load(folder / "ict_facekit.npz") as file:
                return cls(
                    neutral_cm=file["neutral_cm"].astype(np.float64),
                    triangles=file["triangles"],
                    identity_cm=file["identity_cm"].astype(np.float32),
                    expression_cm=file["expression_cm"].astype(np.float32),
                    expression_names=tuple(str(n) for n in file["expression_names"]),
                    landmark_vertex=np.load(folder / "mediapipe_to_vertex.npy"),
                )
        except (OSError, KeyError) as exc:
            raise InputError(
                f"face model in {folder} can't be read ({exc}): expected ict_facekit.npz and mediapipe_to_vertex.npy. "
                "Give its folder with --rig-dir."
            ) from exc

    def action(self, name: str) -> np.ndarray:
        """`(V, 3)` displacement of a facs column at intensity 5."""
        column = facs.COLUMNS[facs.INDEX[name]]
        total = np.zeros_like(self.neutral_cm)
        for shape, weight in ACTION_SHAPES.get(name) or ACTION_SHAPES[str(column.au)]:
            full = shape if shape in self.expression_names else f"{shape}_{column.side}"
            total += weight * self.shape(full)
        return total

    def shape(self, name: str) -> np.ndarray:
        """`(V, 3)` displacement of an expression shape at weight 1."""
        return self.expression_cm[self.expression_names.index(name)]


def build(config: RigConfig) -> None:
    """Write the landmark rig.

    Raises:
        InputError: the face model or the stills are missing.
    """
    if config.dry_run:
        print(f"would read {config.rig_dir}/ict_facekit.npz and stills in {config.faces_dir}, write {config.output}")
        return
    model = IctModel.load(config.rig_dir)
    places, offset = landmark_places(model, neutral_landmarks(config.faces_dir, config.cache_dir))
    outline, groups = head_outline(model, config.outline_count)

    def evaluate(field: np.ndarray) -> np.ndarray:
        return np.concatenate([places(field), _eyes(model, field), field[outline]])

    mean = evaluate(model.neutral_cm)
    mean[:FACE_COUNT] += offset
    identity = compress(np.stack([evaluate(shape) for shape in model.identity_cm]), config.identity_count)
    action = np.stack([evaluate(model.action(name)) for name in ACTIONS])
    action[:, FACE_COUNT : FACE_COUNT + 12] = 0.0  # eyeballs turn with the gaze, no action shifts them
    _close_lids(mean, action)
    look = np.stack([evaluate(sum(model.shape(name) for name in names)) for names in LOOK_SHAPES])
    seal = evaluate(model.shape("mouthClose"))
    seal[FACE_COUNT : FACE_COUNT + 12] = 0.0
    look[:, FACE_COUNT : FACE_COUNT + 12] = 0.0
    triangles, fill_count = mesh_triangles(mean[:FACE_COUNT])
    arrays = {
        "mean_cm": mean.astype(np.float32),
        "identity_cm": identity.astype(np.float16),
        "action_cm": action.astype(np.float16),
        "look_cm": look.astype(np.float16),
        "seal_cm": seal.astype(np.float16),
        "triangles": triangles,
    }
    metadata = {
        "actions": json.dumps(ACTIONS),
        "look_rad": str(LOOK_RAD),
        "fill_count": str(fill_count),
        "outline_groups": json.dumps({k: [int(i) + FACE_COUNT + 12 for i in v] for k, v in groups.items()}),
        "licence": "MIT; from ICT-FaceKit (USC ICT, MIT), placed on photographs of webmorph (CC BY 4.0)",
        "version": "1",
    }
    config.output.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, config.output, metadata=metadata)
    config.output.chmod(0o644)
    print(f"{config.output}: {len(mean)} points, {len(identity)} identities, {len(action)} actions")


def neutral_landmarks(faces_dir: Path, cache_dir: Path) -> np.ndarray:
    """`(N, 478, 3)` tracked landmarks of people who were asked to look neutral, facing the camera."""
    stills = tracking.stills(faces_dir, cache_dir)
    return stills.landmarks_px[["neutral-front" in file for file in stills.files]]


def landmark_places(model: IctModel, neutral_px: np.ndarray) -> tuple[correspondence.Places, np.ndarray]:
    """Where landmarks lie on the surface, and by how much `(468, 3)` cm the tracker's mean neutral face differs there.

    The offset has no depth: the tracker only guesses it.
    """
    places, offset, _ = correspondence.refine(
        neutral_cm=model.neutral_cm,
        triangles=model.triangles,
        identity_cm=model.identity_cm,
        jaw_open_cm=model.shape("jawOpen"),
        vertex=model.landmark_vertex,
        neutral_px=neutral_px,
    )
    return places, offset * [1, 1, 0]


def _close_lids(mean: np.ndarray, action: np.ndarray) -> None:
    """Make AU45 at weight 1 bring the mean face's upper lids onto the lower ones, in place: the offset moved both."""
    for name, upper, lower in (
        ("AU45_R", RIGHT_UPPER_LID, RIGHT_LOWER_LID),
        ("AU45_L", LEFT_UPPER_LID, LEFT_LOWER_LID),
    ):
        u, low = list(upper[1:-1]), list(lower[1:-1])
        moved = mean + action[ACTIONS.index(name)]
        action[ACTIONS.index(name), u, 1] -= moved[u, 1] - np.interp(moved[u, 0], *_sorted_line(moved[low]))


def _sorted_line(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(points[:, 0])
    return points[order, 0], points[order, 1]


def _eyes(model: IctModel, field: np.ndarray) -> np.ndarray:
    """Irises and eyeball centres `(12, 3)`; for displacements, the eyeball's mean displacement."""
    is_position = field is model.neutral_cm
    irises, centres = [], []
    for side in "RL":
        ball = field[EYEBALLS[side]].astype(np.float64)
        if not is_position:
            irises.append(np.repeat(ball.mean(0)[None], 5, 0))
            centres.append(ball.mean(0))
            continue
        centre = _sphere_centre(ball)
        front = centre + np.array([0, 0, EYEBALL_RADIUS_CM])
        rim = centre + np.array([0, 0, np.sqrt(EYEBALL_RADIUS_CM**2 - IRIS_RADIUS_CM**2)])
        # MediaPipe's rim order: toward the person's left, top, right, bottom.
        offsets = IRIS_RADIUS_CM * np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
        irises.append(np.concatenate([front[None], rim + offsets]))
        centres.append(centre)
    return np.concatenate([*irises, np.stack(centres)])


def _sphere_centre(points: np.ndarray) -> np.ndarray:
    """Centre of the sphere that fits the points best."""
    solution = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], (points**2).sum(1), rcond=None)[0]
    return solution[:3]


def head_outline(model: IctModel, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Vertices spread over ears, skull and neck, in mirrored pairs, and the groups they form."""
    points = model.neutral_cm[HEAD]
    half = np.flatnonzero((points[:, 0] >= -1e-4) & (points[:, 2] > -7.0))
    chosen = [int(half[np.argmax(points[half, 0])])]
    distance = np.linalg.norm(points[half] - points[chosen[0]], axis=1)
    while len(chosen) < count // 2:
        chosen.append(int(half[np.argmax(distance)]))
        distance = np.minimum(distance, np.linalg.norm(points[half] - points[chosen[-1]], axis=1))
    mirrored = cKDTree(points).query(points[chosen] * [-1, 1, 1])[1]
    outline = np.array(list(dict.fromkeys([*chosen, *mirrored.tolist()])))
    p = points[outline]
    neck = p[:, 1] < -9.0
    ear = (np.abs(p[:, 0]) > 7.6) & (np.abs(p[:, 1]) < 5.0) & (p[:, 2] > -3.5) & ~neck
    groups = {"ear": ear, "neck": neck, "skull": ~neck & ~ear}
    return outline + HEAD.start, {name: np.flatnonzero(mask) for name, mask in groups.items()}


def compress(shapes: np.ndarray, count: int) -> np.ndarray:
    """Principal components `(count, P, 3)` of independent unit-normal shapes `(n, P, 3)`, each per one sigma.

    Skin landmarks count fully, the outline a third: the tracker never sees it.
    """
    weight = np.ones((shapes.shape[1], 1))
    weight[FACE_COUNT:] = 1 / 3
    flat = (shapes * weight).reshape(len(shapes), -1)
    _, singular, components = np.linalg.svd(flat, full_matrices=False)
    kept = singular[:count, None] * components[:count]
    return kept.reshape(count, -1, 3) / weight
