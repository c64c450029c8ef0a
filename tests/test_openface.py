import numpy as np
import pytest

from puppet import facs
from puppet.errors import DeviceError, InputError
from puppet.openface import AU_COLUMNS, HEADER, MAX_LINE, TrackWriter, read_track
from puppet.pose import rotation_from_angles


def write_openface(path, rows=3, columns=None, **values):
    """A CSV as OpenFace writes it: a blank after each comma, only its own columns."""
    gaze_and_pose = ("gaze_angle_x", "gaze_angle_y", "pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz")
    head = ("frame", "face_id", "timestamp", "confidence", "success")
    names = columns or [*head, *gaze_and_pose, *AU_COLUMNS, "AU28_c"]
    defaults = {"confidence": 0.98, "success": 1, "pose_Tz": 600.0}
    lines = [", ".join(names)]
    for i in range(rows):
        row = {"frame": i + 1, "timestamp": i / 25, **{k: v[i] if np.ndim(v) else v for k, v in values.items()}}
        lines.append(", ".join(str(row.get(n, defaults.get(n, 0))) for n in names))
    path.write_text("\n".join(lines) + "\n")
    return path


def random_track(count=40):
    random = np.random.default_rng(0)
    span = facs.HIGH - facs.LOW
    return (facs.LOW + random.random((count, facs.SIZE)) * span).astype(np.float32)


def test_a_log_plays_back_exactly(tmp_path):
    control = facs.clip(random_track())
    writer = TrackWriter(tmp_path / "log.csv")
    for i, row in enumerate(control):
        writer.write(row, frame=i, time_s=i / 30, confidence=0.5, has_face=i != 3)
    writer.close()
    track = read_track(tmp_path / "log.csv")
    np.testing.assert_array_equal(track.control, control)
    assert track.success.tolist() == [i != 3 for i in range(len(control))]
    assert track.fps == pytest.approx(30, rel=1e-3)


def test_the_log_starts_with_openface_columns_in_openface_order():
    assert HEADER[:10] == (
        "frame", "timestamp", "confidence", "success",
        "pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz",
    )  # fmt: skip
    assert HEADER[10:27] == AU_COLUMNS
    assert HEADER[27:] == facs.NAMES


def test_openface_intensities_reach_both_sides(tmp_path):
    track = read_track(write_openface(tmp_path / "of.csv", AU12_r=[0, 2.5, 5]))
    for name in ("AU12_L", "AU12_R"):
        np.testing.assert_allclose(track.control[:, facs.INDEX[name]], [0, 2.5, 5])
    assert track.fps == pytest.approx(25)


@pytest.mark.parametrize(
    ("column", "ours", "sign"), [("pose_Ry", "yaw_rad", -1), ("pose_Rx", "pitch_rad", -1), ("pose_Rz", "roll_rad", 1)]
)
def test_openface_rotation_signs(tmp_path, column, ours, sign):
    track = read_track(write_openface(tmp_path / "of.csv", **{column: 0.3}))
    head = {name: track.control[0, facs.INDEX[name]] for name in ("yaw_rad", "pitch_rad", "roll_rad")}
    assert head.pop(ours) == pytest.approx(sign * 0.3, abs=1e-6)
    assert list(head.values()) == pytest.approx([0, 0], abs=1e-6)


def test_a_combined_rotation_survives_openface_columns(tmp_path):
    control = facs.control(yaw_rad=0.5, pitch_rad=-0.3, roll_rad=0.4)
    writer = TrackWriter(tmp_path / "log.csv")
    writer.write(control, frame=0, time_s=0, confidence=1, has_face=True)
    writer.close()
    header, row = (line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines())
    cut = len(HEADER) - facs.SIZE  # without our own columns
    (tmp_path / "of.csv").write_text(",".join(header[:cut]) + "\n" + ",".join(row[:cut]) + "\n")
    np.testing.assert_allclose(read_track(tmp_path / "of.csv").control, [control], atol=2e-4)


def test_gaze_is_taken_out_of_the_cameras_frame(tmp_path):
    """Eyes on the camera while the head turns left: the eyes are turned right in the head."""
    track = read_track(write_openface(tmp_path / "of.csv", pose_Ry=-0.3))
    assert track.control[0, facs.INDEX["gaze_yaw_rad"]] == pytest.approx(-0.3, abs=1e-6)
    turned = rotation_from_angles(0.3, 0, 0)[:, 2]
    assert turned[0] > 0  # the head's forward axis does point to the picture's right


def test_translation_is_relative_to_the_first_face(tmp_path):
    track = read_track(
        write_openface(tmp_path / "of.csv", success=[0, 1, 1], pose_Tx=[0, 63, 126], pose_Tz=[0, 600, 300])
    )
    shift, scale = track.control[:, facs.INDEX["shift_x"]], track.control[:, facs.INDEX["scale"]]
    np.testing.assert_allclose(shift, [0, 0, 1])
    np.testing.assert_allclose(scale, [1, 1, 2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"AU12_r": [1, 7.5, 1]}, "line 3: AU12_r = 7.5; expected -?0"),
        ({"AU04_r": [1, float("nan"), 1]}, "line 3: AU04_r = nan"),
        ({"AU04_r": ["much"] * 3}, "line 2: AU04_r = 'much' is not a number"),
        ({"timestamp": [0, 0.1, 0.1]}, "line 4: timestamp 0.1 does not increase"),
        ({"pose_Rx": ["inf"] * 3}, "line 2: pose_Rx = inf"),
    ],
)
def test_bad_values_are_named_with_their_line(tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        read_track(write_openface(tmp_path / "of.csv", **values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: [n for n in names if n not in ("AU12_r", "timestamp")], "missing columns timestamp, AU12_r"),
        (lambda names: [*names, "AU99_q", "mood"], "unknown columns AU99_q, mood"),
        (lambda names: [*names, "AU12_r"], "AU12_r are there twice"),
    ],
)
def test_wrong_columns_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_track(write_openface(tmp_path / "of.csv", columns=change(["frame", "timestamp", *AU_COLUMNS])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"frame, timestamp" + b"".join(f", {n}".encode() for n in AU_COLUMNS) + b"\n", "no rows"),
        (
            b"frame, timestamp" + b"".join(f", {n}".encode() for n in AU_COLUMNS) + b"\n1, 2\n",
            "2 cells, but the header",
        ),
        (b"\xff\xfe\x00\x80" * 10, "not a text CSV"),
        (b"a" * (MAX_LINE + 10), "longer than"),
        (b"hello,world\n1,2\n", "unknown columns hello, world"),
    ],
)
def test_files_that_are_no_tracks(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_track(path)


def test_a_missing_file_and_a_folder_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_track(tmp_path / "none.csv")
    with pytest.raises(DeviceError, match="can't be written"):
        TrackWriter(tmp_path / "none" / "log.csv")
