"""The generator moves what an action moves, and nothing else."""

import dataclasses

import cv2
import numpy as np
import pytest

from puppet import facs
from puppet.generate.canvas import default_size, frame_portrait
from puppet.generate.motion import head_pose, invert
from puppet.generate.mouth import MouthInterior, MouthPictures, skin_colour
from puppet.generate.own_mouth import read_own_mouth
from puppet.generate.slit import FULLY_MOVED_PX, OFF_LINE, open_slit
from puppet.landmarks import (
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LOWER_INNER_LIP,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
)
from puppet.portrait import Portrait
from puppet.puppet import Puppet
from puppet.rig import LandmarkRig
from puppet.track import FaceTracker


@pytest.fixture(scope="module")
def portrait(astronaut):
    return Portrait.from_rgb(astronaut, name="astronaut").cut_to_head()


@pytest.fixture(scope="module")
def puppet(portrait):
    return Puppet(portrait)


@pytest.fixture(scope="module")
def tracker():
    tracker = FaceTracker(static=True)
    yield tracker
    tracker.close()


def _eye_opening(landmarks, upper, lower):
    """Height of an eye over its width."""
    height = np.linalg.norm(landmarks[list(upper[3:6])] - landmarks[list(lower[3:6])], axis=1).mean()
    return height / np.linalg.norm(landmarks[upper[0]] - landmarks[upper[-1]])


def _lip_gap(landmarks):
    return (landmarks[14] - landmarks[13])[1] / np.linalg.norm(landmarks[263, :2] - landmarks[33, :2])


def _opening_at(puppet, control):
    generator = puppet.generator
    pose = head_pose(control, generator.field)
    return generator.move(generator.weights_at(control), pose, control).openings["mouth"]


def _mouth_width_px(puppet):
    return np.linalg.norm((puppet.landmarks_px[308] - puppet.landmarks_px[78])[:2])


def _tracked(tracker, rgb):
    face = tracker.track(rgb)
    assert face is not None
    return face.landmarks_px[:, :2]


def test_the_rest_control_gives_the_portrait_bit_for_bit(puppet):
    np.testing.assert_array_equal(puppet.render(puppet.rest_control), puppet.still)


def test_outside_the_heads_region_nothing_ever_changes(portrait):
    wide = Puppet(portrait, size=(960, 540))
    moved = wide.animate(AU26=5, AU25=5, yaw_rad=0.3, roll_rad=0.4)
    changed = np.any(moved != wide.still, axis=-1)
    x0, y0, x1, y1 = wide.generator.region
    outside = np.ones_like(changed)
    outside[y0:y1, x0:x1] = False

    assert changed.any()
    assert outside.any() and not changed[outside].any()


def test_a_blink_changes_the_eyes_and_not_the_mouth(puppet):
    changed = np.any(puppet.animate(AU25=puppet.rest_control[facs.INDEX["AU25"]], AU45=5) != puppet.still, axis=-1)
    points = puppet.landmarks_px[:, :2]
    eye_row, mouth_row = int(points[[33, 263], 1].mean()), int(points[list(LOWER_INNER_LIP), 1].max()) + 4

    assert changed[eye_row - 4 : eye_row + 4].any()
    assert not changed[mouth_row:].any()


@pytest.mark.parametrize(("action", "opening"), [("AU45", "L"), ("AU25", "mouth")])
def test_edges_move_in_even_steps_smaller_than_a_pixel(portrait, action, opening):
    """However little of a row they cross: an edge that snapped to rows would stand still and then jump."""
    generator = Puppet(portrait, size=(256, 256)).generator
    areas = []
    for intensity in np.linspace(0.5, 2.5, 101):
        control = facs.control(**{action: intensity})
        picture = generator.move(generator.weights_at(control), head_pose(control, generator.field), control)
        areas.append(float(picture.openings[opening].mask.sum()))
    steps = np.diff(areas)
    assert np.all(np.abs(steps / steps.mean() - 1) < 0.3)


def test_full_lid_closure_closes_both_eyes(puppet, tracker):
    opened, closed = (_tracked(tracker, puppet.animate(AU45=i)) for i in (0, 5))
    for upper, lower in ((RIGHT_UPPER_LID, RIGHT_LOWER_LID), (LEFT_UPPER_LID, LEFT_LOWER_LID)):
        assert _eye_opening(closed, upper, lower) < 0.55 * _eye_opening(opened, upper, lower)


