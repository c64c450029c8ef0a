"""`python -m puppet devices` and `doctor`: what this machine has, what it lacks, and the line that fixes it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from puppet import install
from puppet.capture.devices import CaptureDevice, list_cameras
from puppet.errors import ConfigError

REQUIRED_PACKAGES = (
    "mediapipe",
    "numpy",
    "openvino",
    "onnxruntime",
    "av",
    "c2pa-python",
    "cryptography",
    "pyvirtualcam",
    "scikit-image",
)
LOADED_LIBRARIES = ("cv2", "mediapipe.python._framework_bindings", "av", "c2pa")
MODELS = ("au_regressor.onnx", "landmark_rig.safetensors", "mouth.safetensors", "folds.safetensors")


@dataclass(frozen=True)
class Check:
    """One thing that was looked for."""

    name: str
    found: str  # what there is, or what is wrong
    fix: str = ""  # the line that helps; empty: nothing is missing
    is_needed: bool = True  # False: the puppet runs without it

    @property
    def mark(self) -> str:
        return "ok  " if not self.fix else "FAIL" if self.is_needed else "miss"


def devices(args: Sequence[str]) -> int:
    """Print cameras and virtual cameras by name."""
    _no_arguments("devices", args)
    cameras = list_cameras()
    usable = [c for c in cameras if c.is_usable]
    print("Cameras (--driver camera:N):")
    for camera in usable:
        print(f"  camera:{camera.index}  {camera.name}  {camera.path}".rstrip())
    if not usable:
        print("  none found. Connect one, or try --driver demo.")
    virtual = [c for c in cameras if c.is_own or c.is_loopback]
    print("Virtual cameras (--output virtualcam or virtualcam:DEVICE):")
    for camera in virtual:
        print(f"  {camera.path or camera.name}  {camera.name}")
    if not virtual:
        print(f"  none found. {install.virtual_camera()}")
    return 0


def doctor(args: Sequence[str]) -> int:
    """Print every check; 1 where something is missing that the puppet can't run without.

    With the name of a recording, check that file's credentials instead; 1 where they are missing or not valid.
    """
    words = [word for word in args if word != "--debug"]
    if len(words) == 1 and not words[0].startswith("-"):
        from puppet.credentials.report import report

        return report(Path(words[0]))
    if words:
        raise ConfigError(f"`python -m puppet doctor` takes the name of one recording, not {' '.join(words)!r}.")
    checks = [
        _python(),
        *_packages(),
        *_libraries(),
        _models(),
        _engines(),
        _generator(),
        _display(),
        *_cameras(list_cameras()),
    ]
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.mark}  {check.name:<{width}}  {check.found}")
        if check.fix:
            print(f"      {'':<{width}}  -> {check.fix}")
    failed = [check for check in checks if check.fix and check.is_needed]
    missing = [check for check in checks if check.fix and not check.is_needed]
    if failed:
        print(f"\n{len(failed)} of {len(checks)} checks failed: the puppet can't run before they are fixed.")
    elif missing:
        print(f"\nReady. Without {', '.join(check.name for check in missing)} it runs with what is left.")
    else:
        print("\nReady.")
    return 1 if failed else 0


def _no_arguments(command: str, args: Sequence[str]) -> None:
    if set(args) - {"--debug"}:
        raise ConfigError(f"`python -m puppet {command}` takes no arguments, not {' '.join(args)!r}.")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 13):
        return Check("Python", version)
    return Check("Python", f"{version}: MediaPipe's face mesh needs 3.11 or 3.12", "uv venv --python 3.12")


def _packages() -> list[Check]:
    checks = []
    for package in REQUIRED_PACKAGES:
        try:
            checks.append(Check(package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            checks.append(Check(package, "not installed", "pip install -e .  (in the project's folder)"))
    return checks


def _libraries() -> list[Check]:
    """Native libraries that only show when they are loaded, each in a process of its own."""
    checks = []
    for module in LOADED_LIBRARIES:
        name = module.partition(".")[0]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"import {module}"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            checks.append(Check(f"{name} loads", "yes"))
            continue
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        is_library = sys.platform == "linux" and "shared object" in why
        fix = install.opencv_libraries() if is_library else "pip install --force-reinstall -e ."
        checks.append(Check(f"{name} loads", why, fix))
    return checks


def _models() -> Check:
    folder = Path(__file__).parent / "models"
    missing = [name for name in MODELS if not (folder / name).is_file()]
    if missing:
        return Check("models", f"{', '.join(missing)} missing from {folder}", "pip install --force-reinstall -e .")
    size = sum((folder / name).stat().st_size for name in MODELS)
    return Check("models", f"{len(MODELS)} files, {size / 1e6:.1f} MB")


def _engines() -> Check:
    """Which engines work here, and why the others don't."""
    import engines

    attempts = engines.survey()
    works = [f"{a.backend} on {a.device}" for a in attempts if a.reason is None]
    others = "; ".join(f"{a.backend} on {a.device}: {a.reason.rstrip('.')}" for a in attempts if a.reason is not None)
    if not works:
        return Check("engines", f"none works: {others}", "pip install --force-reinstall -e .")
    return Check("engines", ", ".join(works) + (f" (not {others})" if others else ""))


def _generator() -> Check:
    """What `--engine auto` would draw the portrait with."""
    from puppet.generate.device import card_for

    place, why = card_for("auto", "auto")
    if place is None:
        return Check("generator", f"NumPy on the CPU ({why})")
    return Check("generator", f"whole on {why}, by the first engine on {place} that shows the same pictures as NumPy")


def _display() -> Check:
    from puppet.publish.preview import missing_display

    why = missing_display()
    if why is None:
        return Check("display", os.environ.get("DISPLAY", "yes"))
    return Check("display", "none", why, is_needed=False)


def _cameras(cameras: Sequence[CaptureDevice]) -> list[Check]:
    usable = [c for c in cameras if c.is_usable]
    locked = [c.path for c in usable if _is_locked(c)]
    if locked:
        camera = Check("camera", f"no permission to open {', '.join(locked)}", install.VIDEO_GROUP, is_needed=False)
    elif usable:
        camera = Check("camera", ", ".join(f"{c.index} {c.name}" for c in usable))
    else:
        camera = Check("camera", "none", "connect one, or use --driver demo or a video", is_needed=False)
    return [camera, _virtual_camera([c for c in cameras if c.is_own or c.is_loopback])]


def _virtual_camera(virtual: Sequence[CaptureDevice]) -> Check:
    if not virtual:
        return Check("virtual camera", "no driver", install.virtual_camera(), is_needed=False)
    locked = [c.path for c in virtual if _is_locked(c)]
    if locked:
        found = f"no permission to open {', '.join(locked)}"
        return Check("virtual camera", found, install.VIDEO_GROUP, is_needed=False)
    return Check("virtual camera", ", ".join(c.path or c.name for c in virtual))


def _is_locked(camera: CaptureDevice) -> bool:
    return bool(camera.path) and not os.access(camera.path, os.R_OK | os.W_OK)
