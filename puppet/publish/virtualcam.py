"""The virtual camera, through pyvirtualcam (GPL-2; imported in this file only, and only when it is used)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from puppet import install
from puppet.errors import DeviceError
from puppet.publish import Command, Rendering, loopback

_PERMISSION, _BUSY, _UNKNOWN = "permission", "busy", "unknown"
_KINDS = (
    ("missing permissions", _PERMISSION),
    ("already in use", _BUSY),
    ("resource busy", _BUSY),
    ("Multiple cameras are not supported", _BUSY),
    ("could not be started", _BUSY),
    ("Couldn't start stream", _BUSY),
    ("does not exist", _UNKNOWN),
    ("No camera registered with this name", _UNKNOWN),
    ("supports only the", _UNKNOWN),
    ("is not a V", _UNKNOWN),
    ("could not be queried", _UNKNOWN),
)
"""Words of pyvirtualcam's backends (0.14 and 0.15) and what they mean; the first that is found counts, for the reasons
of all backends come together."""


class VirtualCamera:
    """A camera that other programs can select.

    `open_camera` is `pyvirtualcam.Camera` (or what follows its contract, in tests).

    Raises:
        DeviceError: no driver is installed, or the device is busy, does not exist, or is held at another size.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        fps: float,
        device: str | None = None,
        open_camera: Callable[..., Any] | None = None,
    ) -> None:
        wanted = f"virtual camera {device}" if device else "a virtual camera"
        try:
            if open_camera is None:
                from pyvirtualcam import Camera as open_camera
        except ImportError as error:
            raise DeviceError(f"the virtual camera needs pyvirtualcam: pip install pyvirtualcam ({error}).") from error
        if device is None:
            device = loopback.choose()
        else:
            loopback.reopen(device)
        try:
            self._camera = open_camera(width=size[0], height=size[1], fps=fps, device=device)
        except RuntimeError as error:  # every backend's reason, one a line
            reasons = "; ".join(str(error).splitlines()) or "pyvirtualcam knows none for this system"
            raise DeviceError(f"{wanted} could not be opened ({reasons}). {_advice(reasons, device)}") from error
        self.device: str = self._camera.device
        self.name = f"virtualcam {self.device}"
        self._check_size(size)
        loopback.announce_rate(self.device, fps)

    def publish(self, rendering: Rendering) -> None:
        """Send one frame.

        Raises:
            DeviceError: the backend says that the device went away. (v4l2loopback's never does: its module can't be
                unloaded while it is held, and a write that fails is only printed by pyvirtualcam.)
        """
        try:
            self._camera.send(rendering.rgb)
        except (RuntimeError, OSError) as error:
            raise DeviceError(f"{self.name} takes no more frames: {error}. Start again when it is back.") from error

    def commands(self) -> Sequence[Command]:
        return ()

    def close(self) -> None:
        self._camera.close()
        loopback.let_in(self.device)

    def _check_size(self, size: tuple[int, int]) -> None:
        """A device that a program still looks at keeps its size, and would show our pictures torn."""
        taken = loopback.size_of(self.device)
        if taken is None or taken == tuple(size):
            return
        self.close()
        raise DeviceError(
            f"{self.name} is held at {taken[0]}x{taken[1]} by a program that uses it, not {size[0]}x{size[1]}. "
            f"Switch that program's camera off first, or start with --size {taken[0]}x{taken[1]}."
        )


def _advice(reasons: str, device: str | None) -> str:
    """What to do about the reasons for which no backend opened."""
    kind = next((kind for words, kind in _KINDS if words in reasons), None)
    if kind is None and device is not None and loopback.is_loopback(device):
        kind = _BUSY
    if kind == _PERMISSION:
        return install.VIDEO_GROUP
    if kind == _BUSY:
        return "Another program publishes to it: stop that one (another puppet, or Stop Virtual Camera in OBS)."
    if kind == _UNKNOWN:
        return f"`python -m puppet devices` lists what there is. No driver? {install.virtual_camera()}"
    return f"No driver? {install.virtual_camera()}"
