"""Folds: what actions do to the light on the skin, and how it is learned."""

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from puppet import facs
from puppet.assembly import open_folds
from puppet.config import Options, PortraitOptions
from puppet.errors import InputError
from puppet.generate.folds import DEFAULT_PATH, LIGHTEST, MOST_BRIGHT, MOST_DARK, FoldMaps
from puppet.puppet import Puppet
from puppet.rig import LandmarkRig
from trainer.face_chart import FaceChart, rasterize
from trainer.fold_regression import ACTIONS, Faces, explained, regress

SIZE = (320, 320)


@pytest.fixture(scope="module")
def portrait(astronaut_portrait):
    return astronaut_portrait.cut_to_head()


@pytest.fixture(scope="module")
def folded(portrait):
    return Puppet(portrait, size=SIZE, folds=FoldMaps.load())


@pytest.fixture(scope="module")
def plain(portrait):
    return Puppet(portrait, size=SIZE)


def with_actions(puppet, **actions):
    """The portrait's own expression with some actions set."""
    control, wanted = puppet.rest_control, facs.control(**actions)
    for name in actions:
        control[facs.columns_of(name)] = wanted[facs.columns_of(name)]
    return puppet.render(control)


def brightening(folded, plain, **actions):
    """`(H, W)` grey levels by which folds make the picture brighter."""
    both = [with_actions(puppet, **actions).astype(np.float32).mean(-1) for puppet in (folded, plain)]
    return both[0] - both[1]


def around(puppet, landmark, change):
    """Mean change near a landmark of the still."""
    x, y = np.round(puppet.landmarks_px[landmark, :2]).astype(int)
    return change[y - 3 : y + 4, x - 3 : x + 4].mean()


def test_at_rest_the_portrait_stays_bit_for_bit(folded):
    np.testing.assert_array_equal(folded.render(folded.rest_control), folded.still)


def test_a_turned_head_alone_is_not_shaded(folded, plain):
    pose = {"yaw_rad": 0.2, "gaze_yaw_rad": 0.3}
    np.testing.assert_array_equal(with_actions(folded, **pose), with_actions(plain, **pose))


def test_a_smile_darkens_the_fold_beside_the_nose_and_lightens_the_cheek(folded, plain):
    change = brightening(folded, plain, AU12=4)
    for fold, cheek in ((206, 50), (426, 280)):  # right, left
        assert around(folded, fold, change) < -4
        assert around(folded, cheek, change) > 1


def test_a_frown_shades_the_skin_under_the_brow(folded, plain):
    change = brightening(folded, plain, AU04=4)
    assert around(folded, 223, change) < -3 and around(folded, 443, change) < -3


def test_one_side_acts_alone(folded, plain):
    change = np.abs(brightening(folded, plain, AU12_L=4))
    middle = int(folded.landmarks_px[1, 0])
    assert change[:, middle + 8 :].sum() > 8 * change[:, : middle - 8].sum()  # the person's left is on the right


def test_folds_go_with_the_head(folded, plain):
    def darkest(**pose):
        change = cv2.GaussianBlur(np.minimum(brightening(folded, plain, AU12=4, **pose), 0), (0, 0), 3)
        return np.array(np.unravel_index(np.argmin(change), change.shape))[::-1]

    assert (darkest(yaw_rad=0.25) - darkest())[0] > 3


def test_nothing_outside_of_the_face_is_shaded(folded, plain):
    change = np.abs(brightening(folded, plain, AU12=5, AU04=5))
    hull = cv2.convexHull(folded.landmarks_px[:468, :2].astype(np.float32))
    face = cv2.fillConvexPoly(np.zeros(change.shape, np.uint8), np.round(hull).astype(np.int32), 1)
    face = cv2.dilate(face, np.ones((15, 15), np.uint8))  # as far as skin moves
    assert change[face == 0].max() == 0 and change.max() > 5


def test_what_shows_in_a_mouth_is_not_shaded(folded, plain):
    change = np.abs(brightening(folded, plain, AU12=3, AU26=4, AU25=4))
    x, y = folded.landmarks_px[13, :2].astype(int)
    inside = change[y + 4 : y + 12, x - 6 : x + 7]
    assert inside.max() <= 1


