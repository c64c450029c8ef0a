"""Estimate: tracked landmarks to the control vector (facial actions, gaze, head pose).

The head pose is geometry: the similarity that lays the landmarks of the stiff part of the face on the rig's mean. What
is left after it goes through a small network (`python -m trainer au`), together with the driver's own face at rest
once that is known (`puppet.neutral`); lids are then also measured against their own height at rest.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import engines
from puppet import facs
from puppet.landmarks import STIFF, TRACKED_COUNT
from puppet.lid_closure import AU45, lid_closure
from puppet.neutral import NeutralFace
from puppet.pose import angles_from_rotation
from puppet.rig import LandmarkRig
from puppet.track import Face

MODEL_PATH = Path(__file__).parent / "models" / "au_regressor.onnx"
_TO_RIG = np.array([1.0, -1.0, -1.0])
_GAZE = [facs.INDEX[name] for name in facs.GAZE_NAMES]
_HEAD = [facs.INDEX[name] for name in facs.HEAD_NAMES]
_FULL_CONFIDENCE_CM, _NO_CONFIDENCE_CM = 0.35, 1.2  # misfit of the stiff landmarks to the rig's mean
_EYE_CORNERS = ((33, 133), (263, 362))  # the person's right eye, left eye
_SURE_YAW_RAD, _LOST_YAW_RAD = 0.6, 1.2
_FURTHER = {"AU04": 2.0, "AU25": 1.2}
"""Actions that faces do further than the regressor says: brows of people who lower them go down 1.9 times as far, lips
part 1.2 times (`trainer/log/2026-11-25-small-networks.md`). Mouth corners, nose, lids and raised brows are right in the
mean."""
_NEUTRAL_OF = 9  # faces: a third of a second


_RESPONSE = np.ones(facs.INTENSITY_COUNT, np.float32)
for _name, _factor in _FURTHER.items():
    _RESPONSE[facs.columns_of(_name)] = _factor


@dataclass(frozen=True)
class Estimate:
    """What one face does.

    `control` is `(SIZE,)` float32, own array: actions 0-5 absolute (the driver's neutral is not yet taken off), gaze
    against the head, head angles against the camera, `shift_x`/`shift_y` the face's place left of (the person's left:
    picture right) and above the picture's centre in inter-ocular distances, `scale` the inter-ocular distance as a
    fraction of the picture's height. `confidence` 0-1: how face-like the landmarks are and how much of it was seen.
    """

    control: np.ndarray
    confidence: float


class AuEstimator:
    """Runs the AU regressor on tracked faces of one driver, frame by frame.

    The driver's resting face is found as frames come in and makes estimates better after a third of a second; `neutral`
    holds it. `learn_neutral=False` takes every face on its own (stills of different people).

    Raises:
        EngineError: the model or the backend does not load.
    """

    def __init__(
        self,
        *,
        engine: str = "auto",
        device: str = "auto",
        model: str | Path = MODEL_PATH,
        rig: LandmarkRig | None = None,
        learn_neutral: bool = True,
    ) -> None:
        rig = rig or LandmarkRig.load()
        self._mean_cm = rig.mean_cm[:TRACKED_COUNT].astype(np.float64)
        self._engine = engines.load(model, backend=engine, device=device, threads=1)  # too small for two
        self._learn_neutral = learn_neutral
        self._is_neutral_next = False
        self._recent: deque[np.ndarray] = deque(maxlen=_NEUTRAL_OF)
        self.neutral = NeutralFace()

    @property
    def engine_info(self) -> engines.EngineInfo:
        """Backend, device and versions that run the model."""
        return self._engine.info

    def estimate(self, face: Face) -> Estimate:
        """The control vector of one face."""
        aligned = align(face.landmarks_px, self._mean_cm)
        head_rad = np.array(angles_from_rotation(aligned.rotation), np.float32)
        landmarks_cm = aligned.landmarks_cm.astype(np.float32)
        self._recent.append(landmarks_cm)
        if self._is_neutral_next:
            self._is_neutral_next = False
            self.neutral.set(np.median(self._recent, axis=0))  # a blink or a twitch of the tracker is left out
        intensities, gaze_rad = self._regress(landmarks_cm, head_rad)
        control = facs.rest()
        control[: facs.INTENSITY_COUNT] = intensities
        control[_GAZE] = gaze_rad
        control[_HEAD] = *head_rad, *_placement(face)
        low, high = facs.LOW.copy(), facs.HIGH.copy()
        low[-3:], high[-3:] = -np.inf, np.inf  # shift and scale are still in picture units here
        return Estimate(np.clip(control, low, high), _confidence(aligned, self._mean_cm, head_rad))

    def set_neutral(self) -> None:
        """The driver is at rest: the next face and those just before it; may be called from any thread."""
        self._is_neutral_next = True

    def close(self) -> None:
        self._engine.close()

    def _regress(self, landmarks_cm: np.ndarray, head_rad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Intensities and gaze. One batch of two, without the neutral and with it.

        The first says how calm the face is, and it can't be misled by a neutral that is still being found; the second
        tells people's faces from what they do. Their mean is better on real faces than either.
        """
        neutral = self.neutral.landmarks_cm
        out = self._engine.run(
            {
                "landmarks_cm": np.stack([landmarks_cm, landmarks_cm]),
                "head_rad": np.stack([head_rad, head_rad]),
                "neutral_cm": np.stack([landmarks_cm, landmarks_cm if neutral is None else neutral]),
                "has_neutral": np.array([[0.0], [0.0 if neutral is None else 1.0]], np.float32),
            }
        )
        intensities = np.clip(out["intensities"], 0, facs.MAX_INTENSITY)
        if self._learn_neutral:
            self.neutral.observe(landmarks_cm, intensities[0], head_rad)
        read = intensities.mean(0)
        if neutral is not None:
            read = with_lids(read, landmarks_cm, neutral)
        return read * _RESPONSE, out["gaze_rad"][1]


