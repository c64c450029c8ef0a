"""The plain GANimation generator (Pumarola et al. 2018, section 4.1), to compare with: published shape, random weights.

A picture and the wanted action units, spread over planes of their own, go through one network for the whole face:
convolution 7 x 7, two halvings, residual blocks, two doublings, and two heads, colour (tanh) and attention (sigmoid).
Instance norm, with gain and bias, follows every convolution but the heads'. For pictures of 256 it has nine residual
blocks instead of six, as Johnson et al. 2016 and their followers have them. Time depends on the shape alone, so that
the weights may be noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from puppet.errors import InputError

AU_COUNT = 17  # as OpenFace gives them
RESIDUAL_BLOCKS = {128: 6, 256: 9}
_CHANNELS = 64
_OPSET = 17


def write_ganimation(path: Path, size: int, *, seed: int = 0) -> int:
    """Write the network for `size` x `size` pictures as ONNX; the number of its parameters.

    Inputs: `image` `(n, 3, size, size)` -1 to 1, `actions` `(n, AU_COUNT)` 0 to 1. Outputs: `colour`
    `(n, 3, size, size)` -1 to 1, `attention` `(n, 1, size, size)` 0 to 1.

    Raises:
        InputError: the onnx package is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as exc:
        raise InputError('the onnx package is not installed: pip install "puppet-portrait[torch]".') from exc
    graph = _Graph(np.random.default_rng(seed))
    x = _with_planes(graph, size)
    x = graph.block(x, 3 + AU_COUNT, _CHANNELS, 7)
    x = graph.block(x, _CHANNELS, 2 * _CHANNELS, 4, stride=2)
    x = graph.block(x, 2 * _CHANNELS, 4 * _CHANNELS, 4, stride=2)
    for _ in range(RESIDUAL_BLOCKS[size]):
        inner = graph.block(x, 4 * _CHANNELS, 4 * _CHANNELS, 3)
        inner = graph.block(inner, 4 * _CHANNELS, 4 * _CHANNELS, 3, is_active=False)
        x = graph.node("Add", [x, inner])
    x = graph.block(x, 4 * _CHANNELS, 2 * _CHANNELS, 4, stride=2, is_up=True)
    x = graph.block(x, 2 * _CHANNELS, _CHANNELS, 4, stride=2, is_up=True)
    graph.node("Tanh", [graph.convolution(x, _CHANNELS, 3, 7)], "colour")
    graph.node("Sigmoid", [graph.convolution(x, _CHANNELS, 1, 7)], "attention")

    def described(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])

    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(kind, inputs, [output], **attributes)
                for kind, inputs, output, attributes in graph.nodes
            ],
            f"ganimation_{size}",
            [described("image", 3, size, size), described("actions", AU_COUNT)],
            [described("colour", 3, size, size), described("attention", 1, size, size)],
            [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=8,
    )
    helper.set_model_props(model, {"licence": "MIT", "version": "random weights"})
    path.write_bytes(model.SerializeToString())
    return graph.parameters


@dataclass
class _Graph:
    """Nodes and constants of a graph that grows; every method gives the name of what it adds."""

    random: np.random.Generator
    nodes: list[tuple[str, list[str], str, dict]] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    parameters: int = 0

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append((kind, inputs, output, attributes))
        return output

    def constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def convolution(
        self, x: str, channels: int, out_channels: int, kernel: int, *, stride: int = 1, is_up: bool = False
    ) -> str:
        """Without bias, its padding such that a stride of 2 halves (or doubles) exactly."""
        shape = (channels, out_channels, kernel, kernel) if is_up else (out_channels, channels, kernel, kernel)
        # He et al. 2015: values keep their size on the way through.
        scale = np.sqrt(2 / (channels * kernel * kernel))
        weight = self._parameter((self.random.standard_normal(shape) * scale).astype(np.float32))
        pad = (kernel - stride + 1) // 2
        kind = "ConvTranspose" if is_up else "Conv"
        return self.node(kind, [x, weight], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def block(
        self,
        x: str,
        channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        is_up: bool = False,
        is_active: bool = True,
    ) -> str:
        """Convolution, instance norm and, if active, ReLU."""
        x = self.convolution(x, channels, out_channels, kernel, stride=stride, is_up=is_up)
        gain, bias = (self._parameter(np.full(out_channels, value, np.float32)) for value in (1, 0))
        x = self.node("InstanceNormalization", [x, gain, bias], epsilon=1e-5)
        return self.node("Relu", [x]) if is_active else x

    def _parameter(self, array: np.ndarray) -> str:
        self.parameters += array.size
        return self.constant(array)


def _with_planes(graph: _Graph, size: int) -> str:
    """The picture and one plane of each action's value."""
    values = graph.node("Unsqueeze", ["actions", graph.constant(np.array([2, 3], np.int64))])
    planes = graph.node("Expand", [values, graph.constant(np.array([1, 1, size, size], np.int64))])
    return graph.node("Concat", ["image", planes], axis=1)
