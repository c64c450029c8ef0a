"""Showing one's own camera takes two deliberate acts, ends with any doubt, and never comes by itself."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from puppet.capture import Frame
from puppet.own_view import RENEW_WITHIN_S, STALE_S, Lease, OwnView, fitted
from puppet.publish.gesture import CONFIRM_KEY, CONFIRM_WITHIN_S, HOLD_KEY, HOLD_S, ShareGesture, State


@pytest.fixture
def gesture(clock):
    return ShareGesture(clock)


def hold(gesture, clock, seconds, *, key=HOLD_KEY, first_delay_s=0.5, every_s=0.04):
    """A key held as a keyboard repeats it."""
    end_s = clock.now_s + seconds
    gesture.press(key)
    clock.now_s += first_delay_s
    while clock.now_s <= end_s:
        gesture.press(key)
        clock.now_s += every_s


def wait(gesture, clock, seconds):
    """Time goes by while the preview reads the keyboard."""
    end_s = clock.now_s + seconds
    while clock.now_s < end_s:
        clock.now_s += 0.05
        gesture.tick()


def share(gesture, clock):
    hold(gesture, clock, HOLD_S + 0.3)
    gesture.press(CONFIRM_KEY)
    assert gesture.lease is not None and gesture.lease.is_alive


@pytest.mark.parametrize("first_delay_s", [0.25, 0.5, 0.7])
def test_a_key_held_and_another_share(gesture, clock, first_delay_s):
    hold(gesture, clock, HOLD_S + 0.3, first_delay_s=first_delay_s)
    assert gesture.state is State.ARMED and gesture.lease is None
    wait(gesture, clock, CONFIRM_WITHIN_S - 0.5)
    gesture.press(CONFIRM_KEY)
    assert gesture.state is State.SHARING
    wait(gesture, clock, 60)
    assert gesture.lease.is_alive


def released_too_early(gesture, clock):
    hold(gesture, clock, HOLD_S - 0.2)
    gesture.press(CONFIRM_KEY)


def confirmed_too_late(gesture, clock):
    hold(gesture, clock, HOLD_S + 0.3)
    wait(gesture, clock, CONFIRM_WITHIN_S + 0.1)
    gesture.press(CONFIRM_KEY)


def confirmed_without_holding(gesture, clock):
    gesture.press(CONFIRM_KEY)


def confirming_key_held_alone(gesture, clock):
    hold(gesture, clock, 10, key=CONFIRM_KEY)


def pressed_once_and_confirmed_later(gesture, clock):
    gesture.press(HOLD_KEY)
    clock.now_s += HOLD_S + 0.1
    gesture.press(CONFIRM_KEY)


def pressed_slowly_again_and_again(gesture, clock):
    for _ in range(30):
        gesture.press(HOLD_KEY)
        clock.now_s += 0.4
    gesture.press(CONFIRM_KEY)


def another_key_in_between(gesture, clock):
    hold(gesture, clock, HOLD_S + 0.3)
    gesture.press("m")
    gesture.press(CONFIRM_KEY)


def another_key_while_holding(gesture, clock):
    hold(gesture, clock, HOLD_S / 2)
    gesture.press("m")
    hold(gesture, clock, HOLD_S * 0.7)
    gesture.press(CONFIRM_KEY)


def held_in_two_parts(gesture, clock):
    hold(gesture, clock, HOLD_S * 0.6)
    clock.now_s += 1.0
    hold(gesture, clock, HOLD_S * 0.6)
    gesture.press(CONFIRM_KEY)


@pytest.mark.parametrize(
    "act",
    [
        released_too_early, confirmed_too_late, confirmed_without_holding, confirming_key_held_alone,
        pressed_once_and_confirmed_later, pressed_slowly_again_and_again, another_key_in_between,
        another_key_while_holding, held_in_two_parts,
    ],
)  # fmt: skip
def test_anything_less_does_not_share(gesture, clock, act):
    act(gesture, clock)
    assert gesture.lease is None
    assert gesture.state is not State.SHARING


def test_the_first_key_ends_it_and_its_repeats_begin_nothing(gesture, clock):
    share(gesture, clock)
    lease = gesture.lease
    hold(gesture, clock, 10 * HOLD_S)
    assert not lease.is_alive and gesture.lease is None
    gesture.press(CONFIRM_KEY)
    assert gesture.lease is None
    clock.now_s += 1.0
    share(gesture, clock)  # released, held anew and confirmed: once more


def test_repeats_that_come_after_the_confirmation_end_it(gesture, clock):
    share(gesture, clock)
    gesture.press(HOLD_KEY)
    assert gesture.lease is None


def test_confirming_again_changes_nothing(gesture, clock):
    share(gesture, clock)
    lease = gesture.lease
    hold(gesture, clock, 0.3, key=CONFIRM_KEY)
    assert gesture.lease is lease


@pytest.mark.parametrize("key", ["m", "o", "?", "q"])
def test_other_keys_keep_their_meaning(gesture, key):
    assert gesture.press(key) is False
    assert gesture.press(HOLD_KEY) is True


def test_a_preview_that_stops_renewing_ends_it_for_good(gesture, clock):
    share(gesture, clock)
    lease = gesture.lease
    clock.now_s += RENEW_WITHIN_S + 0.1
    gesture.tick()
    assert not lease.is_alive and gesture.lease is None
    lease.renew()
    assert not lease.is_alive


def frame(clock, level=200):
    return Frame(np.full((4, 4, 3), level, np.uint8), 0, 0.0, clock())


def test_without_a_lease_no_picture_is_held(clock):
    view = OwnView(clock)
    view.offer(frame(clock))
    assert view._frame is None and view.newest() is None


def test_with_a_lease_the_newest_picture_is_there_and_with_its_end_it_is_gone(clock):
    view, lease = OwnView(clock), Lease(clock)
    view.offer(frame(clock, 1))
    view.grant(lease)
    assert view.newest() is None  # what came before the lease is not shown
    view.offer(frame(clock, 2))
    assert view.newest().rgb[0, 0, 0] == 2
    lease.end()
    assert view.newest() is None and view._frame is None
    view.offer(frame(clock, 3))
    assert view._frame is None


def test_a_camera_that_stops_ends_it_for_good(clock):
    view, lease = OwnView(clock), Lease(clock)
    view.grant(lease)
    view.offer(frame(clock))
    clock.now_s += STALE_S + 0.01
    assert view.newest() is None and not lease.is_alive
    view.offer(frame(clock))
    assert view.newest() is None


def test_a_camera_that_gives_nothing_ends_it_too(clock):
    view, lease = OwnView(clock), Lease(clock)
    view.grant(lease)
    clock.now_s += STALE_S + 0.01
    assert view.newest() is None and not lease.is_alive


@pytest.mark.parametrize("shape", [(480, 640), (240, 320), (720, 1280), (640, 480)])
@pytest.mark.parametrize("size", [(512, 512), (64, 48), (1280, 720)])
def test_a_picture_fills_the_published_size(shape, size):
    out = fitted(np.full((*shape, 3), 90, np.uint8), size)
    assert out.shape == (size[1], size[0], 3) and out.flags.c_contiguous
    assert (out == 90).all()


def test_leases_are_made_by_the_gesture_alone():
    from pathlib import Path

    import puppet

    makers = [
        path.name
        for path in Path(puppet.__file__).parent.rglob("*.py")
        if "Lease(" in path.read_text(encoding="utf-8").replace("class Lease", "")
    ]
    assert makers == ["gesture.py"]


class Window:
    """A preview without a screen: it has a lease when the test says so, and renews it when asked for keys."""

    name, is_window = "window", True

    def __init__(self):
        self.lease, self.renews = None, True
        self.shown = []

    def publish(self, rendering):
        self.shown.append(rendering)

    def commands(self):
        if self.lease is not None and self.renews:
            self.lease.renew()
        return []

    def close(self):
        pass


class Air:
    """A sink that lets the test wait for what goes out."""

    name = "air"

    def __init__(self):
        self.taken, self._changed = [], threading.Condition()

    def publish(self, rendering):
        with self._changed:
            self.taken.append(rendering)
            self._changed.notify_all()

    def wait(self, condition):
        with self._changed:
            assert self._changed.wait_for(lambda: self.taken and condition(self.taken[-1]), 10), "it never went out"

    def wait_frames(self, count):
        with self._changed:
            end = len(self.taken) + count
            assert self._changed.wait_for(lambda: len(self.taken) >= end, 10)

    def commands(self):
        return []

    def close(self):
        pass


DRIVER_LEVEL = 255


class Webcam:
    """Frames of the driver until told to stop or to fail."""

    name, fps, is_live = "webcam", 100.0, True

    def __init__(self):
        self.stops, self.fails, self._closed = threading.Event(), threading.Event(), threading.Event()

    def frames(self):
        import time

        index = 0
        while not self._closed.wait(0.005):
            if self.fails.is_set():
                self.fails.clear()
                raise RuntimeError("the camera's driver broke")
            if not self.stops.is_set():
                rgb = np.full((8, 8, 3), DRIVER_LEVEL, np.uint8)
                yield Frame(rgb, index, index / 100, time.perf_counter())
                index += 1

    def close(self):
        self._closed.set()


@pytest.fixture
def stage():
    """A running live show with a window, what is on air and the camera."""
    from pathlib import Path

    from test_live import FakePuppet, FakeTracker, estimate

    from puppet.gallery import Gallery
    from puppet.live import Show
    from puppet.perception import Perception
    from puppet.performance import Performer
    from puppet.publish.outputs import Outputs
    from puppet.retarget import Retargeter
    from puppet.stats import Stats

    window, air, webcam, stats, puppet = Window(), Air(), Webcam(), Stats(), FakePuppet()
    gallery = Gallery([Path("a")], lambda path: puppet)
    outputs = Outputs(size=(6, 4), fps=100, is_live=True)
    outputs._sinks += [air, window]
    perception = Perception(webcam, stats, open_tracker=FakeTracker, estimate=estimate, is_live=True)
    performer = Performer(retargeter=Retargeter(), rest=gallery.current.rest_control)
    show = Show(perception, performer, gallery, outputs, stats, fps=100.0)
    perception.start()
    thread = threading.Thread(target=show.run_live)
    thread.start()
    air.wait(lambda r: r.has_face)
    yield SimpleNamespace(window=window, air=air, webcam=webcam, show=show, outputs=outputs, puppet=puppet)
    show.should_stop = True
    thread.join(10)
    perception.close()
    assert not thread.is_alive()


def is_driver(rendering):
    return bool((rendering.rgb == DRIVER_LEVEL).all())


def share_on(stage):
    stage.window.lease = Lease()
    stage.air.wait(is_driver)


def test_on_air_the_driver_is_shown_while_the_lease_lives_and_says_so(stage, caplog):
    assert not any(is_driver(r) for r in stage.air.taken)
    share_on(stage)
    assert all(r.own_camera is stage.window.lease for r in stage.air.taken if is_driver(r))
    assert "YOUR OWN CAMERA IS SHOWN" in caplog.text
    stage.window.lease.end()
    stage.air.wait(lambda r: not is_driver(r))
    stage.air.wait_frames(20)
    assert not any(is_driver(r) for r in stage.air.taken[-19:])


def camera_stops(stage):
    stage.webcam.stops.set()


def camera_fails(stage):
    stage.webcam.fails.set()


def window_stops_renewing(stage):
    stage.window.renews = False


def window_is_closed_by_a_fault(stage):
    from puppet.errors import DeviceError

    lease = stage.window.lease

    def publish(rendering):
        raise DeviceError("the display went away")

    stage.window.publish, stage.window.close = publish, lease.end


def generator_fails(stage):
    stage.show._performer.step = None


def still_portrait_is_asked(stage):
    from puppet.publish import Command

    stage.show._commands.put(Command.HIDE)


@pytest.mark.parametrize(
    "fault",
    [camera_stops, camera_fails, window_stops_renewing, window_is_closed_by_a_fault, generator_fails,
     still_portrait_is_asked],
)  # fmt: skip
def test_any_fault_while_sharing_goes_back_to_the_portrait_for_good(stage, fault):
    share_on(stage)
    lease = stage.window.lease
    fault(stage)
    stage.air.wait(lambda r: not is_driver(r))
    assert not lease.is_alive
    stage.webcam.stops.clear()
    stage.air.wait_frames(30)
    assert not any(is_driver(r) for r in stage.air.taken[-29:])


def test_a_renderer_that_hangs_while_sharing_does_not_leave_the_driver_on_air(stage):
    hold = threading.Event()
    share_on(stage)
    stage.show._performer.step = lambda *given: hold.wait(10)
    stage.air.wait(lambda r: not is_driver(r))
    assert not stage.window.lease.is_alive
    hold.set()


def test_a_recording_of_ones_own_camera_says_so(tmp_path):
    import av

    from puppet import facs
    from puppet.publish import Rendering
    from puppet.publish.recorder import Recorder

    recorder = Recorder(tmp_path / "a.mp4", size=(256, 256), fps=30, may_drop=False)
    rgb = np.full((256, 256, 3), 128, np.uint8)
    for i, lease in enumerate((None, Lease())):
        recorder.publish(Rendering(rgb, i, i / 30, facs.rest(), facs.rest(), True, own_camera=lease))
    recorder.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        without, with_own = (f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0))
    assert abs(without - 128).max() < 12
    red = with_own[-40:]
    assert (red[..., 0] - red[..., 1]).mean() > 80
    assert (rgb == 128).all()


@pytest.fixture
def preview(monkeypatch):
    """A preview on a screen that is not there; `preview.pressed` are the keys waiting, `preview.is_open` its window."""
    from puppet.publish import preview as module

    keys = []
    state = SimpleNamespace(is_visible=1.0)
    monkeypatch.setattr(module, "missing_display", lambda: None)
    for name in ("namedWindow", "resizeWindow", "imshow", "destroyWindow"):
        monkeypatch.setattr(module.cv2, name, lambda *given: None)
    monkeypatch.setattr(module.cv2, "getWindowProperty", lambda *given: state.is_visible)
    monkeypatch.setattr(module.cv2, "pollKey", lambda: ord(keys.pop(0)) if keys else -1)
    made = module.Preview(size=(512, 512), fps=30)
    made.pressed, made.state = keys, state
    made.publish(rendering_of(np.zeros((512, 512, 3), np.uint8)))
    return made


def rendering_of(rgb, **more):
    from puppet import facs
    from puppet.publish import Rendering

    return Rendering(rgb, 0, 0.0, facs.rest(), facs.rest(), True, **more)


def test_all_keys_that_wait_become_commands(preview):
    from puppet.publish import Command

    preview.pressed += "mhc"
    assert list(preview.commands()) == [Command.MIRROR, Command.HEAD, Command.CALIBRATE]
    assert not preview.commands()


def share_in(preview, clock):
    preview._gesture = ShareGesture(clock)
    for _ in range(50):
        preview.pressed += HOLD_KEY
        preview.commands()
        clock.now_s += 0.04
    preview.pressed += CONFIRM_KEY
    preview.commands()
    assert preview.lease.is_alive


@pytest.mark.parametrize("how", ["its close button", "the program"])
def test_a_preview_that_is_closed_ends_it(preview, clock, how):
    share_in(preview, clock)
    lease = preview.lease
    if how == "the program":
        preview.close()
    else:
        preview.state.is_visible = 0.0
        preview.commands()
    assert not lease.is_alive and preview.lease is None


def test_the_preview_says_that_ones_own_camera_is_shown_even_without_overlay(preview, clock, monkeypatch):
    shown = []
    monkeypatch.setattr("puppet.publish.preview.cv2.imshow", lambda title, bgr: shown.append(bgr))
    preview.has_overlay = False
    grey = np.full((512, 512, 3), 120, np.uint8)
    preview.publish(rendering_of(grey))
    assert (shown[-1] == 120).all()
    preview.publish(rendering_of(grey, own_camera=Lease(clock)))
    red = shown[-1][-50:].astype(int)
    assert (red[..., 2] - red[..., 1]).mean() > 80