def with_lids(intensities: np.ndarray, landmarks_cm: np.ndarray, neutral_cm: np.ndarray) -> np.ndarray:
    """Intensities `(..., INTENSITY_COUNT)` with AU45 as the mean of what was read and how far lids have come down.

    `landmarks_cm` and `neutral_cm` `(..., 478, 3)` are aligned, the second the person's own at rest. Either errs in its
    own way: the regressor on eyes unlike those that it knows, heights with what squints and looks down
    (`trainer/log/2026-11-25-half-closed-eyes.md`).
    """
    out = intensities.copy()
    closed = facs.MAX_INTENSITY * lid_closure(landmarks_cm, neutral_cm)
    out[..., AU45] = (out[..., AU45] + closed) / 2
    return out


@dataclass(frozen=True)
class Aligned:
    """Landmarks moved, turned and scaled onto the rig's mean head; batch axes as given."""

    landmarks_cm: np.ndarray  # (..., 478, 3), x to the person's left, y up, z forward
    rotation: np.ndarray  # (..., 3, 3), head frame to camera frame


def align(landmarks_px: np.ndarray, mean_cm: np.ndarray) -> Aligned:
    """Take head pose, place and size out of landmarks `(..., 478, 3)` px (y down, z away from the camera).

    Only landmarks that no action moves much decide (Umeyama 1991 over `STIFF`). `mean_cm` is `(478, 3)`.
    """
    points = np.asarray(landmarks_px, np.float64) * _TO_RIG
    stiff, model = points[..., STIFF, :], mean_cm[list(STIFF)]
    centre, model_centre = stiff.mean(-2, keepdims=True), model.mean(0)
    a, b = model - model_centre, stiff - centre
    u, _, vt = np.linalg.svd(np.swapaxes(b, -1, -2) @ a)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    rotation = u @ vt
    turned = (points - centre) @ rotation
    scale = np.sqrt((a**2).sum() / (b**2).sum((-1, -2)))[..., None, None]
    return Aligned(turned * scale + model_centre, rotation)


def _placement(face: Face) -> tuple[float, float, float]:
    """`shift_x`, `shift_y`, `scale` as in `Estimate`."""
    width, height = face.image_size
    # Between the middles of the eyes' corners: irises slide as lids close, and the head would pulse with every blink.
    right, left = (face.landmarks_px[list(corners)].mean(0) for corners in _EYE_CORNERS)
    ocular = max(float(np.linalg.norm(left - right)), 1e-3)  # in three dimensions: it stays as the head turns
    middle = (left + right) / 2
    return (
        float(middle[0] - (width - 1) / 2) / ocular,
        float((height - 1) / 2 - middle[1]) / ocular,
        ocular / height,
    )


def _confidence(aligned: Aligned, mean_cm: np.ndarray, angles: np.ndarray) -> float:
    misfit = np.sqrt(((aligned.landmarks_cm[list(STIFF)] - mean_cm[list(STIFF)]) ** 2).sum(-1).mean())
    shape = np.interp(misfit, [_FULL_CONFIDENCE_CM, _NO_CONFIDENCE_CM], [1.0, 0.0])
    seen = np.interp(abs(angles[0]), [_SURE_YAW_RAD, _LOST_YAW_RAD], [1.0, 0.0])
    return float(shape * seen)
