"""Portrait: the picture that is animated, decoded, checked, with its face found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from puppet.errors import InputError, PortraitError
from puppet.picture import decode, without_frame
from puppet.track import Face, FaceTracker, quiet_mediapipe

MIN_FACE_PX = 64  # width of the face; below it lids and lips are two pixels high
MAX_YAW_DEG = 40.0

HEAD_AND_SHOULDERS = 2.3  # face heights
_TRACK_SIDE_PX = 960  # the tracker sees 192 px crops anyway; more only costs time


@dataclass(frozen=True)
class Portrait:
    """A decoded picture and the face in it that is animated.

    `rgb` is `(H, W, 3)` uint8, upright; transparent pixels are laid on mid grey. `landmarks_px` is `(478, 3)` float32
    in the same pixels, in the tracker's frame (see `puppet.track.Face`).
    """

    rgb: np.ndarray
    landmarks_px: np.ndarray
    name: str

    @classmethod
    def load(cls, path: str | Path, *, face: int = 0) -> Portrait:
        """Read a picture (see `puppet.picture`) of at most 40 megapixels, without a scan's frame, and find its face.

        `face` counts from 0, the largest face, in order of size.

        Raises:
            PortraitError: a missing or damaged file, too many pixels, no such face, a face too small or turned away.
        """
        path = Path(path)
        try:
            rgb = without_frame(decode(path))
        except InputError as error:
            raise PortraitError(str(error)) from error
        return cls.from_rgb(rgb, face=face, name=path.stem)

    @classmethod
    def from_rgb(cls, rgb: np.ndarray, *, face: int = 0, name: str = "portrait") -> Portrait:
        """The same from an `(H, W, 3)` uint8 RGB array.

        Raises:
            PortraitError: as `load`.
        """
        faces = find_faces(rgb)
        if not faces:
            raise PortraitError(
                f"no face found in {name} ({rgb.shape[1]} x {rgb.shape[0]} px): expected one that looks roughly at the "
                "camera. Crop the picture nearer to the face or choose another."
            )
        if not 0 <= face < len(faces):
            raise PortraitError(
                f"--face {face} does not exist: {len(faces)} found in {name}, the largest is 0. "
                f"Choose 0 to {len(faces) - 1}."
            )
        landmarks = faces[face].landmarks_px
        _check_face(landmarks, name)
        return cls(rgb, landmarks, name)

    def cut_to_head(self) -> Portrait:
        """The part of the picture that a video call shows: head and shoulders, square where the picture allows."""
        height, width = self.rgb.shape[:2]
        low, high = self.landmarks_px[:, :2].min(0), self.landmarks_px[:, :2].max(0)
        side = min(HEAD_AND_SHOULDERS * float(high[1] - low[1]), width, height)
        centre = (low + high) / 2 + (0, 0.08 * side)
        x0, y0 = (int(np.clip(c - side / 2, 0, limit - side)) for c, limit in zip(centre, (width, height), strict=True))
        cut = self.rgb[y0 : y0 + int(side), x0 : x0 + int(side)]
        landmarks = self.landmarks_px - np.array([x0, y0, 0], np.float32)
        return Portrait(np.ascontiguousarray(cut), landmarks, self.name)


def find_faces(rgb: np.ndarray, *, max_faces: int = 8) -> list[Face]:
    """Faces in a still, largest first, each tracked again on its own crop for precision."""
    height, width = rgb.shape[:2]
    shrink = min(1.0, _TRACK_SIDE_PX / max(height, width))
    if min(height, width) * shrink < 16:
        return []
    small = cv2.resize(rgb, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else rgb
    tracker = FaceTracker(max_faces=max_faces, static=True)
    try:
        boxes = [np.array(face.box_px) / shrink for face in tracker.track_all(small)]
        boxes += [box / shrink for box in _distant_boxes(small) if not _is_covered(box / shrink, boxes)]
        faces = [face for box in boxes if (face := _track_crop(tracker, rgb, box)) is not None]
    finally:
        tracker.close()
    return sorted(faces, key=lambda face: -face.area_px)


def _track_crop(tracker: FaceTracker, rgb: np.ndarray, box: np.ndarray) -> Face | None:
    """Track one face in a square crop twice its box, in the whole picture's pixels."""
    height, width = rgb.shape[:2]
    left, top, right, bottom = box
    half = max(right - left, bottom - top)
    x0, y0 = max(0, round((left + right) / 2 - half)), max(0, round((top + bottom) / 2 - half))
    x1, y1 = min(width, round((left + right) / 2 + half)), min(height, round((top + bottom) / 2 + half))
    if x1 - x0 < 16 or y1 - y0 < 16:
        return None
    crop = rgb[y0:y1, x0:x1]
    zoom = min(1.0, 512 / max(crop.shape[:2])) if max(crop.shape[:2]) > 512 else max(1.0, 256 / max(crop.shape[:2]))
    crop = cv2.resize(crop, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    face = tracker.track(crop)
    if face is None:
        return None
    points = face.landmarks_px.copy()
    points[:, :2] = (points[:, :2] + 0.5) / zoom - 0.5 + (x0, y0)
    points[:, 2] /= zoom
    return Face(points, (width, height))


def _distant_boxes(rgb: np.ndarray) -> list[np.ndarray]:
    """Boxes `(left, top, right, bottom)` from MediaPipe's full-range detector, which sees smaller faces."""
    with quiet_mediapipe():
        from mediapipe.python.solutions.face_detection import FaceDetection

    height, width = rgb.shape[:2]
    with quiet_mediapipe(), FaceDetection(model_selection=1, min_detection_confidence=0.5) as detector:
        found = detector.process(np.ascontiguousarray(rgb)).detections or []
    boxes = []
    for detection in found:
        box = detection.location_data.relative_bounding_box
        boxes.append(
            np.array(
                [box.xmin * width, box.ymin * height, (box.xmin + box.width) * width, (box.ymin + box.height) * height]
            )
        )
    return boxes


def _is_covered(box: np.ndarray, others: list[np.ndarray]) -> bool:
    """Whether the box's centre lies in one of the others."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return any(o[0] <= x <= o[2] and o[1] <= y <= o[3] for o in others)


def _check_face(landmarks_px: np.ndarray, name: str) -> None:
    width = float(np.ptp(landmarks_px[:, 0]))
    if width < MIN_FACE_PX:
        raise PortraitError(
            f"the face in {name} is {width:.0f} px wide: expected at least {MIN_FACE_PX} px. Use a larger picture."
        )
    # The tracker's own depth of the two eye corners and cheeks tells the turn of the head.
    right, left = landmarks_px[[234, 33]].mean(0), landmarks_px[[454, 263]].mean(0)
    yaw_deg = abs(np.degrees(np.arctan2(left[2] - right[2], left[0] - right[0])))
    if yaw_deg > MAX_YAW_DEG:
        raise PortraitError(
            f"the face in {name} is turned {yaw_deg:.0f} degrees aside: expected at most {MAX_YAW_DEG:.0f}. "
            "Use a picture that looks toward the camera."
        )