def _eye_area(puppet, control):
    generator = puppet.generator
    picture = generator.move(generator.weights_at(control), head_pose(control, generator.field), control)
    return sum(picture.openings[side].mask.sum() for side in "RL")


@pytest.mark.parametrize("others", [{}, {"AU05": 5}, {"AU01": 5, "AU02": 5}], ids=["alone", "lids raised", "brows up"])
def test_full_closure_closes_lids_that_other_actions_open(portrait, others):
    relaxed = Puppet(portrait, read_actions=lambda _: facs.control(AU06=4, AU12=4))
    assert _eye_area(relaxed, facs.control(AU45=5, **others)) < 0.1 * _eye_area(relaxed, facs.rest())


@pytest.mark.parametrize(("side", "shut", "open_"), [("L", 0, 1), ("R", 1, 0)])
def test_a_wink_closes_the_persons_own_side(puppet, tracker, side, shut, open_):
    lids = ((LEFT_UPPER_LID, LEFT_LOWER_LID), (RIGHT_UPPER_LID, RIGHT_LOWER_LID))
    points = _tracked(tracker, puppet.animate(**{f"AU45_{side}": 5}))
    assert _eye_opening(points, *lids[shut]) < 0.7 * _eye_opening(points, *lids[open_])


@pytest.mark.parametrize("action", [{"AU09": 5}, {"AU10": 5}, {"AU09": 3, "AU12": 4}], ids=str)
def test_sealed_lips_meet_beside_their_middle_too(puppet, action):
    gap_px = _opening_at(puppet, facs.control(**action)).gap_px
    assert not gap_px.size or gap_px.max() < 0.03 * _mouth_width_px(puppet)


@pytest.mark.parametrize("size", [(160, 160), (1600, 1600)])
def test_drawn_teeth_lie_where_their_plane_says_and_are_no_finer_than_the_portrait(portrait, size):
    """A white spot in a black row of teeth, under a portrait's pixels or above them."""
    puppet = Puppet(portrait, size=size)
    generator, pictures = puppet.generator, MouthPictures.load()
    upper = np.zeros_like(pictures.upper)
    upper[..., 3] = 255
    upper[104:120, 120:136, :3] = 255
    mouth = MouthInterior(
        generator.canvas, generator.anatomy, LandmarkRig.load(), dataclasses.replace(pictures, upper=upper), None
    )
    control = facs.control(AU25=5, AU26=3, yaw_rad=0.1)
    pose, weights = head_pose(control, generator.field), generator.weights_at(control)
    opening = generator.move(weights, pose, control).openings["mouth"]
    own = weights[: generator.anatomy.rig_count]
    follow = generator.slits["mouth"].follow_at_anchor
    drawn = mouth.draw(opening, own, np.zeros_like(own), pose, follow).mean(2) / mouth.shade(opening)
    at = np.average(np.indices(drawn.shape)[::-1].reshape(2, -1), axis=1, weights=drawn.ravel()) + opening.window[:2]
    expected = mouth.planes(own, pose, follow)[0] @ (127.5, 111.5, 1)
    np.testing.assert_allclose(at, expected, atol=0.4)
    finer = len(mouth.layers["upper"]) / len(upper)
    assert (finer < 0.2) if size[0] == 160 else (0.9 < finer <= 1)
    puppet.close()


def test_teeth_of_a_smile_stay_with_the_skull_when_the_jaw_drops(puppet):
    mouth = puppet.generator.mouth
    assert mouth.own is not None  # the astronaut smiles
    with_skull, with_jaw = mouth.own.rest.upper_alpha, mouth.own.rest.lower_alpha
    assert with_skull.max() == with_jaw.max() == 1
    assert with_jaw[with_skull == 1].mean() < 0.1


