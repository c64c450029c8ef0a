"""Any folder of faces becomes shards: people by folder and name, reasons for what is left out, resumable."""

import csv
import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from texture_shards import mouth_example

from puppet.errors import InputError
from puppet.gallery import demo_portrait

pytest.importorskip("webdataset")

from trainer.disk import DiskError, written_whole
from trainer.example_maker import ExampleMaker
from trainer.face_sources import FaceReader
from trainer.faces_folder import FaceFile, find_faces, person_by_name
from trainer.prepare import PrepareConfig, prepare
from trainer.split import is_held_out
from trainer.texture_shards import check_index, find_shards, read_shard, write_shard


@pytest.mark.parametrize(
    ("file", "person"),
    [
        ("anna/one.mp4", "anna"),
        ("anna/2026/one.mp4", "anna"),
        ("anna-2.mp4", "anna"),
        ("anna (2).jpg", "anna"),
        ("anna.mp4", "anna"),
        ("IMG_1234.jpg", "IMG_1234"),
        ("VID-20260101-0003.mp4", "VID-20260101-0003"),
        ("0012.jpg", "0012"),
    ],
)
def test_a_sub_folder_or_a_name_says_who_it_is(file, person):
    assert person_by_name(Path(file)) == person


def test_a_folder_without_a_manifest_is_searched_to_its_depths(tmp_path):
    for name in ("anna/a.mp4", "ben/x/b.JPG", "carl.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_faces(tmp_path)
    assert [(f.path.name, f.kind, f.person) for f in found] == [
        ("a.mp4", "clip", "anna"),
        ("b.JPG", "still", "ben"),
        ("carl.png", "still", "carl"),
    ]


def test_a_manifest_counts_where_there_is_one(tmp_path):
    (tmp_path / "manifest.csv").write_text("file,use,kind,person\na.mp4,train,clip,ann\nb.mp4,val,clip,bob\n")
    assert [(f.path.name, f.person) for f in find_faces(tmp_path)] == [("a.mp4", "ann")]


@pytest.mark.parametrize(("make", "message"), [(True, "no faces in .*expected pictures"), (False, "is no folder")])
def test_a_folder_without_faces_says_what_is_expected(tmp_path, make, message):
    folder = tmp_path / "faces"
    if make:
        folder.mkdir()
        (folder / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match=message):
        prepare(PrepareConfig(faces_dir=folder, output=tmp_path / "out"))


def write_picture(path, rgb):
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1])


def unusable(name, folder, astronaut):
    """A file of the kind that its name says."""
    path = folder / f"{name}.{'mp4' if name.endswith('clip') else 'png'}"
    grey = np.full((240, 320, 3), 120, np.uint8)
    small = astronaut[:, ::-1][::4, ::4]
    two = np.hstack([astronaut[20:260, 120:340], astronaut[20:260, 120:340]])
    match name:
        case "broken-clip" | "broken":
            path.write_bytes(b"nothing of the kind")
        case "empty-clip":
            write_clip(path, [grey] * 12)
        case "small-clip":
            write_clip(path, [np.pad(small, ((60, 60), (60, 60), (0, 0)), "edge")] * 12)
        case "crowd-clip":
            write_clip(path, [two] * 12)
        case "short-clip":
            write_clip(path, [astronaut] * 3)
        case "blank":
            write_picture(path, grey)
        case "crowd":
            write_picture(path, two)
    return FaceFile(path, "clip" if name.endswith("clip") else "still", "anna")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken-clip", "can't be decoded"),
        ("empty-clip", r"a face in 0 of 12 frames, expected 10"),
        ("short-clip", r"a face in 3 of 3 frames"),
        ("small-clip", r"too small \(\d+ px wide, expected 64|a face in 0 of 12"),
        ("crowd-clip", r"several people \(2 faces at once\)"),
        ("broken", "can't be read"),
        ("blank", "no face"),
        ("crowd", r"several people \(2 faces\)"),
    ],
)
def test_what_cant_be_used_is_named_with_the_reason(tmp_path, astronaut, name, reason):
    file, reader = unusable(name, tmp_path, astronaut), FaceReader(tmp_path / "cache")
    with pytest.raises(InputError, match=reason) as caught:
        (reader.clip if file.kind == "clip" else reader.still)(file)
    assert file.path.name in str(caught.value)