def test_all_actions_together_keep_within_the_limit(folded):
    folds = folded.generator.folds
    grey = np.full((*SIZE[::-1], 3), 100, np.uint8)
    control = facs.rest()
    control[: facs.INTENSITY_COUNT] = 5
    rows, columns = folded.generator.field.head.grid.shape
    ratio = folds.ratio(np.zeros((rows, columns, 2), np.float32), control, facs.rest())
    folds.shade(grey, (0, 0, *SIZE), ratio)
    dark, bright = (100 * np.exp(limit * folds.shares.max()) for limit in (-MOST_DARK, MOST_BRIGHT))
    assert dark - 1 <= grey.min() < 85 and 112 < grey.max() <= bright + 1


def test_pale_skin_is_not_bleached(portrait):
    """What is nearly white already gains next to nothing; what is darker as much as ever."""
    from dataclasses import replace

    gained = {}
    for light in (100, 160, 230, 244):
        rgb = np.full_like(portrait.rgb, light)
        pale = Puppet(replace(portrait, rgb=rgb), size=SIZE, folds=FoldMaps.load())
        moved = pale.animate(AU12=5, AU06=5, AU25=0)
        skin = moved[pale.generator.folds.box[1] :, :][: SIZE[1] // 2]
        gained[light] = skin.max() / light
        assert skin.max() <= max(LIGHTEST + 2, 1.02 * light)
    assert gained[100] == pytest.approx(gained[160], abs=0.02) and gained[100] > 1.1
    assert gained[244] < 1.02


def test_shades_take_the_portraits_own_colours(portrait):
    """Skin whose shadows are red is darkened towards red, stone stays grey."""
    from dataclasses import replace

    light = cv2.cvtColor(portrait.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    stone = np.repeat(np.round(255 * light).astype(np.uint8)[..., None], 3, 2)
    warm = np.round(255 * np.stack([light**0.6, light, light**1.5], -1)).astype(np.uint8)
    shares = [Puppet(replace(portrait, rgb=rgb), size=SIZE, folds=FoldMaps.load()).generator.folds.shares
              for rgb in (stone, warm)]  # fmt: skip
    np.testing.assert_allclose(shares[0], 1, atol=1e-3)
    assert shares[1][0] < 0.8 < 1.2 < shares[1][2]


def test_texture_off_is_motion_alone():
    assert open_folds(Options(portrait=PortraitOptions(texture="off"))) is None
    assert open_folds(Options()) is FoldMaps.load()


def test_the_right_sides_maps_mirror_the_lefts():
    maps = FoldMaps.load()
    left, right = maps.actions.index("AU12_L"), maps.actions.index("AU12_R")
    np.testing.assert_array_equal(maps.maps[right], maps.maps[left][:, ::-1])
    assert not {"AU45_L", "AU45_R"} & set(maps.actions)  # lids are repainted


@pytest.mark.parametrize("actions", ["[]", '["AU99"]', "{", "[[]]", None])
def test_a_damaged_file_is_one_clear_line(actions, tmp_path):
    path = tmp_path / "folds.safetensors"
    save_file(load_file(DEFAULT_PATH), path, metadata=None if actions is None else {"actions": actions})
    with pytest.raises(InputError, match=r"folds\.safetensors can't be read .*trainer folds") as error:
        FoldMaps.load(path)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def chart():
    return FaceChart(LandmarkRig.load())


def test_a_chart_has_every_face_in_the_same_place(chart, astronaut_portrait):
    points = astronaut_portrait.landmarks_px
    coordinates = chart.spread(chart.landmarks)  # every pixel of the chart says where it is
    y, x = np.nonzero(chart.skin)
    np.testing.assert_allclose(coordinates[y, x], np.stack([x, y], 1), atol=1e-3)
    height, width = astronaut_portrait.rgb.shape[:2]
    places = np.dstack([*np.meshgrid(np.arange(width) / 2, np.arange(height) / 2), np.zeros((height, width))])
    seen = chart.unwrap(np.round(places).astype(np.uint8), points)
    for landmark in (1, 205, 425, 9):
        column, row = np.round(chart.landmarks[landmark]).astype(int)
        np.testing.assert_allclose(seen[row, column, :2], points[landmark, :2] / 2, atol=2.5)


def test_a_chart_knows_its_mirror(chart):
    y, x = np.nonzero(chart.skin)
    np.testing.assert_array_equal(x[chart.mirrored], chart.width - 1 - x)
    np.testing.assert_array_equal(y[chart.mirrored], y)


def test_light_that_is_the_rooms_is_no_detail(chart):
    slope = np.tile(np.linspace(0, 0.5, chart.width, dtype=np.float32), (chart.height, 1))
    line = np.zeros_like(slope)
    line[80] = -0.3
    assert np.abs(chart.details(slope)).mean() < 0.03 < np.abs(chart.details(line)).max()


def test_the_nearer_of_two_triangles_covers():
    corners = np.array([[0, 0], [9, 0], [0, 9], [0, 0], [9, 0], [0, 9]], float)
    at, share = rasterize(corners, np.array([[0, 1, 2], [3, 4, 5]]), (10, 10), nearness=np.array([1, 1, 1, 0, 0, 0.0]))
    assert set(np.unique(at)) == {-1, 0}
    np.testing.assert_allclose(share[at == 0].sum(-1), 1)


def made_faces(rng, maps, count, *, is_pair):
    """Faces whose light the maps make, on a row of pixels."""
    actions = rng.uniform(0, 1, (count, len(ACTIONS))) * (rng.random((count, len(ACTIONS))) < 0.3)
    if is_pair:
        actions = actions - actions[::-1]
    turned = rng.normal(0, 0.2, (count, 1))
    across = np.linspace(-1, 1, maps.shape[1])
    light = actions @ maps + rng.normal(0, 0.02, (count, maps.shape[1]))
    light += 0 if is_pair else 0.1 + turned * across
    people = np.array([f"p{n}" for n in range(count)])
    shared = None if is_pair else np.concatenate([turned, np.ones((count, 1))], 1)
    return Faces(light, actions, people, shared=shared)


def test_the_regression_finds_what_actions_do_and_not_what_the_room_does():
    rng = np.random.default_rng(0)
    pixels = 16
    left = rng.normal(0, 0.2, (len(ACTIONS), pixels))
    order = [ACTIONS.index(facs.other_side(name)) for name in ACTIONS]
    maps = (left + left[order][:, ::-1]) / 2  # as a face is: the other side mirrors it
    stills, pairs = (made_faces(rng, maps, count, is_pair=p) for count, p in ((600, False), (100, True)))
    settings = {"mirrored": np.arange(pixels)[::-1], "pair_weight": 4.0, "expected": np.zeros_like(maps)}
    found = regress(stills, pairs, reach=np.ones_like(maps), ridge=1.0, **settings)
    np.testing.assert_allclose(found, maps, atol=0.03)
    assert explained(pairs, found) > 0.95 > explained(pairs, 0.5 * maps)
    stiff = regress(stills, pairs, reach=np.ones_like(maps), ridge=1e6, **(settings | {"expected": maps + 1}))
    np.testing.assert_allclose(stiff, maps + 1, atol=0.01)
    nowhere = regress(stills, pairs, reach=np.zeros_like(maps), ridge=1.0, **settings)
    np.testing.assert_array_equal(nowhere, 0)


def test_the_command_says_what_it_would_do(monkeypatch, capsys, tmp_path):
    from trainer.__main__ import main

    monkeypatch.setattr("sys.argv", ["trainer", "folds", "--dry-run", "--output", str(tmp_path / "f.safetensors")])
    main()
    assert "would read" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_missing_sources_are_one_line(monkeypatch, tmp_path):
    from trainer.__main__ import main

    monkeypatch.setattr("sys.argv", ["trainer", "folds", "--rig-dir", str(tmp_path), "--cache-dir", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^error: face model in .*--rig-dir"):
        main()
