"""Which cameras this machine has, by name, without opening them; needs no OpenCV."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

VIRTUAL_CAMERA_NAME = "Puppet"
"""Label that `doctor` tells users to give their loopback device."""
OWN_NAMES = (VIRTUAL_CAMERA_NAME, "OBS Virtual Camera", "Unity Video Capture")
"""Devices that pyvirtualcam writes to: reading them back would show the portrait to the tracker."""

WINDOWS_FILTERS = ("{A3FCE0F5-3493-419F-958A-ABA1250EC20B}", "{5C2CD55C-92AD-4999-8666-912BD3E70010}")
"""Class ids of OBS's virtual camera and of Unity Capture's first one."""

V4L2_CAPTURE = 0x1
V4L2_OUTPUT = 0x2
V4L2_DEVICE_CAPS = 0x80000000


@dataclass(frozen=True)
class CaptureDevice:
    """A camera as OpenCV counts them."""

    index: int
    name: str
    path: str = ""  # /dev/videoN where there is such a thing
    is_own: bool = False  # a virtual camera that this program writes to
    is_loopback: bool = False  # any v4l2loopback device
    can_capture: bool = True  # False: a loopback to which nobody publishes

    @property
    def is_usable(self) -> bool:
        """Whether it can be the driver's camera."""
        return self.can_capture and not self.is_own


def list_cameras() -> Sequence[CaptureDevice]:
    """Cameras by index, our own virtual ones marked."""
    if sys.platform == "linux":
        return _linux_cameras()
    names = _macos_names() if sys.platform == "darwin" else _windows_names()
    own = [] if sys.platform == "darwin" else [name for name in _windows_filters() if name not in names]
    return [
        *(CaptureDevice(index, name, is_own=_is_own(name)) for index, name in enumerate(names)),
        *(CaptureDevice(index, name, is_own=True) for index, name in enumerate(own, start=len(names))),
    ]


def _is_own(name: str) -> bool:
    return any(name.lower().startswith(own.lower()) for own in OWN_NAMES)


def _linux_cameras(root: Path = Path("/sys/class/video4linux"), dev: Path = Path("/dev")) -> list[CaptureDevice]:
    cameras = []
    for entry in sorted(root.glob("video*"), key=lambda p: int(re.sub(r"\D", "", p.name) or 0)):
        index = int(re.sub(r"\D", "", entry.name))
        name = (entry / "name").read_text(errors="replace").strip()
        driver, capabilities = query(dev / entry.name)
        is_loopback = driver == "v4l2 loopback"
        # A webcam has a second node for metadata, which can't capture. A loopback that nobody writes to can only be
        # written, and has to be listed all the same: it is where we publish.
        if capabilities is not None and not capabilities & V4L2_CAPTURE and not is_loopback:
            continue
        can_capture = capabilities is None or bool(capabilities & V4L2_CAPTURE)
        cameras.append(CaptureDevice(index, name, str(dev / entry.name), _is_own(name), is_loopback, can_capture))
    return cameras


def query(path: Path) -> tuple[str, int | None]:
    """Driver and capabilities of a V4L2 node (VIDIOC_QUERYCAP); `('', None)` where it can't be asked."""
    import fcntl

    answer = bytearray(104)
    try:
        with open(path, "rb", buffering=0) as node:
            fcntl.ioctl(node, 0x80685600, answer)
    except OSError:
        return "", None
    whole, of_node = (int.from_bytes(answer[at : at + 4], "little") for at in (84, 88))
    driver = bytes(answer[:16]).split(b"\0")[0].decode(errors="replace")
    return driver, of_node if whole & V4L2_DEVICE_CAPS else whole


def _macos_names() -> list[str]:
    text = _output("system_profiler", "SPCameraDataType", "-json")
    try:
        return [str(camera.get("_name", "camera")) for camera in json.loads(text or "{}").get("SPCameraDataType", [])]
    except json.JSONDecodeError:
        return []


def _windows_names() -> list[str]:
    text = _output(
        "powershell", "-NoProfile", "-Command",
        "Get-CimInstance Win32_PnPEntity | Where-Object { $_.PNPClass -in 'Camera','Image' } | ForEach-Object Name",
    )  # fmt: skip
    return [line.strip() for line in text.splitlines() if line.strip()]


def _windows_filters(registry=None) -> list[str]:
    """Virtual cameras that are DirectShow filters and no devices, from where pyvirtualcam looks for them."""
    if registry is None:
        try:
            import winreg as registry
        except ImportError:
            return []
    found = []
    for clsid in WINDOWS_FILTERS:
        try:
            found.append(registry.QueryValue(registry.HKEY_CLASSES_ROOT, rf"CLSID\{clsid}").strip())
        except OSError:
            continue
    return found


def _output(*command: str) -> str:
    """What a system tool prints, empty where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
