"""ONNX graphs in torch: every operator agrees with ONNX Runtime, and networks export and come back."""

import numpy as np
import pytest

import engines
from engines import EngineCache

onnx = pytest.importorskip("onnx", reason="reads ONNX graphs: pip install '.[train]'")
torch = pytest.importorskip("torch", reason="needs torch: pip install '.[torch]'")
from onnx import helper  # noqa: E402
from onnx_models import graph_bytes, model_bytes  # noqa: E402

from engines.model_file import ModelFile  # noqa: E402
from engines.onnx_module import OnnxModule  # noqa: E402
from engines.whole_graph import left_over  # noqa: E402

RANDOM = np.random.default_rng(0)


def constant(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


# name, shape of x, constants in order after x, attributes
CASES = [
    ("Conv", (1, 4, 9, 9), [constant(6, 2, 3, 3), constant(6)], {"group": 2, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("Conv", (1, 2, 8, 8), [constant(3, 2, 3, 3)], {"pads": [0, 1, 2, 1], "dilations": [1, 2]}),
    (
        "ConvTranspose",
        (1, 3, 5, 5),
        [constant(3, 2, 4, 4), constant(2)],
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [4, 4]},
    ),
    ("AveragePool", (1, 2, 6, 6), [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", (1, 2, 6, 6), [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("GlobalAveragePool", (1, 2, 6, 5), [], {}),
    ("InstanceNormalization", (2, 3, 5, 5), [constant(3), constant(3)], {"epsilon": 1e-3}),
    ("LayerNormalization", (2, 3, 5), [constant(5), constant(5)], {"axis": -1}),
    ("BatchNormalization", (2, 3, 4, 4), [constant(3), constant(3), constant(3), abs(constant(3))], {}),
    ("Resize", (1, 2, 4, 6), [None, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ("Resize", (1, 2, 4, 6), [None, None, ints(1, 2, 7, 5)], {"mode": "linear"}),
    (
        "Resize",
        (1, 2, 4, 6),
        [None, np.array([1, 1, 2, 2], np.float32)],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    ("GridSample", (1, 2, 6, 6), [constant(1, 4, 5, 2)], {"mode": "bilinear", "padding_mode": "border"}),
    ("GridSample", (1, 2, 6, 6), [constant(1, 4, 5, 2)], {"align_corners": 1, "padding_mode": "zeros"}),
    ("Gemm", (3, 4), [constant(5, 4), constant(5)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("MatMul", (2, 3, 4), [constant(4, 5)], {}),
    ("Pad", (1, 2, 3, 4), [ints(0, 0, 1, 2, 0, 0, 3, 1), np.float32(0.5)], {"mode": "constant"}),
    ("Pad", (1, 2, 5, 6), [ints(0, 0, 1, 2, 0, 0, 3, 1)], {"mode": "reflect"}),
    ("Pad", (1, 2, 5, 6), [ints(0, 0, 1, 2, 0, 0, 3, 1)], {"mode": "edge"}),
    ("Slice", (4, 6, 5), [ints(1, -3), ints(9, 2**60), ints(0, 2), ints(2, 1)], {}),
    ("Slice", (4, 6), [ints(-1), ints(-(2**60)), ints(1), ints(-2)], {}),
    ("Gather", (4, 6), [ints(2, -1, 0)], {"axis": 1}),
    ("Reshape", (2, 3, 4), [ints(0, -1)], {}),
    ("Transpose", (2, 3, 4), [], {"perm": [2, 0, 1]}),
    ("Unsqueeze", (3, 4), [ints(0, 3)], {}),
    ("Squeeze", (1, 3, 1, 4), [ints(0, -2)], {}),
    ("Expand", (3, 1), [ints(2, 3, 4)], {}),
    ("Tile", (2, 3), [ints(2, 1)], {}),
    ("Flatten", (2, 3, 4), [], {"axis": 2}),
    ("ReduceMean", (2, 3, 4), [ints(1, 2)], {"keepdims": 0}),
    ("ReduceSum", (2, 3, 4), [ints(-1)], {"keepdims": 1}),
    ("ReduceMax", (2, 3, 4), [ints(0)], {}),
    ("ReduceL2", (2, 3, 4), [ints(2)], {}),
    ("Clip", (3, 4), [np.float32(-0.3), np.float32(0.6)], {}),
    ("Clip", (3, 4), [None, np.float32(0.6)], {}),
    ("Softmax", (2, 5), [], {"axis": -1}),
    ("LeakyRelu", (3, 4), [], {"alpha": 0.2}),
    ("PRelu", (2, 3, 4, 4), [constant(3, 1, 1)], {}),
    ("HardSigmoid", (3, 4), [], {"alpha": 0.3}),
    ("HardSwish", (3, 4), [], {}),
    ("Elu", (3, 4), [], {"alpha": 1.5}),
    ("Erf", (3, 4), [], {}),
    ("Softplus", (3, 4), [], {}),
    ("Div", (3, 4), [constant(4)], {}),
    ("Pow", (3, 4), [np.float32(2)], {}),
    ("Max", (3, 4), [constant(4), constant(1)], {}),
    ("Einsum", (2, 3, 4), [constant(2, 4, 5)], {"equation": "bij,bjk->bik"}),
    ("DepthToSpace", (1, 8, 3, 3), [], {"blocksize": 2, "mode": "CRD"}),
]


@pytest.mark.parametrize(
    ("kind", "shape", "constants", "attributes"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_operator_agrees_with_onnx_runtime(tmp_path, kind, shape, constants, attributes):
    names = [f"c{i}" if value is not None else "" for i, value in enumerate(constants)]
    data = graph_bytes(
        [helper.make_node(kind, ["x", *names], ["y"], **attributes)],
        {"x": shape},
        {"y": None},
        {name: np.asarray(value) for name, value in zip(names, constants, strict=True) if name},
    )
    path = tmp_path / "one.onnx"
    path.write_bytes(data)
    x = RANDOM.normal(size=shape).astype(np.float32)
    cache = EngineCache(tmp_path)
    expected = engines.load(path, backend="onnxruntime", cache=cache).run({"x": x})["y"]
    found = engines.load(path, backend="torch", device="cpu", cache=cache).run({"x": x})["y"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_split_gives_all_parts(tmp_path):
    path = tmp_path / "split.onnx"
    path.write_bytes(
        graph_bytes(
            [helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1)],
            {"x": [1, 5]},
            {"a": [1, 2], "b": [1, 3]},
            {"sizes": ints(2, 3)},
        )
    )
    x = np.arange(5, dtype=np.float32)[None]
    result = engines.load(path, backend="torch", device="cpu", cache=EngineCache(tmp_path)).run({"x": x})
    np.testing.assert_array_equal(result["a"], x[:, :2])
    np.testing.assert_array_equal(result["b"], x[:, 2:])


def test_an_operator_it_does_not_know_is_named(tmp_path):
    path = tmp_path / "strange.onnx"
    node = helper.make_node("Hardmax", ["x"], ["y"])
    path.write_bytes(graph_bytes([node], {"x": [1, 4]}, {"y": [1, 4]}, {}))
    with pytest.raises(engines.EngineError, match="operators that the torch engine does not know: Hardmax"):
        engines.load(path, backend="torch", device="cpu", cache=EngineCache(tmp_path))


class SmallNetwork(torch.nn.Module):
    """What a texture network has: convolutions, norms, FiLM, upsampling, sampling, colour and attention."""

    def __init__(self):
        super().__init__()
        self.down = torch.nn.Conv2d(6, 16, 3, stride=2, padding=1)
        self.norm = torch.nn.GroupNorm(4, 16)
        self.film = torch.nn.Linear(5, 32)
        self.up = torch.nn.ConvTranspose2d(16, 8, 4, 2, 1)
        self.out = torch.nn.Conv2d(8, 4, 1)

    def forward(self, image, grid, actions):
        warped = torch.nn.functional.grid_sample(image, grid, align_corners=False, padding_mode="border")
        features = torch.nn.functional.silu(self.norm(self.down(torch.cat([image, warped], 1))))
        gain, bias = self.film(actions)[:, :, None, None].chunk(2, 1)
        out = self.out(torch.nn.functional.leaky_relu(self.up(features * (1 + gain) + bias)))
        colour, attention = torch.sigmoid(out[:, :3]), torch.clamp(out[:, 3:], 0, 1)
        return attention * colour + (1 - attention) * warped, attention


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("onnxscript", reason="exports networks: pip install '.[train]'")
    from engines.export import export_onnx

    torch.manual_seed(0)
    network = SmallNetwork().eval()
    path = tmp_path_factory.mktemp("exported") / "network.onnx"
    inputs = {"image": torch.rand(1, 3, 32, 32), "grid": torch.rand(1, 32, 32, 2) * 2 - 1, "actions": torch.rand(1, 5)}
    worst = export_onnx(network, inputs, ["colour", "attention"], path, metadata={"licence": "MIT"})
    assert worst < 1e-5
    return path, network


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
def test_an_exported_network_gives_what_torch_gives(exported, tmp_path, backend):
    path, network = exported
    engine = engines.load(path, backend=backend, device="cpu", cache=EngineCache(tmp_path))
    assert engine.info.metadata["licence"] == "MIT"
    for _ in range(5):
        arrays = {
            "image": RANDOM.random((2, 3, 32, 32), np.float32),
            "grid": RANDOM.random((2, 32, 32, 2), np.float32) * 2 - 1,
            "actions": RANDOM.random((2, 5), np.float32),
        }
        with torch.no_grad():
            expected = network(*(torch.from_numpy(a) for a in arrays.values()))
        found = engine.run(arrays)
        np.testing.assert_allclose(found["colour"], expected[0].numpy(), atol=2 / 255)
        np.testing.assert_allclose(found["attention"], expected[1].numpy(), atol=2 / 255)


def test_with_fixed_shapes_the_module_is_plain_tensor_code(exported):
    path, network = exported
    module = OnnxModule(ModelFile.read(path)).eval()
    example = (torch.rand(1, 3, 32, 32), torch.rand(1, 32, 32, 2), torch.rand(1, 5))
    module.fix(*example)
    program = torch.export.export(module, example)
    with torch.no_grad():
        for found, expected in zip(program.module()(*example), network(*example), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_lower_precision_stays_close_or_is_refused(exported, tmp_path):
    path, _ = exported
    cache = EngineCache(tmp_path)
    arrays = {
        "image": RANDOM.random((1, 3, 32, 32), np.float32),
        "grid": RANDOM.random((1, 32, 32, 2), np.float32) * 2 - 1,
        "actions": RANDOM.random((1, 5), np.float32),
    }
    full = engines.load(path, backend="torch", device="cpu", cache=cache).run(arrays)["colour"]
    half = engines.load(path, backend="torch", device="cpu", precision="fp16", cache=cache).run(arrays)["colour"]
    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 4 / 255
    # bf16 has 8 bits: too few for the coordinates of a picture.
    with pytest.raises(engines.EngineError, match="refused: output 'colour' is off by"):
        engines.load(path, backend="torch", device="cpu", precision="bf16", cache=cache)


def test_inputs_may_be_read_only_and_results_are_owned(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(model_bytes())
    engine = engines.load(path, backend="torch", device="cpu", cache=EngineCache(tmp_path))
    x = np.ones((1, 4), np.float32)
    x.flags.writeable = False
    result = engine.run({"x": x})["z"]
    assert result.flags.owndata and result.flags.writeable


class FakeTorchTensorRTModule(torch.nn.Module):
    def forward(self, x):
        return x


class Compiled(torch.nn.Module):
    def __init__(self, parts, extra):
        super().__init__()
        self.parts, self.extra = torch.nn.ModuleList(FakeTorchTensorRTModule() for _ in range(parts)), extra

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return torch.relu(x) if self.extra else x


class OnlyParts(torch.fx.Tracer):
    def is_leaf_module(self, module, name):
        return isinstance(module, FakeTorchTensorRTModule)


@pytest.mark.parametrize(
    ("parts", "extra", "expected"),
    [(1, False, []), (2, False, ["several parts"]), (0, False, ["no part"]), (1, True, ["relu"])],
)
def test_a_graph_that_was_not_compiled_as_a_whole_is_noticed(parts, extra, expected):
    module = Compiled(parts, extra)
    found = left_over(torch.fx.GraphModule(module, OnlyParts().trace(module)))
    assert found == expected


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("backend", ["torch", "tensorrt"])
def test_on_a_card_it_agrees_and_comes_back_from_the_cache(exported, tmp_path, backend, precision):
    if backend == "tensorrt":
        pytest.importorskip("torch_tensorrt", reason="needs the tensorrt extra")
    path, _ = exported
    cache = EngineCache(tmp_path)
    arrays = {
        "image": RANDOM.random((1, 3, 32, 32), np.float32),
        "grid": RANDOM.random((1, 32, 32, 2), np.float32) * 2 - 1,
        "actions": RANDOM.random((1, 5), np.float32),
    }
    expected = engines.load(path, backend="onnxruntime", cache=cache).run(arrays)["colour"]
    for _ in range(2):
        engine = engines.load(path, backend=backend, device="cuda", precision=precision, cache=cache)
        found = engine.run(arrays)["colour"]
        np.testing.assert_allclose(found, expected, atol={"fp32": 2, "fp16": 4}[precision] / 255)
