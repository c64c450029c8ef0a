"""The one way in which the driver's own picture can be shown: while they hold a lease that they asked for twice.

A `Lease` is made by the preview's gesture (`puppet.publish.gesture`) and by nothing else. It lives only while the
preview keeps renewing it, and never again once it has ended. `OwnView` holds the newest picture of the driver only
while its lease lives; everybody who passes such a picture on asks the lease first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from puppet.capture import Frame

RENEW_WITHIN_S = 0.7  # a preview that is closed, hidden by a fault or hanging does not renew
STALE_S = 0.5  # an older picture means that the camera or the tracker stopped


class Lease:
    """Leave to show the driver's own camera until it ends. May be asked and ended from any thread."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._renewed_s = clock()
        self._is_over = False

    @property
    def is_alive(self) -> bool:
        if self._clock() - self._renewed_s > RENEW_WITHIN_S:
            self._is_over = True
        return not self._is_over

    def renew(self) -> None:
        """Go on, if it is not over."""
        if self.is_alive:
            self._renewed_s = self._clock()

    def end(self) -> None:
        self._is_over = True


class OwnView:
    """The driver's newest picture, as long as a lease lives; otherwise nothing."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._granted_s = 0.0
        self._frame: Frame | None = None

    @property
    def lease(self) -> Lease | None:
        """The lease that lives, or None."""
        lease = self._lease
        return lease if lease is not None and lease.is_alive else None

    def grant(self, lease: Lease) -> None:
        """Hold pictures from the next one on, while that lease lives."""
        with self._lock:
            self._lease, self._frame, self._granted_s = lease, None, self._clock()

    def offer(self, frame: Frame) -> None:
        """A new picture: kept if a lease lives, forgotten otherwise."""
        with self._lock:
            self._frame = frame if self.lease is not None else None

    def newest(self) -> Frame | None:
        """The picture to show, or None: no lease, or none yet. A picture that is too old ends the lease."""
        with self._lock:
            lease, frame = self.lease, self._frame
            if lease is None:
                self._frame = None
                return None
            seen_s = self._granted_s if frame is None else frame.captured_s
            if self._clock() - seen_s > STALE_S:
                self._revoke()
                return None
            return frame

    def revoke(self) -> None:
        """Back to the portrait, for good: a new lease has to be asked for."""
        with self._lock:
            self._revoke()

    def _revoke(self) -> None:
        if self._lease is not None:
            self._lease.end()
        self._lease = self._frame = None


def fitted(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture `(h, w, 3)` uint8 filling `size` (width, height), cut about its middle; a new contiguous array."""
    import cv2

    width, height = size
    zoom = max(width / rgb.shape[1], height / rgb.shape[0])
    scaled_size = (max(width, round(rgb.shape[1] * zoom)), max(height, round(rgb.shape[0] * zoom)))
    scaled = cv2.resize(rgb, scaled_size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    left, top = (scaled.shape[1] - width) // 2, (scaled.shape[0] - height) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])
