"""Loading a model, running it by name, and what is said when that can't work."""

import subprocess
import sys

import numpy as np
import pytest

import engines
from engines import registry

pytest.importorskip("onnx", reason="writes the test models: pip install '.[train]'")
from onnx import helper
from onnx_models import WEIGHT, graph_bytes, model_bytes, with_outside_weights

BOTH = pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(model_bytes(metadata={"licence": "MIT"}))
    return path


@BOTH
def test_runs_by_name_and_describes_itself(model, backend):
    engine = engines.load(model, backend=backend)
    x = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    result = engine.run({"x": x})
    assert result.keys() == {"y", "z"}
    np.testing.assert_allclose(result["z"], x @ WEIGHT, atol=1e-5)
    np.testing.assert_allclose(result["y"], np.maximum(x @ WEIGHT, 0), atol=1e-5)
    assert engine.inputs["x"].shape == (None, 4)
    assert engine.info.backend == backend
    assert engine.info.threads == 1
    assert engine.info.metadata["licence"] == "MIT"


@BOTH
def test_results_belong_to_the_caller(model, backend):
    engine = engines.load(model, backend=backend)
    first = engine.run({"x": np.ones((1, 4), np.float32)})["z"]
    kept = first.copy()
    engine.run({"x": np.full((1, 4), 9, np.float32)})
    np.testing.assert_array_equal(first, kept)


@BOTH
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pose": np.ones((1, 4), np.float32)}, r"inputs \['pose'\] were given: expected \['x'\]"),
        ({"x": np.ones((1, 4))}, r"input 'x' is float64 \(1, 4\): expected float32 \(any, 4\)"),
        ({"x": np.ones((1, 5), np.float32)}, r"input 'x' is float32 \(1, 5\): expected float32 \(any, 4\)"),
    ],
)
def test_refuses_inputs_that_do_not_fit(model, backend, arrays, message):
    with pytest.raises(engines.EngineError, match=message):
        engines.load(model, backend=backend).run(arrays)


@BOTH
def test_run_after_close_is_an_error_and_close_twice_is_not(model, backend):
    engine = engines.load(model, backend=backend)
    engine.close()
    engine.close()
    with pytest.raises(engines.EngineError, match="run after close"):
        engine.run({"x": np.ones((1, 4), np.float32)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "no graph, version or opset"),
        (lambda data: data[:-1], "1 bytes are missing"),
        (lambda data: data[: len(data) // 2], "bytes are missing"),
        (lambda data: b"GIF89a" + data, "not a complete ONNX model"),
        (lambda data: b"\x80" * 200, "not a complete ONNX model"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, damage, message, capfd):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damage(model_bytes()))
    with pytest.raises(engines.EngineError, match=message) as caught:
        engines.load(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_weights_outside_the_file_are_refused(tmp_path):
    path = tmp_path / "outside.onnx"
    path.write_bytes(with_outside_weights(model_bytes()))
    with pytest.raises(engines.EngineError, match="weights are in another file"):
        engines.load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "caffe"}, "unknown engine 'caffe': expected auto, "),
        ({"precision": "int3"}, "unknown precision 'int3': expected one of auto, fp32, fp16, bf16"),
        ({"threads": 0}, "0 threads: expected 1 or more"),
        ({"backend": "openvino", "device": "npu"}, "OpenVINO has no device 'npu': expected one of cpu"),
        ({"backend": "onnxruntime", "device": "rocm"}, "ONNX Runtime has no device 'rocm'"),
        ({"backend": "onnxruntime", "precision": "fp16"}, "in fp32 only: fp16 was asked for"),
    ],
)
def test_settings_that_can_not_work(model, options, message):
    with pytest.raises(engines.EngineError, match=message):
        engines.load(model, **options)


@pytest.mark.parametrize(("shape", "threads"), [([None, 478, 3], 1), ([1, 3, 256, 256], 2), (["n", 3, 256, 256], 2)])
def test_only_models_that_take_pictures_get_a_second_thread(tmp_path, monkeypatch, shape, threads):
    monkeypatch.setattr(registry.os, "cpu_count", lambda: 8)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph_bytes([helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape}, {}))
    assert engines.load(path, backend="onnxruntime").info.threads == threads


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(engines.EngineError, match=r"nowhere\.onnx does not exist"):
        engines.load(tmp_path / "nowhere.onnx")


def test_a_missing_library_names_the_install_line(model, monkeypatch):
    monkeypatch.setitem(registry.BACKENDS, "absent", "engines.backends.absent:AbsentEngine")
    monkeypatch.setitem(registry.INSTALL, "absent", 'pip install "puppet-portrait[absent]"')
    with pytest.raises(engines.EngineError, match=r'Install it with: pip install "puppet-portrait\[absent\]"'):
        engines.load(model, backend="absent")


def test_importing_engines_loads_no_library():
    libraries = ["openvino", "onnxruntime", "torch", "tensorrt", "onnx"]
    code = f"import sys, engines; sys.exit(', '.join(set({libraries}) & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
