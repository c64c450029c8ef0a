"""A portrait is decoded upright and checked; what can't be animated says why in one line."""

import numpy as np
import pytest
from PIL import Image

from puppet.errors import PortraitError
from puppet.picture import decode, without_frame
from puppet.portrait import Portrait


def _save(path, rgb, **options):
    Image.fromarray(rgb).save(path, **options)
    return path


def test_the_face_is_found_and_lies_in_the_picture(astronaut):
    portrait = Portrait.from_rgb(astronaut)

    low, high = portrait.landmarks_px[:, :2].min(0), portrait.landmarks_px[:, :2].max(0)
    assert portrait.landmarks_px.shape == (478, 3)
    assert 130 < low[0] < high[0] < 330 and 0 < low[1] < high[1] < 260


def test_the_astronauts_kept_landmarks_are_those_that_are_tracked(astronaut, astronaut_portrait):
    tracked = Portrait.from_rgb(astronaut).landmarks_px
    assert np.linalg.norm(tracked - astronaut_portrait.landmarks_px, axis=1).max() < 1.0


def test_the_head_cut_holds_the_same_face_larger_in_the_picture(astronaut):
    portrait = Portrait.from_rgb(astronaut)
    cut = portrait.cut_to_head()

    assert cut.rgb.shape[0] < astronaut.shape[0]
    offset = portrait.landmarks_px - cut.landmarks_px
    assert np.ptp(offset, axis=0).max() < 1e-3
    x0, y0 = offset[0, :2].astype(int)
    height, width = cut.rgb.shape[:2]
    np.testing.assert_array_equal(cut.rgb, astronaut[y0 : y0 + height, x0 : x0 + width])


def test_exif_orientation_is_honoured(tmp_path):
    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn by 90 degrees clockwise
    path = _save(tmp_path / "a.jpg", rgb, exif=exif, quality=95)

    upright = decode(path)

    assert upright.shape == (60, 40, 3)
    assert upright[:, 30].mean() > 250 and upright[:, 10].mean() < 5


def test_a_scans_frame_is_left_out_and_nothing_else(astronaut):
    framed = astronaut.copy()
    framed[:2] = 255
    framed[-3:] = 0
    framed[:, :1] = (200, 230, 220)
    cleared = without_frame(framed)
    np.testing.assert_array_equal(cleared[2:-3, 1:], astronaut[2:-3, 1:])
    np.testing.assert_array_equal(cleared[:2, 1:], np.repeat(astronaut[2:3, 1:], 2, axis=0))
    np.testing.assert_array_equal(cleared[2:-3, 0], astronaut[2:-3, 1])
    assert without_frame(astronaut) is astronaut
    stripes = np.tile(np.array([0, 255], np.uint8)[:, None, None], (32, 64, 3))
    assert without_frame(stripes) is stripes
    tiny = np.zeros((8, 8, 3), np.uint8)
    tiny[0] = 255
    assert without_frame(tiny) is tiny


def test_transparent_pixels_become_mid_grey(tmp_path):
    rgba = np.full((32, 32, 4), 255, np.uint8)
    rgba[:16, :, 3] = 0
    path = _save(tmp_path / "a.png", rgba)

    rgb = decode(path)

    assert (rgb[:16] == 128).all() and (rgb[16:] == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_common_formats_are_read(tmp_path, suffix):
    assert decode(_save(tmp_path / f"a.{suffix}", np.full((20, 30, 3), 90, np.uint8))).shape == (20, 30, 3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PortraitError, match=r"nobody\.jpg does not exist"):
        Portrait.load(tmp_path / "nobody.jpg")


def test_a_file_that_is_no_picture_is_named(tmp_path):
    path = tmp_path / "letter.jpg"
    path.write_text("Dear Sir or Madam")
    with pytest.raises(PortraitError, match=r"letter\.jpg is not a picture"):
        Portrait.load(path)


def test_a_truncated_jpeg_is_refused(tmp_path, astronaut):
    path = _save(tmp_path / "cut.jpg", astronaut)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(PortraitError, match="damaged"):
        Portrait.load(path)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (12_000, 9_000)).save(path)
    with pytest.raises(PortraitError, match=r"108 megapixels: expected at most 40"):
        Portrait.load(path)


def test_one_pixel_has_no_face(tmp_path):
    with pytest.raises(PortraitError, match=r"no face found in dot \(1 x 1 px\)"):
        Portrait.load(_save(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8)))


def test_a_picture_without_a_face_is_refused(tmp_path):
    with pytest.raises(PortraitError, match="no face found"):
        Portrait.load(_save(tmp_path / "wall.png", np.full((200, 200, 3), 180, np.uint8)))


def test_a_small_face_says_how_small_and_how_large_it_must_be(astronaut):
    small = np.array(Image.fromarray(astronaut).resize((256, 256), Image.Resampling.LANCZOS))
    with pytest.raises(PortraitError, match=r"is \d\d px wide: expected at least 64 px"):
        Portrait.from_rgb(small)


def test_a_face_that_does_not_exist_is_refused_with_the_count(astronaut):
    with pytest.raises(PortraitError, match="--face 3 does not exist: 1 found"):
        Portrait.from_rgb(astronaut, face=3)


def test_of_two_faces_the_larger_comes_first(astronaut):
    head = Portrait.from_rgb(astronaut).cut_to_head().rgb
    large = np.array(Image.fromarray(head).resize((400, 400), Image.Resampling.BICUBIC))
    small = np.array(Image.fromarray(head).resize((260, 260), Image.Resampling.BICUBIC))
    both = np.full((400, 660, 3), 200, np.uint8)
    both[:260, :260] = small
    both[:, 260:] = large

    assert Portrait.from_rgb(both).landmarks_px[:, 0].min() > 260
    assert Portrait.from_rgb(both, face=1).landmarks_px[:, 0].max() < 260
