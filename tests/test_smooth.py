import numpy as np
import pytest

from puppet import demo, facs
from puppet.smooth import Smoother

FPS = 30
NOISE = np.array([0.15 if c.is_intensity else 0.02 if "gaze" in c.name else 0.008 for c in facs.COLUMNS])


def smoothed(track, fps=FPS):
    smoother = Smoother()
    return np.array([smoother.smooth(c.astype(np.float32), 5 + i / fps) for i, c in enumerate(track)])


def lag_ms(before, after):
    at = np.arange(len(before))
    delays = np.arange(-1, 6, 0.05)
    error = [np.mean((np.interp(at - d, at, before)[20:-20] - after[20:-20]) ** 2) for d in delays]
    return 1000 / FPS * delays[int(np.argmin(error))]


@pytest.mark.parametrize(
    ("name", "most_ms"),
    [("AU45_L", 3), ("AU12_L", 20), ("AU25", 20), ("AU26", 20), ("AU04_L", 30), ("gaze_yaw_rad", 5), ("yaw_rad", 25)],
)
def test_lag_is_less_than_a_frame_and_none_for_lids_and_eyes(name, most_ms):
    track = demo.demo_track(FPS)
    place = facs.INDEX[name]
    assert lag_ms(track[:, place], smoothed(track)[:, place]) <= most_ms


def test_blinks_reach_full_closure_in_the_same_frame():
    track = demo.demo_track(FPS)
    lids = facs.columns_of("AU45")
    shut = track[:, lids] > 4.9
    assert shut.any()
    assert smoothed(track)[:, lids][shut].min() > 4.89


def test_saccades_pass_in_one_frame():
    track = np.tile(facs.rest(), (20, 1))
    track[10:, facs.INDEX["gaze_yaw_rad"]] = 0.3
    assert smoothed(track)[10, facs.INDEX["gaze_yaw_rad"]] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "most"), [("yaw_rad", 0.4), ("AU04_L", 0.4), ("AU12_L", 0.55), ("gaze_yaw_rad", 0.55), ("AU45_L", 0.7)]
)
def test_a_still_face_shivers_less(name, most):
    place = facs.INDEX[name]
    still = facs.rest() + 2.5 * (np.arange(facs.SIZE) < facs.INTENSITY_COUNT)
    noisy = still + NOISE * np.random.default_rng(0).normal(size=(900, facs.SIZE))
    after = smoothed(noisy)[30:]
    assert np.diff(after[:, place]).std() < most * np.diff(noisy[:, place]).std()


def test_frame_rate_does_not_change_the_smoothing():
    step = facs.control(AU12=0.8)
    slow, fast = Smoother(), Smoother()
    slow.smooth(facs.rest(), 0.0)
    fast.smooth(facs.rest(), 0.0)
    for i in range(1, 31):
        a = slow.smooth(step, i / 30)
    for i in range(1, 61):
        b = fast.smooth(step, i / 60)
    np.testing.assert_allclose(a, b, atol=0.02)


def test_a_long_gap_starts_anew_and_a_repeated_time_changes_nothing():
    smoother = Smoother()
    smoother.smooth(facs.rest(), 0.0)
    np.testing.assert_array_equal(smoother.smooth(facs.control(AU12=4), 3.0), facs.control(AU12=4))
    np.testing.assert_array_equal(smoother.smooth(facs.rest(), 3.0), facs.control(AU12=4))


def test_a_value_that_is_not_finite_keeps_the_last_one():
    smoother = Smoother()
    smoother.smooth(facs.control(AU12=2), 0.0)
    broken = facs.control(AU12=2)
    broken[facs.INDEX["AU12_L"]] = np.nan
    np.testing.assert_allclose(smoother.smooth(broken, 0.03), facs.control(AU12=2), atol=1e-6)