def test_a_moving_mouth_leaves_no_rim_of_lips_round_the_portraits_own_teeth(puppet):
    """The lips' edges are made green in the portrait: they are shown where they were at rest and not once they part."""
    generator = puppet.generator
    opening = _opening_at(puppet, puppet.rest_control)
    x0, y0, x1, y1 = opening.window
    lips = cv2.dilate(opening.mask, np.ones((9, 9))) - cv2.erode(opening.mask, np.ones((3, 3))) > 0.5
    still = generator.canvas.still.copy()
    still[y0:y1, x0:x1][lips] = (0, 255, 0)
    seen = (255 * generator.mouth.light, skin_colour(still, generator.anatomy.points_px))
    own = read_own_mouth(dataclasses.replace(generator.canvas, still=still), generator.anatomy, opening, *seen)

    def green(look):
        return ((look.rgb[..., 1] - look.rgb[..., 0] > 60) * (look.upper_alpha + look.lower_alpha)).sum()

    assert own.look(own.gap_px) is own.rest and own.look(own.gap_px + 20) is own.parted
    assert green(own.parted) < 0.02 * green(own.rest)
    assert own.parted.upper_alpha.sum() > 0.2 * own.rest.upper_alpha.sum()
    assert green(own.parted) < green(own.look(own.gap_px + 2)) < green(own.rest)

    still[y0:y1, x0:x1][opening.mask > 0] = (40, 20, 20)  # a slit without teeth
    hollow = read_own_mouth(dataclasses.replace(generator.canvas, still=still), generator.anatomy, opening, *seen)
    assert hollow.rest.upper_alpha.max() == 1
    assert not hollow.parted.upper_alpha.any() and not hollow.parted.lower_alpha.any()


def test_lips_that_part_keep_to_their_own_side_of_the_line_between_them(puppet):
    """Where the skin is stretched most it would end beside its own edge and show the other lip, or the line itself."""
    generator = puppet.generator
    slit, canvas, control = generator.slits["mouth"], generator.canvas, facs.control(AU25=5, AU26=5)
    pose, weights = head_pose(control, generator.field), generator.weights_at(control)
    backward = generator._backward(weights, pose)

    def most_beyond_px(slit):
        """Of the lips' shown texels, how far the worst lies beyond its own edge."""
        opening, motion = open_slit(slit, generator.field, weights, pose, backward, canvas)
        first, last = motion.band
        gap = np.zeros(motion.below.shape, np.float32)
        left, top = opening.window[0] - motion.window[0], opening.window[1] - motion.window[1] - first
        rows, columns = opening.mask.shape
        gap[top : top + rows, left : left + columns] = np.where(opening.mask < 0.5, opening.gap_px, 0)
        beyond = []
        for texels, sign, side in (
            (motion.from_upper[first:], 1, motion.below < 0.1),
            (motion.from_lower[: last - first], -1, motion.below > 0.9),
        ):
            along, across = np.moveaxis((texels / canvas.texture_scale - slit.rest.centre) @ slit.rest.axes.T, 2, 0)
            middle, rest_gap, *_ = slit.rest.look_up(np.ascontiguousarray(along))
            has_parted = (gap - rest_gap > FULLY_MOVED_PX) & (np.abs(motion.along) < 0.8)
            beyond.append((sign * (across - middle) + rest_gap / 2)[side & has_parted])
        return np.concatenate(beyond).max()

    assert slit.edges_part
    off_line_px = OFF_LINE * slit.rest.width
    assert most_beyond_px(slit) < -0.9 * off_line_px
    assert most_beyond_px(dataclasses.replace(slit, edges_part=False)) > -0.5 * off_line_px


@pytest.mark.parametrize(("actions", "is_seen"), [({}, True), ({"AU12": 3}, True), ({"AU25": 1.5}, False)], ids=str)
def test_a_smile_that_closes_gets_the_line_between_its_lips(puppet, actions, is_seen):
    generator, line = puppet.generator, puppet.generator.lip_line
    with_line = puppet.animate(**actions).astype(int)
    generator.lip_line = None
    try:
        darker = puppet.animate(**actions) - with_line
    finally:
        generator.lip_line = line
    rows, columns = np.nonzero(darker.max(-1))
    assert darker.min() >= 0
    assert (darker.max() > 15) == is_seen == bool(len(rows))
    if is_seen:
        assert np.ptp(columns) > 0.6 * _mouth_width_px(puppet)
        assert np.median([np.ptp(rows[columns == x]) for x in np.unique(columns)]) < 0.15 * _mouth_width_px(puppet)


def test_an_upper_lip_rises_as_the_jaw_parts_the_lips_and_rests_while_they_are_sealed(puppet):
    anatomy, lips = puppet.generator.anatomy, puppet.generator.slits["mouth"]
    middle = len(lips.upper) // 2

    def upper_and_gap(**actions):
        control = facs.control(**actions)
        pose = head_pose(control, puppet.generator.field)
        upper, lower = lips.contours(puppet.generator.weights_at(control), pose)
        return upper[middle, 1], lower[middle, 1] - upper[middle, 1]

    sealed, no_gap = upper_and_gap(AU26=4)
    parted, gap = upper_and_gap(AU26=4, AU25=4)
    assert gap == pytest.approx(0.8 * anatomy.open_gap_px, rel=0.05)
    assert abs(no_gap) < 0.05 * anatomy.open_gap_px
    assert parted < sealed - 0.1 * gap


