"""A person's own teeth from a video, in the place of the drawn ones."""

import dataclasses
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
pytest.importorskip("webdataset")

from clips import write_clip

from puppet import facs
from puppet.assembly import open_mouth, open_texture
from puppet.config import Options, PortraitOptions
from puppet.errors import InputError
from puppet.generate.generator import Generator
from puppet.generate.motion import head_pose
from puppet.generate.mouth import DEFAULT_PATH, MOUTH_FILE, MouthPictures
from puppet.portrait import Portrait
from puppet.puppet import Puppet
from puppet.rig import LandmarkRig
from trainer.own_teeth import as_bright_as, lay_rows, read_views, write_mouth
from trainer.personalise import take_teeth
from trainer.solve_motion import moved_landmarks, solve_motion
from trainer.teeth_align import align
from trainer.teeth_looks import MouthReader
from trainer.texture_pairs import Toolbox

CLIP = Path(__file__).parents[2] / "shared/faces/train/clips/latentsync-demo1-video.mp4"
GAP = slice(126, 140)  # columns of the upper picture, left of its middle
SPOKEN = [
    {"AU25": 2.0, "AU26": 1.0},
    {"AU25": 3.0, "AU26": 1.5, "AU12": 2.0},
    {"AU25": 3.5, "AU12": 4.0, "AU06": 2.0},
    {"AU25": 4.0, "AU26": 2.0, "yaw_rad": 0.06},
    {"AU25": 3.0, "AU12": 3.0, "yaw_rad": -0.06},
    {"AU25": 4.0, "AU26": 3.0, "AU12": 2.0},
]


@pytest.fixture(scope="module")
def tools() -> Toolbox:
    return Toolbox(LandmarkRig.load(), MouthPictures.load())


@pytest.fixture(scope="module")
def closed(astronaut, tools) -> tuple[np.ndarray, np.ndarray]:
    """The astronaut with closed lips, twice as large, and her landmarks."""
    from puppet.gallery import demo_portrait

    portrait = Portrait.load(demo_portrait()).cut_to_head()
    rgb = cv2.resize(portrait.rgb, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_CUBIC)
    generator = tools.generator(rgb, portrait.landmarks_px * np.float32(2.5))
    return _shown(generator, facs.rest())


