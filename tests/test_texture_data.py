"""Shards and the buffer that training draws from."""

import itertools
import tracemalloc

import numpy as np
import pytest
from texture_shards import FACE_OPENINGS, face_example, mouth_example

from puppet.errors import InputError
from puppet.generate.region import ACTION_COUNT, FACE_SHAPE

pytest.importorskip("webdataset")

from trainer.texture_data import TextureData, stream
from trainer.texture_shards import find_shards, read_shard, shards_of, write_shard

MIB = 2**20


def write_people(folder, people, *, each=4, frames=1):
    for n in range(people):
        examples = [mouth_example(f"person{n}", frames=frames, seed=100 * n + k) for k in range(each)]
        write_shard(folder / "train" / f"{n:03d}.tar", examples)
    return find_shards(folder)


def test_a_shard_gives_back_what_was_written(tmp_path):
    own = mouth_example(frames=2, back=True)
    write_shard(tmp_path / "train" / "a.tar", [own])
    (found,) = read_shard(tmp_path / "train" / "a.tar", "mouth")
    for name in ("moved", "rest", "answer", "actions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(own, name))
    for name, value in vars(own.back).items():
        np.testing.assert_array_equal(getattr(found.back, name), value)
    assert list(read_shard(tmp_path / "train" / "a.tar", "eye")) == []


def test_older_shards_can_still_be_read(tmp_path):
    own = mouth_example(frames=2)
    arrays = {f"mouth.{n}": getattr(own, n) for n in ("moved", "rest", "answer", "actions")}
    np.savez(
        tmp_path / "a.npz", **arrays, **{"mouth.person": np.array(["x", "x"]), "mouth.has_next": np.array([1, 0], bool)}
    )
    (found,) = read_shard(tmp_path / "a.npz", "mouth")
    np.testing.assert_array_equal(found.moved, own.moved)


@pytest.mark.parametrize("name", ["a.tar", "a.npz"])
def test_a_damaged_shard_is_named(tmp_path, name):
    path = tmp_path / "train" / name
    path.parent.mkdir()
    path.write_bytes(b"not a shard" * 100)
    with pytest.raises(InputError, match=rf"{name} can't be read.*python -m trainer prepare"):
        list(read_shard(path, "mouth"))


def test_a_shard_that_was_cut_off_is_named(tmp_path):
    path = tmp_path / "train" / "a.tar"
    write_shard(path, [mouth_example(seed=n) for n in range(3)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"a\.tar can't be read"):
        list(read_shard(path, "mouth"))


def test_a_shard_with_other_actions_is_of_another_version(tmp_path):
    from dataclasses import replace

    own = mouth_example()
    write_shard(tmp_path / "train" / "a.tar", [replace(own, actions=own.actions[:, :-1])])
    with pytest.raises(InputError, match=rf"another version: actions of shape .*expected \(n, {ACTION_COUNT}\)"):
        list(read_shard(tmp_path / "train" / "a.tar", "mouth"))


def test_nothing_for_a_region_says_so(tmp_path):
    shards = write_people(tmp_path, 1)
    with pytest.raises(InputError, match="no examples of the eye"):
        TextureData(shards, "eye")


def test_what_fits_is_held_whole_and_drawn_from_forever(tmp_path):
    data = TextureData(write_people(tmp_path, 3), "mouth", memory_mib=64)
    assert not data.is_endless
    assert (data.count, len(data.persons), len(data.held_out)) == (11, 3, 1)
    assert data.batch(8).moved.shape == (8, 5, 80, 96)


def test_neighbouring_frames_come_together(tmp_path):
    data = TextureData(write_people(tmp_path, 2, frames=2), "mouth")
    assert data.batch(4).pairs.tolist() == [[0, 1]]


def test_more_data_than_memory_streams_through_it_within_the_limit(tmp_path):
    shards = write_people(tmp_path, 24, each=6)
    total = sum(e.nbytes for s in shards for e in read_shard(s, "mouth"))
    limit = 4
    tracemalloc.start()
    data = TextureData(shards, "mouth", memory_mib=limit)
    assert data.is_endless
    for _ in range(40):
        data.batch(4)
        assert data.held_bytes <= limit * MIB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 4 * limit * MIB
    assert peak < 2.5 * limit * MIB
    assert len(data.persons) == 24  # all of it has been through


def test_the_stream_is_in_another_order_each_time_and_the_same_for_the_same_seed(tmp_path):
    shards = write_people(tmp_path, 6, each=1)

    def two_rounds(seed):
        found = itertools.islice(stream(shards, "mouth", seed=[seed]), 14)
        return [e if e is None else e.person for e in found]

    first = two_rounds(0)
    assert first == two_rounds(0) != two_rounds(1)
    assert first[6] is first[13] is None
    assert sorted(first[:6]) == sorted(first[7:13])
    assert first[:6] != first[7:13]


def test_each_process_reads_shards_of_its_own(tmp_path):
    shards = write_people(tmp_path, 5, each=1)
    parts = [TextureData(shards, "mouth", rank=rank, world_size=2).persons for rank in range(2)]
    assert parts[0] | parts[1] == {f"person{n}" for n in range(5)}
    assert not parts[0] & parts[1]
    assert shards_of(shards[:1], rank=1, world_size=2) == shards[:1]  # too few: all read all


def test_workers_read_every_example_once(tmp_path):
    pytest.importorskip("torch")
    shards = write_people(tmp_path, 3, each=2)
    found = list(itertools.takewhile(lambda e: e is not None, stream(shards, "mouth", seed=[0], workers=2)))
    assert sorted(e.person for e in found) == sorted(f"person{n}" for n in range(3) for _ in range(2))


def test_people_who_are_held_out_are_not_trained_on(tmp_path):
    write_shard(tmp_path / "train" / "a.tar", [mouth_example("anna", seed=n) for n in range(3)])
    write_shard(tmp_path / "held-out" / "b.tar", [mouth_example("ben", seed=n) for n in range(2)])
    data = TextureData(find_shards(tmp_path), "mouth")
    assert data.count == 3
    assert {e.person for e in data.held_out} == {"ben"}


def test_an_answer_that_does_not_fit_is_left_out(tmp_path):
    from dataclasses import replace

    own = mouth_example()
    write_shard(tmp_path / "train" / "a.tar", [own, replace(own, answer=255 - own.answer)])
    assert TextureData(find_shards(tmp_path), "mouth").left_out == 1


def test_of_a_whole_face_the_mouth_is_hollowed_and_relit_but_never_the_eyes(tmp_path):
    write_shard(tmp_path / "train" / "a.tar", [face_example(seed=n) for n in range(2)])
    data = TextureData(find_shards(tmp_path), "face")
    batch, group = data.plain([face_example()] * 16), np.arange(16)
    before = (batch.moved.copy(), batch.answer.copy())
    data._relight(batch, group)
    data._hollow(batch, group)
    (x, y), (rows, columns) = FACE_SHAPE.margin, FACE_OPENINGS["mouth"]
    mouth = (slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x))
    for now, then in zip((batch.moved, batch.answer), before, strict=True):
        changed = (now != then).any((0, 1))
        assert changed[mouth].all()
        changed[mouth] = False
        assert not changed.any()


def test_unpaired_pictures_come_beside_the_batch(tmp_path):
    examples = [mouth_example(seed=n) for n in range(3)] + [mouth_example(seed=9, back=True)]
    write_shard(tmp_path / "train" / "a.tar", examples)
    data = TextureData(find_shards(tmp_path), "mouth")
    loop = data.batch(4, unpaired=2).loop
    assert loop.moved.shape == (2, 5, 80, 96)
    assert loop.shown.shape == (2, 80, 96, 2)
    assert data.batch(4).loop is None
