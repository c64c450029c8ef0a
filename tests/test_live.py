"""The loop with fakes that follow the contracts of drivers, trackers, portraits and sinks."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from puppet import facs
from puppet.capture import Frame, Observation
from puppet.consent import Consent
from puppet.errors import DeviceError, InputError, PortraitError
from puppet.gallery import Gallery
from puppet.live import Show
from puppet.perception import Perception
from puppet.performance import Performer
from puppet.provenance import Provenance
from puppet.publish import Command
from puppet.publish.outputs import Outputs
from puppet.retarget import Retargeter
from puppet.stats import Stats

DRIVER_PIXEL = (255, 0, 255)


class FakeDriver:
    """Frames that say in their first pixel whether a face is in them; a camera never ends by itself."""

    name, fps = "fake", 100.0

    def __init__(self, faces, *, is_live=False, error=None):
        self.is_live, self._faces, self._error, self._closed = is_live, faces, error, threading.Event()

    def frames(self):
        for i, has_face in enumerate(self._faces):
            rgb = np.full((8, 8, 3), DRIVER_PIXEL, np.uint8)
            rgb[0, 0, 1] = has_face
            yield Frame(rgb, i, i / self.fps, time.perf_counter())
        if self._error:
            raise self._error
        if self.is_live:
            self._closed.wait(10)

    def close(self):
        self._closed.set()


class FakeTracker:
    def __init__(self, fails_at=None):
        self.fails_at, self.count = fails_at, 0

    def track(self, rgb):
        self.count += 1
        if self.count == self.fails_at:
            raise RuntimeError("graph broke")
        return rgb if rgb[0, 0, 1] else None

    def close(self):
        pass


def estimate(face):
    return SimpleNamespace(control=facs.control(AU12=4, yaw_rad=0.3), confidence=0.9)


class FakePuppet:
    """Renders a control's AU12 and yaw as grey levels."""

    size = (6, 4)
    timings = SimpleNamespace(motion_ms=1.0)

    def __init__(self, name="a", fails_at=None):
        self.name, self.fails_at, self.renders, self.is_closed = name, fails_at, 0, False
        self.still = np.full((4, 6, 3), ord(name[0]), np.uint8)
        self.rest_control = facs.rest()
        self.provenance = Provenance(f"{name}.jpg", "")

    def render(self, control):
        self.renders += 1
        if self.fails_at is not None and self.renders >= self.fails_at:
            raise RuntimeError("engine broke")
        rgb = np.zeros((4, 6, 3), np.uint8)
        rgb[..., 0] = 10.5 + 40 * control[facs.INDEX["AU12_L"]]
        rgb[..., 1] = 100.5 + 100 * control[facs.INDEX["yaw_rad"]]
        rgb[..., 2] = ord(self.name[0])
        return rgb

    def close(self):
        self.is_closed = True


class Recording:
    """A sink that keeps what it was given and sends commands at given frames."""

    name = "recording"

    def __init__(self, commands=None, quit_after=None):
        self.taken, self._commands, self._quit_after = [], commands or {}, quit_after

    def publish(self, rendering):
        self.taken.append(rendering)

    def commands(self):
        count = len(self.taken)
        is_over = self._quit_after is not None and count >= self._quit_after
        return [Command.QUIT] if is_over else self._commands.get(count, [])

    def close(self):
        pass


def make_show(driver, sink, *, is_live, puppet=None, tracker=None, gallery=None, stats=None):
    stats = stats or Stats()
    gallery = gallery or Gallery([Path("a")], lambda path: puppet or FakePuppet())
    outputs = Outputs(size=(6, 4), fps=100, is_live=is_live)
    outputs._sinks.append(sink)
    trackers = [tracker] if tracker else []
    perception = Perception(
        driver,
        stats,
        is_live=is_live,
        open_tracker=lambda: trackers.pop() if trackers else FakeTracker(),
        estimate=estimate,
    )
    performer = Performer(retargeter=Retargeter(), rest=gallery.current.rest_control)
    return Show(perception, performer, gallery, outputs, stats, fps=100.0), perception, stats


def run(show, perception, *, is_live):
    perception.start()
    try:
        show.run_live() if is_live else show.run_in_order()
    finally:
        perception.close()


def never_shows_the_driver(sink):
    return all((r.rgb != DRIVER_PIXEL).any(-1).all() for r in sink.taken)


def test_every_frame_comes_out_once_in_order_at_its_time():
    sink = Recording()
    show, perception, stats = make_show(FakeDriver([1] * 40), sink, is_live=False)
    run(show, perception, is_live=False)
    assert [r.time_s for r in sink.taken] == pytest.approx([i / 100 for i in range(40)])
    assert (stats.frames_in, stats.frames_out, stats.dropped) == (40, 40, 0)
    assert show.exit_code() == 0
    assert sink.taken[-1].rgb[0, 0].tolist() == [170, 130, ord("a")]