def _shown(generator: Generator, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its landmarks `(478, 3)`."""
    weights, pose = generator.weights_at(control), head_pose(control, generator.field)
    points = generator.canvas.landmarks_px.copy()
    points[:468] = moved_landmarks(generator, weights, pose)
    return generator.move(weights, pose, control).rgb, points


@pytest.fixture(scope="module")
def gapped(tools) -> MouthPictures:
    """The packaged mouth with a gap in its upper teeth."""
    upper = tools.pictures.upper.copy()
    upper[:, GAP, :3] //= 8
    return dataclasses.replace(tools.pictures, upper=upper)


@pytest.fixture(scope="module")
def found(tools, closed, gapped) -> MouthPictures:
    """What is found in frames of a person with that gap."""
    person = dataclasses.replace(tools, pictures=gapped).generator(*closed)
    shown = [_shown(person, facs.control(**actions)) for actions in SPOKEN]
    controls = [facs.control(**actions) for actions in SPOKEN]

    def read_actions(landmarks_px: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """What she was told to do: this test is not about how faces are read."""
        near = [np.abs(landmarks_px - points).max() for _, points in shown]
        return controls[int(np.argmin(near))] if min(near) < 1 else facs.rest()

    reader = MouthReader(tools.generator(*closed), tools, read_actions)
    looks = reader.read({n: rgb for n, (rgb, _) in enumerate(shown)}, np.stack([points for _, points in shown]))
    assert len(looks) == len(SPOKEN)
    pictures = lay_rows(looks, tools.pictures)
    assert pictures is not None
    return pictures


def _darkest(upper: np.ndarray) -> float:
    """The middle of the columns in which front teeth are dark."""
    rows = slice(88, 100)
    grey = upper[rows, 90:200, :3].astype(float).mean((0, 2))
    return 90 + float(np.average(np.arange(110), weights=np.clip(0.6 * np.median(grey) - grey, 0, None) + 1e-9))


def test_a_gap_between_teeth_is_found_where_it_is(found):
    assert abs(_darkest(found.upper) - (GAP.start + GAP.stop - 1) / 2) < 5  # px of 40 a centimetre


def test_what_was_found_shows_the_gap_again(tools, closed, gapped, found):
    control = facs.control(AU12=3.5, AU25=3.5)
    shown = {}
    for name, pictures in (("drawn", tools.pictures), ("true", gapped), ("found", found)):
        generator = dataclasses.replace(tools, pictures=pictures).generator(*closed)
        shown[name] = _shown(generator, control)[0].astype(float)
    missing = np.abs(shown["true"] - shown["drawn"]).max(-1) > 60
    assert missing.sum() > 50
    assert (
        np.abs(shown["found"] - shown["true"])[missing].mean()
        < 0.5 * np.abs(shown["drawn"] - shown["true"])[missing].mean()
    )


def test_found_teeth_change_nothing_but_the_opening(closed, tools, found):
    drawn, own = (dataclasses.replace(tools, pictures=p).generator(*closed) for p in (tools.pictures, found))
    at_rest = (_shown(generator, generator.baseline)[0] for generator in (drawn, own))
    np.testing.assert_array_equal(*at_rest)


def test_a_file_of_teeth_is_read_as_it_was_written_and_modest(tmp_path, found):
    write_mouth(tmp_path / MOUTH_FILE, found, source="person.mp4")
    read = MouthPictures.load(tmp_path / MOUTH_FILE)
    for field in dataclasses.fields(found):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(found, field.name))
    assert (tmp_path / MOUTH_FILE).stat().st_size < 1e6


def test_teeth_of_an_impossible_brightness_are_refused(tmp_path, found):
    write_mouth(tmp_path / MOUTH_FILE, dataclasses.replace(found, white=1e9), source="person.mp4")
    with pytest.raises(InputError, match="white 1e"):
        MouthPictures.load(tmp_path / MOUTH_FILE)


def test_teeth_are_as_bright_beside_the_portraits_skin_as_in_the_video(found):
    assert as_bright_as(found, 0.5, 0.75).white == pytest.approx(1.5 * found.white)


def test_a_picture_is_brought_onto_one_that_is_shifted_and_brighter():
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.uniform(0, 255, (120, 160)).astype(np.float32), (0, 0), 4)
    moved = 1.3 * cv2.warpAffine(grey, np.float64([[1.01, 0, 6.4], [0, 0.99, -3.2]]), (160, 120)) + 10
    weight = np.zeros((120, 160), np.float32)
    weight[40:80, 40:120] = 1
    matrix, agreement = align(moved, np.ones_like(weight), grey, weight, 40.0)
    assert agreement > 0.99
    np.testing.assert_allclose(matrix @ [80, 60, 1], [80 * 1.01 + 6.4, 60 * 0.99 - 3.2], atol=0.3)


def test_a_video_without_open_lips_keeps_the_drawn_teeth_and_says_so(tmp_path, closed, caplog):
    write_clip(tmp_path / "silent.mp4", [np.roll(closed[0][:600, :600], n // 3, 1) for n in range(15)])
    with caplog.at_level(logging.WARNING):
        assert take_teeth(tmp_path / "silent.mp4", None, tmp_path / "out", tmp_path / "cache") is None
    assert "silent.mp4 hardly shows teeth" in caplog.text
    assert not (tmp_path / "out").exists()


def test_teeth_that_were_found_before_are_kept(tmp_path, found):
    write_mouth(tmp_path / MOUTH_FILE, found, source="person.mp4")
    kept = take_teeth(tmp_path / "no-such-file.mp4", None, tmp_path, tmp_path / "cache")
    np.testing.assert_array_equal(kept.upper, found.upper)


@pytest.mark.parametrize("texture", ["auto", "on", "off"])
def test_a_folder_with_teeth_alone_shows_them_whatever_repaints(tmp_path, found, texture):
    write_mouth(tmp_path / MOUTH_FILE, found, source="person.mp4")
    options = Options(portrait=PortraitOptions(texture=texture, texture_models=tmp_path))
    np.testing.assert_array_equal(open_mouth(options).upper, found.upper)
    networks = open_texture(options)
    assert (networks is None) == (texture == "off")
    if networks is not None:
        networks.close()


def test_teeth_are_painted_over_only_if_asked(tmp_path, found):
    write_mouth(tmp_path / MOUTH_FILE, found, source="person.mp4")
    for path in DEFAULT_PATH.parent.glob("texture_eye_*.onnx"):
        shutil.copy(path, tmp_path)
    open_texture(Options(portrait=PortraitOptions(texture_models=tmp_path))).close()
    with pytest.raises(InputError, match=r"texture_mouth_portrait\.onnx is missing"):
        open_texture(Options(portrait=PortraitOptions(texture="on", texture_models=tmp_path)))


def test_a_folder_without_teeth_shows_the_packaged_ones(tmp_path):
    assert open_mouth(Options(portrait=PortraitOptions(texture_models=tmp_path))) is None


def test_damaged_teeth_are_refused_in_one_line(tmp_path):
    (tmp_path / MOUTH_FILE).write_bytes(DEFAULT_PATH.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"mouth\.safetensors") as refused:
        open_mouth(Options(portrait=PortraitOptions(texture_models=tmp_path)))
    assert "\n" not in str(refused.value)


def test_a_puppet_shows_the_teeth_that_it_is_given(closed, found):
    portrait = Portrait(closed[0], closed[1], "closed")
    drawn, own = Puppet(portrait), Puppet(portrait, mouth=found)
    assert np.abs(drawn.animate(AU25=4, AU12=3).astype(int) - own.animate(AU25=4, AU12=3)).max() > 40


@pytest.mark.skipif(not CLIP.is_file(), reason=f"{CLIP} is not there: no clip of a real person")
def test_a_real_persons_teeth_are_nearer_to_the_rest_of_the_clip_than_drawn_ones(tmp_path, tools):
    from trainer.teeth_looks import read_box
    from trainer.tracking import track_video

    landmarks = track_video(CLIP, tmp_path)
    views = read_views(CLIP, landmarks, (0.0, 0.5), tools)
    own = lay_rows(views.looks, tools.pictures)
    later = np.array([150, 168, 174, 189, 198, 213, 227])
    frames, moved = read_box(CLIP, landmarks, np.append(later, 94))
    errors = []
    for pictures in (tools.pictures, own):
        generator = dataclasses.replace(tools, pictures=pictures).generator(frames[94], moved[94])
        for n in later:
            weights, pose = solve_motion(generator, moved[n])
            picture = generator.move(weights, pose, facs.rest())
            opening = picture.openings["mouth"]
            x0, y0, x1, y1 = opening.window
            miss = np.abs(picture.rgb[y0:y1, x0:x1].astype(float) - frames[n][y0:y1, x0:x1]).mean(-1)
            errors.append((miss * opening.mask).sum() / opening.mask.sum())
    drawn, found = np.split(np.array(errors), 2)
    assert found.mean() < 0.92 * drawn.mean()
