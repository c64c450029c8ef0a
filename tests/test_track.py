import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from puppet.gallery import demo_portrait
from puppet.track import LANDMARKS, Face, FaceTracker, _points


@pytest.fixture(scope="module")
def astronaut():
    return np.asarray(Image.open(demo_portrait()))


@pytest.fixture(scope="module")
def tracker():
    tracker = FaceTracker(max_faces=2, static=True)
    yield tracker
    tracker.close()


def test_a_face_is_found_where_it_is(tracker, astronaut):
    face = tracker.track(astronaut)
    assert face.landmarks_px.shape == (LANDMARKS, 3) and face.landmarks_px.dtype == np.float32
    left, top, right, bottom = face.box_px
    assert 160 < left < right < 290 and 50 < top < bottom < 200
    right_iris, left_iris = face.landmarks_px[468], face.landmarks_px[473]
    assert right_iris[0] < left_iris[0] - 20  # the person's right is the picture's left
    assert face.landmarks_px[1, 2] < -5  # the nose's tip is nearer than the head's middle, in pixels


def test_landmarks_scale_with_the_picture(tracker, astronaut):
    large = cv2.resize(astronaut, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    one, two = tracker.track(astronaut).landmarks_px, tracker.track(large).landmarks_px
    np.testing.assert_allclose((two[:, :2] + 0.5) / 2 - 0.5, one[:, :2], atol=2.0)


def test_two_faces_come_largest_first(tracker, astronaut):
    small = cv2.resize(astronaut[:256, 90:346], (400, 400), interpolation=cv2.INTER_CUBIC)
    both = np.full((512, 1024, 3), 255, np.uint8)
    both[:, :512] = cv2.resize(astronaut[:256, 90:346], (512, 512), interpolation=cv2.INTER_CUBIC)
    both[56:456, 580:980] = small
    faces = tracker.track_all(both)
    assert len(faces) == 2
    assert faces[0].area_px > faces[1].area_px
    assert faces[0].box_px[0] < 512 < faces[1].box_px[0]


def test_no_face_is_none(tracker):
    assert tracker.track(np.full((256, 256, 3), 127, np.uint8)) is None


def test_landmarks_read_from_wire_are_those_of_the_message(tracker, astronaut):
    message = tracker._mesh.process(astronaut).multi_face_landmarks[0]
    np.testing.assert_array_equal(_points(message), [(p.x, p.y, p.z) for p in message.landmark])


def test_a_face_states_its_shape():
    with pytest.raises(ValueError, match=r"shape \(468, 3\): expected \(478, 3\)"):
        Face(np.zeros((468, 3), np.float32), (64, 64))


def test_mediapipes_start_up_lines_stay_out_of_the_terminal_and_other_lines_do_not():
    code = """
import os
import numpy as np
from PIL import Image
from puppet.gallery import demo_portrait
from puppet.track import FaceTracker, quiet_mediapipe
with quiet_mediapipe():
    os.write(2, b"something else\\n")
tracker = FaceTracker()
assert tracker.track(np.asarray(Image.open(demo_portrait()))) is not None
tracker.close()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "something else\n"
    assert done.stdout == ""
