"""Building, checking, keeping and choosing engines; with real backends and a deliberately wrong one."""

import dataclasses
import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import engines
from engines import EngineCache, golden, registry
from engines.cache import CacheKey
from engines.protocol import EngineInfo, TensorSpec

pytest.importorskip("onnx", reason="writes the test models: pip install '.[train]'")
from onnx_models import WEIGHT, model_bytes

ONE = {"x": np.ones((1, 4), np.float32)}


class WrongEngine:
    """Runs, but answers `error` more than it should."""

    error = 0.5
    built = 0

    def __init__(self, model, placement, blob=b""):
        type(self).built += not blob
        self.inputs = {"x": TensorSpec((None, 4), np.dtype(np.float32))}
        self.outputs = {name: TensorSpec((None, 3), np.dtype(np.float32)) for name in "yz"}
        self.info = EngineInfo("wrong", placement.device, placement.precision, model.name, "wrong 1.0")

    @staticmethod
    def fingerprint(device):
        return {"wrong": "1.0"}

    def compiled(self):
        return b"compiled"

    def run(self, arrays):
        z = arrays["x"] @ WEIGHT
        return {"y": np.maximum(z, 0), "z": z + np.float32(self.error)}

    def close(self):
        pass


class NearlyRightEngine(WrongEngine):
    error = 1e-4


class CoarseEngine(WrongEngine):
    """Right in fp32; has hardware for bf16, in which it answers `coarse_error` more than it should."""

    coarse_error = 0.5

    def __init__(self, model, placement, blob=b""):
        super().__init__(model, placement, blob)
        self.error = self.coarse_error if placement.precision == "bf16" else 0.0

    @staticmethod
    def fast_precision(device):
        return "bf16"


class FineEngine(CoarseEngine):
    coarse_error = 1e-3


class SilentEngine(WrongEngine):
    error = np.nan


class ShortEngine(WrongEngine):
    def run(self, arrays):
        return {"y": np.zeros((1, 2), np.float32), "z": np.zeros((1, 3), np.float32)}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(model_bytes())
    return path


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "cache")


@pytest.fixture
def made_up(monkeypatch):
    """Register a class as the first engine that `auto` tries."""

    def register(cls):
        cls.built = 0
        monkeypatch.setitem(registry.BACKENDS, "made-up", f"{cls.__module__}:{cls.__name__}")
        monkeypatch.setattr(registry, "AUTO_ORDER", (("made-up", "cpu"), ("onnxruntime", "cpu")))

    return register


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WrongEngine, r"refused: output 'z' is off by 0\.\d+ of its range in fp32: expected at most 0\.0078"),
        (SilentEngine, "refused: output 'z' is not finite"),
        (ShortEngine, r"refused: output 'y' is \(1, 2\): expected \(1, 3\)"),
    ],
)
def test_an_engine_that_answers_wrongly_is_refused_and_not_kept(model, cache, made_up, cls, message):
    made_up(cls)
    with pytest.raises(engines.EngineError, match=message):
        engines.load(model, backend="made-up", cache=cache)
    assert not list(cache.entries())


def test_auto_takes_the_next_and_says_why(model, cache, made_up, caplog):
    made_up(WrongEngine)
    model = model.rename(model.with_name("fallback.onnx"))
    attempts = []
    with caplog.at_level(logging.INFO):
        engine = engines.load(model, cache=cache, attempts=attempts)
    assert engine.info.backend == "onnxruntime"
    assert [(a.backend, a.device) for a in attempts] == [("made-up", "cpu")]
    assert "refused" in attempts[0].reason
    assert "not made-up on cpu: refused" in caplog.records[-1].message


def test_when_none_works_every_reason_is_given(model, cache, made_up, monkeypatch):
    made_up(WrongEngine)
    monkeypatch.setattr(registry, "AUTO_ORDER", (("made-up", "cpu"), ("openvino", "npu")))
    with pytest.raises(engines.EngineError, match=r"made-up on cpu: refused.*openvino on npu: OpenVINO has no device"):
        engines.load(model, cache=cache)


def test_auto_precision_is_the_fast_one_where_it_answers_rightly(model, cache, made_up):
    made_up(FineEngine)
    assert engines.load(model, backend="made-up", precision="auto", cache=cache).info.precision == "bf16"
    assert engines.load(model, backend="made-up", cache=cache).info.precision == "fp32"


def test_auto_precision_is_full_where_the_fast_one_is_wrong_and_remembers_that(model, cache, made_up):
    made_up(CoarseEngine)
    for _ in range(3):
        assert engines.load(model, backend="made-up", precision="auto", cache=cache).info.precision == "fp32"
    assert CoarseEngine.built == 2  # once in each precision
    assert sorted("refused" in entry.content for entry in cache.entries()) == [False, True]
    with pytest.raises(engines.EngineError, match="in bf16"):  # asked for by name it is tried again
        engines.load(model, backend="made-up", precision="bf16", cache=cache)


