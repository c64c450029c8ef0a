"""A virtual machine with a kernel camera: Debian's kernel and v4l2loopback, in QEMU's software emulation.

The guest runs on this machine's own file system, read-only below a layer that is thrown away, so that a Python
environment works in it unchanged. One folder is shared for what it writes. No special rights are needed to run it; its
packages are installed once, as root:

    python tests/vm/machine.py install
    python tests/vm/machine.py run SCRIPT.sh SHARED_FOLDER     # by hand: a bash script in the guest
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

PACKAGES = (
    "linux-headers-amd64",
    "qemu-system-x86",
    "busybox-static",
    "cpio",
    "kmod",
    "make",
    "gcc",
    "v4l-utils",
    "ffmpeg",
)
PROGRAMS = ("qemu-system-x86_64", "cpio", "depmod", "make", "gcc", "apt-get", "dpkg", "v4l2-ctl", "ffmpeg")
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "v4l2loopback")
CAMERA = "devices=1 video_nr=10 card_label=Puppet exclusive_caps=1"
"""As README tells users to load it, at a number that is known."""
CACHE = platformdirs.user_cache_path("puppet") / "vm"  # before tests move the cache folder
INSTALL = f"sudo {sys.executable} {Path(__file__)} install"
MEMORY_MIB = 3072
CORES = 1  # with two, every change of a page table stops both: starting a program takes three times as long
CPU = "max,-avx,-avx2,-f16c,-fma"  # QEMU 7.2 gets AVX wrong now and then: NumPy crashed in it after a minute


class MachineError(Exception):
    """This machine lacks what the virtual one needs, or the virtual one did not do its work."""


@dataclass(frozen=True)
class Machine:
    """A kernel and its first file system, ready to be started."""

    kernel: Path
    initramfs: Path

    def run(self, script: str, shared: Path, *, timeout_s: float, camera: str = CAMERA) -> int:
        """Start, run a bash script as root in the guest and stop; its exit code.

        `shared` has the same path in the guest; the script's output is left in `output.txt` there, the kernel's
        messages in `console.txt`.

        Raises:
            MachineError: it did not start, or was stopped after `timeout_s`.
        """
        shared = shared.resolve()
        (shared / "run.sh").write_text(script, encoding="utf-8")
        result = shared / "exit_code.txt"
        result.unlink(missing_ok=True)
        command = [
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", CPU, "-smp", str(CORES),
            "-m", str(MEMORY_MIB), "-nographic", "-no-reboot", "-nic", "none",
            "-kernel", str(self.kernel), "-initrd", str(self.initramfs),
            "-append", f'console=ttyS0 quiet panic=-1 mitigations=off shared={shared} camera="{camera}"',
            "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
            "-virtfs", f"local,path={shared},mount_tag=shared,security_model=none",
        ]  # fmt: skip
        console = shared / "console.txt"
        with open(console, "wb") as output, contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout_s, check=False
            )
        if not result.exists():
            said = (console.read_text(errors="replace") + _text(shared / "output.txt")).strip()[-2000:]
            raise MachineError(f"the guest did not end within {timeout_s:g} s. It said:\n{said}")
        return int(result.read_text())


def lacks() -> str | None:
    """What is missing to prepare and run the machine, with the line that installs it; None: nothing."""
    if sys.platform != "linux":
        return f"the virtual machine needs Linux, not {sys.platform}"
    missing = [name for name in PROGRAMS if _which(name) is None]
    if not missing and not _releases():
        missing = ["linux-headers-amd64"]
    if missing:
        return f"the virtual machine needs {', '.join(missing)} (on Debian: {INSTALL})"
    return None


def install() -> None:
    """Install the packages with apt.

    Raises:
        MachineError: not root, no apt, or apt failed.
    """
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise MachineError(f"apt and root are needed to install {' '.join(PACKAGES)}.")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    _do(["apt-get", "update", "-qq"], env=quiet)
    _do(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], env=quiet)


def prepare(folder: Path = CACHE) -> Machine:
    """Build kernel and first file system in `folder`, where they are kept (half a minute, 20 MB).

    Raises:
        MachineError: something is missing, or can't be downloaded or built.
    """
    missing = lacks()
    if missing:
        raise MachineError(missing)
    release, init = _releases()[-1], Path(__file__).with_name("init.sh")
    key = hashlib.sha256(f"{release} {MODULES} {init.read_text()}".encode()).hexdigest()[:12]
    kept = folder / f"{release}-{key}"
    machine = Machine(kept / "vmlinuz", kept / "initramfs.gz")
    if kept.is_dir():
        return machine
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        _build(Path(work), release, init)
        with contextlib.suppress(OSError):  # another process was faster
            (Path(work) / "ready").rename(kept)
    return machine


def _build(work: Path, release: str, init: Path) -> None:
    """Fill `work/ready` with vmlinuz and initramfs.gz."""
    _do(["apt-get", "download", "-qq", f"linux-image-{release}", "v4l2loopback-dkms"], cwd=work)
    for package in work.glob("*.deb"):
        _do(["dpkg", "-x", str(package), str(work / "packages")])
    (source,) = (work / "packages/usr/src").glob("v4l2loopback-*")
    _do(["make", "-s", "-C", f"/usr/src/linux-headers-{release}", f"M={source}", "modules"])
    modules = work / "packages/lib/modules" / release
    (modules / "extra").mkdir()
    shutil.copy(source / "v4l2loopback.ko", modules / "extra")
    _do(["depmod", "-b", str(work / "packages"), release])

    root = work / "root"
    (root / "bin").mkdir(parents=True)
    (root / "modules").mkdir()
    paths = _with_dependencies(MODULES, (modules / "modules.dep").read_text())
    for path in paths:
        shutil.copy(modules / path, root / "modules")
    (root / "modules/order").write_text("\n".join(Path(path).name for path in paths))
    shutil.copy(_which("busybox") or "/bin/busybox", root / "bin/busybox")
    shutil.copy(init, root / "init")
    (root / "init").chmod(0o755)

    (work / "ready").mkdir()
    shutil.copy(work / f"packages/boot/vmlinuz-{release}", work / "ready/vmlinuz")
    archive = work / "ready/initramfs.gz"
    _do(["bash", "-c", f"set -o pipefail; find . | cpio -o -H newc --quiet | gzip -1 > {archive}"], cwd=root)


def _with_dependencies(names: Sequence[str], modules_dep: str) -> list[str]:
    """Paths of these modules and all they need, in the order to load them."""
    needs = {}
    for line in modules_dep.splitlines():
        path, _, rest = line.partition(":")
        needs[Path(path).stem] = [*reversed(rest.split()), path]  # modules.dep lists the first to load last
    return list(dict.fromkeys(path for name in names for path in needs[name]))


def _releases() -> list[str]:
    """Kernels whose headers are installed, oldest first."""
    found = [path.name.removeprefix("linux-headers-") for path in Path("/usr/src").glob("linux-headers-*-amd64")]
    return sorted(found, key=lambda release: [int(n) for n in re.findall(r"\d+", release)])


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _do(command: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MachineError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def main(args: Sequence[str]) -> int:
    """The two commands of the module's docstring."""
    try:
        if list(args) == ["install"]:
            install()
            return 0
        if len(args) == 3 and args[0] == "run":
            shared = Path(args[2])
            code = prepare().run(Path(args[1]).read_text(encoding="utf-8"), shared, timeout_s=600)
            print(_text(shared / "output.txt"), end="")
            return code
    except MachineError as error:
        print(error, file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
