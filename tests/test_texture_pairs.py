"""What a network is to learn from a pair lies where the motion step put it, or is left out."""

import cv2
import numpy as np
import pytest

from puppet import facs
from puppet.gallery import demo_portrait
from puppet.generate.mouth import MouthPictures
from puppet.landmarks import FACE_COUNT
from puppet.portrait import Portrait
from puppet.rig import LandmarkRig

pytest.importorskip("webdataset")

from trainer.solve_motion import moved_landmarks, still_pose
from trainer.texture_pairs import Toolbox, follow


@pytest.fixture(scope="module")
def tools():
    return Toolbox(LandmarkRig.load(), MouthPictures.load())


@pytest.fixture(scope="module")
def generator(tools):
    """Of the astronaut with closed lips, as large as people in clips are."""
    portrait = Portrait.load(demo_portrait()).cut_to_head()
    rgb = cv2.resize(portrait.rgb, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_CUBIC)
    smiling = tools.generator(rgb, portrait.landmarks_px * np.float32(2.5))
    return tools.generator(*picture(smiling, facs.rest()))


def picture(generator, control):
    """The portrait doing a control, and its landmarks `(478, 3)`."""
    weights, pose = generator.weights_at(control), still_pose(generator)
    landmarks = generator.canvas.landmarks_px.copy()
    landmarks[:FACE_COUNT, :2] = moved_landmarks(generator, weights, pose)[:, :2]
    return generator.move(weights, pose, control).rgb, landmarks


def test_lips_of_the_answer_lie_on_those_of_the_motion_though_actions_opened_them_too_far(generator, tools):
    talking = picture(generator, facs.control(AU25=3, AU26=2))
    made = follow(generator, *talking, facs.control(AU25=4.5, AU26=3), tools, by_actions=True)["mouth"]
    opening = (made.moved[..., 3] > 127).astype(np.uint8)
    lips = (cv2.dilate(opening, np.ones((9, 9))) > 0) & (cv2.dilate(opening, np.ones((3, 3))) == 0)
    error = np.abs(made.moved[..., :3].astype(float) - made.answer).mean(-1)
    assert opening.sum() > 200
    assert error[lips].mean() < 2.2, "2.7 where the answer's lips stand half open"


def test_a_shut_mouth_is_no_answer_to_an_open_one(generator, tools):
    shut = picture(generator, facs.rest())
    assert "mouth" in follow(generator, *shut, facs.rest(), tools, by_actions=True)
    misread = follow(generator, *shut, facs.control(AU25=4, AU26=2), tools, by_actions=True)
    assert set(misread) == {"R", "L"}