def test_auto_precision_runs_on_every_backend_of_this_machine(model, cache):
    for backend in ("openvino", "onnxruntime"):
        engine = engines.load(model, backend=backend, precision="auto", cache=cache)
        np.testing.assert_allclose(engine.run(ONE)["z"], ONE["x"] @ WEIGHT, atol=4 / 255)


def test_a_model_may_ask_for_a_tighter_tolerance(tmp_path, cache, made_up):
    made_up(NearlyRightEngine)
    path = tmp_path / "strict.onnx"
    path.write_bytes(model_bytes())
    assert engines.load(path, backend="made-up", cache=cache).info.version == "wrong 1.0"
    path.write_bytes(model_bytes(metadata={"tolerance_fp32": "0.00001"}))
    with pytest.raises(engines.EngineError, match="refused"):
        engines.load(path, backend="made-up", cache=cache)


def test_a_golden_file_beside_the_model_is_the_reference(model, cache):
    z = ONE["x"] @ WEIGHT
    np.savez(model.with_suffix(".golden.npz"), **{"in:x": ONE["x"], "out:z": z})
    engines.load(model, backend="openvino", cache=cache)
    (entry,) = cache.entries()
    assert entry.content["check"]["reference"] == "small.golden.npz"
    np.savez(model.with_suffix(".golden.npz"), **{"in:x": ONE["x"], "out:z": z + 1})
    with pytest.raises(engines.EngineError, match=r"against small\.golden\.npz"):
        engines.load(model, backend="onnxruntime", cache=cache)


def test_golden_files_run_no_code(model, cache):
    np.savez(model.with_suffix(".golden.npz"), **{"in:x": np.array([{"a": 1}], object)})
    with pytest.raises(engines.EngineError, match=r"golden file .* can't be read"):
        engines.load(model, backend="openvino", cache=cache)


@pytest.mark.parametrize("backend", ["openvino", "made-up"])
def test_a_second_load_comes_from_the_cache_without_a_new_check(model, cache, made_up, backend, monkeypatch, caplog):
    made_up(NearlyRightEngine)
    first = engines.load(model, backend=backend, cache=cache).run(ONE)
    caplog.clear()
    monkeypatch.setattr(golden, "check", lambda *_: pytest.fail("checked again"))
    with caplog.at_level(logging.INFO):
        second = engines.load(model, backend=backend, cache=cache).run(ONE)
    assert "building" not in caplog.text
    np.testing.assert_allclose(first["z"], second["z"], atol=1e-6)
    assert NearlyRightEngine.built == (backend == "made-up")


def damage_blob(side_car):
    side_car.with_suffix(".bin").write_bytes(b"\x00" * 100)


def cut_blob(side_car):
    blob = side_car.with_suffix(".bin")
    blob.write_bytes(blob.read_bytes()[:-1])


def damage_side_car(side_car):
    side_car.write_text("{")


def empty_side_car(side_car):
    side_car.write_text("[]")


def foreign_key(side_car):
    content = json.loads(side_car.read_text())
    content["key"]["fingerprint"]["driver"] = "another"
    side_car.write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [damage_blob, cut_blob, damage_side_car, empty_side_car, foreign_key])
def test_a_damaged_or_foreign_entry_is_built_anew_with_one_warning(model, cache, damage, caplog):
    engines.load(model, backend="openvino", cache=cache)
    (entry,) = cache.entries()
    damage(entry.path)
    engine = engines.load(model, backend="openvino", cache=cache)
    np.testing.assert_allclose(engine.run(ONE)["z"], ONE["x"] @ WEIGHT, atol=1e-5)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "It is built anew." in warnings[0]
    caplog.clear()
    engines.load(model, backend="openvino", cache=cache)
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_a_blob_that_the_library_does_not_take_is_built_anew(model, cache, caplog):
    engines.load(model, backend="openvino", cache=cache)
    (entry,) = cache.entries()
    key = CacheKey(**entry.content["key"])
    cache.put(key, b"not openvino", entry.content["check"])
    engines.load(model, backend="openvino", cache=cache)
    assert "does not load" in caplog.text


def test_a_blob_without_its_side_car_is_no_entry(model, cache, caplog):
    engines.load(model, backend="openvino", cache=cache)
    (entry,) = cache.entries()
    entry.path.unlink()
    engines.load(model, backend="openvino", cache=cache)
    assert len(list(cache.entries())) == 1
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


KEY = CacheKey("m.onnx", "a" * 64, "openvino", "cpu", "fp32", {"x": (1, 4)}, 1, {"openvino": "1", "driver": "12.8"})


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "b" * 64},
        {"backend": "tensorrt"},
        {"device": "cuda:1"},
        {"precision": "fp16"},
        {"shapes": {"x": (2, 4)}},
        {"threads": 2},
        {"fingerprint": {"openvino": "2", "driver": "12.8"}},
        {"fingerprint": {"openvino": "1", "driver": "12.9"}},
        {"machine": "Linux aarch64"},
    ],
)
def test_everything_an_engine_depends_on_is_in_its_key(change):
    assert dataclasses.replace(KEY, **change).file_stem != KEY.file_stem


