"""The driver's neutral, from made-up drivers whose true actions are known."""

import json

import numpy as np
import pytest

from puppet import calibrate, demo, easing, facs
from puppet.calibrate import NeutralCalibrator
from puppet.generate import field
from puppet.pose import rotation_from_angles
from puppet.rig import LandmarkRig

FPS = 30
SEAT = {"yaw_rad": 0.15, "pitch_rad": -0.2, "roll_rad": 0.05, "gaze_yaw_rad": -0.1, "shift_x": -1.5, "shift_y": 0.4}
BIAS = {"AU04": 0.8, "AU12": 0.5, "AU15": 0.7, "AU26": 0.3, "AU07": 0.9}


def places(**actions):
    vector = np.zeros(facs.SIZE)
    for name, value in actions.items():
        vector[facs.columns_of(name)] = value
    return vector


def estimates(true, *, bias=BIAS, seat=SEAT, scale=0.12, lids=(0.0, 5.0), noise=0.1, seed=0):
    """What an estimator says of `true` (N, SIZE): personal bias and seat added, lids mapped to their own range."""
    raw = true + places(**bias) + places(**seat)
    raw[:, facs.INDEX["scale"]] = true[:, facs.INDEX["scale"]] * scale
    for place in facs.columns_of("AU45"):
        raw[:, place] = lids[0] + (lids[1] - lids[0]) * true[:, place] / 5
    random = np.random.default_rng(seed)
    raw[:, : facs.INTENSITY_COUNT] += noise * random.normal(size=(len(true), facs.INTENSITY_COUNT))
    raw[:, : facs.INTENSITY_COUNT] = raw[:, : facs.INTENSITY_COUNT].clip(0, 5)
    return raw.astype(np.float32)


def neutral(seconds, **actions):
    return np.tile(facs.control(**actions), (round(seconds * FPS), 1))


def blinking(seconds, every_s=3.0, first_s=1.0):
    track = neutral(seconds)
    times = np.arange(len(track)) / FPS
    closure = easing.blink((times - first_s) % every_s)
    track[:, facs.columns_of("AU45")] = 5 * closure[:, None]
    return track


def calibrated(raw, calibrator=None, start_s=10.0):
    calibrator = calibrator or NeutralCalibrator()
    result = []
    for i, control in enumerate(raw):
        calibrator.observe(control, start_s + i / FPS)
        result.append(calibrator.apply(control))
    return np.array(result)


def column(track, name):
    return track[:, facs.columns_of(name)].mean(1)


def test_a_resting_face_is_neutral_within_two_seconds():
    result = calibrated(estimates(neutral(4)))
    still = result[2 * FPS :]
    for name in BIAS:
        assert column(still, name).mean() < 0.2, name
    for name in SEAT:
        assert abs(column(still, name)).max() < 0.03, name
    assert np.allclose(column(still, "scale"), 1, atol=0.03)


def test_expressions_keep_their_strength_above_the_bias():
    true = np.concatenate([neutral(3), neutral(2, AU12=4, AU04=3), neutral(1)])
    result = calibrated(estimates(true))
    smile = slice(int(3.5 * FPS), int(4.8 * FPS))
    assert column(result, "AU12")[smile].mean() == pytest.approx(4, abs=0.45)
    assert column(result, "AU04")[smile].mean() == pytest.approx(3, abs=0.45)


def test_the_head_is_relative_to_how_the_driver_sits():
    true = np.concatenate([neutral(3), neutral(1, yaw_rad=0.3, shift_x=0.5, scale=1.25)])
    raw = estimates(true, seat={"pitch_rad": -0.25})
    last = calibrated(raw)[-10:].mean(0)
    assert last[facs.INDEX["yaw_rad"]] == pytest.approx(0.3, abs=0.03)
    assert last[facs.INDEX["scale"]] == pytest.approx(1.25, abs=0.02)


def test_a_driver_who_starts_turned_is_soon_seen_from_the_front():
    turned, front = neutral(5, yaw_rad=0.4), neutral(12)
    result = calibrated(estimates(np.concatenate([turned, front]), seat={}))
    yaw = np.abs(column(result, "yaw_rad"))
    assert yaw[(5 + 8) * FPS :].max() < 0.06


