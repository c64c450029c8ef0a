"""A portrait's own networks from a video of its person."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
pytest.importorskip("webdataset")

from clips import write_clip
from texture_shards import config_for

from puppet.errors import InputError
from puppet.gallery import demo_portrait
from puppet.generate.painter import MODELS, TextureNetworks
from trainer import personalise as personal
from trainer.generator import train_generator
from trainer.texture_start import read_networks


def test_a_video_makes_networks_that_begin_as_the_packaged_ones_and_that_the_puppet_loads(
    tmp_path, astronaut, monkeypatch, capsys
):
    monkeypatch.setattr(personal, "_TARGETS", 4)
    monkeypatch.setattr(personal, "_HELD_OUT_TARGETS", 2)
    head = astronaut[0:300, 80:380]
    write_clip(tmp_path / "person.mp4", [np.roll(head, n // 4, 1) for n in range(24)])
    config = config_for(
        tmp_path,
        finetune=tmp_path / "person.mp4",
        portrait=demo_portrait(),
        steps=1,
        minutes=100.0,
        learning_rate=1e-9,
        seed=0,
    )
    train_generator(config)
    folder = tmp_path / "run" / "networks"
    TextureNetworks(folder=folder, engine="onnxruntime").close()
    assert f"--texture-models {folder}" in capsys.readouterr().out
    for region in ("mouth", "eye"):
        before, after = read_networks(MODELS, region), read_networks(folder, region)
        assert after[0] == dataclasses.replace(before[0], relight=0.0)  # one's own mouth is painted freely
        for name, value in before[1].items():
            np.testing.assert_allclose(after[1][name], value, atol=2e-3)


def test_a_video_without_a_face_is_refused_before_anything_is_trained(tmp_path):
    write_clip(tmp_path / "wall.mp4", [np.full((120, 160, 3), 90, np.uint8)] * 12)
    with pytest.raises(InputError, match=r"wall\.mp4: a face in 0 of 12 frames"):
        train_generator(config_for(tmp_path, finetune=tmp_path / "wall.mp4"))
    assert not (tmp_path / "run" / "networks").exists()
