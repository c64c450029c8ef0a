import numpy as np
import pytest

from puppet import facs
from puppet.estimate import AuEstimator, align, with_lids
from puppet.landmarks import LEFT_IRIS, RIGHT_IRIS
from puppet.pose import rotation_from_angles
from puppet.rig import LandmarkRig
from puppet.track import Face

SIZE = (640, 480)


@pytest.fixture(scope="module")
def rig():
    return LandmarkRig.load()


@pytest.fixture
def estimator():
    made = AuEstimator(engine="onnxruntime")
    yield made
    made.close()


def face(rig, *, yaw=0.0, pitch=0.0, roll=0.0, scale=16.0, centre=(319.5, 239.5), **weights):
    """A rig face with actions 0-1, as the tracker would report it."""
    done = np.zeros(len(rig.actions), np.float32)
    for name, value in weights.items():
        done[[i for i, a in enumerate(rig.actions) if a in (name, f"{name}_L", f"{name}_R")]] = value
    points = rig.points(np.zeros(len(rig.identity_cm)), done)[:478]
    eyes = points[[RIGHT_IRIS[0], LEFT_IRIS[0]]].mean(0)
    px = ((points - eyes) @ (scale * rotation_from_angles(yaw, pitch, roll)).T) * [1, -1, -1] + [*centre, 0]
    return Face(px.astype(np.float32), SIZE)


def value(estimate, name):
    return facs.unsided(estimate.control, name) if name in facs.AUS else estimate.control[facs.INDEX[name]]


def test_align_takes_pose_place_and_size_out(rig):
    mean = rig.mean_cm[:478].astype(np.float64)
    turned = face(rig, yaw=0.4, pitch=-0.2, roll=0.3, scale=9.0, centre=(50, 400))
    assert np.allclose(align(turned.landmarks_px, mean).landmarks_cm, mean, atol=1e-3)


def test_head_pose_and_place_are_measured(rig, estimator):
    control = estimator.estimate(face(rig, yaw=0.3, pitch=-0.15, roll=0.1, centre=(419.5, 189.5))).control
    assert control[[facs.INDEX[n] for n in ("yaw_rad", "pitch_rad", "roll_rad")]] == pytest.approx(
        (0.3, -0.15, 0.1), abs=0.01
    )
    ocular = 16.0 * np.linalg.norm(rig.mean_cm[[33, 133]].mean(0) - rig.mean_cm[[263, 362]].mean(0))
    assert control[facs.INDEX["shift_x"]] == pytest.approx(100 / ocular, abs=0.06)
    assert control[facs.INDEX["shift_y"]] == pytest.approx(50 / ocular, abs=0.06)
    assert control[facs.INDEX["scale"]] == pytest.approx(ocular / 480, rel=0.02)


@pytest.mark.parametrize("au", ["AU12", "AU26", "AU45", "AU09"])
def test_a_strong_action_stands_out(rig, estimator, au):
    for _ in range(12):
        estimator.estimate(face(rig))
    rest = value(estimator.estimate(face(rig)), au)
    assert value(estimator.estimate(face(rig, **{au: 0.9})), au) > rest + 1.5


def test_brows_come_down_and_lips_part_as_far_as_those_of_people_and_nothing_else_is_scaled(rig, monkeypatch):
    """What the regressor says of both is less than the landmarks of people show."""
    estimator = AuEstimator(engine="onnxruntime", learn_neutral=False)
    talking = face(rig, AU04_L=0.5, AU04_R=0.5, AU25=0.8, AU26=0.6, AU12=0.5)
    shown = estimator.estimate(talking).control
    monkeypatch.setattr("puppet.estimate._RESPONSE", np.ones(facs.INTENSITY_COUNT, np.float32))
    said = estimator.estimate(talking).control
    estimator.close()
    factor = np.ones(facs.SIZE, np.float32)
    factor[[facs.INDEX[name] for name in ("AU04_L", "AU04_R")]], factor[facs.INDEX["AU25"]] = 2, 1.2
    np.testing.assert_allclose(shown, np.clip(said * factor, said, np.maximum(said, 5)), rtol=1e-4, atol=1e-5)
    assert shown[facs.INDEX["AU25"]] > 0.5


