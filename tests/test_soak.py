"""The soak run's judgement must fail on a run that deserves it; its script and its leak check must work."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from soak import driver, faults, judge, watch
from soak.script import CALM, WITH_FAULTS, Scene, Script

from puppet import facs
from puppet.publish import Command, Rendering


@pytest.fixture
def script(clock):
    made = Script(WITH_FAULTS, clock=clock)
    assert made.elapsed_s == 0
    return made


def begin_of(script, kind):
    """The time at which the first scene of a kind begins."""
    return next(t for t in np.arange(0, script.cycle_s, 0.5) if script.at(t)[1].kind == kind)


def test_scenes_repeat_and_are_counted_on(script):
    number, scene = script.at(0.0)
    again, same = script.at(script.cycle_s + 0.01)
    assert (number, scene) == (0, WITH_FAULTS[0])
    assert (again, same) == (len(WITH_FAULTS), WITH_FAULTS[0])


def test_a_fault_happens_once_in_each_of_its_scenes(script, clock):
    begin_s = begin_of(script, "tracker fails")
    assert not script.enters("me", "tracker fails")
    for cycle in range(2):
        clock.now_s = cycle * script.cycle_s + begin_s
        assert script.enters("me", "tracker fails") and not script.enters("me", "tracker fails")
        assert script.enters("another", "tracker fails")


def test_every_kind_of_scene_does_something():
    kinds = {scene.kind for scene in WITH_FAULTS} - {CALM}
    done = set(watch._KEYS) | {
        "face covered", "black frames", "several faces", "camera unplugged", "tracker stalls", "tracker fails",
        "regressor fails", "generator fails", "generator slow", "driver leaves",
    }  # fmt: skip
    assert kinds == done


@pytest.fixture
def webcam(script, astronaut):
    pictures = [driver.green(rgb) for rgb, _ in zip(driver.face_pictures(None, astronaut), range(4), strict=False)]
    made = driver.ScriptedWebcam(script, pictures)
    made._due_s = -1e9
    return made


def picture_of(webcam, clock, script, kind):
    clock.now_s = begin_of(script, kind)
    return webcam._picture()[..., ::-1]


def test_the_driver_is_green_in_every_pixel_of_every_scene(webcam, clock, script):
    check = watch.LeakCheck([np.full((8, 8, 3), 90, np.uint8)])
    for kind in (CALM, "face covered", "black frames", "several faces", "driver leaves"):
        assert check.sees(picture_of(webcam, clock, script, kind)) > judge.LEAST_SEEN_SHARE, kind


def test_an_unplugged_camera_gives_nothing_and_is_not_listed(webcam, clock, script):
    clock.now_s = begin_of(script, "camera unplugged")
    assert webcam.read() == (False, None)
    assert webcam.cameras() == [] and not webcam.isOpened()
    clock.now_s += 6
    assert webcam.read()[0] and len(webcam.cameras()) == 1


def test_faults_are_raised_in_their_scenes_only(script, clock):
    class Part:
        def track(self, rgb):
            return "tracked"

        estimate = render = track

    parts = {
        "tracker fails": faults.FaultyTracker(Part(), script).track,
        "regressor fails": faults.FaultyEstimator(Part(), script).estimate,
        "generator fails": faults.FaultyPuppet(Part(), script).render,
    }
    for kind, act in parts.items():
        clock.now_s = 0.0
        assert act(None) == "tracked"
        clock.now_s = begin_of(script, kind)
        with pytest.raises(faults.Broken):
            act(None)


@pytest.fixture
def stills(astronaut):
    small = cv2.resize(astronaut, (128, 128), interpolation=cv2.INTER_AREA)
    return [(small * np.array([1.0, 0.85, 0.95])).astype(np.uint8)]


def with_driver(still, how, astronaut):
    face = cv2.resize(driver.green(astronaut), (128, 128), interpolation=cv2.INTER_AREA)
    out = still.copy()
    if how == "whole":
        return face
    if how == "a corner":
        out[:8, :8] = face[:8, :8]
    elif how == "shrunk":
        out[40:60, 40:60] = cv2.resize(face, (20, 20), interpolation=cv2.INTER_AREA)
    elif how == "half blended":
        out = (0.5 * out + 0.5 * face).astype(np.uint8)
    elif how == "recorded":
        jpeg = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
        out = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    return out


@pytest.mark.parametrize("how", ["whole", "a corner", "shrunk", "half blended", "recorded"])
def test_the_leak_check_sees_the_driver(stills, astronaut, how):
    assert watch.LeakCheck(stills).leaks(with_driver(stills[0], how, astronaut))


def test_the_leak_check_passes_the_portrait_moved_and_lit(stills):
    check = watch.LeakCheck(stills)
    moved = cv2.warpAffine(stills[0], np.array([[1.02, 0.03, -2], [-0.03, 0.98, 3]]), (128, 128))
    for picture in (stills[0], moved, (moved * 0.8).astype(np.uint8), np.zeros_like(moved)):
        assert not check.leaks(picture)
    assert check.likeness(moved) > watch.LEAST_LIKENESS
    assert check.likeness(np.zeros_like(moved)) < watch.LEAST_LIKENESS
    assert check.likeness(moved[:, ::-1]) < watch.LEAST_LIKENESS


def test_the_watching_sink_counts_leaks_and_presses_keys_once(script, clock, stills, astronaut):
    sink = watch.Watch(script, watch.LeakCheck(stills), quit_after_s=script.cycle_s).open()
    for rgb in (stills[0], stills[0], driver.green(astronaut)):
        sink.publish(Rendering(rgb, 0, 0.0, facs.rest(), facs.rest(), True))
    assert (sink.leaks, list(sink.is_new)) == (1, [1, 0, 1])
    clock.now_s = begin_of(script, "next portrait")
    assert sink.commands() == [Command.NEXT] and not sink.commands()
    clock.now_s = script.cycle_s + 1
    assert sink.commands() == [Command.QUIT]


SCENES = (Scene(CALM, 10.0), Scene("black frames", 5.0), Scene(CALM, 10.0), Scene("driver leaves", 5.0))


@pytest.fixture
def good_run():
    """Five cycles of 30 s at 30 fps as they should be."""
    script = Script(SCENES)
    times = np.arange(0, 5 * script.cycle_s, 1 / 30)
    scene = np.array([script.at(t)[0] for t in times])
    calm = np.array([SCENES[n % len(SCENES)].kind == CALM for n in scene])
    return judge.Run(
        fps=30.0,
        cycle_s=script.cycle_s,
        time_s=times,
        latency_ms=np.where(calm, 20.0, np.nan),
        has_face=calm,
        is_new=np.ones(len(times), bool),
        scene=scene,
        scenes=SCENES,
        memory_time_s=np.arange(0, times[-1], 2.0),
        memory_mib=np.full(len(np.arange(0, times[-1], 2.0)), 400.0),
        recorded=100,
        errors=5,
    )


def failures(run):
    return [verdict.name for verdict in judge.judge(run, with_faults=True) if verdict.has_passed is False]


def test_a_good_run_passes(good_run):
    assert failures(good_run) == []
    assert [row["scene"] for row in judge.by_scene(good_run)] == [CALM, "black frames", "driver leaves"]


def gapped(run):
    times = run.time_s.copy()
    times[3000:] += 0.15
    return replace(run, time_s=times)


def stuttering(run):
    times = run.time_s.copy()
    times[::10] += 0.030
    times[5::10] -= 0.030
    return replace(run, time_s=np.sort(times) * 1.0 + np.where(np.arange(len(times)) % 20 < 10, 0, 0.045))


def slow(run):
    return replace(run, time_s=run.time_s * 1.1)


def growing(run):
    return replace(run, memory_mib=run.memory_mib + np.linspace(0, 100, len(run.memory_mib)))


def drifting(run):
    return replace(run, latency_ms=run.latency_ms + np.linspace(0, 40, len(run.latency_ms)))


def not_recovering(run):
    return replace(run, has_face=run.has_face & (run.scene != 6))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (gapped, "longest gap between frames"),
        (stuttering, "99 % of gaps"),
        (slow, "rate kept"),
        (growing, "memory, second cycle and last"),
        (drifting, "latency, second cycle and last"),
        (not_recovering, "face back after a fault, slowest of 10"),
        (lambda run: replace(run, leaks=1), "published frames with driver pixels"),
        (lambda run: replace(run, foreign=1), "published frames unlike any portrait"),
        (lambda run: replace(run, recording_leaks=1), "recorded frames with driver pixels (of 100)"),
        (lambda run: replace(run, recording_foreign=1), "recorded frames unlike any portrait (of 100)"),
        (lambda run: replace(run, recorded=0), "recordings looked at"),
        (lambda run: replace(run, driver_seen_share=0.5), "of a driver's pixels the check would see"),
        (lambda run: replace(run, errors=0), "errors survived"),
        (lambda run: replace(run, opened=2), "device opened; closed before the end"),
        (lambda run: replace(run, closed_s=10.0), "device opened; closed before the end"),
        (lambda run: replace(run, exit_code=1), "exit code"),
    ],
)
def test_a_run_that_is_spoilt_fails(good_run, spoil, what):
    assert what in failures(spoil(good_run))


def test_a_run_that_published_nothing_fails(good_run):
    nothing = {name: getattr(good_run, name)[:1] for name in ("time_s", "latency_ms", "has_face", "is_new", "scene")}
    assert failures(replace(good_run, **nothing)) == ["frames published"]


def test_the_plot_is_drawn(good_run, tmp_path):
    pytest.importorskip("matplotlib")
    from soak.plot import draw

    draw(good_run, tmp_path / "soak.png")
    assert cv2.imread(str(tmp_path / "soak.png")).shape[1] > 500
