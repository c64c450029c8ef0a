import numpy as np
import pytest

from puppet import facs
from puppet.errors import ConfigError
from puppet.retarget import PRESETS, Retargeter


def test_without_settings_nothing_changes():
    control = facs.control(AU12=3, AU45_L=5, yaw_rad=0.25, pitch_rad=0.05, roll_rad=0.3, shift_x=0.4, scale=1.2)
    np.testing.assert_allclose(Retargeter().retarget(control), control, atol=1e-6)


def test_gain_and_mute_act_on_the_named_columns_only():
    control = facs.control(AU12=2, AU04=2, AU26=2)
    result = Retargeter(gains={"AU12": 1.5, "AU26": 0.5}, mutes=["AU04_L"]).retarget(control)
    np.testing.assert_allclose(result, facs.control(AU12=3, AU04_R=2, AU26=1), atol=1e-6)


def test_results_never_exceed_the_ranges():
    wild = np.where(facs.REST > 0.5, 99, -99).astype(np.float32)
    result = Retargeter(gains={"AU12": 10}, preset="lively").retarget(wild)
    np.testing.assert_array_equal(result, facs.clip(result))


def test_head_factor_scales_pose_shift_and_size_towards_rest():
    control = facs.control(yaw_rad=0.4, shift_x=0.8, scale=1.4, gaze_yaw_rad=0.2, AU12=2)
    half = Retargeter(head=0.5).retarget(control)
    np.testing.assert_allclose(
        half, facs.control(yaw_rad=0.2, shift_x=0.4, scale=1.2, gaze_yaw_rad=0.2, AU12=2), atol=1e-6
    )


def test_mirror_swaps_sides_and_turns_and_is_its_own_inverse():
    control = facs.control(AU45_L=5, AU12_R=2, yaw_rad=0.2, pitch_rad=0.1, roll_rad=0.2, gaze_yaw_rad=0.1, shift_x=0.4)
    retargeter = Retargeter(mirror=True)
    mirrored = retargeter.retarget(control)
    expected = facs.control(
        AU45_R=5, AU12_L=2, yaw_rad=-0.2, pitch_rad=0.1, roll_rad=-0.2, gaze_yaw_rad=-0.1, shift_x=-0.4
    )
    np.testing.assert_allclose(mirrored, expected, atol=1e-6)
    np.testing.assert_allclose(retargeter.retarget(mirrored), control, atol=1e-6)


def test_twenty_degrees_of_turn_and_thirty_of_roll_are_reached_and_much_more_is_not():
    turned = Retargeter().retarget(facs.control(yaw_rad=np.radians(20), roll_rad=np.radians(30)))
    assert np.degrees(turned[facs.INDEX["yaw_rad"]]) > 19
    assert np.degrees(turned[facs.INDEX["roll_rad"]]) > 28
    far = Retargeter().retarget(facs.control(yaw_rad=1.0, pitch_rad=-0.8, roll_rad=1.2, shift_x=3, scale=2.5))
    yaw, pitch = far[facs.INDEX["yaw_rad"]], far[facs.INDEX["pitch_rad"]]
    assert np.hypot(yaw / 0.38, pitch / 0.36) < 1.001
    assert pitch / yaw == pytest.approx(-0.8)
    assert far[facs.INDEX["scale"]] < 1.36
    assert far[facs.INDEX["shift_x"]] < 0.71


def test_movement_beyond_the_reach_slows_down_without_a_stop():
    yaws = np.linspace(0, 0.6, 61)
    out = np.array([Retargeter().retarget(facs.control(yaw_rad=y))[facs.INDEX["yaw_rad"]] for y in yaws])
    steps = np.diff(out)
    assert (steps > 0).all()
    assert (np.diff(steps) < 1e-6).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_weakens_a_blink(preset):
    result = Retargeter(preset=preset).retarget(facs.control(AU45=5))
    assert facs.unsided(result, "AU45") == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gains": {"AU99": 1}}, "unknown action 'AU99'"),
        ({"gains": {"AU12": -1}}, "gain AU12=-1 is out of range: expected 0 to 10"),
        ({"gains": {"AU12": float("nan")}}, "gain AU12=nan"),
        ({"mutes": ["smile"]}, "unknown action 'smile'"),
        ({"head": 1.5}, "head=1.5 is out of range"),
        ({"preset": "manic"}, "unknown preset 'manic': expected one of natural"),
    ],
)
def test_refuses_settings_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        Retargeter(**options)
