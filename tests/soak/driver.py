"""The driver before a webcam that is unplugged, covered, black or empty, as the script has it.

All pictures of the driver are green: red and blue are a small share of green in every pixel, black ones included. No
portrait of the run is green, and nothing the generator does to one can make it so, so what is green in an output came
from the driver, however it was moved, scaled or cut; blended in at a quarter it still stands out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from puppet.capture.camera import Camera
from puppet.capture.devices import CaptureDevice

from .script import Script

SIZE = (640, 480)
NAME = "soak webcam"
FPS = 30.0
OTHER_SHARE = 0.5  # red and blue of green
DARKEST = 84  # green of black
FRAMES_KEPT = 300


def green(rgb: np.ndarray) -> np.ndarray:
    """`(H, W, 3)` uint8: the same picture in green alone, its black lifted to `DARKEST`."""
    level = DARKEST + cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) * ((255 - DARKEST) / 255)
    return np.stack([OTHER_SHARE * level, level, OTHER_SHARE * level], -1).astype(np.uint8)


def face_pictures(clip: Path | None, still: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures of a face at `SIZE`: a clip's, or a still's moved about."""
    if clip is None:
        for i in range(FRAMES_KEPT):
            phase = 2 * np.pi * i / FRAMES_KEPT
            zoom = 1.6 * (1 + 0.06 * np.sin(3 * phase))
            move = cv2.getRotationMatrix2D((220.0, 125.0), 6 * np.sin(2 * phase), zoom)
            move[:, 2] += np.array([SIZE[0] / 2 - 220 + 18 * np.sin(phase), SIZE[1] / 2 - 125])
            yield cv2.warpAffine(still, move, SIZE, borderMode=cv2.BORDER_REPLICATE)
        return
    with av.open(str(clip)) as container:
        for _, picture in zip(range(FRAMES_KEPT), container.decode(video=0), strict=False):
            rgb = picture.to_ndarray(format="rgb24")
            zoom = max(SIZE[0] / rgb.shape[1], SIZE[1] / rgb.shape[0])
            rgb = cv2.resize(rgb, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
            top, left = (rgb.shape[0] - SIZE[1]) // 2, (rgb.shape[1] - SIZE[0]) // 2
            yield rgb[top : top + SIZE[1], left : left + SIZE[0]]


class ScriptedWebcam:
    """Follows `cv2.VideoCapture`: pictures at `FPS`, none while the script has it unplugged."""

    def __init__(self, script: Script, pictures: Iterable[np.ndarray]) -> None:
        """`pictures` are `(H, W, 3)` RGB; kept as JPEG, as a webcam sends them, so that memory stays small."""
        self._script = script
        self._jpegs = [cv2.imencode(".jpg", cv2.cvtColor(p, cv2.COLOR_RGB2BGR))[1] for p in pictures]
        self._empty = cv2.GaussianBlur(self.picture(0), (0, 0), 60)
        self._due_s = 0.0

    def picture(self, place: int) -> np.ndarray:
        """`(H, W, 3)` uint8 BGR: one picture as it is sent."""
        return cv2.imdecode(self._jpegs[place], cv2.IMREAD_COLOR)

    def __len__(self) -> int:
        return len(self._jpegs)

    @property
    def is_plugged(self) -> bool:
        return self._script.now().kind != "camera unplugged"

    def cameras(self) -> list[CaptureDevice]:
        return [CaptureDevice(0, NAME)] if self.is_plugged else []

    def open(self, index: int) -> ScriptedWebcam:
        return self

    def isOpened(self) -> bool:
        return self.is_plugged

    def set(self, setting: int, value: float) -> bool:
        return True

    def release(self) -> None:
        pass

    def read(self) -> tuple[bool, np.ndarray | None]:
        """The next BGR picture when it is due."""
        now_s = time.perf_counter()
        self._due_s = max(self._due_s + 1 / FPS, now_s - 1 / FPS)
        if self._due_s > now_s:
            time.sleep(self._due_s - now_s)
        if not self.is_plugged:
            return False, None
        return True, self._picture()

    def _picture(self) -> np.ndarray:
        count = len(self._jpegs)
        place = int(self._script.elapsed_s * FPS) % (2 * count)  # there and back, without a jump
        bgr = self.picture(min(place, 2 * count - 1 - place))
        kind = self._script.now().kind
        if kind == "black frames":
            bgr[:] = green(np.zeros((1, 1, 3), np.uint8))[0, 0, ::-1]
        elif kind == "driver leaves":
            bgr = self._empty.copy()
        elif kind == "face covered":
            bgr[:] = bgr[0, 0]
        elif kind == "several faces":
            half = cv2.resize(bgr, None, fx=0.5, fy=1.0)
            bgr = np.concatenate([half, half[:, ::-1]], axis=1)
        return bgr


def camera(webcam: ScriptedWebcam) -> Camera:
    """The program's own camera on the scripted device."""
    return Camera(0, size=SIZE, fps=FPS, open_capture=webcam.open, cameras=webcam.cameras)
