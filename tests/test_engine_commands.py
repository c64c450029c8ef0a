import pytest

from engines.__main__ import main

pytest.importorskip("onnx", reason="writes the test models: pip install '.[train]'")
from onnx_models import model_bytes


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "commands.onnx"
    path.write_bytes(model_bytes())
    return path


def test_build_list_clean(model, tmp_path, capsys):
    cache = str(tmp_path / "cache")
    assert main(["build", str(model), "--backend", "openvino", "--cache", cache]) == 0
    assert "engine commands.onnx: openvino" in capsys.readouterr().out
    assert main(["list", "--cache", cache]) == 0
    shown = capsys.readouterr().out
    assert "1 engines" in shown
    words = [line.split() for line in shown.splitlines()]
    assert ["openvino", "cpu", "runs", "here"] in words
    row = next(row for row in words if row[:3] == ["commands.onnx", "openvino", "fp32"])
    assert "s" in row or "min" in row  # its age
    assert words[words.index(row) - 1] == "model backend precision device ms MB age used error against".split()
    assert main(["clean", "--cache", cache]) == 0
    assert "1 engines removed" in capsys.readouterr().out


def test_a_failure_is_one_line_and_exit_code_1(tmp_path, capsys):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no model")
    assert main(["build", str(damaged), "--backend", "openvino"]) == 1
    out = capsys.readouterr().out
    assert "is not a complete ONNX model" in out
    assert out.count("\n") == 1


def test_export_says_what_it_can_not_import(tmp_path, capsys):
    assert main(["export", "os:nothing", str(tmp_path / "out.onnx")]) == 1
    assert "'os:nothing' can't be imported" in capsys.readouterr().err


def test_unknown_options_exit_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["build", "--backend", "abacus"])
    assert caught.value.code == 2