def test_other_weights_are_another_engine(model, cache):
    first = engines.load(model, backend="openvino", cache=cache).run(ONE)["z"]
    model.write_bytes(model_bytes(weight=WEIGHT * 2))
    second = engines.load(model, backend="openvino", cache=cache).run(ONE)["z"]
    np.testing.assert_allclose(second, 2 * first, atol=1e-5)
    assert len(list(cache.entries())) == 2


def test_a_folder_that_can_not_be_written_costs_a_warning_only(model, tmp_path, caplog):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    engine = engines.load(model, backend="openvino", cache=EngineCache(in_the_way / "cache"))
    assert engine.run(ONE)["z"].shape == (1, 3)
    assert len([record for record in caplog.records if "can't be written" in record.message]) == 1


def age(cache, key, days):
    """As if it had been made and used so long ago."""
    then_s = time.time() - days * 86400
    for suffix in (".json", ".bin"):
        os.utime(cache.folder / (key.file_stem + suffix), (then_s, then_s))


def test_engines_that_nobody_used_for_long_go_when_one_is_kept(cache, caplog):
    dead, rare, new = (dataclasses.replace(KEY, model_sha256=name) for name in ("dead", "rare", "new"))
    for key in (dead, rare):
        cache.put(key, b"blob", {})
    for key in (dead, rare):
        age(cache, key, days=40)
    assert cache.get(rare) is not None
    caplog.set_level(logging.DEBUG, logger="engines.cache")
    cache.put(new, b"blob", {})
    assert cache.get(dead) is None and cache.get(rare) is not None and cache.get(new) is not None
    assert caplog.text.count("was not used for 30 days: removed") == 1
    assert {path.stem for path in cache.folder.iterdir()} == {rare.file_stem, new.file_stem}


def test_what_was_used_lately_stays_however_old_it_is(cache):
    old, new = (dataclasses.replace(KEY, model_sha256=name) for name in ("old", "new"))
    cache.put(old, b"blob", {})
    age(cache, old, days=25)
    cache.put(new, b"blob", {})
    assert cache.get(old) is not None
    (entry,) = [entry for entry in cache.entries() if entry.content["key"]["model_sha256"] == "old"]
    assert time.time() - entry.made_s > 24 * 86400 and time.time() - entry.used_s < 3600


def test_clean_removes_engines_and_leftovers(model, cache):
    engines.load(model, backend="openvino", cache=cache)
    (cache.folder / "half.bin.123.part").write_bytes(b"x")
    assert cache.clean() == 1
    assert not list(cache.folder.iterdir())


def test_models_with_small_inputs_stay_on_the_cpu_with_auto(model, cache):
    attempts = []
    engine = engines.load(model, cache=cache, attempts=attempts)
    assert engine.info.device == "cpu"
    assert all("so small" in a.reason for a in attempts if a.device == "cuda")


def test_fixed_shapes_are_compiled_in(model, cache):
    engine = engines.load(model, backend="openvino", shapes={"x": (2, 4)}, cache=cache)
    assert engine.inputs["x"].shape == (2, 4)
    with pytest.raises(engines.EngineError, match=r"expected float32 \(2, 4\)"):
        engine.run(ONE)


@pytest.mark.parametrize("shapes", [{"x": (2, 5)}, {"pose": (1, 4)}, {"x": (4,)}])
def test_shapes_that_do_not_fit_are_refused(model, cache, shapes):
    with pytest.raises(engines.EngineError, match="does not fit: inputs are x: float32"):
        engines.load(model, backend="openvino", shapes=shapes, cache=cache)


def test_engines_may_be_opened_from_several_threads_at_once(tmp_path, cache):
    """OpenVINO alone locks up here."""
    paths = [tmp_path / f"model{i}.onnx" for i in range(4)]
    for i, path in enumerate(paths):
        path.write_bytes(model_bytes(weight=WEIGHT * (i + 1)))
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda path: engines.load(path, backend="openvino", cache=cache), paths))
    for i, engine in enumerate(opened):
        np.testing.assert_allclose(engine.run(ONE)["z"], ONE["x"] @ WEIGHT * (i + 1), atol=1e-4)


def test_survey_names_every_engine_with_a_reason_or_none():
    found = {(a.backend, a.device): a.reason for a in engines.survey()}
    assert list(found) == list(registry.AUTO_ORDER)
    assert found["openvino", "cpu"] is None
    assert found["onnxruntime", "cpu"] is None


def test_the_time_of_a_run_is_measured_at_load(model, cache):
    assert engines.load(model, backend="openvino", cache=cache).info.run_ms > 0
