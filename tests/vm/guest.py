"""What happens in the guest: the program publishes, other programs look, and what they saw is left in a folder.

    python tests/vm/guest.py FOLDER

FOLDER holds `portrait.png` and `driver.csv`; nothing is judged here. Only the standard library is imported, because
every import costs seconds in emulation.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

DEVICE = "/dev/video10"
WIDTH, HEIGHT, FPS = 320, 240, 5  # what emulation without a second core comes near to
KEPT_FRAMES = 15
START_S, CLIENT_S = 900, 300  # at most; a fifth of it where nothing else runs


class Evidence:
    """Commands run in the guest: what they printed, their exit codes, how long they took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, object] = {}

    def run(self, name: str, *command: str) -> None:
        """One command to its end; its output becomes `name.txt`."""
        start_s = time.monotonic()
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=CLIENT_S
            )
            output, code = done.stdout, done.returncode
        except subprocess.TimeoutExpired as error:
            output, code = error.stdout or b"", None
        (self.folder / f"{name}.txt").write_bytes(output)
        self.note(name, {"code": code, "seconds": round(time.monotonic() - start_s, 1)})

    def note(self, name: str, fact: object) -> None:
        self.facts[name] = fact
        (self.folder / "facts.json").write_text(json.dumps(self.facts, indent=1))


class Publisher:
    """`python -m puppet` with its output in `name.txt`."""

    def __init__(self, evidence: Evidence, name: str, *, fps: int = FPS) -> None:
        self._evidence, self._name = evidence, name
        folder, start_s = evidence.folder, time.monotonic()
        self._output = open(folder / f"{name}.txt", "wb")
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "puppet", "--target", str(folder / "portrait.png"),
                "--driver", str(folder / "driver.csv"), "--size", f"{WIDTH}x{HEIGHT}", "--fps", str(fps),
                "--output", f"virtualcam:{DEVICE}", "--au-log", str(folder / f"{name}.csv"),
                "--stats", str(folder / f"{name}.json"), "--engine", "onnxruntime",
            ],
            stdout=self._output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self._start_s = start_s

    def wait_until_published(self) -> None:
        """Until the log has rows: then the device has pictures."""
        log = self._evidence.folder / f"{self._name}.csv"
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            if log.exists() and log.read_bytes().count(b"\n") > 3:
                break
            time.sleep(0.25)
        self._evidence.note(f"{self._name} started", round(time.monotonic() - self._start_s, 1))

    def stop(self) -> None:
        """As Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(CLIENT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = None
        self._output.close()
        self._evidence.note(f"{self._name} ended", code)


class HeldCamera:
    """An ffmpeg that keeps the camera open, as a call does: keeps its first and its newest frames, in RGB."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._log = open(evidence.folder / "held.txt", "wb")
        self._process = subprocess.Popen(
            ["ffmpeg", "-hide_banner", "-nostdin", "-f", "v4l2", "-i", DEVICE, "-fps_mode", "passthrough",
             "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
            stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.arrivals_s: list[float] = []
        self._first: list[bytes] = []
        self._last: deque[bytes] = deque(maxlen=KEPT_FRAMES)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        return len(self.arrivals_s)

    def wait_for(self, count: int) -> None:
        """Until so many frames came, or a minute."""
        deadline_s = time.monotonic() + CLIENT_S
        while self.count < count and time.monotonic() < deadline_s and self._process.poll() is None:
            time.sleep(0.1)

    def close(self) -> None:
        is_alive = self._process.poll() is None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(CLIENT_S)
        self._thread.join()
        self._log.close()
        (self._evidence.folder / "first.rgb").write_bytes(b"".join(self._first))
        (self._evidence.folder / "last.rgb").write_bytes(b"".join(self._last))
        self._evidence.note("held to the end", is_alive)
        self._evidence.note("arrivals", self.arrivals_s)

    def _read(self) -> None:
        while len(frame := self._process.stdout.read(WIDTH * HEIGHT * 3)) == WIDTH * HEIGHT * 3:
            self.arrivals_s.append(round(time.monotonic(), 3))
            if len(self._first) < KEPT_FRAMES:
                self._first.append(frame)
            self._last.append(frame)


def in_program(*lines: str) -> Sequence[str]:
    """A command that runs lines with the program's own parts, in one start of Python."""
    return (
        sys.executable,
        "-c",
        "\n".join(
            (
                "from puppet.doctor import devices",
                "from puppet.errors import DeviceError",
                "from puppet.publish.virtualcam import VirtualCamera",
                "def camera(size, device):",
                "    try: print('opened', VirtualCamera(size=size, fps=30, device=device).name)",
                "    except DeviceError as error: print(error)",
                *lines,
            )
        ),
    )


def main(folder: Path) -> None:
    evidence = Evidence(folder)
    evidence.run("idle", "v4l2-ctl", "-d", DEVICE, "--info")
    first = Publisher(evidence, "first")
    first.wait_until_published()

    evidence.run("info", "v4l2-ctl", "-d", DEVICE, "--info", "--get-fmt-video", "--get-parm", "--list-formats-ext")
    raw = WIDTH * HEIGHT * 3 // 2
    evidence.run(
        "visit", "v4l2-ctl", "-d", DEVICE, "--stream-mmap", "--stream-count=10", f"--stream-to={folder}/visit.yuv"
    )
    held = HeldCamera(evidence)
    held.wait_for(1)
    size = (WIDTH, HEIGHT)
    evidence.run("devices", *in_program("devices([])", f"camera({size}, {DEVICE!r})", f"camera({size}, None)"))
    held.wait_for(KEPT_FRAMES)
    # By read: as its streaming readers leave, v4l2loopback 0.12 drops the buffers of all others (VIDIOC_REQBUFS).
    before = held.count
    evidence.run("beside", "dd", f"if={DEVICE}", f"of={folder}/beside.yuv", f"bs={raw}", "count=10", "iflag=fullblock")
    evidence.note("held beside", held.count - before)

    first.stop()
    evidence.note("stopped at", round(time.monotonic(), 3))
    # The program's own camera again, without the minute that its other parts take to load in emulation.
    evidence.run(
        "again",
        *in_program(
            "import time",
            "import numpy as np",
            "from puppet.publish import Rendering",
            f"camera({(2 * WIDTH, 2 * HEIGHT)}, {DEVICE!r})",
            f"again = VirtualCamera(size={size}, fps={FPS}, device={DEVICE!r})",
            f"rgb = np.fromfile({str(folder / 'portrait.rgb')!r}, np.uint8).reshape({HEIGHT}, {WIDTH}, 3)",
            "print('again at', round(time.monotonic(), 3), flush=True)",
            f"for index in range({4 * KEPT_FRAMES}):",
            "    again.publish(Rendering(rgb, index, index / 10, None, None, True))",
            "    time.sleep(0.1)",
            "again.close()",
        ),
    )
    held.close()
    evidence.run("info at the end", "v4l2-ctl", "-d", DEVICE, "--info")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
