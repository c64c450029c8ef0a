import sys

import numpy as np
import pytest

from puppet import facs
from puppet.errors import InputError
from puppet.estimate import align
from puppet.landmarks import TRACKED_COUNT
from puppet.rig import LandmarkRig
from trainer.au_noise import TrackerNoise
from trainer.au_rig import FIELDS, rig_samples
from trainer.au_sampling import mirrored_columns, sample_intensities
from trainer.split import HELD_OUT_PERCENT, is_held_out


@pytest.fixture(scope="module")
def rig():
    return LandmarkRig.load()


@pytest.fixture(scope="module")
def noise(rig):
    from trainer.correspondence import mirror_landmarks

    centred = rig.mean_cm[:468].astype(np.float64)
    mirror = np.r_[mirror_landmarks(centred), [473, 476, 475, 474, 477, 468, 471, 470, 469, 472]]
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 0.02, (40, TRACKED_COUNT, 3)).astype(np.float32)
    return TrackerNoise(errors, np.array([f"person {i}" for i in range(40)]), errors, mirror)


def run_trainer(monkeypatch, *arguments):
    from trainer.__main__ import main

    monkeypatch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
    main()


def test_sampled_actions_are_sparse_and_in_range(rig):
    samples = sample_intensities(np.random.default_rng(0), 2000, rig)
    assert samples.min() >= 0 and samples.max() <= facs.MAX_INTENSITY
    assert (samples > 0.5).mean() < 0.35
    assert (samples > 4).any(0).mean() > 0.9  # strong ones of nearly every action


def test_one_eye_closes_alone_often_enough(rig):
    samples = sample_intensities(np.random.default_rng(0), 2000, rig)
    left, right = (samples[:, facs.INDEX[f"AU45_{side}"]] for side in "LR")
    assert 0.03 < (np.abs(left - right) > 3).mean() < 0.2


def test_lids_are_not_opened_and_closed_at_once(rig):
    samples = sample_intensities(np.random.default_rng(0), 2000, rig)
    closed = samples[:, facs.INDEX["AU45_L"]] > 4.9
    assert samples[closed, facs.INDEX["AU05_L"]].max() < 0.3


def test_mirroring_twice_changes_nothing():
    assert np.array_equal(mirrored_columns()[mirrored_columns()], np.arange(facs.INTENSITY_COUNT))
    assert mirrored_columns()[facs.INDEX["AU12_L"]] == facs.INDEX["AU12_R"]


def test_rig_samples_are_aligned_to_the_mean_head(rig, noise):
    samples = rig_samples(np.random.default_rng(0), 64, rig, noise)
    aligned = align(samples.landmarks_cm * [1, -1, -1], rig.mean_cm[:TRACKED_COUNT].astype(np.float64))
    assert np.allclose(aligned.landmarks_cm, samples.landmarks_cm, atol=1e-3)
    assert all(len(getattr(samples, name)) == 64 for name in FIELDS)


def test_held_out_people_stay_the_same():
    held_out = [is_held_out(f"person {i}") for i in range(2000)]
    assert np.mean(held_out) == pytest.approx(HELD_OUT_PERCENT / 100, abs=0.03)
    assert is_held_out("us-house:house_abigail-spanberger") == is_held_out("us-house:house_abigail-spanberger")


@pytest.mark.parametrize("command", ["rig", "au-photos", "au", "evaluate-au"])
def test_dry_run_reads_and_writes_nothing(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_trainer(monkeypatch, command, "--dry-run", "--faces-dir", tmp_path / "none")
    assert capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["rig", "au-photos", "au", "evaluate-au"])
def test_missing_data_is_one_clear_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    extra = ["--rig-dir", tmp_path] if command == "rig" else []
    with pytest.raises(SystemExit, match=r"^error: .*can't be read.*expected"):
        run_trainer(monkeypatch, command, "--faces-dir", tmp_path / "none", *extra)


def test_labels_folder_without_videos_says_what_was_expected(tmp_path, rig):
    from trainer.openface_labels import labelled_videos

    with pytest.raises(InputError, match=r"NAME.mp4 with OpenFace's NAME.csv"):
        labelled_videos(tmp_path, tmp_path, rig)


def test_training_writes_a_run_folder_and_goes_on_from_it(tmp_path, noise, monkeypatch):
    pytest.importorskip("torch", reason="needs the train extra")
    pytest.importorskip("onnx", reason="needs the train extra")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    np.savez(
        tmp_path / "data/noise.npz",
        systematic=noise.systematic_cm,
        persons=noise.persons,
        jitter=noise.jitter_cm,
        mirror=noise.mirror,
    )
    arguments = [
        *("au", "--photos", "--pool", 256, "--held-out", 64, "--refresh", 0, "--batch", 32, "--evaluate-every", 2),
        *("--steps", 4, "--run-dir", tmp_path / "run", "--output", tmp_path / "model.onnx"),
    ]
    run_trainer(monkeypatch, *arguments)
    written = {p.name for p in (tmp_path / "run").iterdir()}
    assert written == {"config.json", "log.txt", "metrics.csv", "curves.png", "checkpoint.safetensors"}
    (tmp_path / "model.onnx").unlink()
    run_trainer(monkeypatch, *arguments, "--resume", "--steps", 6)
    assert (tmp_path / "run/metrics.csv").read_text().count("\n") == 1 + 3  # evaluations at steps 2, 4 and 6

    import engines

    engine = engines.load(tmp_path / "model.onnx", backend="onnxruntime")
    assert set(engine.inputs) == {"landmarks_cm", "head_rad", "neutral_cm", "has_neutral"}
    assert "MIT" in engine.info.metadata["licence"]
    engine.close()


def test_figures_are_shown_where_no_photographs_were_measured(capsys):
    from trainer.evaluate_au import _print

    read = {"AU12": 0.9, "AU45": 0.8}
    pose = {"yaw": 0.5, "pitch": 0.6, "roll": 0.3}
    _print({"engine": "none", "rig": read, "rig_alone": read, "clips": {}, "pose_mae_deg": pose, "gaze_pearson_rig": 1})
    shown = capsys.readouterr().out
    assert "0.850" in shown and "winks" not in shown
