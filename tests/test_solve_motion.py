"""The motion that takes a portrait to another picture of its person is found in the landmarks of both."""

import numpy as np
import pytest

from puppet import facs
from puppet.gallery import demo_portrait
from puppet.generate.motion import head_pose
from puppet.generate.mouth import MouthPictures
from puppet.landmarks import FACE_COUNT, LIPS
from puppet.portrait import Portrait
from puppet.rig import LandmarkRig

pytest.importorskip("webdataset")

from trainer.solve_motion import act, imitate, iris_gaze, lay_head, moved_landmarks, solve_motion
from trainer.texture_pairs import Toolbox

TURNED = facs.control(
    AU12=3, AU25=3, AU26=2, AU02=3, yaw_rad=0.2, pitch_rad=-0.1, roll_rad=0.1, shift_x=0.2, shift_y=0.1, scale=1.1
)


@pytest.fixture(scope="module")
def generator():
    portrait = Portrait.load(demo_portrait()).cut_to_head()
    return Toolbox(LandmarkRig.load(), MouthPictures.load()).generator(portrait.rgb, portrait.landmarks_px)


def tracked(generator, control):
    """Landmarks `(478, 3)` of the portrait doing a control, the stiff part's depth as the head turned it."""
    weights, pose = generator.weights_at(control), head_pose(control, generator.field)
    own = generator.canvas.landmarks_px
    out = pose.move(own).astype(np.float32)
    out[:FACE_COUNT, :2] = moved_landmarks(generator, weights, pose)[:, :2]
    return out


def degrees_apart(a, b):
    a, b = (m / np.cbrt(np.linalg.det(m)) for m in (a, b))
    return np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1)))


@pytest.mark.parametrize("control", [facs.rest(), TURNED, facs.control(AU26=5, AU25=5, AU04=4, yaw_rad=-0.3)])
def test_the_head_is_laid_as_it_stands_whatever_the_face_does(generator, control):
    pose = lay_head(generator, generator.weights_at(control), tracked(generator, control))
    true = head_pose(control, generator.field)
    assert degrees_apart(pose.linear, true.linear) < 0.8
    assert np.cbrt(np.linalg.det(pose.linear)) == pytest.approx(np.cbrt(np.linalg.det(true.linear)), rel=0.01)
    assert np.abs(pose.shift_px - true.shift_px).max() < 0.02 * generator.anatomy.ocular_px


def test_lips_do_not_lay_the_head(generator):
    """Actions that are misread show as lips that stand elsewhere, not as a head that does."""
    landmarks = tracked(generator, TURNED)
    weights = generator.weights_at(TURNED)
    misread = landmarks.copy()
    misread[list(LIPS), :2] += 0.1 * generator.anatomy.ocular_px
    pose, other = (lay_head(generator, weights, points) for points in (landmarks, misread))
    assert np.array_equal(pose.linear, other.linear)
    assert np.array_equal(pose.shift_px, other.shift_px)


def test_weights_and_pose_together_reach_the_other_picture(generator):
    landmarks = tracked(generator, TURNED)
    weights, pose = solve_motion(generator, landmarks)
    miss = np.linalg.norm(landmarks[:FACE_COUNT, :2] - moved_landmarks(generator, weights, pose)[:, :2], axis=1)
    assert miss.mean() < 0.01 * generator.anatomy.ocular_px
    assert miss[list(LIPS)].mean() < 0.01 * generator.anatomy.ocular_px


def test_a_control_drives_with_the_gaze_of_the_irises(generator):
    landmarks = tracked(generator, facs.rest())
    landmarks[FACE_COUNT:, 0] += 0.03 * generator.anatomy.ocular_px
    control = facs.control(AU12=2)
    weights, pose, driven = act(generator, landmarks, control)
    gaze = [driven[facs.INDEX[name]] for name in facs.GAZE_NAMES]
    assert gaze == pytest.approx(iris_gaze(generator, landmarks, pose), abs=0.02)
    assert gaze[0] > 0.05
    assert control[facs.INDEX["gaze_yaw_rad"]] == 0, "the caller's own stays"
    assert np.array_equal(weights, generator.weights_at(driven))


def test_imitation_leaves_the_actions_of_the_control(generator):
    weights, _, control = imitate(generator, tracked(generator, TURNED), facs.control(AU04=3))
    assert control[facs.INDEX["AU04_L"]] == 3
    assert weights[generator.anatomy.actions.index("AU12_L")] > 0.3