def test_a_lost_face_is_held_then_rests_and_the_driver_is_never_shown():
    sink = Recording()
    show, perception, stats = make_show(FakeDriver([1] * 10 + [0] * 290 + [1] * 60), sink, is_live=False)
    run(show, perception, is_live=False)
    smile = [int(r.rgb[0, 0, 0]) for r in sink.taken]
    assert smile[12] == smile[9] == 170  # held
    assert 10 < smile[100] < 170  # on its way
    assert smile[299] == 10  # at rest
    assert 10 < smile[310] < 170 and smile[-1] == 170  # back without a jump
    assert stats.without_face == 290
    assert never_shows_the_driver(sink)
    assert not sink.taken[200].has_face and sink.taken[5].has_face


def test_a_clip_without_a_face_rests_and_says_so(caplog):
    sink = Recording()
    show, perception, _ = make_show(FakeDriver([0] * 20), sink, is_live=False)
    run(show, perception, is_live=False)
    assert len(sink.taken) == 20
    assert never_shows_the_driver(sink)
    assert show.exit_code() == 1
    assert "no face was found in the 20 frames of fake" in caplog.text


def test_a_broken_engine_keeps_the_last_picture_on_air(caplog):
    sink = Recording(quit_after=40)
    driver = FakeDriver([1], is_live=True)
    show, perception, stats = make_show(driver, sink, is_live=True, puppet=FakePuppet(fails_at=2))
    show._performer.step = varying_steps()
    run(show, perception, is_live=True)
    assert len(sink.taken) >= 40
    assert stats.errors > 5
    assert len({r.rgb.tobytes() for r in sink.taken[1:]}) == 1
    assert caplog.text.count("engine broke; the show goes on") == 1
    assert never_shows_the_driver(sink)


def varying_steps():
    """A performance in which something moves in every frame, so that every frame is rendered."""
    count = [0]

    def step(observation, time_s):
        count[0] += 1
        control = facs.control(AU12=(count[0] % 40) / 10)
        return SimpleNamespace(performance=control, control=control, has_face=True, confidence=1.0)

    return step


def test_a_broken_engine_ends_a_run_in_which_every_frame_counts():
    show, perception, _ = make_show(FakeDriver([1] * 9), Recording(), is_live=False, puppet=FakePuppet(fails_at=1))
    with pytest.raises(RuntimeError, match="engine broke"):
        run(show, perception, is_live=False)


def test_a_camera_that_gives_nothing_leaves_the_show_at_a_constant_rate():
    sink = Recording(quit_after=30)
    show, perception, _ = make_show(FakeDriver([], is_live=True), sink, is_live=True)
    run(show, perception, is_live=True)
    assert len(sink.taken) >= 30
    assert not any(r.has_face for r in sink.taken)
    assert all(r.latency_ms is None for r in sink.taken)


def test_a_tracker_that_fails_on_air_is_started_again(monkeypatch, caplog):
    monkeypatch.setattr("puppet.live.REVIVE_AFTER_S", 0.02)
    sink = Recording()
    show, perception, _ = make_show(
        FakeDriver([1] * 10**6, is_live=True), sink, is_live=True, tracker=FakeTracker(fails_at=1)
    )
    sink.commands = lambda: [Command.QUIT] if sink.taken[-1].has_face else []
    run(show, perception, is_live=True)
    assert "graph broke; the show goes on" in caplog.text
    assert sink.taken[-1].has_face


def test_a_clip_that_breaks_while_live_ends_the_run():
    driver = FakeDriver([1] * 3, error=InputError("clip is damaged"))
    show, perception, _ = make_show(driver, Recording(), is_live=True)
    with pytest.raises(InputError, match="clip is damaged"):
        run(show, perception, is_live=True)


def test_a_live_run_ends_with_its_clip():
    sink = Recording()
    show, perception, stats = make_show(FakeDriver([1] * 5), sink, is_live=True)
    run(show, perception, is_live=True)
    assert stats.frames_in == 5
    assert len(sink.taken) >= 1


def test_the_last_sink_that_fails_ends_the_show():
    class Gone(Recording):
        def publish(self, rendering):
            raise DeviceError("the camera's driver was removed")

    show, perception, _ = make_show(FakeDriver([1], is_live=True), Gone(), is_live=True)
    with pytest.raises(DeviceError, match="driver was removed"):
        run(show, perception, is_live=True)


