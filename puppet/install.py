"""The exact lines that install what a machine lacks, per system."""

from __future__ import annotations

import sys
from pathlib import Path

_LOAD = 'sudo modprobe v4l2loopback devices=1 card_label="Puppet" exclusive_caps=1'
VIDEO_GROUP = "sudo usermod -aG video $USER, then log in again"
"""Who may open cameras on Linux."""
_LOOPBACK_PACKAGE = {
    "debian": "sudo apt install v4l2loopback-dkms",
    "fedora": "sudo dnf install akmod-v4l2loopback",  # from RPM Fusion
    "arch": "sudo pacman -S v4l2loopback-dkms linux-headers",
    "suse": "sudo zypper install v4l2loopback-kmp-default",
}
_LIBRARIES = {
    "debian": "sudo apt install libgl1 libglib2.0-0",
    "fedora": "sudo dnf install mesa-libGL glib2",
    "arch": "sudo pacman -S libglvnd glib2",
    "suse": "sudo zypper install Mesa-libGL1 libglib-2_0-0",
}


def virtual_camera(platform: str = sys.platform, os_release: str | None = None) -> str:
    """How to get a virtual camera: commands on Linux, steps elsewhere."""
    if platform == "linux":
        return f"{_LOOPBACK_PACKAGE[_family(os_release)]} && {_LOAD}"
    start = "start OBS, press Start Virtual Camera once, and quit it"
    if platform == "darwin":
        return f"brew install --cask obs (30 or later), then {start} (macOS 13 or later: allow its camera extension)"
    if platform == "win32":
        return f"winget install OBSProject.OBSStudio, then {start}; or install Unity Capture"
    return "install a virtual camera that pyvirtualcam knows: v4l2loopback, OBS or Unity Capture"


def opencv_libraries(os_release: str | None = None) -> str:
    """How to get the system libraries that OpenCV and MediaPipe load on Linux."""
    return _LIBRARIES[_family(os_release)]


def _family(os_release: str | None) -> str:
    """Which package manager: a key of the tables above; Debian's where it can't be told."""
    if os_release is None:
        path = Path("/etc/os-release")
        os_release = path.read_text(errors="replace") if path.exists() else ""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    words = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").lower()
    for word, family in (("fedora", "fedora"), ("rhel", "fedora"), ("arch", "arch"), ("suse", "suse")):
        if word in words:
            return family
    return "debian"