def test_lids_count_half_by_how_far_they_came_down(rig):
    """Each by itself, against the person's own at rest; nothing else is touched, and nothing without a neutral."""
    rest = rig.mean_cm[:478].astype(np.float32)
    winking = face(rig, AU45_L=1.0)
    landmarks = align(winking.landmarks_px, rig.mean_cm[:478].astype(np.float64)).landmarks_cm.astype(np.float32)
    read = np.full((2, facs.INTENSITY_COUNT), 1.0, np.float32)
    out = with_lids(read, np.stack([landmarks, rest]), np.stack([rest, rest]))
    left, right = facs.INDEX["AU45_L"], facs.INDEX["AU45_R"]
    assert out[:, left] == pytest.approx([3.0, 0.5], abs=0.15)
    assert out[:, right] == pytest.approx([0.5, 0.5], abs=0.05)
    others = np.setdiff1d(np.arange(facs.INTENSITY_COUNT), [left, right])
    np.testing.assert_array_equal(out[:, others], read[:, others])
    np.testing.assert_array_equal(read, 1)

    alone = AuEstimator(engine="onnxruntime", learn_neutral=False)
    known = AuEstimator(engine="onnxruntime", learn_neutral=False)
    known.neutral.set(rest)
    control = alone.estimate(winking).control
    alone.neutral.set(rest)
    assert alone.estimate(winking).control[left] == known.estimate(winking).control[left] != control[left]
    alone.close(), known.close()


def test_winks_are_told_apart(rig, estimator):
    left, right = (facs.INDEX[f"AU45_{side}"] for side in "LR")
    for _ in range(12):
        estimator.estimate(face(rig))
    control = estimator.estimate(face(rig, AU45_L=1.0)).control
    assert control[left] > control[right] + 1.0
    control = estimator.estimate(face(rig, AU45_R=1.0)).control
    assert control[right] > control[left] + 1.0


def test_control_stays_in_the_tables_ranges(rig, estimator):
    control = estimator.estimate(face(rig, AU12=1.0, AU26=1.0, AU09=1.0)).control
    count = facs.INTENSITY_COUNT
    assert control.dtype == np.float32 and control.shape == (facs.SIZE,)
    assert control[:count].min() >= 0 and control[:count].max() <= facs.MAX_INTENSITY


def test_confidence_falls_as_the_face_turns_away(rig, estimator):
    assert estimator.estimate(face(rig)).confidence > 0.9
    assert estimator.estimate(face(rig, yaw=1.1)).confidence < 0.3


def test_scrambled_landmarks_get_no_confidence(rig, estimator):
    scrambled = np.random.default_rng(0).permutation(face(rig).landmarks_px)
    assert estimator.estimate(Face(scrambled, SIZE)).confidence == 0.0


def test_neutral_is_known_after_a_third_of_a_second(rig, estimator):
    for _ in range(9):
        estimator.estimate(face(rig))
    assert estimator.neutral.landmarks_cm is None
    estimator.estimate(face(rig))
    assert estimator.neutral.landmarks_cm is not None


def test_a_neutral_set_by_hand_is_that_of_the_moment_without_a_blink_in_it(rig, estimator):
    for _ in range(12):
        estimator.estimate(face(rig, AU12=0.6))
    for i in range(9):
        estimator.estimate(face(rig, AU45=1.0 if i == 4 else 0.0))
    estimator.set_neutral()
    estimator.estimate(face(rig))
    resting = align(face(rig).landmarks_px, rig.mean_cm[:478].astype(np.float64)).landmarks_cm
    assert np.abs(estimator.neutral.landmarks_cm - resting).max() < 1e-3


def test_without_learning_each_face_stands_alone(rig):
    estimator = AuEstimator(engine="onnxruntime", learn_neutral=False)
    for _ in range(20):
        estimator.estimate(face(rig))
    assert estimator.neutral.landmarks_cm is None
    estimator.close()
