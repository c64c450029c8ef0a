import json
import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from puppet import facs, install
from puppet.capture.devices import CaptureDevice
from puppet.errors import DeviceError
from puppet.publish import Command, Rendering, loopback, open_sink
from puppet.publish import outputs as outputs_module
from puppet.publish.outputs import Outputs
from puppet.publish.overlay import Overlay
from puppet.publish.preview import Preview, missing_display
from puppet.publish.recorder import Recorder
from puppet.publish.virtualcam import VirtualCamera

SIZE = (64, 48)


def rendering(index=0, time_s=None, rgb=None, **more):
    if rgb is None:
        rgb = np.full((SIZE[1], SIZE[0], 3), (200, 60, 20), np.uint8)
    time_s = index / 30 if time_s is None else time_s
    return Rendering(rgb, index, time_s, facs.rest(), facs.rest(), has_face=True, **more)


def read_clip(path):
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def test_a_recording_holds_every_frame_at_its_time_in_its_colours(tmp_path):
    recorder = Recorder(tmp_path / "out.mp4", size=SIZE, fps=25, may_drop=False)
    times = [0, 0.04, 0.08, 0.5, 0.6]
    for i, time_s in enumerate(times):
        recorder.publish(rendering(i, time_s))
    recorder.close()
    clip = read_clip(tmp_path / "out.mp4")
    assert [t for t, _ in clip] == pytest.approx(times, abs=1e-3)
    np.testing.assert_allclose(clip[0][1].mean((0, 1)), (200, 60, 20), atol=4)


def test_a_killed_process_leaves_a_file_that_plays(tmp_path):
    code = """
        import os, signal, sys, time
        import numpy as np
        from pathlib import Path
        from puppet.publish import Rendering
        from puppet.publish.recorder import Recorder
        path = Path(sys.argv[1])
        recorder = Recorder(path, size=(64, 48), fps=30, may_drop=False)
        for i in range(300):
            rgb = np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)
            recorder.publish(Rendering(rgb, i, i / 30, None, None, True))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    path = tmp_path / "out.mp4"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    from puppet.capture.video import VideoFile

    assert len(list(VideoFile(path).frames())) >= 150


def test_a_recording_that_cannot_be_opened(tmp_path):
    with pytest.raises(DeviceError, match=r"--record .*out.mp4 can't be written"):
        Recorder(tmp_path / "none" / "out.mp4", size=SIZE, fps=25, may_drop=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which answers 'no space left'")
def test_a_full_disk_is_told_at_the_start():
    with pytest.raises(DeviceError, match="--record /dev/full can't be written: No space left on device"):
        Recorder(Path("/dev/full"), size=SIZE, fps=5, may_drop=False)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_that_fills_up_is_told_and_what_was_written_plays(tmp_path):
    code = """
        import resource, sys
        import numpy as np
        from pathlib import Path
        from puppet.errors import DeviceError
        from puppet.publish import Rendering
        from puppet.publish.recorder import Recorder
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
        recorder = Recorder(Path(sys.argv[1]), size=(64, 48), fps=10, may_drop=False)
        try:
            for i in range(2000):
                rgb = np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)
                recorder.publish(Rendering(rgb, i, i / 10, None, None, True))
        except DeviceError as error:
            print(error)
        recorder.close()
    """
    path = tmp_path / "out.mp4"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stopped: File too large. What was written before can be played." in done.stdout
    from puppet.capture.video import VideoFile

    assert len(list(VideoFile(path).frames())) >= 20


class FakeBackend:
    """Follows pyvirtualcam.Camera: raises RuntimeError without a driver, checks shapes in `send`."""

    def __init__(self, width, height, fps, device=None):
        if device == "missing":
            raise RuntimeError("'v4l2loopback' backend: no device\n'obs' backend: not installed")
        self.device, self.sent, self.is_closed = device or "/dev/video9", [], False
        self.shape = (height, width, 3)

    def send(self, frame):
        if len(self.sent) == 2:
            raise RuntimeError("device was removed")
        assert frame.shape == self.shape and frame.dtype == np.uint8 and frame.flags.c_contiguous
        self.sent.append(frame.copy())

    def close(self):
        self.is_closed = True


def test_the_virtual_camera_gets_the_rendering_and_nothing_else():
    made = []

    def open_camera(**given):
        made.append(FakeBackend(**given))
        return made[-1]

    camera = VirtualCamera(size=SIZE, fps=30, open_camera=open_camera)
    camera.publish(rendering(note="recording", latency_ms=3))
    np.testing.assert_array_equal(made[0].sent[0], rendering().rgb)
    assert camera.name == "virtualcam /dev/video9"
    camera.close()
    assert made[0].is_closed


def test_no_virtual_camera_driver_says_how_to_install_one():
    with pytest.raises(DeviceError, match=r"missing could not be opened .*no device; 'obs' backend.* No driver\? .+"):
        VirtualCamera(size=SIZE, fps=30, device="missing", open_camera=FakeBackend)


def backend_of(made, *, devices=("OBS Virtual Camera",), problem=None):
    """A class that follows pyvirtualcam's Backend contract: keyword-only, raises what its native ones raise."""

    class Backend:
        def __init__(self, *, width, height, fps, fourcc, device):
            if problem is not None:
                raise RuntimeError(problem)
            if device is not None and device not in devices:
                raise ValueError(f"This backend supports only the '{devices[0]}' device.")
            self.size, self.fps, self.fourcc = (width, height), fps, fourcc
            self.sent, self.closed, self._device = [], 0, device or devices[0]
            made.append(self)

        def send(self, frame):
            assert frame.ndim == 1 and frame.dtype == np.uint8 and frame.flags.c_contiguous
            self.sent.append(frame.copy())

        def device(self):
            return self._device

        def native_fourcc(self):
            return None

        def close(self):
            self.closed += 1

    return Backend


