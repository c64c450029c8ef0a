"""What other programs see of the published camera, on a real kernel device: `pytest -m vm`.

`guest.py` runs once in a virtual machine; the tests below judge what it left. Where the machine can't be had they are
skipped with the line that installs it.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from guest import FPS, HEIGHT, KEPT_FRAMES, WIDTH
from machine import MachineError, lacks, prepare
from PIL import Image

from puppet import cli
from puppet.demo import demo_track
from puppet.gallery import demo_portrait
from puppet.openface import TrackWriter

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
GUEST_S = 2400  # at most; a tenth of it where nothing else runs
SIDE_PX = 40  # of the coloured borders, which no expression reaches
COLOURS = {"left top": (200, 40, 40), "right top": (40, 170, 60), "left": (40, 60, 200), "right": (220, 200, 50)}
PLACES = {"left top": (30, 15), "right top": (30, 305), "left": (150, 15), "right": (150, 305)}  # row, column


@dataclass(frozen=True)
class Seen:
    """What the guest left."""

    folder: Path
    facts: dict

    def text(self, name):
        return (self.folder / f"{name}.txt").read_text(errors="replace")

    def frames(self, name):
        """`(N, HEIGHT, WIDTH, 3)` uint8 RGB, as ffmpeg gave them."""
        return np.fromfile(self.folder / f"{name}.rgb", np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    why = lacks()
    if why:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("vm")
    lay_out(folder)
    code = prepare().run(script("guest.py", folder), folder, timeout_s=GUEST_S)
    if code:
        raise MachineError((folder / "output.txt").read_text(errors="replace"))
    return Seen(folder, json.loads((folder / "facts.json").read_text()))


def lay_out(folder):
    """Fill the folder that is shared with the guest: what is shown, and what takes long to make there."""
    portrait = make_portrait()
    portrait.save(folder / "portrait.png")
    (folder / "portrait.rgb").write_bytes(portrait.tobytes())
    write_track(folder / "driver.csv")
    list_fonts = "import matplotlib.font_manager"  # MediaPipe imports Matplotlib
    environment = {**os.environ, "MPLCONFIGDIR": str(folder / "matplotlib")}
    subprocess.run([sys.executable, "-c", list_fonts], env=environment, check=True)


def script(name, folder):
    """What the guest runs: a program of this folder, with the Python of these tests."""
    return (
        f"cd {ROOT}\n"
        f"export HOME={folder} MPLCONFIGDIR={folder}/matplotlib TMPDIR=/dev/shm PYTHONDONTWRITEBYTECODE=1\n"
        f"exec {sys.executable} {ROOT}/tests/vm/{name} {folder}\n"
    )


def make_portrait():
    """A face between borders of four colours: a swap of sides or channels shows."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    middle, half = WIDTH // 2, HEIGHT // 2
    rgb[:half, :middle], rgb[:half, middle:] = COLOURS["left top"], COLOURS["right top"]
    rgb[half:, :middle], rgb[half:, middle:] = COLOURS["left"], COLOURS["right"]
    face = Image.open(demo_portrait()).convert("RGB").crop((118, 0, 338, 240))
    rgb[:, 50:270] = np.asarray(face)
    return Image.fromarray(rgb)


def write_track(path):
    """The demo for five minutes, coarse enough to be read quickly."""
    writer = TrackWriter(path)
    for i, control in enumerate(np.tile(demo_track(5), (12, 1))):
        writer.write(control, frame=i, time_s=i / 5, confidence=1, has_face=True)
    writer.close()