def test_a_camera_at_the_side_is_no_turned_head_whatever_is_glanced_at():
    true = np.concatenate([np.concatenate([neutral(8), neutral(2, yaw_rad=-0.38)]) for _ in range(6)])
    result = calibrated(estimates(true, seat={"yaw_rad": 0.38}))
    at_screen = np.arange(len(true)) % (10 * FPS) < 8 * FPS
    assert np.abs(column(result, "yaw_rad")[at_screen][20 * FPS :]).max() < 0.05


def test_turning_the_head_is_no_shift_of_it():
    calibrator = NeutralCalibrator()
    calibrated(estimates(neutral(3), seat={}, noise=0), calibrator)
    eyes = np.array([0, 1.57, 1.92])
    turn = rotation_from_angles(0.3, -0.1, 0.2)
    seen = facs.control(yaw_rad=0.3, pitch_rad=-0.1, roll_rad=0.2, scale=0.3)
    seen[facs.INDEX["scale"]] = 0.12
    seen[[facs.INDEX["shift_x"], facs.INDEX["shift_y"]]] = np.add((turn @ eyes - eyes)[:2], (0.1, 0.2))
    applied = calibrator.apply(seen)
    assert applied[facs.INDEX["shift_x"]] == pytest.approx(0.1, abs=0.04)
    assert applied[facs.INDEX["shift_y"]] == pytest.approx(0.2, abs=0.04)


def test_the_generator_turns_heads_about_the_point_that_calibration_assumes():
    mean = LandmarkRig.load().mean_cm
    ocular = np.linalg.norm(mean[468] - mean[473])
    height = np.linalg.norm(mean[10] - mean[152])
    up = (mean[10] - mean[152]) / height
    pivot = mean[152] + field._PIVOT_UP * height * up - np.array([0, 0, field._PIVOT_BACK * height])
    np.testing.assert_allclose(((mean[468] + mean[473]) / 2 - pivot) / ocular, calibrate._EYES_FROM_PIVOT, atol=0.05)


@pytest.mark.parametrize("lids", [(0.2, 4.8), (1.2, 4.4), (1.8, 5.0), (0.6, 3.4)])
def test_lids_map_the_persons_own_range(lids):
    true = blinking(40)
    result = calibrated(estimates(true, lids=lids))[22 * FPS :]
    is_open = column(true[22 * FPS :], "AU45") == 0
    assert column(result, "AU45")[is_open].mean() < 0.15
    peaks = column(result, "AU45").reshape(-1, 3 * FPS).max(1)
    assert np.median(peaks) > 4.8


@pytest.mark.parametrize("lids", [(0.2, 4.8), (1.8, 5.0)])
def test_the_first_blinks_close_the_eye_already(lids):
    result = calibrated(estimates(blinking(8), lids=lids))
    assert column(result, "AU45")[3 * FPS :].max() > 4.5


def test_squints_are_not_taken_for_blinks():
    squint = neutral(1, AU45=2, AU07=3)
    true = np.concatenate([blinking(12), *[part for _ in range(8) for part in (neutral(1), squint)]])
    result = calibrated(estimates(true))
    assert column(result, "AU45")[-FPS:].mean() == pytest.approx(2, abs=0.5)


def test_a_recording_that_starts_with_a_smile_keeps_it():
    true = np.concatenate([neutral(3, AU12=4, AU06=3, AU25=3), neutral(3), neutral(2, AU12=4, AU06=3, AU25=3)])
    result = calibrated(estimates(true))
    assert column(result, "AU12")[: 3 * FPS].min() > 2.5
    assert column(result, "AU12")[int(4.5 * FPS) : 6 * FPS].mean() < 0.5
    assert column(result, "AU12")[int(6.5 * FPS) :].mean() > 3.5


def test_a_recording_that_starts_with_closed_eyes_shows_them_closed():
    true = np.concatenate([neutral(5, AU45=5, AU12=3), neutral(5)])
    result = calibrated(estimates(true, lids=(0.2, 3.6)))
    assert column(result, "AU45")[: 5 * FPS].min() > 3.5
    assert column(result, "AU45")[6 * FPS :].max() < 0.5


def test_low_brows_are_seen_through_a_smile():
    result = calibrated(estimates(neutral(4, AU12=3, AU25=3), bias={"AU04": 1.2}))
    assert column(result, "AU04")[2 * FPS :].mean() < 0.3