@pytest.fixture
def backends(monkeypatch):
    """Registers backends in place of those of this system; on it, loopback devices are left alone."""
    pyvirtualcam = pytest.importorskip("pyvirtualcam")
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    monkeypatch.setattr(loopback, "choose", lambda: None)
    return pyvirtualcam.register_backend


def test_a_backend_of_pyvirtualcam_gets_rgb_bytes_and_is_closed_once(backends):
    made = []
    backends("obs", backend_of(made))
    camera = VirtualCamera(size=SIZE, fps=24)
    camera.publish(rendering())
    camera.close()
    del camera  # pyvirtualcam closes again when it is collected
    assert (made[0].size, made[0].fps, made[0].closed) == (SIZE, 24, 1)
    assert made[0].sent[0].shape == (SIZE[0] * SIZE[1] * 3,)
    assert made[0].sent[0][:3].tolist() == [200, 60, 20]


@pytest.mark.parametrize("size", [(642, 482), (642, 362), (512, 640)])
def test_sizes_that_are_no_multiple_of_eight_go_through(backends, size):
    made = []
    backends("obs", backend_of(made))
    camera = VirtualCamera(size=size, fps=30)
    camera.publish(rendering(rgb=np.zeros((size[1], size[0], 3), np.uint8)))
    assert made[0].size == size and made[0].sent[0].size == size[0] * size[1] * 3
    camera.close()


@pytest.mark.parametrize(
    ("device", "chosen"),
    [(None, "OBS Virtual Camera"), ("Unity Video Capture", "Unity Video Capture"), ("Studio", "Studio")],
)
def test_windows_takes_obs_first_and_unity_capture_by_its_name(backends, device, chosen):
    backends("obs", backend_of([]))
    backends("unitycapture", backend_of([], devices=("Unity Video Capture", "Studio")))
    camera = VirtualCamera(size=SIZE, fps=30, device=device)
    assert (camera.device, camera.name) == (chosen, f"virtualcam {chosen}")
    camera.close()


