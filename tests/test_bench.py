"""`python -m puppet bench`, the network it compares with, and whether engines agree on the program's own inputs."""

import json
from pathlib import Path

import numpy as np
import pytest

import engines
from puppet import cli, facs
from puppet.bench import parity
from puppet.bench.ganimation import AU_COUNT, write_ganimation
from puppet.bench.table import build_table
from puppet.stats import Stats


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A short run on one engine, through the command line."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    args = ["bench", "--seconds", "0.5", "--engine", "openvino", "--starts", "1", "--parity", "1"]
    assert cli.main([*args, "--size", "128x128", "--no-ganimation", "--output", str(path)]) == 0
    return json.loads(path.read_text())


def test_stages_rates_and_latency_of_every_variant_are_reported(report):
    assert [v["name"] for v in report["variants"]] == [
        "openvino",
        "openvino +lids",
        "openvino +lids +mouth",
        "openvino +lids +record",
    ]
    for variant in report["variants"]:
        stages = variant["in_order"]["stages_ms"]
        assert {"decode", "track", "estimate", "perform", "render", "publish"} <= set(stages)
        assert all(stage["p50"] <= stage["p95"] for stage in stages.values())
        assert variant["in_order"]["fps"] > 0
        assert variant["in_order"]["frames"]["dropped"] == 0
        assert variant["live"]["frames"]["out"] > 0
        assert variant["live"]["capture_to_publish_ms"]["p95"] > 0
        alone = variant["alone"]["stages_ms"]
        assert 0 < alone["processor"]["p50"]
        parts = set(alone) - {"render", "encode", "processor"}
        assert parts and sum(alone[part]["p50"] for part in parts) < 2 * alone["render"]["p95"]
    assert "encode" in report["variants"][3]["alone"]["stages_ms"]


def test_starts_memory_versions_and_hardware_are_reported(report):
    assert {(s["cache"], s["texture"]) for s in report["starts"]} == {
        ("cold", "off"),
        ("cold", "auto"),
        ("warm", "off"),
        ("warm", "auto"),
    }
    assert report["import"]["loaded"] == []
    assert {"python", "openvino", "mediapipe"} <= set(report["versions"])
    assert report["hardware"]["cores"] >= 1


def test_networks_and_their_agreement_are_reported(report):
    names = {"au_regressor", "texture_eye_paint", "texture_mouth_paint"}
    assert names <= {network["network"] for network in report["networks"]}
    found = [one for one in report["parity"] if one["precision"] == "fp32"]
    assert names <= {one["network"] for one in found}
    assert all(one["is_within"] for one in found)


def test_the_table_has_a_column_a_variant_and_no_empty_row(report):
    table = build_table(report, (128, 128))
    assert [str(column.header) for column in table.columns][1:] == [v["name"] for v in report["variants"]]
    titles = [str(cell) for cell in table.columns[0].cells]
    assert {"frames a second", "capture to publish, ms", "encode H.264, ms", "peak memory, MiB"} <= set(titles)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--seconds 0", "--seconds 0: expected 0.5 to 600"),
        ("--engine abacus", "--engine 'abacus': expected one of"),
        ("--size 10", "--size '10' is not a size"),
        ("--output bench.txt", "expected a name that ends in .json"),
        ("--starts -1", "--starts -1: expected 0 or more"),
        ("--whole-parity -1", "--whole-parity -1: expected 0 or more"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(capsys, args, message):
    assert cli.main(["bench", *args.split()]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_clip_is_named(capsys):
    assert cli.main(["bench", "--driver", "none.mp4", "--engine", "onnxruntime"]) == 1
    assert "--driver none.mp4: no such file" in capsys.readouterr().err


def test_statistics_of_slices_add_up():
    whole, part = Stats(), Stats()
    for stats in (whole, part):
        stats.add("track", 1.0)
        stats.frames_in += 2
    whole.absorb(part)
    report = whole.report()
    assert (report["stages_ms"]["track"]["count"], report["frames"]["in"]) == (2, 4)


# Convolutions as in the paper's figure, instance norms with gain and bias: counted by hand.
@pytest.mark.parametrize(("size", "parameters"), [(128, 8_471_296), (256, 12_013_312)])
def test_the_plain_generator_is_the_published_one(tmp_path, size, parameters):
    pytest.importorskip("onnx", reason="writes the graph: pip install '.[torch]'")
    path = tmp_path / "ganimation.onnx"
    assert write_ganimation(path, size) == parameters
    if size != 128:
        return
    engine = engines.load(path, backend="onnxruntime")
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, size, size)).astype(np.float32)
    rested, acted = (
        engine.run({"image": image, "actions": np.full((1, AU_COUNT), value, np.float32)}) for value in (0, 1)
    )
    assert rested["colour"].shape == image.shape and rested["attention"].shape == (1, 1, size, size)
    assert -1 <= rested["colour"].min() < -0.5 and 0.5 < rested["colour"].max() <= 1
    assert 0 <= rested["attention"].min() < 0.4 and 0.6 < rested["attention"].max() <= 1
    assert np.abs(rested["colour"] - acted["colour"]).mean() > 0.01  # actions reach the picture


