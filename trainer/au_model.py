"""The AU regressor: a small multilayer perceptron from aligned landmarks to intensities and gaze."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from puppet import facs
from puppet.landmarks import TRACKED_COUNT
from trainer.au_model_params import RegressorParams
from trainer.au_rig import Samples
from trainer.compression import Compression

HEAD_SCALE = 5.0
"""Brings head angles, rad, to the spread of the other inputs."""


class AuRegressor(nn.Module):
    """Components of aligned landmarks and of the person's resting landmarks, and head angles, to intensities and gaze.

    The exported graph takes `puppet.estimate.align`'s landmarks as they are: `export_onnx` folds the components in.
    """

    def __init__(self, params: RegressorParams) -> None:
        super().__init__()
        count = params.components
        self.register_buffer("mean", torch.zeros(TRACKED_COUNT * 3))
        self.register_buffer("basis", torch.zeros(TRACKED_COUNT * 3, count))
        self.register_buffer("change_scale", torch.ones(count))
        layers, width = [], 2 * count + 4
        for hidden in params.hidden:
            layers += [nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(params.dropout)]
            width = hidden
        self.body = nn.Sequential(*layers)
        self.intensities = nn.Linear(width, facs.INTENSITY_COUNT)
        self.gaze = nn.Linear(width, 2)

    def forward(self, face: Tensor, head_rad: Tensor, neutral: Tensor, has_neutral: Tensor) -> tuple[Tensor, Tensor]:
        """Intensities `(N, INTENSITY_COUNT)` (not limited) and gaze `(N, 2)` rad.

        `face` and `neutral` are components `(N, K)`, `head_rad` `(N, 3)`, `has_neutral` `(N, 1)` 1 or 0; with 0
        `neutral` may be anything finite.
        """
        change = (face - neutral) * self.change_scale * has_neutral
        hidden = self.body(torch.cat([face, change, HEAD_SCALE * head_rad, has_neutral], 1))
        return self.intensities(hidden) * facs.MAX_INTENSITY, self.gaze(hidden)

    def take(self, compression: Compression, samples: Samples) -> None:
        """Keep the components' basis, and scale changes by their spread in compressed samples."""
        self.mean.copy_(torch.from_numpy(compression.mean))
        self.basis.copy_(torch.from_numpy(compression.basis))
        spread = np.nanstd(samples.landmarks_cm - samples.neutral_cm, 0)
        self.change_scale.copy_(torch.from_numpy(1 / np.maximum(spread, 0.1)))


def export_onnx(model: AuRegressor, path: Path, metadata: dict[str, str]) -> None:
    """Write the network as one ONNX file: `landmarks_cm`, `head_rad`, `neutral_cm`, `has_neutral` in, intensities out.

    The graph is written node by node: it is small, and no exporter stands between the weights and the file.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = [], []

    def constant(name: str, value: Tensor | np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def linear(layer: nn.Linear, x: str, output: str, gain: float = 1.0) -> str:
        weight = constant(f"{output}.weight", gain * layer.weight.detach().numpy())
        bias = constant(f"{output}.bias", gain * layer.bias.detach().numpy())
        return node("Gemm", [x, weight, bias], output, transB=1)

    layers = [m for m in model.body if isinstance(m, nn.Linear)]
    count = model.basis.shape[1]
    first = layers[0].weight.detach()
    on_face, on_change, on_rest = (
        first[:, :count],
        first[:, count : 2 * count] * model.change_scale,
        first[:, 2 * count :],
    )
    folded = {"face": model.basis @ on_face.T, "change": model.basis @ on_change.T, "rest": on_rest.T.contiguous()}
    weight = {name: constant(f"input.{name}", value.numpy()) for name, value in folded.items()}

    face = node("Flatten", ["landmarks_cm"], "face", axis=1)
    centred = node("Sub", [face, constant("mean", model.mean)], "centred")
    x = node("Gemm", [centred, weight["face"], constant("input.bias", layers[0].bias.detach().numpy())], "from_face")
    change = node("Sub", [face, node("Flatten", ["neutral_cm"], "neutral", axis=1)], "change")
    change = node("Mul", [change, "has_neutral"], "known_change")
    x = node("Add", [x, node("MatMul", [change, weight["change"]], "from_change")], "from_landmarks")
    head = node("Mul", ["head_rad", constant("head_scale", np.array(HEAD_SCALE, np.float32))], "head")
    rest = node("Concat", [head, "has_neutral"], "rest", axis=1)
    x = node("Add", [x, node("MatMul", [rest, weight["rest"]], "from_rest")], "hidden0")
    for i, layer in enumerate(layers):
        if i:
            x = linear(layer, x, f"hidden{i}")
        x = node("Mul", [x, node("Sigmoid", [x], f"gate{i}")], f"silu{i}")
    linear(model.intensities, x, "intensities", facs.MAX_INTENSITY)
    linear(model.gaze, x, "gaze_rad")

    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])

    inputs = [value(name, TRACKED_COUNT, 3) for name in ("landmarks_cm", "neutral_cm")]
    inputs += [value("head_rad", 3), value("has_neutral", 1)]
    outputs = [value("intensities", facs.INTENSITY_COUNT), value("gaze_rad", 2)]
    graph = helper.make_graph(nodes, "au_regressor", inputs, outputs, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    names = {"intensities": json.dumps(facs.INTENSITY_NAMES), "gaze": json.dumps(facs.GAZE_NAMES)}
    helper.set_model_props(proto, {**names, **metadata})
    onnx.checker.check_model(proto)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, str(path))