def test_unity_capture_is_taken_where_obs_is_not_installed(backends):
    backends("obs", backend_of([], problem="OBS Virtual Camera device not found! Did you install OBS?"))
    backends("unitycapture", backend_of([], devices=("Unity Video Capture",)))
    camera = VirtualCamera(size=SIZE, fps=30)
    assert camera.device == "Unity Video Capture"
    camera.close()


LOOPBACK_MISSING = "No v4l2 loopback device found at /dev/video[0-99]. Did you run 'modprobe v4l2loopback'?"
OBS_MISSING = "OBS Virtual Camera device not found! Did you install OBS?"
OBS_MISSING_ON_MACOS = "OBS Virtual Camera is not installed in your system. Use the Virtual Camera function in OBS 30.0"
UNITY_MISSING = "No camera registered. Did you install any camera?"


@pytest.mark.parametrize(
    ("problems", "platform", "advice"),
    [
        ({"v4l2loopback": LOOPBACK_MISSING}, "linux", "No driver? sudo "),
        ({"v4l2loopback": "Could not access /dev/video9 due to missing permissions."}, "linux", "usermod -aG video"),
        ({"v4l2loopback": "Device /dev/video9 is already in use."}, "linux", "Another program publishes to it"),
        ({"v4l2loopback": "Virtual camera device /dev/video9 could not be configured: Device or resource busy"},
         "linux", "Another program publishes to it"),
        ({"v4l2loopback": "Device /dev/video9 does not exist."}, "linux", "`python -m puppet devices` lists"),
        ({"v4l2loopback": "Device /dev/video9 is not a video output device."}, "linux", "No driver? sudo "),
        ({"obs": OBS_MISSING_ON_MACOS}, "darwin", "No driver? brew install --cask obs"),
        ({"obs": "Multiple cameras are not supported by this backend."}, "darwin", "Another program publishes to it"),
        ({"obs": "Couldn't start stream"}, "darwin", "Another program publishes to it"),
        ({"obs": OBS_MISSING, "unitycapture": UNITY_MISSING}, "win32", "No driver? winget install OBSProject"),
        ({"obs": "virtual camera output could not be started", "unitycapture": UNITY_MISSING},
         "win32", "Stop Virtual Camera in OBS"),
        ({"obs": "This backend supports only the 'OBS Virtual Camera' device.",
          "unitycapture": "No camera registered with this name."}, "win32", "`python -m puppet devices` lists"),
        ({}, "freebsd", "knows none for this system"),
    ],
)  # fmt: skip
def test_why_no_backend_opened_decides_what_is_advised(backends, monkeypatch, problems, platform, advice):
    monkeypatch.setattr(install, "virtual_camera", partial(install.virtual_camera, platform, "ID=debian"))
    for name, problem in problems.items():
        backends(name, backend_of([], problem=problem))
    with pytest.raises(DeviceError) as raised:
        VirtualCamera(size=SIZE, fps=30)
    assert advice in str(raised.value)
    assert all(f"'{name}' backend: {problem}" in str(raised.value) for name, problem in problems.items())
    assert len(str(raised.value).splitlines()) == 1


def test_a_loopback_that_takes_no_writer_is_busy(backends, monkeypatch):
    monkeypatch.setattr(loopback, "reopen", lambda path: None)
    monkeypatch.setattr(loopback, "is_loopback", lambda path: True)
    backends("v4l2loopback", backend_of([], problem="Device /dev/video9 is not a video output device."))
    with pytest.raises(DeviceError, match="Another program publishes to it"):
        VirtualCamera(size=SIZE, fps=30, device="/dev/video9")


def test_a_device_that_is_held_at_another_size_is_told_and_let_go(backends, monkeypatch):
    made = []
    backends("v4l2loopback", backend_of(made, devices=("/dev/video9",)))
    monkeypatch.setattr(loopback, "size_of", lambda path: (320, 240))
    with pytest.raises(DeviceError, match=r"video9 is held at 320x240 by .*, not 64x48\. .* start with --size 320x240"):
        VirtualCamera(size=SIZE, fps=30)
    assert made[0].closed == 1


