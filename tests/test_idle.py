import numpy as np

from puppet import facs
from puppet.idle import EASE_S, HOLD_S, RETURN_S, IdleMotion

REST = facs.control(AU12=1)
LAST = facs.control(AU12=4, AU26=3, yaw_rad=0.4)
LIDS = facs.columns_of("AU45")


def play(seconds, fps=30, seed=0, rest=REST, last=LAST):
    motion = IdleMotion(rest, seed=seed)
    return np.array([motion.control(t, last, 100 + t) for t in np.arange(0, seconds, 1 / fps)])


def test_holds_then_eases_to_rest_without_a_jump():
    track = play(HOLD_S + EASE_S)
    np.testing.assert_array_equal(track[: int(HOLD_S * 30)], np.tile(LAST, (int(HOLD_S * 30), 1)))
    assert np.abs(np.diff(track, axis=0)).max() < 0.3
    np.testing.assert_allclose(track[-1], REST, atol=0.02)


def test_blinks_now_and_then_and_rests_between():
    lids = play(60)[:, LIDS]
    np.testing.assert_array_equal(lids[:, 0], lids[:, 1])
    closing = (lids[1:, 0] > 2.5) & (lids[:-1, 0] <= 2.5)
    assert 12 <= closing.sum() <= 16
    assert lids.max() > 4.8
    assert np.median(lids) == 0
    assert lids[: int((HOLD_S + EASE_S) * 30)].max() == 0


def test_a_seed_repeats_itself_and_another_blinks_at_other_times():
    np.testing.assert_array_equal(play(20, seed=3), play(20, seed=3))
    assert not np.array_equal(play(20, seed=3), play(20, seed=4))


def test_the_driver_comes_back_without_a_jump():
    motion = IdleMotion(REST)
    track = np.array([motion.returning(t, REST, LAST) for t in np.arange(0, RETURN_S + 0.1, 1 / 60)])
    np.testing.assert_array_equal(track[0], REST)
    np.testing.assert_array_equal(track[-1], LAST)
    assert np.abs(np.diff(track, axis=0)).max() < 0.5


def test_given_controls_are_not_changed():
    rest, last = REST.copy(), LAST.copy()
    play(10, rest=rest, last=last)
    np.testing.assert_array_equal(rest, REST)
    np.testing.assert_array_equal(last, LAST)
