"""Track: faces in a picture as 478 landmarks (MediaPipe Face Mesh with irises).

MediaPipe is imported when a tracker is made, not before: it takes a second, and `--help` needs none of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LANDMARKS = 478
_UNUSED = ("matplotlib", "matplotlib.pyplot", "mediapipe.tasks", "mediapipe.tasks.python")


@dataclass(frozen=True)
class Face:
    """One tracked face.

    `landmarks_px` is `(478, 3)` float32: x right, y down in the picture, z in pixels, negative toward the camera and
    zero near the head's centre, as MediaPipe gives it. 468-472 are the person's right iris, 473-477 the left.
    """

    landmarks_px: np.ndarray
    image_size: tuple[int, int]  # (w, h) of the picture the landmarks refer to

    def __post_init__(self) -> None:
        if self.landmarks_px.shape != (LANDMARKS, 3):
            raise ValueError(f"landmarks_px has shape {self.landmarks_px.shape}: expected ({LANDMARKS}, 3).")

    @property
    def box_px(self) -> tuple[float, float, float, float]:
        """`(left, top, right, bottom)` of the landmarks; may reach outside the picture."""
        left, top = self.landmarks_px[:, :2].min(0)
        right, bottom = self.landmarks_px[:, :2].max(0)
        return float(left), float(top), float(right), float(bottom)

    @property
    def area_px(self) -> float:
        left, top, right, bottom = self.box_px
        return (right - left) * (bottom - top)


class FaceTracker:
    """Finds and follows faces in RGB pictures.

    `static=False` follows faces from one frame to the next (a video, in order); `static=True` treats every picture on
    its own. One tracker serves one thread.
    """

    def __init__(self, *, max_faces: int = 1, static: bool = False) -> None:
        self._has_found = False
        with quiet_mediapipe():
            with _without_unused():
                from mediapipe.python.solutions.face_mesh import FaceMesh
            self._mesh = FaceMesh(static_image_mode=static, max_num_faces=max_faces, refine_landmarks=True)
            # The first picture builds MediaPipe's delegates, and logs; better here than in the first live frame.
            self._process(np.zeros((64, 64, 3), np.uint8))

    def track(self, rgb: np.ndarray) -> Face | None:
        """The largest face in an `(H, W, 3)` uint8 RGB picture, or None."""
        faces = self.track_all(rgb)
        return faces[0] if faces else None

    def track_all(self, rgb: np.ndarray) -> list[Face]:
        """All faces found (up to `max_faces`), largest first."""
        height, width = rgb.shape[:2]
        to_px = np.array([width, height, width], np.float32)
        half = np.array([0.5, 0.5, 0.0], np.float32)  # MediaPipe counts from the picture's edge
        faces = [Face(points * to_px - half, (width, height)) for points in self._process(rgb)]
        return sorted(faces, key=lambda face: -face.area_px)

    def close(self) -> None:
        self._mesh.close()

    def _process(self, rgb: np.ndarray) -> list[np.ndarray]:
        """`(478, 3)` float32 normalised landmarks of each face."""
        # The first face is the last occasion on which MediaPipe has something to say.
        with contextlib.nullcontext() if self._has_found else quiet_mediapipe():
            found = self._mesh.process(np.ascontiguousarray(rgb)).multi_face_landmarks or []
        self._has_found = self._has_found or bool(found)
        return [_points(face) for face in found]


_RECORD = np.dtype(
    [("list_tag", "u1"), ("size", "u1"), ("x_tag", "u1"), ("x", "<f4"), ("y_tag", "u1"), ("y", "<f4"), ("z_tag", "u1"),
     ("z", "<f4")]
)  # fmt: skip


def _points(landmark_list) -> np.ndarray:
    """`(478, 3)` float32 of a NormalizedLandmarkList.

    Read from its wire format, in which each landmark takes the same bytes: ten times faster than by attributes, and
    the interpreter's lock is wanted by the thread that renders.
    """
    wire = landmark_list.SerializeToString()
    if len(wire) == LANDMARKS * _RECORD.itemsize:
        records = np.frombuffer(wire, _RECORD)
        tags = [(records[name] == tag).all() for name, tag in zip(_RECORD.names[::2], (10, 13, 21, 29), strict=False)]
        if all(tags):
            return np.stack([records["x"], records["y"], records["z"]], 1)
    return np.array([(p.x, p.y, p.z) for p in landmark_list.landmark], np.float32)


_NOISE = re.compile(
    rb"TensorFlow Lite|absl::InitializeLog|inference_feedback_manager|landmark_projection_calculator|gl_context|^\s*$"
)


_one_at_a_time = threading.RLock()  # stderr belongs to the whole process


@contextlib.contextmanager
def quiet_mediapipe() -> Iterator[None]:
    """Import, make and first use of MediaPipe's parts without their known start-up lines and warnings.

    They can't be switched off: native code writes them to stderr. What else is written there meanwhile comes out after.
    """
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MediaPipe imports warns of its own past
        with _filtered_stderr():
            yield


@contextlib.contextmanager
def _without_unused() -> Iterator[None]:
    """Import MediaPipe without what the face mesh does not use: its task library, and matplotlib, which draws.

    The tasks are 150 modules and half of the import. Matplotlib takes 0.7 s, and seconds on its first run, when it
    looks for all of the system's fonts.
    """
    names = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update({name: types.ModuleType(name) for name in names})
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@contextlib.contextmanager
def _filtered_stderr() -> Iterator[None]:
    try:
        stderr_copy = os.dup(2)
    except OSError:  # no stderr at all (pythonw on Windows)
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr_copy, 2)
            os.close(stderr_copy)
            held.seek(0)
            for line in held.read().splitlines(keepends=True):
                if not _NOISE.search(line):
                    os.write(2, line)