def test_ours_is_chosen_among_loopback_devices_and_a_taken_one_left(monkeypatch):
    found = [
        CaptureDevice(0, "HD Webcam", "/dev/video0"),
        CaptureDevice(4, "Phone", "/dev/video4", is_loopback=True),
        CaptureDevice(9, "Puppet", "/dev/video9", is_own=True, is_loopback=True),
    ]
    monkeypatch.setattr(loopback.sys, "platform", "linux")
    monkeypatch.setattr(loopback, "reopen", lambda path: None)
    monkeypatch.setattr(loopback, "is_writable", lambda path: True)
    assert loopback.choose(found) == "/dev/video9"
    monkeypatch.setattr(loopback, "is_writable", lambda path: path != "/dev/video9")
    assert loopback.choose(found) == "/dev/video4"
    monkeypatch.setattr(loopback, "is_writable", lambda path: False)
    assert loopback.choose(found) == "/dev/video9"
    assert loopback.choose(found[:1]) is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(("flags", "is_writer"), [(os.O_WRONLY, True), (os.O_RDONLY, False), (os.O_RDWR, False)])
def test_a_program_that_writes_to_a_device_is_found(tmp_path, flags, is_writer):
    path = tmp_path / "video9"
    path.touch()
    node = os.open(path, flags)
    assert loopback._has_writer(str(path)) == is_writer
    os.close(node)
    assert not loopback._has_writer(str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="needs device files")
def test_what_is_no_loopback_device_is_left_alone():
    for path in ("/dev/null", "/dev/does-not-exist"):
        loopback.reopen(path)
        loopback.announce_rate(path, 30)
        assert loopback.size_of(path) is None and not loopback.is_loopback(path)


class FakeSink:
    def __init__(self, name, *, fails_at=None, commands=()):
        self.name, self.fails_at, self.taken, self.is_closed = name, fails_at, [], False
        self._commands = list(commands)

    def publish(self, given):
        if given.index == self.fails_at:
            raise DeviceError(f"{self.name} is gone")
        self.taken.append(given.index)

    def commands(self):
        commands, self._commands = self._commands, []
        return commands

    def close(self):
        self.is_closed = True


@pytest.fixture
def fake_sinks(monkeypatch):
    sinks = {"null": FakeSink("null"), "preview": FakeSink("preview", fails_at=1, commands=[Command.MIRROR])}

    def open_fake(text, *, size, fps):
        if text == "virtualcam":
            raise DeviceError("no driver")
        return sinks[text]

    monkeypatch.setattr(outputs_module, "open_sink", open_fake)
    return sinks


def test_a_sink_that_fails_on_air_leaves_the_others_alone(fake_sinks):
    outputs = Outputs(size=SIZE, fps=30, is_live=True)
    outputs.open(["null", "preview"])
    for i in range(3):
        outputs.publish(rendering(i))
    assert fake_sinks["null"].taken == [0, 1, 2]
    assert fake_sinks["preview"].is_closed
    assert [str(f) for f in outputs.failures] == ["preview is gone"]


def test_a_sink_that_fails_while_every_frame_counts_ends_the_run(fake_sinks):
    outputs = Outputs(size=SIZE, fps=30, is_live=False)
    outputs.open(["null", "preview"])
    outputs.publish(rendering(0))
    with pytest.raises(DeviceError, match="preview is gone"):
        outputs.publish(rendering(1))


def test_commands_of_all_sinks_are_collected_once(fake_sinks):
    outputs = Outputs(size=SIZE, fps=30, is_live=True)
    outputs.open(["null", "preview"])
    assert outputs.commands() == [Command.MIRROR]
    assert outputs.commands() == []


def test_without_a_device_the_rest_goes_on_and_without_anything_it_ends(fake_sinks, caplog):
    outputs = Outputs(size=SIZE, fps=30, is_live=True)
    outputs.open(["virtualcam", "null"])
    assert outputs.names == ["null"]
    assert "no driver" in caplog.text
    with pytest.raises(DeviceError, match="nothing is left to publish to"):
        Outputs(size=SIZE, fps=30, is_live=True).open(["virtualcam"])


