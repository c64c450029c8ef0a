"""v4l2loopback devices: what pyvirtualcam leaves undone on them (Linux only; elsewhere these do nothing).

It writes pictures without having started a stream. Up to v4l2loopback 0.12 (Debian 12, Ubuntu 24.04) a device with
`exclusive_caps=1` then stays closed to writers once the first one left, until its module is loaded again
(v4l2loopback issue 470). It also ignores the size that the driver answers with, and tells no frame rate.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from puppet.capture.devices import V4L2_CAPTURE, V4L2_OUTPUT, CaptureDevice, list_cameras, query

DRIVER = "v4l2 loopback"
FED_WITHIN_S = 1.5  # a device that gets no picture for so long has no writer: the program publishes at 1 fps at least

# linux/videodev2.h; requests as on 64-bit machines, the only ones with MediaPipe.
_OUTPUT = 2  # V4L2_BUF_TYPE_VIDEO_OUTPUT
_G_FMT, _FMT_BYTES = 0xC0D05604, 208
_S_PARM, _PARM_BYTES = 0xC0CC5616, 204
_STREAMON = 0x40045612


def choose(cameras: Sequence[CaptureDevice] | None = None) -> str | None:
    """The device to publish to where none was named: ours by its label, before any other that takes pictures.

    None: there is no loopback device (or this is not Linux).
    """
    if sys.platform != "linux":
        return None
    found = [c for c in (list_cameras() if cameras is None else cameras) if c.is_loopback]
    found.sort(key=lambda camera: not camera.is_own)
    for camera in found:
        reopen(camera.path)
        if is_writable(camera.path):
            return camera.path
    return found[0].path if found else None


def is_loopback(path: str) -> bool:
    return sys.platform == "linux" and query(Path(path))[0] == DRIVER


def is_writable(path: str) -> bool:
    """Whether a program may begin to publish to it; always where `exclusive_caps` is not set."""
    _, capabilities = query(Path(path))
    return bool((capabilities or 0) & V4L2_OUTPUT)


def reopen(path: str) -> None:
    """Let writers in again where the last one left and no one publishes; nothing elsewhere."""
    if not is_loopback(path) or is_writable(path):
        return
    _, capabilities = query(Path(path))
    # With a program that still looks at it the device looks as if it had a writer.
    if (capabilities or 0) & V4L2_CAPTURE and (_has_writer(path) or _is_fed(path)):
        return
    let_in(path)


def let_in(path: str) -> None:
    """Make the device one that takes a writer; for who has just left it."""
    if not is_loopback(path) or is_writable(path):
        return
    with suppress(OSError):
        node = os.open(path, os.O_RDWR)
        try:
            # Starting a stream makes this opener a writer, and a writer that leaves lets in the next.
            _ioctl(node, _STREAMON, bytearray(struct.pack("=i", _OUTPUT)))
        finally:
            os.close(node)


def size_of(path: str) -> tuple[int, int] | None:
    """(width, height) that the device takes now; None where it can't be asked."""
    request = bytearray(_FMT_BYTES)
    struct.pack_into("=I", request, 0, _OUTPUT)
    if not is_loopback(path) or not _asked(path, _G_FMT, request):
        return None
    return struct.unpack_from("=II", request, 8)


def announce_rate(path: str, fps: float) -> None:
    """Tell the device's readers the rate, in frames a second; without it they are told 30."""
    request = bytearray(_PARM_BYTES)
    struct.pack_into("=I", request, 0, _OUTPUT)
    struct.pack_into("=II", request, 12, 1000, round(fps * 1000))  # seconds a frame
    if is_loopback(path):
        _asked(path, _S_PARM, request)


def _has_writer(path: str, processes: Path = Path("/proc")) -> bool:
    """Whether a process that we may look into has it open for writing only, as pyvirtualcam does."""
    real = os.path.realpath(path)
    for node in processes.glob("[0-9]*/fd/*"):
        try:
            if os.readlink(node) != real:
                continue
            flags = (node.parent.parent / "fdinfo" / node.name).read_text().split("flags:")[1].split()[0]
        except (OSError, IndexError):  # gone meanwhile, or another user's
            continue
        if int(flags, 8) & os.O_ACCMODE == os.O_WRONLY:
            return True
    return False


def _is_fed(path: str) -> bool:
    """Whether pictures arrive; True where it can't be told."""
    try:
        node = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        with suppress(BlockingIOError):  # what was left there
            for _ in range(2):
                os.read(node, 1)
        deadline_s = time.perf_counter() + FED_WITHIN_S
        while time.perf_counter() < deadline_s:
            with suppress(BlockingIOError):
                os.read(node, 1)
                return True
            time.sleep(0.02)
        return False
    except OSError:
        return True
    finally:
        os.close(node)


def _asked(path: str, number: int, request: bytearray) -> bool:
    try:
        node = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _ioctl(node, number, request)
        return True
    except OSError:
        return False
    finally:
        os.close(node)


def _ioctl(node: int, number: int, request: bytearray) -> None:
    import fcntl

    fcntl.ioctl(node, number, request)
