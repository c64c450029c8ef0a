"""A face whose eyes are shut gets open ones of another person, and shutting them again is what the network learns."""

import cv2
import numpy as np
import pytest

from puppet import facs
from puppet.gallery import demo_portrait
from puppet.landmarks import FACE_COUNT, LIDS
from puppet.lid_closure import AU45, SEEN_WHEN_SHUT, lid_closure

pytest.importorskip("webdataset")

from trainer.clip_frames import openness
from trainer.closed_eyes import CLOSED, WIDE, awake_control, awaken, shut_control, unlike
from trainer.example_maker import ExampleMaker
from trainer.face_sources import TrackedStill
from trainer.faces_folder import FaceFile
from trainer.solve_motion import moved_landmarks, still_pose
from trainer.texture_pairs import follow
from trainer.tracked_lids import lowered

LID_COLUMNS = AU45


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    return ExampleMaker(cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def awake(maker):
    """The astronaut."""
    return maker.reader.still(FaceFile(demo_portrait(), "still", "eileen"))


@pytest.fixture(scope="module")
def asleep(maker, awake):
    """The same with eyes shut, in another light and mirrored: somebody else."""
    generator = maker.tools.generator(awake.rgb, awake.landmarks_px)
    weights = generator.weights_at(facs.control(AU45=5))
    picture = generator.move(weights, still_pose(generator), facs.rest())
    points = awake.landmarks_px.copy()
    points[:FACE_COUNT, :2] = moved_landmarks(generator, weights, still_pose(generator))[:, :2]
    return TrackedStill((picture.rgb * 0.8).astype(np.uint8), points, "other")


@pytest.fixture(scope="module")
def awakened(asleep, awake):
    return awaken(asleep, awake)


def test_its_eyes_stand_as_wide_as_those_it_was_lent(asleep, awake, awakened):
    shut, lent, opened = (openness(still.landmarks_px[None])[0][0] for still in (asleep, awake, awakened))
    assert shut < CLOSED and WIDE[0] < lent < WIDE[1]
    assert opened == pytest.approx(lent, rel=0.02)


def test_it_shows_the_lent_eyes_in_its_own_light(awake, awakened):
    for upper, lower in LIDS.values():
        outline = awake.landmarks_px[[*upper, *lower[::-1]], :2]
        inside = cv2.erode(
            cv2.fillPoly(np.zeros(awake.rgb.shape[:2], np.uint8), [outline.astype(int)], 1), np.ones((3, 3))
        )
        shown, lent = (still.rgb[inside > 0].astype(float).mean(0) for still in (awakened, awake))
        np.testing.assert_allclose(shown / lent, 0.8, atol=0.08)


def test_nothing_else_of_the_face_is_changed(asleep, awakened):
    eyes = np.concatenate([asleep.landmarks_px[[*upper, *lower], 1] for upper, lower in LIDS.values()])
    below = int(eyes.max() + (eyes.max() - asleep.landmarks_px[10, 1]))
    np.testing.assert_array_equal(awakened.rgb[below:], asleep.rgb[below:])
    assert awakened.person == asleep.person


def test_a_slit_that_the_tracker_leaves_is_a_shut_eye(awake):
    """As high as a fifth of the open eye; halfway down to it is half closed, and who opens wider closes nothing."""
    for seen, closed in ((1.1, 0), (1, 0), (0.6, 0.5), (SEEN_WHEN_SHUT, 1), (0.1, 1)):
        points = _narrowed(awake.landmarks_px, seen)
        found = lid_closure(points, awake.landmarks_px)
        assert found == pytest.approx(closed, abs=0.01)
        real = lowered(points, awake.landmarks_px, found)
        wanted = _narrowed(awake.landmarks_px, min(1 - closed, seen) if seen <= 1 else seen)
        np.testing.assert_allclose(real, wanted, atol=0.05)


def test_each_eye_closes_by_itself(awake):
    winking = awake.landmarks_px.copy()
    upper, lower = map(list, LIDS["L"])
    winking[upper] = winking[lower]
    assert lid_closure(winking, awake.landmarks_px) == pytest.approx([1, 0])


def test_a_half_closed_eye_is_an_example_of_half_closed_lids(maker, awake):
    """Driven by landmarks, lids stand where they really are, and AU45 says so."""
    generator = maker.tools.generator(awake.rgb, awake.landmarks_px)
    heights = {}
    for seen in (1.0, 0.6, SEEN_WHEN_SHUT):
        points = _narrowed(awake.landmarks_px, seen)
        example = follow(generator, awake.rgb, points, facs.control(AU45=1), maker.tools)["R"]
        heights[seen] = float((example.moved[..., 3] / 255).sum())
        assert example.actions[LID_COLUMNS] == pytest.approx((1 - seen) / (1 - SEEN_WHEN_SHUT), abs=0.02)
    assert 0.3 < heights[0.6] / heights[1.0] < 0.65
    assert heights[SEEN_WHEN_SHUT] < 0.08 * heights[1.0]


def _narrowed(landmarks_px, share):
    points = landmarks_px.copy()
    for upper, lower in LIDS.values():
        below = landmarks_px[list(lower)]
        points[list(upper)] = below + share * (landmarks_px[list(upper)] - below)
    return points


def test_who_is_asleep_is_read_as_asleep():
    read = facs.control(AU45=2, AU12=3)
    np.testing.assert_array_equal(shut_control(read), facs.control(AU45=5, AU12=3))
    np.testing.assert_array_equal(awake_control(read), facs.control(AU12=3))


def test_eyes_are_lent_in_similar_light_and_pose(asleep, awake):
    assert unlike(awake, awake) == 0
    assert unlike(asleep, awake) == pytest.approx(-np.log(0.8), abs=0.02)
    turned = awake.landmarks_px.copy()
    turned[:, 2] += 0.2 * turned[:, 0]
    assert unlike(TrackedStill(awake.rgb, turned, "turned"), awake) == pytest.approx(2 * np.arctan(0.2), abs=0.05)


def test_examples_end_shut(maker, monkeypatch, asleep, awake):
    """Portraits with open eyes whose answer has none; nothing of the mouth, nothing of who sleeps not."""
    monkeypatch.setattr(maker, "_stills", lambda files: [asleep, awake])
    examples = list(maker.of_sleepers((), np.random.default_rng(0)))
    assert {(e.region, e.person) for e in examples} == {("eye", "other")}
    for example in examples:
        assert (example.rest[..., 3] > 127).mean() > 4 * (example.moved[..., 3] > 127).mean()
    by_actions = [e for e in examples if (e.moved[..., 3] > 127).sum() == 0]
    assert len(by_actions) >= len(examples) / 2