def test_recording_starts_and_stops_while_the_show_goes_on(fake_sinks, tmp_path):
    outputs = Outputs(size=SIZE, fps=30, is_live=True)
    outputs.open(["null"])
    outputs.start_recording(tmp_path / "a.mp4")
    assert outputs.is_recording
    for i in range(5):
        outputs.publish(rendering(i))
    outputs.stop_recording()
    assert not outputs.is_recording
    outputs.publish(rendering(5))
    outputs.close()
    assert len(read_clip(tmp_path / "a.mp4")) == 5


def test_an_au_log_is_a_sink(tmp_path):
    outputs = Outputs(size=SIZE, fps=30, is_live=False)
    outputs.open([], au_log=tmp_path / "log.csv")
    outputs.publish(rendering(0))
    outputs.close()
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


def test_null_takes_everything():
    sink = open_sink("null", size=SIZE, fps=30)
    sink.publish(rendering())
    assert not sink.commands()


@pytest.mark.parametrize("shape", [(512, 512), (64, 64), (720, 1280), (1280, 360)])
def test_the_overlay_leaves_the_rendering_alone_at_any_size(shape):
    rgb = np.full((*shape, 3), 120, np.uint8)
    before = rgb.copy()
    overlay = Overlay()
    control = facs.control(AU12=5, AU45_L=5, yaw_rad=0.4)
    given = Rendering(rgb, 0, 0.0, control, control, has_face=False, latency_ms=12.0, fps=29.9)
    drawn = overlay.keys(overlay.note(overlay.status(rgb, given), "a note"), [("c", "calibrate"), ("?", "help")])
    assert drawn.shape == rgb.shape and drawn.dtype == np.uint8
    assert (drawn != before).any()
    np.testing.assert_array_equal(rgb, before)


def test_the_overlay_draws_a_wink_on_the_side_where_the_picture_shows_it():
    control = facs.control(AU45_R=5)
    bars = Overlay()._bars(control)
    lit = np.argwhere((bars == (94, 190, 255)).all(-1))[:, 1]
    assert lit.max() <= bars.shape[1] * 0.7 and len(lit) > 20


@pytest.mark.parametrize(("display", "message"), [("", "DISPLAY is not set"), (":4711", "does not answer")])
def test_no_display_is_told_before_a_window_is_opened(monkeypatch, display, message):
    if sys.platform != "linux":
        pytest.skip("only X11 has DISPLAY")
    monkeypatch.setenv("DISPLAY", display)
    assert message in missing_display()
    with pytest.raises(DeviceError, match=message):
        Preview(size=SIZE, fps=30)


@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs a display: run under xvfb-run")
def test_keys_of_the_preview_become_commands():
    preview = Preview(size=SIZE, fps=30)
    for key in "cmnphr q":
        preview.press(ord(key))
    assert list(preview.commands()) == [
        Command.CALIBRATE, Command.MIRROR, Command.NEXT, Command.PREVIOUS, Command.HEAD, Command.RECORD,
        Command.HIDE, Command.QUIT,
    ]  # fmt: skip
    preview.press(ord("?"))
    preview.press(ord("o"))
    assert preview.has_help and not preview.has_overlay and not preview.commands()
    preview.publish(rendering())
    preview.close()


def test_stats_report_is_json_with_rates_counts_and_latency():
    from puppet.stats import Stats

    stats = Stats()
    for i in range(11):
        stats.add("render", 4.0 + i)
        stats.published(100 + i / 10, 20.0)
    report = json.loads(json.dumps(stats.report()))
    assert report["fps"] == pytest.approx(10)
    assert report["stages_ms"]["render"]["p50"] == 9
    assert report["latency_ms"]["p95"] == 20
    assert report["frames"]["out"] == 11
    assert report["hardware"]["cores"] >= 1 and "numpy" in report["versions"]
    assert stats.recent_fps() == pytest.approx(10)
