import numpy as np

from puppet import facs
from puppet.neutral import SNAPSHOTS, NeutralFace

REST, SMILE = np.zeros((478, 3), np.float32), np.ones((478, 3), np.float32)


def observe(neutral, landmarks, frames, *, activity=0.0, yaw=0.0):
    intensities = np.zeros(facs.INTENSITY_COUNT, np.float32)
    intensities[facs.INDEX["AU12_L"]] = activity
    for _ in range(frames):
        neutral.observe(landmarks, intensities, np.array([yaw, 0, 0], np.float32))


def test_calm_frames_make_the_neutral_even_if_they_are_few():
    neutral = NeutralFace()
    observe(neutral, SMILE, 100, activity=4.0)
    observe(neutral, REST, 60)
    assert np.abs(neutral.landmarks_cm).max() < 0.01


def test_a_turned_head_is_no_neutral():
    neutral = NeutralFace()
    observe(neutral, REST, 20)
    observe(neutral, SMILE, 20, yaw=0.6)
    assert np.abs(neutral.landmarks_cm).max() < 0.01


def test_old_snapshots_are_forgotten():
    neutral = NeutralFace()
    observe(neutral, REST, 20)
    observe(neutral, SMILE, 6 * SNAPSHOTS, activity=3.0)
    assert neutral.landmarks_cm.min() > 0.99


def test_set_by_hand_holds_at_once():
    neutral = NeutralFace()
    observe(neutral, SMILE, 50)
    neutral.set(REST)
    assert np.abs(neutral.landmarks_cm).max() == 0


def test_forget_starts_again():
    neutral = NeutralFace()
    observe(neutral, REST, 50)
    neutral.forget()
    assert neutral.landmarks_cm is None
