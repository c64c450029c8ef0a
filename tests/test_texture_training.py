"""Training a texture network: what it learns, what it leaves behind, how it goes on, and what it says when it can't."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
pytest.importorskip("webdataset")

from texture_shards import SMALL, config_for, mouth_example  # noqa: E402

from puppet.errors import ConfigError, InputError  # noqa: E402
from trainer.generator import LossWeights, train_generator  # noqa: E402
from trainer.texture_params import TextureParams  # noqa: E402
from trainer.texture_shards import write_shard  # noqa: E402


@pytest.fixture
def shards(tmp_path):
    for n in range(4):
        examples = [mouth_example(f"person{n}", frames=1 + k % 2, seed=10 * n + k) for k in range(3)]
        write_shard(tmp_path / "train" / f"{n}.tar", [*examples, mouth_example(f"person{n}", seed=99, back=True)])
    write_shard(tmp_path / "held-out" / "a.tar", [mouth_example("zoe", seed=n) for n in range(2)])
    return tmp_path


def curves(run):
    names, *rows = (run / "curves.csv").read_text().splitlines()
    return [dict(zip(names.split(","), row.split(","), strict=True)) for row in rows]


def weights(run, prefix="network."):
    from safetensors.torch import load_file

    found = load_file(run / "checkpoint.safetensors")
    return {name: value for name, value in found.items() if name.startswith(prefix)}


def test_training_learns_the_opening_and_leaves_a_run_that_explains_itself(shards):
    train_generator(config_for(shards, steps=30, sample_every=15, learning_rate=2e-2))
    run = shards / "run"
    first, last = curves(run)
    assert float(last["reconstruction"]) < 0.7 * float(first["reconstruction"])
    assert json.loads((run / "config.json").read_text())["steps"] == 30
    for name in ("samples-000030.png", "curves.png", "log.txt", "checkpoint.safetensors", "texture_mouth_paint.onnx"):
        assert (run / name).is_file()


def test_the_same_seed_gives_the_same_weights(shards):
    runs = [shards / "one", shards / "two", shards / "other"]
    for run, seed in zip(runs, (3, 3, 4), strict=True):
        train_generator(config_for(shards, run_dir=run, seed=seed))
    one, two, other = (weights(run) for run in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_goes_on_from_its_checkpoint(shards):
    train_generator(config_for(shards))
    train_generator(config_for(shards, steps=6, resume=True))
    assert [row["step"] for row in curves(shards / "run")] == ["2", "4", "6"]


def test_critic_and_cycle_take_part_and_go_on(shards):
    loss = LossWeights(critic=0.1)
    train_generator(config_for(shards, critic_after=1, unpaired=2, critic_steps=2, loss=loss))
    assert {"critic", "critic_actions", "critic_loss", "cycle", "cycle_attention"} <= set(curves(shards / "run")[0])
    train_generator(config_for(shards, steps=6, critic_after=1, unpaired=2, loss=loss, resume=True))
    assert any(name.startswith("critic_optimiser.") for name in weights(shards / "run", "critic"))


def test_half_precision_trains_where_the_device_has_it(shards):
    train_generator(
        config_for(shards, steps=2, precision="bf16-mixed", critic_after=1, unpaired=1, loss=LossWeights(critic=0.1))
    )
    assert all(np.isfinite(float(row["reconstruction"])) for row in curves(shards / "run"))


def test_training_starts_from_networks_as_they_are_packaged(shards):
    from trainer.texture_start import read_networks

    train_generator(config_for(shards, learning_rate=1e-2))
    params, found = read_networks(shards / "run", "mouth")
    assert params == TextureParams(**SMALL).of("mouth")
    for name, value in weights(shards / "run", "ema.").items():
        if not name.endswith("fade"):
            np.testing.assert_allclose(found[name.removeprefix("ema.")], value.numpy(), rtol=1e-3, atol=1e-5)
    train_generator(config_for(shards, run_dir=shards / "next", start=shards / "run", steps=1, learning_rate=1e-9))
    again = weights(shards / "next")
    for name, value in found.items():
        np.testing.assert_allclose(again[f"network.{name}"].numpy(), value, atol=1e-6)


def test_a_smaller_network_learns_to_paint_like_a_larger_one(shards):
    """What the teacher paints is not the answer: it was taught on lighter openings."""
    for n in range(4):
        write_shard(shards / "train" / f"{n}.tar", [mouth_example(f"person{n}", seed=10 * n, light=30)])
    train_generator(config_for(shards, steps=100, learning_rate=1e-2))
    for n in range(4):
        write_shard(shards / "train" / f"{n}.tar", [mouth_example(f"person{n}", seed=10 * n, light=0)])
    only_teacher = LossWeights(reconstruction=0, colour=0, attention=0, attention_variation=0, temporal=0)
    small = TextureParams(**(SMALL | dict(fold=4, near=6)))
    train_generator(
        config_for(
            shards, run_dir=shards / "pupil", teacher=shards / "run", steps=100, learning_rate=1e-2, network=small,
            loss=only_teacher,
        )
    )  # fmt: skip
    rows = curves(shards / "pupil")
    assert float(rows[-1]["teacher"]) < 0.5 * float(rows[0]["teacher"])
    from trainer.texture_start import read_networks

    assert read_networks(shards / "pupil", "mouth")[0] == small.of("mouth")


def test_the_packaged_networks_can_be_started_from():
    from puppet.generate.painter import MODELS
    from puppet.generate.region import PACKAGED, SHAPES
    from trainer.texture_model import RegionNetwork
    from trainer.texture_start import read_networks

    for region in PACKAGED:
        params, found = read_networks(MODELS, region)
        state = RegionNetwork(params, SHAPES[region]).state_dict()
        assert set(found) == {name for name in state if not name.endswith("fade")}
        assert all(tuple(state[name].shape) == value.shape for name, value in found.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(network=TextureParams(near=12), resume=True), r"does not fit \(near 8 \(here 12\)"),
        (dict(region="eye", resume=True), r"region mouth \(here eye\)|no examples of the eye"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_and_says_in_what_it_differs(shards, changes, message):
    train_generator(config_for(shards))
    with pytest.raises(InputError, match=message):
        train_generator(config_for(shards, **changes))


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), (b"no checkpoint", "can't be read")])
def test_a_missing_or_damaged_checkpoint_is_named(shards, content, message):
    if content is not None:
        (shards / "run").mkdir()
        (shards / "run" / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=rf"checkpoint\.safetensors {message}.*without --resume"):
        train_generator(config_for(shards, resume=True))


def test_networks_of_other_sizes_are_refused_as_a_start(shards):
    train_generator(config_for(shards))
    with pytest.raises(InputError, match=r"has other sizes .*--network"):
        train_generator(config_for(shards, run_dir=shards / "b", start=shards / "run", network=TextureParams(near=12)))


def test_a_folder_without_networks_is_refused_as_a_start(shards):
    with pytest.raises(InputError, match=r"texture_mouth_portrait\.onnx can't be read.*--start"):
        train_generator(config_for(shards, start=shards))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(finetune="a.safetensors"), "is a checkpoint: expected a video.*--start"),
        (dict(portrait="a.jpg"), "--portrait is for --finetune"),
        (dict(region="eye", network=TextureParams(fold=4)), "--network.fold 4: expected one.*eye's crop, 72 x 48"),
        (dict(resume=True, start="runs/a"), "--resume and --start exclude each other"),
        (dict(batch=0), "--batch 0: expected 1 or more"),
        (dict(sample_every=0), "--sample-every 0: expected 1 or more"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, changes, message):
    from pathlib import Path

    changes = {k: Path(v) if k in ("finetune", "portrait", "start") else v for k, v in changes.items()}
    with pytest.raises(ConfigError, match=message):
        train_generator(config_for(tmp_path, **changes))


@pytest.mark.parametrize("made", [False, True])
def test_a_missing_or_empty_data_folder_names_the_command_that_fills_it(tmp_path, made):
    folder = tmp_path / "data"
    if made:
        folder.mkdir()
    with pytest.raises(InputError, match=r"no shards in .*python -m trainer prepare"):
        train_generator(config_for(folder))


def test_a_loss_that_is_no_number_stops_names_the_step_and_keeps_the_checkpoint(shards):
    train_generator(config_for(shards))
    before = (shards / "run" / "checkpoint.safetensors").read_bytes()
    broken = LossWeights(temporal=float("nan"))
    with pytest.raises(InputError, match=r"no number at step 5 \(temporal\).*of step 4, is .*--resume and a lower"):
        train_generator(config_for(shards, steps=9, resume=True, loss=broken))
    assert (shards / "run" / "checkpoint.safetensors").read_bytes() == before


def test_an_interrupted_run_saves_and_says_how_to_go_on(shards, monkeypatch, caplog):
    from trainer import texture_loop

    whole = texture_loop._Run.step

    def interrupted(self, step, done):
        if step == 4:
            raise KeyboardInterrupt
        return whole(self, step, done)

    monkeypatch.setattr(texture_loop._Run, "step", interrupted)
    train_generator(config_for(shards, steps=6))
    assert "interrupted at step 4, saved: go on with --resume --run-dir" in caplog.text
    monkeypatch.undo()
    train_generator(config_for(shards, steps=6, resume=True))
    assert [row["step"] for row in curves(shards / "run")] == ["2", "4", "6"]


@pytest.mark.parametrize(
    "exc",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_names_the_settings_to_lower(shards, monkeypatch, exc):
    from trainer import texture_loop

    def full(*_):
        raise exc

    monkeypatch.setattr(texture_loop._Run, "step", full)
    with pytest.raises(InputError, match=r"out of memory at step 1: lower --batch \(now 4\), or --memory-mib"):
        train_generator(config_for(shards))


def test_a_full_disk_keeps_the_checkpoint_that_was_there(shards, monkeypatch):
    from trainer import texture_checkpoint

    train_generator(config_for(shards))
    before = (shards / "run" / "checkpoint.safetensors").read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(texture_checkpoint, "save_file", full)
    with pytest.raises(InputError, match=r"the disk is full.*--resume"):
        train_generator(config_for(shards, steps=6, resume=True))
    assert (shards / "run" / "checkpoint.safetensors").read_bytes() == before


TWO = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from trainer import texture_loop
from trainer.generator import LossWeights, train_generator
from texture_shards import config_for

kept = {}
whole = texture_loop._Run.__init__

def remember(self, config, data, fabric):
    whole(self, config, data, fabric)
    kept["run"], kept["persons"] = self, sorted(data.persons)

texture_loop._Run.__init__ = remember
folder, changes = Path(sys.argv[1]), json.loads(sys.argv[2])
train_generator(config_for(folder, loss=LossWeights(critic=0.1), critic_after=1, unpaired=1, **changes))
run = kept["run"]
tensors = {f"network.{k}": v for k, v in run.network.state_dict().items()}
tensors |= {f"critic.{k}": v for k, v in run.critic.state_dict().items()}
tensors |= {f"ema.{k}": v.clone() for k, v in run.ema.state_dict().items()}
rank = run.fabric.global_rank
save_file(tensors, folder / f"rank{rank}.safetensors", metadata={"persons": ",".join(kept["persons"])})
"""


def two_processes(folder, **changes):
    """Weights and people of each of two processes, started as torchrun does."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    script = folder / "two.py"
    script.write_text(TWO)
    paths = os.pathsep.join([os.getcwd(), os.path.dirname(__file__)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(script), str(folder), json.dumps(changes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = []
    for rank in range(2):
        path = folder / f"rank{rank}.safetensors"
        with safe_open(path, framework="pt") as file:
            found.append((load_file(path), set(file.metadata()["persons"].split(","))))
    return found


def test_two_processes_see_other_data_hold_the_same_weights_and_go_on(shards):
    """DDP over gloo on the CPU, by torchrun."""
    (one, people), (two, others) = two_processes(shards, steps=3, sample_every=3)
    assert not people & others - {"zoe"}
    assert all(torch.equal(one[name], two[name]) for name in one)
    (later, _), (beside, _) = two_processes(shards, steps=5, sample_every=5, resume=True)
    assert all(torch.equal(later[name], beside[name]) for name in later)
    assert not all(torch.equal(later[name], one[name]) for name in one)
    assert [row["step"] for row in curves(shards / "run")] == ["3", "5"]
    assert (shards / "run" / "texture_mouth_paint.onnx").is_file()
