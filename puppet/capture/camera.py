"""A webcam as driver, through OpenCV: MJPG asked, reopened by itself when it is lost, never our own virtual camera."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from puppet.capture import Frame
from puppet.capture.devices import CaptureDevice, list_cameras
from puppet.errors import DeviceError

log = logging.getLogger(__name__)

BACKENDS = {"linux": cv2.CAP_V4L2, "win32": cv2.CAP_DSHOW, "darwin": cv2.CAP_AVFOUNDATION}
REOPEN_EVERY_S = 1.0
LOST_AFTER_FAILED_READS = 3


class Camera:
    """Frames of a webcam, newest last; ends only when closed.

    `open_capture` opens an index as `cv2.VideoCapture` does (a fake in tests).

    Raises:
        DeviceError: no camera, no such index, our own virtual camera, or busy.
    """

    is_live = True

    def __init__(
        self,
        index: int | None = None,
        *,
        size: tuple[int, int] = (640, 480),
        fps: float = 30.0,
        open_capture: Callable[[int], cv2.VideoCapture] | None = None,
        cameras: Callable[[], Sequence[CaptureDevice]] = list_cameras,
    ) -> None:
        self._open_capture, self._cameras = open_capture or _open_capture, cameras
        self._size, self.fps = size, fps
        self._closed = threading.Event()
        self._device = self._choose(index)
        self.name = self._device.name
        self._capture = self._opened(self._device.index)
        if self._capture is None:
            raise DeviceError(
                f"camera {self._device.index} ({self.name}) did not open: it is busy or may not be used. "
                "Close other programs that use it, or choose another with --driver camera:N."
            )

    def frames(self) -> Iterator[Frame]:
        """Frames as they come; while the camera is away nothing comes, and it is looked for again every second."""
        start_s, index, failed = time.perf_counter(), 0, 0
        while not self._closed.is_set():
            ok, bgr = self._capture.read()
            captured_s = time.perf_counter()
            if ok and bgr is not None:
                yield Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), index, captured_s - start_s, captured_s)
                index, failed = index + 1, 0
                continue
            failed += 1
            if failed >= LOST_AFTER_FAILED_READS:
                self._reopen()
                failed = 0
        self._capture.release()

    def close(self) -> None:
        """Frames end; the device is released by the thread that reads it, which may be waiting in the driver."""
        self._closed.set()

    def _choose(self, index: int | None) -> CaptureDevice:
        found = self._cameras()
        own = [c.index for c in found if c.is_own]
        usable = [c for c in found if c.is_usable]
        if index in own:
            raise DeviceError(f"camera {index} is a virtual camera of this program: {_offer(usable)}")
        if index in [c.index for c in found if not c.can_capture]:
            raise DeviceError(f"camera {index} is a virtual camera that nobody publishes to: {_offer(usable)}")
        if index is None:
            if not usable:
                raise DeviceError(f"no camera was found. Connect one, or try --driver demo. {_PERMISSION}".strip())
            return usable[0]
        for camera in usable:
            if camera.index == index:
                return camera
        raise DeviceError(f"camera {index} does not exist: {_offer(usable)}")

    def _opened(self, index: int) -> cv2.VideoCapture | None:
        """The device set up and giving pictures, or None."""
        capture = self._open_capture(index)
        width, height = self._size
        # The format first: at YUYV most webcams reach 30 fps only at small sizes.
        for setting, value in (
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, self.fps),
            (cv2.CAP_PROP_BUFFERSIZE, 1),
        ):
            capture.set(setting, value)
        ok, picture = capture.read() if capture.isOpened() else (False, None)
        if ok and isinstance(picture, np.ndarray):
            return capture
        capture.release()
        return None

    def _reopen(self) -> None:
        """Wait for the camera, which may come back under another index, until it gives pictures or we are closed."""
        self._capture.release()
        log.warning("camera %s was lost: showing the rest pose until it is back.", self.name)
        while not self._closed.wait(REOPEN_EVERY_S):
            present = [c for c in self._cameras() if c.is_usable]
            same = [c.index for c in present if c.name == self.name]
            if not same:
                continue
            index = self._device.index if self._device.index in same else same[0]
            capture = self._opened(index)
            if capture is not None:
                self._capture = capture
                log.warning("camera %s is back.", self.name)
                return


_PERMISSION = (
    "On macOS allow the terminal to use the camera in System Settings > Privacy & Security > Camera."
    if sys.platform == "darwin"
    else ""
)


def _offer(usable: Sequence[CaptureDevice]) -> str:
    if not usable:
        return "no camera was found. Connect one, or try --driver demo."
    listed = ", ".join(f"{c.index} ({c.name})" for c in usable)
    return f"found {listed}. Choose one with --driver camera:N."


def _open_capture(index: int) -> cv2.VideoCapture:
    return cv2.VideoCapture(index, BACKENDS.get(sys.platform, cv2.CAP_ANY))
