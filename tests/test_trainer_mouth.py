"""The drawn mouth: what its pictures show between and behind the teeth."""

import numpy as np

from trainer.mouth import _close_gaps, _without_roots


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
        kept = _without_roots(picture[turned], is_teeth[turned], layer)[turned]
        assert kept[2:10, ..., 3].max() == 0
        np.testing.assert_array_equal(kept[10:], picture[10:])
