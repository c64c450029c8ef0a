import numpy as np
import pytest

from puppet import demo, facs
from puppet.errors import ConfigError

AT_APEX = {
    "smile": {"AU12_L": 3, "AU06_R": 2},
    "laugh": {"AU06_L": 3.5, "AU12_L": 4, "AU25": 3.5, "AU26": 3},
    "frown": {"AU04_L": 4, "AU15_R": 3.5, "AU17": 2.5},
    "surprise": {"AU01_L": 4, "AU02_R": 4, "AU05_L": 3.5, "AU25": 3.5, "AU26": 3.5},
    "wink left": {"AU45_L": 4.99},
    "wink right": {"AU45_R": 4.99},
    "pucker": {"AU18": 4.5},
}


def test_segments_follow_each_other_and_last_20_to_25_seconds():
    assert demo.SEGMENTS[0].start_s == 0
    for before, after in zip(demo.SEGMENTS, demo.SEGMENTS[1:], strict=False):
        assert before.end_s == after.start_s
    assert all(s.start_s < s.apex_s < s.end_s for s in demo.SEGMENTS)
    assert 20 <= demo.DURATION_S <= 25


@pytest.mark.parametrize("fps", [24, 30, 59.94])
def test_track_has_the_length_of_the_performance_and_stays_in_range(fps):
    track = demo.demo_track(fps)
    assert track.shape == (round(demo.DURATION_S * fps), facs.SIZE)
    assert track.dtype == np.float32
    np.testing.assert_array_equal(track, facs.clip(track))


@pytest.mark.parametrize("name", AT_APEX)
def test_expressions_are_complete_at_their_apex(name):
    (segment,) = (s for s in demo.SEGMENTS if s.name == name)
    (control,) = demo.demo_controls(np.array([segment.apex_s]))
    for column, least in AT_APEX[name].items():
        assert control[facs.INDEX[column]] >= least, column


@pytest.mark.parametrize(("side", "other"), [("L", "R"), ("R", "L")])
def test_a_wink_leaves_the_other_eye_open(side, other):
    name = {"L": "wink left", "R": "wink right"}[side]
    (segment,) = (s for s in demo.SEGMENTS if s.name == name)
    part = demo.demo_controls(np.linspace(segment.start_s, segment.end_s, 50))
    assert part[:, facs.INDEX[f"AU45_{side}"]].max() == pytest.approx(5)
    assert part[:, facs.INDEX[f"AU45_{other}"]].max() < 0.01


def test_no_blink_hides_an_apex():
    apexes = demo.demo_controls(np.array([s.apex_s for s in demo.SEGMENTS if "wink" not in s.name]))
    assert facs.unsided(apexes, "AU45").max() == 0


def test_it_starts_and_ends_at_rest_so_that_it_loops():
    track = demo.demo_track(30)
    np.testing.assert_allclose(track[0], facs.rest(), atol=1e-3)
    np.testing.assert_allclose(track[-1], facs.rest(), atol=2e-2)


def test_movements_are_eased():
    track = demo.demo_track(60)
    slow = [i for i, n in enumerate(facs.NAMES) if not n.startswith(("AU45", "gaze"))]
    acceleration = np.abs(np.diff(track[:, slow], n=2, axis=0)).max(0)
    assert acceleration[: facs.INTENSITY_COUNT - 2].max() < 0.45  # a linear ramp of that speed would jump by 1


def test_gaze_sweep_reaches_four_directions_and_the_head_turns_both_ways():
    track = demo.demo_track(30)
    for name, reach in (("gaze_yaw_rad", 0.35), ("gaze_pitch_rad", 0.25), ("yaw_rad", 0.25), ("pitch_rad", 0.12)):
        column = track[:, facs.INDEX[name]]
        assert column.max() > reach and column.min() < -reach, name


@pytest.mark.parametrize("fps", [0, -1, float("nan"), 1e9])
def test_refuses_rates_that_make_no_track(fps):
    with pytest.raises(ConfigError, match="expected above 0 and at most 1000"):
        demo.demo_track(fps)


def test_segment_names_are_found_by_time():
    assert demo.segment_at(0.0).name == "neutral"
    assert demo.segment_at(demo.SEGMENTS[4].apex_s).name == "surprise"
    assert demo.segment_at(demo.DURATION_S + 0.1).name == "neutral"
