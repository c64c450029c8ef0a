"""What is let go goes back to the system."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from puppet import memory
from puppet.gallery import Gallery


def _mebibytes() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' allocators need no help")
@pytest.mark.skipif(memory._glibc() is None, reason="the C library is not glibc")
def test_what_many_threads_freed_is_given_back():
    kept = []

    def allocate():
        blocks = [np.ones(8_000, np.uint8) for _ in range(4_000)]  # under the size that is mapped by itself
        kept.append(blocks[-1])  # what is still in use at a heap's end holds all of it
        del blocks

    for _ in range(4):
        thread = threading.Thread(target=allocate)
        thread.start()
        thread.join()
    before = _mebibytes()
    memory.give_back()
    assert _mebibytes() < before - 20


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' allocators need no help")
@pytest.mark.skipif(memory._glibc() is None, reason="the C library is not glibc")
@pytest.mark.parametrize("is_kept_together", [False, True])
def test_large_arrays_stay_out_of_the_heaps_of_a_program_that_runs_for_hours(is_kept_together):
    """What lies above a freed array holds its memory, if both are in a heap. In a process of its own."""
    code = f"""
import numpy as np
from puppet import memory
if {is_kept_together}:
    memory.keep_together()
np.ones(30 << 20, np.uint8)  # the first that is freed raises the size that is mapped by itself
large, small = [], []
for _ in range(8):
    large.append(np.ones(12 << 20, np.uint8))
    small.append(np.ones(100_000, np.uint8))
large.clear()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(done.stdout) / 1024 < 60) is is_kept_together


def test_a_system_without_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    memory.give_back()
    memory.keep_together()


def test_a_portrait_that_was_let_go_leaves_nothing_behind(monkeypatch):
    given = threading.Event()
    monkeypatch.setattr("puppet.gallery.give_back", given.set)

    class Picture:
        def close(self):
            pass

    gallery = Gallery([Path("a"), Path("b")], lambda path: Picture())
    gallery.ask(1)
    for _ in range(200):
        if gallery.switched():
            break
        time.sleep(0.01)
    assert given.wait(5)
    gallery.close()
