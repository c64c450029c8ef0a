"""The drawn mouth: what its pictures show between and behind the teeth."""

import numpy as np

from puppet.generate.mouth import MouthPictures
from trainer.mouth import _close_gaps, _light_along, _trimmed


def _row_of_teeth():
    """Two teeth four pixels apart below a gum, with a root above it; `(40, 40)` and `(40, 40, 4)`."""
    picture, is_teeth = np.zeros((40, 40, 4), np.float32), np.zeros((40, 40), bool)
    picture[10:20, 5:35] = (0.6, 0.3, 0.3, 1)
    for columns in (slice(8, 18), slice(22, 32)):
        is_teeth[18:34, columns] = True
    is_teeth[2:10, 12:14] = True
    picture[is_teeth] = (0.9, 0.9, 0.8, 1)
    return picture, is_teeth


def test_no_throat_shows_between_teeth():
    picture, is_teeth = _row_of_teeth()
    closed = _close_gaps(picture, is_teeth, 40.0)
    gap, tooth = closed[25, 20].astype(int), closed[25, 12].astype(int)
    assert gap[3] == 255
    assert 0.4 * tooth[0] < gap[0] < 0.8 * tooth[0]
    assert closed[25, 36, 3] == 0  # beside the row


def test_roots_do_not_stand_out_of_the_gum():
    picture, is_teeth = _row_of_teeth()
    for layer, turned in (("upper", slice(None)), ("lower", slice(None, None, -1))):
        kept = _trimmed(picture[turned], is_teeth[turned], layer)[turned]
        assert kept[2:10, ..., 3].max() == 0
        np.testing.assert_array_equal(kept[10:], picture[10:])


def test_no_gum_shows_beyond_the_edge_of_the_teeth():
    picture, is_teeth = _row_of_teeth()
    behind = picture.copy()
    behind[34:37, 10:16] = (0.6, 0.3, 0.3, 1)
    kept, plain = (_trimmed(one, is_teeth, "upper")[..., 3] for one in (behind, picture))
    np.testing.assert_array_equal(kept, plain)


def test_gums_are_as_light_as_the_teeth_of_their_column():
    columns = np.repeat(np.arange(10, 30), 5)
    light = np.where(columns < 20, 0.8, 0.4)
    along = _light_along(light, columns, 40, sigma_px=1.0)
    np.testing.assert_allclose(along[[0, 12, 27, 39]], (0.8, 0.8, 0.4, 0.4), atol=1e-3)
    assert 0.4 < along[20] < 0.8


def test_no_black_shows_between_the_necks_of_the_packaged_teeth():
    """What is drawn between the canines, teeth or gums, is nowhere darker than a third of the teeth."""
    pictures = MouthPictures.load()
    middle, reach = pictures.upper.shape[1] // 2, int(1.6 * pictures.px_per_cm)
    for row in (pictures.upper, pictures.lower):
        front = row[:, middle - reach : middle + reach]
        drawn = front[front[..., 3] == 255][:, :3].mean(-1)
        assert np.percentile(drawn, 0.5) > np.percentile(drawn, 95) / 3