def test_a_jaw_that_drops_takes_the_lower_lip_along_and_the_chin_less(puppet):
    """Under the lip less and less; what lies above it goes as the face model says."""
    anatomy, rig = puppet.generator.anatomy, LandmarkRig.load()
    moved = anatomy.action_px[anatomy.actions.index("AU26")][:, 1]
    jaw_cm = rig.action_cm[rig.actions.index("AU26"), :468]
    whole = -anatomy.fit.scale_px_per_cm * (jaw_cm @ anatomy.fit.rotation.T)[:, 1]
    for point, share in ((14, 1), (17, 1), (61, 1), (291, 1), (152, 0.6)):
        assert moved[point] == pytest.approx(share * whole[point], rel=0.03)
    lip_to_chin = [17, 18, 200, 199, 175, 152]
    assert np.all(np.diff(moved[lip_to_chin] / whole[lip_to_chin]) < 0.005)


def test_lips_open_with_au25_and_are_sealed_without_whatever_the_jaw_does(puppet, tracker):
    wide = _lip_gap(_tracked(tracker, puppet.animate(AU25=5, AU26=4)))
    sealed = _lip_gap(_tracked(tracker, puppet.animate(AU25=0, AU26=3)))
    assert wide > 0.25
    assert sealed < 0.04


@pytest.mark.parametrize(
    ("action", "axis", "sign"), [("yaw_rad", 0, 1), ("pitch_rad", 1, -1)], ids=["left is the picture's right", "up"]
)
def test_the_head_turns_the_way_it_is_told(puppet, tracker, action, axis, sign):
    still = _tracked(tracker, puppet.animate())
    turned = _tracked(tracker, puppet.animate(**{action: 0.3}))
    nose, ears = turned[1] - still[1], turned[[234, 454]].mean(0) - still[[234, 454]].mean(0)
    assert sign * (nose - ears)[axis] > 4


@pytest.mark.parametrize("action", [{"pitch_rad": 0.2}, {"pitch_rad": -0.2}, {"yaw_rad": 0.25}, {"roll_rad": 0.25}])
def test_a_chin_close_to_the_pictures_bottom_goes_with_the_head(portrait, action):
    """A picture that ends right under the chin: nothing holds it while the head turns."""
    points = portrait.landmarks_px
    height = points[152, 1] - points[10, 1]
    end = int(points[152, 1] + 0.06 * height)
    tight = Puppet(dataclasses.replace(portrait, rgb=portrait.rgb[:end].copy()))
    generator = tight.generator
    chin = generator.anatomy.points_px[152, :2]
    assert tight.still.shape[0] - chin[1] < 0.1 * generator.anatomy.face_height_px
    pose = head_pose(facs.control(**action), generator.field)
    assert generator.field.interpolate.follow(chin[None])[0] > 0.9
    wanted = pose.move(generator.anatomy.points_px[152])[:2] - chin
    backward = generator.shown_positions(np.zeros(len(generator.anatomy.actions), np.float32), pose)
    at = np.round(chin + 0.95 * wanted).astype(int)
    if at[1] < tight.still.shape[0] - 1:
        assert backward[at[1], at[0]] == pytest.approx(chin, abs=0.02 * generator.anatomy.face_height_px)


def _repeated_rows(puppet, **action):
    """Rows under the picture's top, above the middle of the head, that show the top row again."""
    generator = puppet.generator
    pose = head_pose(facs.control(**action), generator.field)
    shown = generator.shown_positions(np.zeros(len(generator.anatomy.actions), np.float32), pose)
    column = int(generator.anatomy.points_px[10, 0])
    return int((shown[:, column, 1] < 0.5).sum())


def _with_band_above(portrait, band):
    """The portrait below a band `(h, W, 3)` of something else."""
    points = portrait.landmarks_px.copy()
    points[:, 1] += len(band)
    return Puppet(dataclasses.replace(portrait, rgb=np.vstack([band, portrait.rgb]), landmarks_px=points))