def test_random_controls_stay_in_range():
    controls = np.stack([parity.random_control(np.random.default_rng(i)) for i in range(20)])
    assert (controls >= facs.LOW).all() and (controls <= facs.HIGH).all()
    assert controls[:, facs.INDEX["AU26"]].std() > 1


def check_parity(count, portraits):
    inputs = parity.collect_inputs(count, portraits=portraits, seed=7)
    assert {path.stem for path in inputs} == {path.stem for path in parity.MODEL_PATH.parent.glob("*.onnx")}
    works = [(a.backend, a.device) for a in engines.survey() if a.reason is None]
    results = parity.compare(inputs, [(*place, precision) for place in works for precision in ("fp32", "fp16")])
    ran = [one for one in results if one.max_error is not None]
    assert not [one for one in ran if not one.is_within]
    # Every engine that works here runs every network in fp32; others of its precisions may not exist.
    assert len([one for one in ran if one.precision == "fp32"]) == len(works) * len(inputs)
    return results


def check_whole_pictures(places, portraits, count, cache=None):
    pytest.importorskip("torch", reason="needs torch: pip install '.[torch]'")
    results = parity.compare_generators(portraits, places, count=count, size=(128, 128), cache=cache)
    assert [(one.engine, one.device) for one in results] == places
    assert all(one.is_within and one.inputs == count for one in results)
    return results


def test_whole_pictures_of_an_engine_are_compared_with_torchs():
    (one,) = check_whole_pictures([("torch", "cpu")], [parity.demo_portrait()], count=2)
    assert one.max_error == 0


def test_an_engine_that_does_not_draw_whole_pictures_says_why(monkeypatch):
    class Refused(parity.DeviceGenerator):
        def __init__(self, generator, *, engine, **options):
            if engine != "torch":
                raise engines.EngineError(f"{engine} does not take generator")
            super().__init__(generator, engine=engine, **options)

    monkeypatch.setattr(parity, "DeviceGenerator", Refused)
    pytest.importorskip("torch", reason="needs torch: pip install '.[torch]'")
    (one,) = parity.compare_generators([parity.demo_portrait()], [("openvino", "cpu")], count=1, size=(128, 128))
    assert not one.is_within and one.reason == "openvino does not take generator"


@pytest.mark.slow
def test_engines_agree_on_whole_pictures(tmp_path):
    works = [(a.backend, a.device) for a in engines.survey() if a.reason is None]
    check_whole_pictures(works, [parity.demo_portrait()], count=10, cache=engines.EngineCache(tmp_path))


def test_engines_agree_on_random_portraits_and_controls():
    check_parity(3, ())


@pytest.mark.slow
def test_engines_agree_on_fifty_random_portraits_and_controls():
    check_parity(50, sorted((Path(__file__).parents[2] / "shared" / "faces" / "portraits").glob("*.[jp]*g")))
