"""What the trainer takes a face to do: stills and clips know nothing of what was read before."""

import numpy as np
import pytest

from puppet import facs
from puppet.landmarks import TRACKED_COUNT
from puppet.rig import LandmarkRig
from trainer.readings import ActionReader

SIZE = (640, 480)


def faces(count, seed, **actions):
    """`(count, 478, 3)` landmarks of one made-up person."""
    rng = np.random.default_rng(seed)
    rig = LandmarkRig.load()
    identity = rng.normal(0, 0.5, len(rig.identity_cm))
    weights = np.zeros(len(rig.actions))
    for name, weight in actions.items():
        weights[rig.actions.index(name)] = weight
    points = rig.points(identity, weights)[:TRACKED_COUNT] * (12, -12, -12) + (320, 240, 0)
    return np.stack([points + rng.normal(0, 0.3, points.shape) for _ in range(count)]).astype(np.float32)


@pytest.fixture(scope="module")
def reader():
    return ActionReader()


def test_a_clip_reads_the_same_whatever_was_read_before(reader):
    clip = faces(20, 1)
    alone = reader.clip(clip, SIZE)
    reader.clip(faces(40, 2, AU12_L=1, AU12_R=1), SIZE)
    reader.still(faces(1, 3)[0], SIZE)
    assert np.array_equal(reader.clip(clip, SIZE), alone)


def test_a_still_reads_the_same_whatever_was_read_before(reader):
    still = faces(1, 4)[0]
    alone = reader.still(still, SIZE)
    reader.clip(faces(40, 2, AU12_L=1, AU12_R=1), SIZE)
    assert np.array_equal(reader.still(still, SIZE), alone)


def test_a_clips_frames_are_compared_with_its_own_calm_ones(reader):
    clip = faces(30, 5)
    later = reader.clip(clip, SIZE)[-1]
    assert not np.array_equal(later, reader.still(clip[-1], SIZE))


def test_head_and_gaze_are_at_rest(reader):
    read = reader.still(faces(1, 6)[0], SIZE)
    assert np.array_equal(read[facs.INTENSITY_COUNT :], facs.rest()[facs.INTENSITY_COUNT :])
