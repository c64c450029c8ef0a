import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from puppet.capture import Frame, open_driver
from puppet.capture import camera as camera_module
from puppet.capture import devices as devices_module
from puppet.capture.camera import Camera
from puppet.capture.devices import CaptureDevice, _linux_cameras, _windows_filters
from puppet.capture.images import ImageFolder
from puppet.capture.pace import paced, resampled
from puppet.capture.recorded import DemoTrack
from puppet.capture.video import VideoFile
from puppet.errors import DeviceError, InputError


def write_clip(path, times, size=(64, 48)):
    """A clip whose frames get brighter, at the given times in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, time_s in enumerate(times):
            picture = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 20 + 4 * i, np.uint8), format="rgb24")
            picture.pts, picture.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def test_a_video_gives_every_frame_with_its_own_time(tmp_path):
    times = [0, 0.04, 0.08, 0.2, 0.5, 0.54]  # a variable rate
    frames = list(VideoFile(write_clip(tmp_path / "c.mp4", times)).frames())
    assert [f.time_s for f in frames] == pytest.approx(times, abs=1e-3)
    assert [f.index for f in frames] == list(range(6))
    assert all(f.rgb.shape == (48, 64, 3) and f.rgb.dtype == np.uint8 for f in frames)
    assert np.all(np.diff([f.rgb.mean() for f in frames]) > 0)


def test_long_pictures_are_scaled_down_while_decoding(tmp_path):
    frame = next(VideoFile(write_clip(tmp_path / "c.mp4", [0], size=(1920, 1080))).frames())
    assert frame.rgb.shape == (540, 960, 3)


def test_a_cut_clip_gives_what_is_there(tmp_path, caplog):
    path = write_clip(tmp_path / "c.mkv", [i / 30 for i in range(40)], size=(320, 240))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    frames = list(VideoFile(path).frames())
    assert 0 < len(frames) < 40


@pytest.mark.parametrize("content", [b"", b"not a video at all", bytes(2000)])
def test_a_file_that_is_no_video(tmp_path, content):
    path = tmp_path / "c.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"c.mp4 can't be read as a video"):
        VideoFile(path)


def test_a_clip_without_pictures(tmp_path):
    path = tmp_path / "c.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="holds no video stream"):
        VideoFile(path)


def test_images_come_in_the_order_of_their_names(tmp_path):
    for name, grey in (("b.png", 90), ("a.png", 10), ("c.jpg", 200)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), grey, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    frames = list(ImageFolder(tmp_path, fps=10).frames())
    assert [int(f.rgb.mean()) for f in frames] == [10, 90, 200]
    assert [f.time_s for f in frames] == [0, 0.1, 0.2]


def test_an_image_that_is_damaged_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"a.png is not a picture"):
        list(ImageFolder(tmp_path, fps=10).frames())


@pytest.mark.parametrize(
    ("name", "message"), [("none.mp4", "no such file"), ("empty", "holds no pictures"), ("none.csv", "no such file")]
)
def test_drivers_that_are_not_there(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        open_driver(str(tmp_path / name), camera_size=(640, 480), fps=None)


def test_the_demo_is_a_performance_with_a_face_all_along():
    observations = list(DemoTrack(fps=10).observations())
    assert len(observations) > 100
    assert all(o.control is not None for o in observations)


def frames_at(times):
    return [Frame(np.zeros((2, 2, 3), np.uint8), i, t, 0.0) for i, t in enumerate(times)]


def test_pacing_waits_for_each_frames_time_and_says_when_it_was_due():
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    out = list(paced(frames_at([0.5, 0.6, 0.8]), clock=lambda: now[0], sleep=sleep))
    assert slept == pytest.approx([0.1, 0.2])
    assert [f.captured_s for f in out] == pytest.approx([100.0, 100.1, 100.3])


@pytest.mark.parametrize(
    ("times", "fps", "shown"),
    [
        ([0, 0.1, 0.2, 0.3], 10, [0, 1, 2, 3]),
        ([0, 0.1, 0.2, 0.3], 20, [0, 0, 1, 1, 2, 2, 3]),
        ([0, 0.1, 0.2, 0.3], 5, [0, 2]),
    ],
)
def test_another_rate_keeps_the_duration(times, fps, shown):
    from puppet.capture import Observation

    given = [Observation(np.array([i]), 1, i, t, 0) for i, t in enumerate(times)]
    out = list(resampled(given, fps))
    assert [int(o.control[0]) for o in out][: len(shown)] == shown
    assert [o.time_s for o in out] == pytest.approx([i / fps for i in range(len(out))])
    assert len(out) / fps == pytest.approx(len(times) / 10, abs=1.01 / fps)


class FakeCapture:
    """Follows cv2.VideoCapture: `read` gives `(False, None)` when the device is gone."""

    def __init__(self, log, frames):
        self.log, self.frames, self.settings = log, frames, {}

    def isOpened(self):
        return self.frames > 0

    def set(self, setting, value):
        self.settings[setting] = value
        return True

    def read(self):
        if self.frames <= 0:
            return False, None
        self.frames -= 1
        return True, np.full((4, 6, 3), (200, 100, 50), np.uint8)  # BGR

    def release(self):
        self.log.append("released")


WEBCAM = CaptureDevice(0, "HD Webcam", "/dev/video0")


def test_a_camera_is_asked_for_mjpg_size_and_rate_and_gives_rgb():
    made = []

    def open_capture(index):
        made.append(FakeCapture([], 3))
        return made[-1]

    camera = Camera(size=(1280, 720), fps=60, open_capture=open_capture, cameras=lambda: [WEBCAM])
    frame = next(camera.frames())
    assert frame.rgb[0, 0].tolist() == [50, 100, 200]
    assert made[0].settings[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert made[0].settings[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert made[0].settings[cv2.CAP_PROP_FPS] == 60


def test_a_lost_camera_is_found_again_under_another_index(monkeypatch):
    monkeypatch.setattr(camera_module, "REOPEN_EVERY_S", 0.0)
    log, present, opened = [], [[WEBCAM]], []

    def cameras():
        return present[0]

    def open_capture(index):
        opened.append(index)
        if len(opened) == 2:
            return FakeCapture(log, 0)  # busy at first
        present[0] = [CaptureDevice(2, "HD Webcam", "/dev/video2")]
        return FakeCapture(log, 4)

    camera = Camera(open_capture=open_capture, cameras=cameras)
    frames = camera.frames()
    indices = [next(frames).index for _ in range(6)]  # three of each capture, after the one read while opening
    camera.close()
    assert indices == list(range(6))
    assert opened == [0, 2, 2]
    assert log == ["released"] * 2


@pytest.mark.parametrize(
    ("index", "cameras", "message"),
    [
        (None, [], "no camera was found"),
        (3, [WEBCAM], r"camera 3 does not exist: found 0 \(HD Webcam\)"),
        (1, [WEBCAM, CaptureDevice(1, "Puppet", is_own=True)], "virtual camera of this program"),
        (None, [CaptureDevice(1, "Puppet", is_own=True)], "no camera was found"),
        (4, [WEBCAM, CaptureDevice(4, "Dummy", is_loopback=True, can_capture=False)], "nobody publishes to"),
        (None, [CaptureDevice(4, "Dummy", is_loopback=True, can_capture=False)], "no camera was found"),
        (0, [WEBCAM], "did not open: it is busy"),
    ],
)
def test_cameras_that_cannot_be_used(index, cameras, message):
    with pytest.raises(DeviceError, match=message):
        Camera(index, open_capture=lambda i: FakeCapture([], 0), cameras=lambda: cameras)


def test_linux_cameras_are_read_from_sysfs_and_ours_is_marked(tmp_path):
    for node, name in (("video10", "Puppet"), ("video0", "HD Webcam: HD Webcam"), ("video2", "OBS Virtual Camera")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(name + "\n")
    cameras = _linux_cameras(tmp_path, tmp_path / "dev")
    assert [(c.index, c.is_own) for c in cameras] == [(0, False), (2, True), (10, True)]


class FakeRegistry:
    """Follows winreg: `QueryValue` raises OSError where there is no such key."""

    HKEY_CLASSES_ROOT = "root"

    def __init__(self, **values):
        self._values = values

    def QueryValue(self, root, name):
        assert root == "root" and name.startswith("CLSID\\{")
        try:
            return self._values[name[7:15]]
        except KeyError:
            raise FileNotFoundError(2, "no such key") from None


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, []),
        ({"A3FCE0F5": "OBS Virtual Camera"}, ["OBS Virtual Camera"]),
        ({"A3FCE0F5": "OBS Virtual Camera", "5C2CD55C": "Studio "}, ["OBS Virtual Camera", "Studio"]),
    ],
)
def test_windows_virtual_cameras_are_read_from_where_they_are_registered(monkeypatch, values, names):
    assert _windows_filters(FakeRegistry(**values)) == names
    monkeypatch.setattr(devices_module.sys, "platform", "win32")
    monkeypatch.setattr(devices_module, "_windows_names", lambda: ["HD Webcam"])
    monkeypatch.setattr(devices_module, "_windows_filters", lambda: names)
    cameras = devices_module.list_cameras()
    assert [(c.index, c.name, c.is_usable) for c in cameras] == [
        (0, "HD Webcam", True),
        *((index, name, False) for index, name in enumerate(names, start=1)),
    ]


def test_closing_a_camera_ends_its_frames():
    camera = Camera(open_capture=lambda i: FakeCapture([], 10**9), cameras=lambda: [WEBCAM])
    frames = camera.frames()
    next(frames)
    camera.close()
    started_s = time.perf_counter()
    assert len(list(frames)) == 0
    assert time.perf_counter() - started_s < 5
