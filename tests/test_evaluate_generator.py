"""What `python -m trainer evaluate` says of its numbers, and the sheet of portraits."""

import numpy as np
import pytest

from puppet.errors import InputError

pytest.importorskip("torch")
pytest.importorskip("tyro")


def test_columns_are_compared_clip_by_clip_in_the_metrics_own_direction():
    from trainer.evaluate_table import summary

    rows = {
        "a": {
            "mouth_l1": {"warp": 10.0, "motion": 8.0, "texture": 6.0},
            "face_psnr": {"warp": 20.0, "motion": 22.0, "texture": 21.0},
        },
        "b": {
            "mouth_l1": {"warp": 10.0, "motion": 12.0, "texture": 11.0},
            "face_psnr": {"warp": 20.0, "motion": 19.0, "texture": 21.0},
        },
    }
    table = summary(rows)
    assert table["mouth_l1"]["texture"]["mean"] == 8.5
    assert (table["mouth_l1"]["texture"]["worst_clip"], table["mouth_l1"]["texture"]["worst"]) == ("b", 11.0)
    assert table["mouth_l1"]["texture"]["clips_better_than_motion"] == 2
    assert table["mouth_l1"]["texture"]["clips_better_than_warp"] == 1
    assert table["mouth_l1"]["motion"]["clips_better_than_warp"] == 1
    assert table["face_psnr"]["texture"]["clips_better_than_motion"] == 1
    assert table["face_psnr"]["texture"]["worst"] == 21.0


def test_on_the_static_portrait_only_clips_with_motion_count():
    from trainer.evaluate_table import LEAST_MOTION, MOTION, summary

    def row(motion, texture):
        return {"face_psnr": {"static": 20.0, "texture": texture}, MOTION: {"truth": motion}}

    rows = {"rests": row(0.9 * LEAST_MOTION, 19.0), "moves": row(2 * LEAST_MOTION, 21.0), "fails": row(1.0, 19.0)}
    texture = summary(rows)["face_psnr"]["texture"]
    assert (texture["clips_better_than_static"], texture["clips_against_static"], texture["clips"]) == (1, 2, 3)


def test_the_table_tells_the_gain_on_the_plain_warp_beside_the_gain_on_motion(capsys):
    from trainer.evaluate_table import print_table, summary

    print_table(summary({"a": {"mouth_l1": {"warp": 10.0, "motion": 8.0, "texture": 6.0}}}))
    header, _, row = capsys.readouterr().out.splitlines()
    cells = dict(zip(header.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    assert cells["texture on warp"] == "+40.0 %, 1 of 1"
    assert cells["texture on motion"] == "+25.0 %, 1 of 1"


def test_the_whole_face_stands_in_the_table_only_where_it_was_measured(capsys):
    from trainer.evaluate_table import print_table, summary

    row = {"motion": 8.0, "texture": 6.0}
    print_table(summary({"a": {"mouth_l1": row}}))
    assert "whole" not in capsys.readouterr().out
    print_table(summary({"a": {"mouth_l1": row | {"whole": 7.5}}}))
    header, _, numbers = capsys.readouterr().out.splitlines()
    cells = dict(zip(header.strip("| ").split(" | "), numbers.strip("| ").split(" | "), strict=True))
    assert cells["whole on motion"] == "+6.2 %, 1 of 1"
    assert cells["whole on texture"] == "-25.0 %, 0 of 1"


def test_stills_of_people_kept_from_training_are_shown_to_each_other(tmp_path, astronaut):
    import cv2

    from trainer.evaluate_shots import of_held_out_stills
    from trainer.readings import ActionReader
    from trainer.split import is_held_out

    held_out, trained_on = (
        next(f"p{n}" for n in range(99) if is_held_out(f"p{n}") == wanted) for wanted in (True, False)
    )
    for person in (held_out, trained_on):
        (tmp_path / person).mkdir()
        for n in range(2):
            cv2.imwrite(str(tmp_path / person / f"{n}.png"), np.roll(astronaut, 4 * n, 1)[..., ::-1])
    (tmp_path / held_out / "broken.png").write_bytes(b"nothing")
    sequences = list(of_held_out_stills(tmp_path, tmp_path, ActionReader()))
    assert [s.name for s in sequences] == [f"{held_out}-0", f"{held_out}-1"]
    for own, other in (sequences, sequences[::-1]):
        (driver,) = own.drivers
        np.testing.assert_array_equal(driver.rgb, other.portrait.rgb)
        assert not own.is_closing.any()


def test_a_sheet_needs_pictures_and_known_expressions(tmp_path):
    from trainer.sheet import SheetConfig, make_sheet

    with pytest.raises(InputError, match="holds no pictures"):
        make_sheet(SheetConfig(tmp_path))
    (tmp_path / "face.png").write_bytes(b"")
    with pytest.raises(InputError, match="unknown expression 'yawn': expected some of laugh"):
        make_sheet(SheetConfig(tmp_path, expressions=("yawn",)))


def test_a_sheet_shows_a_portrait_moved_and_painted(tmp_path):
    import cv2

    from puppet.gallery import demo_portrait
    from trainer.sheet import SheetConfig, make_sheet

    output = tmp_path / "sheet.png"
    make_sheet(SheetConfig(demo_portrait(), output, expressions=("closed",), tile=64))
    sheet = cv2.imread(str(output)).astype(int)
    assert sheet.shape == (160, 128, 3)
    moved, painted = sheet[:80], sheet[80:]
    assert np.array_equal(moved[:, :64], painted[:, :64])
    assert np.abs(moved[:, 64:] - sheet[:80, :64]).max() > 20


def test_a_plain_warp_draws_nothing_in_openings(demo):
    """Lips that part show teeth in the whole motion step; the plain field only stretches the lips."""
    from puppet import facs
    from puppet.generate.motion import head_pose

    control = facs.control(AU25=5, AU26=4)
    weights, pose = demo.weights_at(control), head_pose(control, demo.field)
    picture = demo.move(weights, pose, control)
    x0, y0, x1, y1 = picture.openings["mouth"].window
    warped, whole = demo.warp(weights, pose)[y0:y1, x0:x1], picture.rgb[y0:y1, x0:x1]
    assert np.abs(warped.astype(int) - whole).mean() > 10
    still = demo.warp(np.zeros_like(weights), head_pose(facs.rest(), demo.field))
    assert np.array_equal(still, demo.canvas.still)


@pytest.fixture(scope="module")
def demo():
    from puppet.gallery import demo_portrait
    from puppet.puppet import Puppet

    puppet = Puppet.load(demo_portrait(), framing="head", read_actions=None)
    yield puppet.generator
    puppet.close()