@pytest.fixture(scope="module")
def rendered(seen, tmp_path_factory):
    """`(N, HEIGHT, WIDTH, 3)` uint8: what the program rendered in the guest, by its log played again here."""
    out = tmp_path_factory.mktemp("rendered") / "first.mp4"
    options = ["--target", str(seen.folder / "portrait.png"), "--size", f"{WIDTH}x{HEIGHT}", "--record", str(out)]
    assert cli.main([*options, "--driver", str(seen.folder / "first.csv"), "--as-fast-as-possible"]) == 0
    with av.open(str(out)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def matches(frames, references):
    """Index of the reference most like each frame, and its mean distance over the face, in grey levels."""

    def face(pictures):
        return pictures[:, 40:200, 60:260].astype(np.int16)

    given, known = face(frames), face(references)
    found = []
    for frame in given:
        distance = np.abs(known[:, ::4, ::4] - frame[::4, ::4]).mean((1, 2, 3))
        best = int(distance.argmin())
        found.append((best, float(np.abs(known[best] - frame).mean())))
    return np.array([i for i, _ in found]), np.array([d for _, d in found])


def test_the_program_published_without_errors(seen):
    assert seen.facts["first ended"] == 0, seen.text("first")
    report = json.loads((seen.folder / "first.json").read_text())
    assert report["frames"]["errors"] == 0 and report["frames"]["out"] > KEPT_FRAMES


def test_the_device_is_a_camera_only_while_pictures_come(seen):
    assert re.search(r"Video Output\n", seen.text("idle")) and "Video Capture\n" not in seen.text("idle")
    assert "Device Caps      : 0x05200001" in seen.text("info")
    assert re.search(r"Video Output\n", seen.text("info at the end"))


def test_clients_are_told_format_size_and_rate(seen):
    assert "'YU12' (Planar YUV 4:2:0)" in seen.text("info")
    assert f"Size: Discrete {WIDTH}x{HEIGHT}" in seen.text("info")
    assert f"Frames per second: {FPS}.000" in seen.text("info")
    assert re.search(rf"rawvideo .*yuv420p.*, {WIDTH}x{HEIGHT}, .*\b{FPS} fps", seen.text("held"))


@pytest.mark.parametrize("name", ["first", "last"])
def test_colours_arrive_where_they_belong(seen, name):
    picture = np.median(seen.frames(name), axis=0)
    for place, (row, column) in PLACES.items():
        patch = picture[row - 5 : row + 5, column - 5 : column + 5].mean((0, 1))
        np.testing.assert_allclose(patch, COLOURS[place], atol=6, err_msg=place)


def test_pictures_are_the_renderings_in_order(seen, rendered):
    frames = seen.frames("first")
    assert len(frames) == KEPT_FRAMES
    places, distances = matches(frames, rendered)
    assert distances.max() < 5
    assert np.all(np.diff(places) >= -1), places  # neighbours are alike
    assert places[-1] > places[0]
    _, mirrored = matches(frames[:, :, ::-1], rendered)
    assert mirrored.min() > 4 * distances.max()


def test_pictures_after_a_restart_are_the_ones_published_then(seen):
    portrait = np.asarray(make_portrait(), np.int16)
    assert np.abs(seen.frames("last")[-5:] - portrait).mean() < 4


@pytest.mark.parametrize("name", ["visit", "beside"])
def test_a_program_comes_and_goes_alone_and_beside_another(seen, name):
    assert seen.facts[name]["code"] == 0, seen.text(name)
    raw = np.fromfile(seen.folder / f"{name}.yuv", np.uint8).reshape(-1, HEIGHT * 3 // 2, WIDTH)
    assert len(raw) == 10
    picture = np.median([cv2.cvtColor(one, cv2.COLOR_YUV2RGB_I420) for one in raw], axis=0)
    for place, (row, column) in PLACES.items():
        np.testing.assert_allclose(picture[row, column], COLOURS[place], atol=6, err_msg=place)


def test_two_programs_get_pictures_at_once(seen):
    assert seen.facts["held beside"] > 0


def test_our_own_camera_is_never_offered_as_the_drivers(seen):
    assert seen.facts["devices"]["code"] == 0
    cameras, virtual = seen.text("devices").split("Virtual cameras")
    assert "none found" in cameras and "video10" not in cameras
    assert "/dev/video10  Puppet" in virtual


def test_a_second_publisher_is_told_that_it_is_busy(seen):
    said = seen.text("devices")
    for name in ("virtual camera /dev/video10", "a virtual camera"):
        assert re.search(rf"^{name} could not be opened .*Another program publishes to it", said, re.MULTILINE)
    assert "modprobe" not in said


def test_a_program_that_holds_the_camera_waits_while_no_one_publishes_and_goes_on(seen):
    """It gets no picture (a call shows the last one), no error and no end of the stream."""
    assert seen.facts["again"]["code"] == 0, seen.text("again")
    again_s = float(re.search(r"again at (\S+)", seen.text("again"))[1])
    arrivals = np.array(seen.facts["arrivals"])
    assert seen.facts["held to the end"], seen.text("held")
    assert (arrivals < seen.facts["stopped at"]).sum() > KEPT_FRAMES
    assert not ((arrivals > seen.facts["stopped at"] + 1) & (arrivals < again_s)).any()
    assert (arrivals > again_s).sum() >= KEPT_FRAMES


def test_another_size_is_refused_while_a_program_holds_the_camera(seen):
    assert f"is held at {WIDTH}x{HEIGHT} by a program" in seen.text("again")