def test_what_is_looked_at_twice_is_tracked_once(tmp_path, astronaut, monkeypatch):
    write_picture(tmp_path / "ben.png", astronaut)
    file, reader = FaceFile(tmp_path / "ben.png", "still", "ben"), FaceReader(tmp_path / "cache")
    first = reader.still(file)
    monkeypatch.setattr("trainer.face_sources.FaceTracker", None)
    again = FaceReader(tmp_path / "cache").still(file)
    np.testing.assert_array_equal(again.landmarks_px, first.landmarks_px)
    write_picture(tmp_path / "ben.png", astronaut[:400])  # another picture of the same name
    with pytest.raises(TypeError):
        FaceReader(tmp_path / "cache").still(file)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, astronaut):
    """A folder with one good clip, one good still and one broken of each, prepared."""
    folder = tmp_path_factory.mktemp("faces")
    head = astronaut[0:300, 80:380]
    write_clip(folder / "anna" / "talk.mp4", [np.roll(head, n // 4, 1) for n in range(14)])
    (folder / "anna" / "broken.mp4").write_bytes(b"nothing")
    write_picture(folder / "ben.png", astronaut)
    (folder / "carl.png").write_bytes(b"nothing")
    config = PrepareConfig(faces_dir=folder, output=folder / "out", cache_dir=folder / "cache", targets=6, portraits=1)
    prepare(config)
    return config


def test_any_folder_becomes_shards_of_both_regions(prepared):
    shards = find_shards(prepared.output)
    regions = {e.region for s in shards for r in ("mouth", "eye") for e in read_shard(s, r)}
    assert regions == {"mouth", "eye"}
    example = next(read_shard(next(s for s in shards if "talk" in s.name), "mouth"))
    assert example.person == "anna"
    assert example.moved.shape[1:] == (96, 128, 5)


def test_whole_faces_are_cut_when_asked_for(prepared):
    config = replace(prepared, output=prepared.output.parent / "whole", regions=("face",), kinds=("clips",))
    prepare(config)
    (shard,) = find_shards(config.output)
    assert list(read_shard(shard, "mouth")) == []
    assert next(read_shard(shard, "face")).moved.shape[1:] == (144, 128, 5)


def test_people_are_split_by_folder(prepared):
    for shard in find_shards(prepared.output):
        for example in read_shard(shard, "mouth"):
            assert (shard.parent.name == "held-out") == is_held_out(example.person) == example.is_held_out


def test_reasons_are_left_beside_the_shards(prepared):
    with open(prepared.output / "left-out.csv", newline="") as file:
        reasons = {Path(row["file"]).name: row["reason"] for row in csv.DictReader(file)}
    assert "can't be decoded" in reasons["broken.mp4"]
    assert "can't be read" in reasons["carl.png"]


def test_preparing_again_makes_only_what_is_missing_and_makes_it_the_same(prepared):
    shards = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in find_shards(prepared.output)}
    lost = next(path for path in shards if "talk" in path.name)
    lost.unlink()
    prepare(prepared)
    assert lost.read_bytes() == shards[lost][0]
    for path, (_, time) in shards.items():
        assert path == lost or path.stat().st_mtime_ns == time


def test_a_folder_in_which_nothing_can_be_used_points_to_the_reasons(tmp_path):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"nothing in .* could be used: .*left-out\.csv"):
        prepare(PrepareConfig(faces_dir=tmp_path / "faces", output=tmp_path / "out", kinds=("clips",)))


def test_shards_of_another_version_are_refused(tmp_path):
    write_shard(tmp_path / "train" / "a.tar", [mouth_example()])
    (tmp_path / "index.json").write_text('{"version": 7, "names": []}')
    with pytest.raises(InputError, match=r"another version: expected 2 .*found version 7.*--output"):
        find_shards(tmp_path)
    with pytest.raises(InputError, match="another version"):
        check_index(tmp_path, for_writing=True)


def test_a_full_disk_is_named_and_leaves_nothing_half_done(tmp_path):
    with pytest.raises(DiskError, match=r"the disk is full.*run the same command again"):
        with written_whole(tmp_path / "a.tar") as part:
            part.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_the_way_back_leads_to_the_picture_itself(tmp_path):
    """A still moved to other actions and carried back by the stored positions is what it was, the opening aside."""
    import cv2

    from puppet import facs
    from trainer.texture_pairs import there_and_back

    maker = ExampleMaker(cache_dir=tmp_path)
    tracked = maker.reader.still(FaceFile(demo_portrait(), "still", "astronaut"))
    own = maker.actions.still(tracked.landmarks_px, tracked.size)
    sampled = own.copy()
    sampled[facs.INDEX["AU26"]] = 3
    made = there_and_back(tracked.rgb, tracked.landmarks_px, own, sampled, maker.tools)
    sample, back = made["mouth"]
    carried = cv2.remap(sample.moved[..., :3], back.shown.astype(np.float32), None, cv2.INTER_LINEAR)
    skin = cv2.dilate(np.maximum(back.moved[..., 3], back.rest_mask), np.ones((9, 9))) == 0
    skin[:6] = skin[-6:] = skin[:, :6] = skin[:, -6:] = False
    unlike = np.abs(carried.astype(float) - sample.answer).mean(-1)[skin].mean()
    moved = np.abs(sample.moved[..., :3].astype(float) - sample.rest[..., :3]).mean(-1)[skin].mean()
    assert unlike < 0.4 * moved