def test_keys_mirror_stop_the_head_and_hide():
    commands = {2: [Command.MIRROR], 4: [Command.HEAD], 6: [Command.HIDE], 8: [Command.HIDE]}
    sink = Recording(commands)
    show, perception, _ = make_show(FakeDriver([1] * 10), sink, is_live=False)
    run(show, perception, is_live=False)
    yaw = [int(r.rgb[0, 0, 1]) for r in sink.taken]
    assert yaw[1] == 130 and yaw[2] == 70  # mirrored
    assert yaw[4] == 100  # the head stays
    np.testing.assert_array_equal(sink.taken[6].rgb, FakePuppet().still)
    assert yaw[9] == 100
    assert sink.taken[6].note.startswith("hidden")


def test_calibrating_sets_the_resting_face_first_and_then_the_neutral_from_what_was_estimated_with_it(monkeypatch):
    monkeypatch.setattr("puppet.live.CALIBRATE_AFTER_S", 0.0)
    done = []
    show, perception, _ = make_show(FakeDriver([1] * 10), Recording({4: [Command.CALIBRATE]}), is_live=False)
    show._set_resting_face = lambda: done.append("resting face")
    show._performer.calibrator = SimpleNamespace(
        observe=lambda *given: None, apply=lambda control: control, set_neutral=lambda: done.append("neutral") or True
    )
    run(show, perception, is_live=False)
    assert done == ["resting face", "neutral"]


def test_a_slow_rendering_leaves_no_gap_on_air():
    sink, slow = Recording(), threading.Event()

    class SlowPuppet(FakePuppet):
        def render(self, control):
            slow.wait(10)
            return super().render(control)

    def commands():
        if len(sink.taken) >= 30:
            slow.set()  # 30 frames went out while nothing was rendered
        return [Command.QUIT] if sink.taken[-1:] and sink.taken[-1].has_face else []

    sink.commands = commands
    show, perception, _ = make_show(FakeDriver([1] * 10**6, is_live=True), sink, is_live=True, puppet=SlowPuppet())
    run(show, perception, is_live=True)
    assert len(sink.taken) > 30
    assert all((r.rgb == FakePuppet().still).all() for r in sink.taken[:29])
    assert all(r.latency_ms is None for r in sink.taken[:29])


def test_the_delay_for_the_microphone_is_the_usual_latency_once_it_is_known():
    stats = Stats()
    for i in range(400):
        stats.published(i / 30, 20.0 if i % 10 else 90.0)
        if i < 140:
            assert stats.microphone_delay_ms is None
    assert stats.microphone_delay_ms == 20
    assert stats.report()["microphone_delay_ms"] == 20


def test_the_next_portrait_comes_when_it_is_loaded_and_one_that_fails_is_left_out(caplog):
    def load(path):
        if path.name == "b":
            raise PortraitError("b: no face")
        return FakePuppet(path.name)

    gallery = Gallery([Path("a"), Path("b"), Path("c")], load)
    first = gallery.current
    gallery.ask(1)
    wait_until(lambda: gallery.switched() or "left out" in caplog.text)
    assert gallery.current is first
    gallery.ask(1)
    wait_until(gallery.switched)
    assert gallery.current.name == "c" and first.is_closed
    gallery.ask(-1)
    wait_until(gallery.switched)
    assert gallery.current.name == "a"
    gallery.close()


def wait_until(condition):
    for _ in range(10_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not happen within ten seconds")


def test_a_gallery_in_which_nothing_can_be_shown_says_why():
    def load(path):
        raise PortraitError(f"{path}: no face")

    with pytest.raises(PortraitError, match="a: no face"):
        Gallery([Path("a"), Path("b")], load)


def test_a_track_drives_without_a_tracker():
    class Track:
        name, fps = "track", 50.0

        def observations(self):
            for i in range(5):
                yield Observation(facs.control(AU12=i), 1.0, i, i / 50, time.perf_counter())

        def close(self):
            pass

    sink = Recording()
    show, perception, _ = make_show(Track(), sink, is_live=False)
    run(show, perception, is_live=False)
    assert [int(r.rgb[0, 0, 0]) for r in sink.taken] == [10, 50, 90, 130, 170]


def test_the_portrait_that_is_switched_to_says_who_allowed_it(caplog):
    caplog.set_level("INFO", "puppet")

    def load(path):
        puppet = FakePuppet(path.stem)
        consent = Consent("Bob", "Bob") if path.stem == "b" else None
        puppet.provenance = Provenance(path.name, "", consent)
        return puppet

    gallery = Gallery([Path("a.jpg"), Path("b.jpg")], load)
    sink = Recording(commands={3: [Command.NEXT]}, quit_after=60)
    show, perception, _ = make_show(FakeDriver([1], is_live=True), sink, is_live=True, gallery=gallery)
    run(show, perception, is_live=True)
    assert [sink.taken[i].portrait.file for i in (0, -1)] == ["a.jpg", "b.jpg"]
    assert any(r.note == "b.jpg shows Bob, allowed by Bob" for r in sink.taken)
    assert "b.jpg shows Bob, allowed by Bob" in caplog.text