@pytest.mark.parametrize("action", [{"pitch_rad": -0.2}, {"shift_y": -0.3}])
def test_hair_that_touches_the_top_is_not_continued_as_the_head_goes_down(puppet, action):
    assert _repeated_rows(puppet, **action) <= 2


def test_a_head_that_goes_up_is_not_held_by_its_hair(puppet, monkeypatch):
    control = facs.control(pitch_rad=0.2)
    shown = puppet.generator.render(control)
    monkeypatch.setattr(puppet.generator, "edges", ())
    free = puppet.generator.render(control)
    middle = int(puppet.generator.anatomy.points_px[10, 0])
    above = (slice(0, shown.shape[0] // 4), slice(middle - 20, middle + 20))
    np.testing.assert_array_equal(shown[above], free[above])


def test_plain_background_is_continued_and_the_head_keeps_its_shape(portrait):
    band = np.full((12, portrait.rgb.shape[1], 3), 200, np.uint8)
    generator = _with_band_above(portrait, band).generator
    assert not [edge for edge in generator.edges if edge.axis == 1 and edge.sign == 1]
    striped = band.copy()
    striped[:, ::16] = striped[:, 1::16] = striped[:, 2::16] = striped[:, 3::16] = 40
    generator = _with_band_above(portrait, striped).generator
    assert [edge for edge in generator.edges if edge.axis == 1 and edge.sign == 1]


def test_a_raised_mouth_corner_rises(puppet, tracker):
    neutral, smile = (_tracked(tracker, puppet.animate(AU12=i)) for i in (0, 4))
    middle = smile[[13, 14], 1].mean() - neutral[[13, 14], 1].mean()
    for corner in (61, 291):
        assert smile[corner, 1] - neutral[corner, 1] < middle - 3


def test_the_same_control_gives_the_same_picture(puppet):
    control = facs.control(AU12=3, AU26=2, AU25=2, yaw_rad=0.1)
    first = puppet.render(control)
    puppet.animate(AU45=5, roll_rad=-0.3)
    np.testing.assert_array_equal(puppet.render(control), first)


def test_a_rendering_is_the_callers_own_array(puppet):
    first = puppet.animate(AU12=3)
    first[:] = 0
    assert puppet.animate(AU12=3).any()
    assert puppet.still.any()


def test_a_smiling_portrait_relaxes_for_a_neutral_driver(portrait, tracker):
    def smiling(_):
        return facs.control(AU12=3)

    plain, relaxed = Puppet(portrait), Puppet(portrait, read_actions=smiling)
    width = [np.ptp(_tracked(tracker, p.animate(AU25=1))[[61, 291], 0]) for p in (plain, relaxed)]
    assert width[1] < width[0] - 2
    np.testing.assert_array_equal(relaxed.render(relaxed.rest_control), relaxed.still)


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (512, 512), (1280, 720)])
def test_any_published_size_is_filled_and_keeps_the_face(portrait, size):
    canvas = frame_portrait(portrait, size)
    low, high = canvas.landmarks_px[:, :2].min(0), canvas.landmarks_px[:, :2].max(0)

    assert canvas.still.shape == (size[1], size[0], 3)
    assert (low > 0).all() and (high < size).all()


def test_the_default_size_keeps_the_aspect_with_even_sides():
    portrait = Portrait(np.zeros((1280, 721, 3), np.uint8), np.zeros((478, 3), np.float32), "tall")
    assert default_size(portrait) == (512, 908)


def test_inversion_undoes_a_smooth_displacement():
    y, x = np.mgrid[0:64, 0:64].astype(np.float32)
    bump = np.exp(-((x - 32) ** 2 + (y - 32) ** 2) / 120)
    forward = np.dstack([5 * bump, -4 * bump]).astype(np.float32)
    backward = invert(forward)
    there = np.clip(np.dstack([x, y]) + backward, 0, 63)
    rows, columns = there[..., 1].round().astype(int), there[..., 0].round().astype(int)
    residual = np.abs(backward + forward[rows, columns])
    assert residual[8:-8, 8:-8].max() < 0.6  # half a cell of rounding in this check itself


def test_unknown_names_and_values_out_of_range_are_refused(puppet):
    with pytest.raises(ValueError, match="unknown action 'AU99'"):
        puppet.animate(AU99=1)
    with pytest.raises(ValueError, match="AU12=7 is out of range: expected 0 to 5"):
        puppet.animate(AU12=7)
