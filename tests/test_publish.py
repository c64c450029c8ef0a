import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest

from puppet import facs
from puppet.errors import DeviceError
from puppet.publish import Command, Rendering, open_sink
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


def test_a_registered_backend_of_pyvirtualcam_gets_rgb_bytes(monkeypatch):
    pyvirtualcam = pytest.importorskip("pyvirtualcam")

    class Backend:
        """Follows pyvirtualcam's Backend contract."""

        def __init__(self, *, width, height, fps, fourcc, device, **more):
            self.sent = []
            made.append(self)

        def send(self, frame):
            self.sent.append(frame.copy())

        def device(self):
            return "Puppet"

        def native_fourcc(self):
            return None

        def close(self):
            self.sent.append(None)

    made = []
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    pyvirtualcam.register_backend("fake", Backend)
    camera = VirtualCamera(size=SIZE, fps=30)
    camera.publish(rendering())
    camera.close()
    assert camera.device == "Puppet"
    assert made[0].sent[0].shape == (SIZE[0] * SIZE[1] * 3,)
    assert made[0].sent[0][:3].tolist() == [200, 60, 20]
    assert made[0].sent[-1] is None


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
