"""The virtual camera, through pyvirtualcam (GPL-2; imported in this file only, and only when it is used)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from puppet import install
from puppet.errors import DeviceError
from puppet.publish import Command, Rendering


class VirtualCamera:
    """A camera that other programs can select.

    `open_camera` is `pyvirtualcam.Camera` (or what follows its contract, in tests).

    Raises:
        DeviceError: no driver is installed, or the device is busy or does not exist.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        fps: float,
        device: str | None = None,
        open_camera: Callable[..., Any] | None = None,
    ) -> None:
        try:
            if open_camera is None:
                from pyvirtualcam import Camera as open_camera
            self._camera = open_camera(width=size[0], height=size[1], fps=fps, device=device)
        except ImportError as error:
            raise DeviceError(f"the virtual camera needs pyvirtualcam: pip install pyvirtualcam ({error}).") from error
        except RuntimeError as error:  # every backend's reason, one a line
            reasons = "; ".join(str(error).splitlines())
            wanted = f"virtual camera {device}" if device else "a virtual camera"
            raise DeviceError(
                f"{wanted} could not be opened ({reasons}). No driver? {install.virtual_camera()}"
            ) from error
        self.device: str = self._camera.device
        self.name = f"virtualcam {self.device}"

    def publish(self, rendering: Rendering) -> None:
        """Send one frame.

        Raises:
            DeviceError: the device went away.
        """
        try:
            self._camera.send(rendering.rgb)
        except (RuntimeError, OSError) as error:
            raise DeviceError(f"{self.name} takes no more frames: {error}. Start again when it is back.") from error

    def commands(self) -> Sequence[Command]:
        return ()

    def close(self) -> None:
        self._camera.close()