def test_a_recording_that_only_smiles_still_smiles():
    result = calibrated(estimates(neutral(60, AU12=3.5, AU06=3)))
    assert column(result, "AU12").min() > 2.0


def test_minutes_of_talk_do_not_eat_the_expressions():
    random = np.random.default_rng(1)
    words = random.uniform(0, 3, size=(300 * 6, 1)).repeat(5, 0)
    true = neutral(300)
    true[:, facs.columns_of("AU25")] = words * (random.uniform(size=(300, 1)).repeat(FPS, 0) < 0.8)
    result = calibrated(estimates(true, bias={}))
    tail = slice(-120 * FPS, None)
    assert np.corrcoef(column(result, "AU25")[tail], column(true, "AU25")[tail])[0, 1] > 0.98
    assert column(result, "AU25")[tail].max() > 2.5


def test_the_demo_passes_nearly_unchanged():
    track = np.concatenate([neutral(1), demo.demo_track(FPS)])
    result = calibrated(estimates(track, bias={}, seat={}, scale=1.0, noise=0.02))
    for name in ("AU12", "AU04", "AU01", "AU26", "AU18"):
        assert column(result, name).max() > 0.85 * column(track, name).max(), name


def test_key_sets_the_neutral_at_once_and_for_long():
    calibrator = NeutralCalibrator()
    calibrated(estimates(neutral(5)), calibrator)
    posed = estimates(neutral(1, AU04=2.5, yaw_rad=0.2, AU45=1.5), seed=1)
    calibrated(posed, calibrator, start_s=15)
    assert calibrator.set_neutral()
    held = np.array([calibrator.apply(control) for control in posed[-10:]])
    assert abs(column(held, "AU04")).mean() < 0.15
    assert abs(column(held, "yaw_rad")).max() < 0.02
    later = calibrated(estimates(neutral(5, AU04=2.5, yaw_rad=0.2, AU45=1.5), seed=2), calibrator, start_s=16)
    assert column(later, "AU04")[-FPS:].mean() < 0.3


def test_nothing_seen_means_no_neutral_and_a_head_at_rest():
    calibrator = NeutralCalibrator()
    assert not calibrator.set_neutral()
    assert not calibrator.is_warm
    applied = calibrator.apply(facs.control(AU12=3, yaw_rad=0.3, scale=0.4))
    np.testing.assert_allclose(applied, facs.control(AU12=3))


def test_a_saved_neutral_is_there_from_the_first_frame(tmp_path):
    path = tmp_path / "cameras" / "webcam.json"
    first = NeutralCalibrator()
    calibrated(estimates(blinking(30), lids=(1.5, 4.2)), first)
    first.save(path)
    second = NeutralCalibrator()
    assert second.load(path)
    np.testing.assert_allclose(second.rest, first.rest, atol=1e-3)
    result = calibrated(estimates(neutral(1), lids=(1.5, 4.2)), second)
    assert column(result, "AU04")[:5].mean() < 0.35
    assert column(result, "AU45")[:5].mean() < 0.3
    assert [p.name for p in path.parent.iterdir()] == ["webcam.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 99}',
        '{"format": 1, "rest": {}, "closed": {}}',
        "\x00\xff",
        '{"format": 1, "rest": 3}',
    ],
)
def test_a_damaged_file_is_ignored_with_one_warning(tmp_path, content, caplog):
    path = tmp_path / "neutral.json"
    path.write_text(content, encoding="latin-1")
    assert not NeutralCalibrator().load(path)
    assert len(caplog.records) == 1
    assert "is ignored" in caplog.text


def test_a_file_with_infinite_values_is_ignored(tmp_path, caplog):
    path = tmp_path / "neutral.json"
    calibrator = NeutralCalibrator()
    calibrated(estimates(neutral(1)), calibrator)
    calibrator.save(path)
    content = json.loads(path.read_text())
    content["rest"]["yaw_rad"] = float("inf")
    path.write_text(json.dumps(content))
    assert not NeutralCalibrator().load(path)
    assert "values out of range" in caplog.text


def test_a_missing_file_is_no_warning(tmp_path, caplog):
    assert not NeutralCalibrator().load(tmp_path / "none.json")
    assert not caplog.records


def test_estimates_that_are_not_finite_teach_nothing():
    calibrator = NeutralCalibrator()
    calibrator.observe(np.full(facs.SIZE, np.nan, np.float32), 0.0)
    assert not calibrator.set_neutral()
