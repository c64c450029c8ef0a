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

HEAD_SCALE = 5.0
"""Brings head angles, rad, to the spread of the other inputs."""


class AuRegressor(nn.Module):
    """Aligned landmarks, the person's resting landmarks and head angles to intensities and gaze.

    Inputs are standardised inside, so that the exported graph takes `puppet.estimate.align`'s output as it is.
    """

    def __init__(self, params: RegressorParams) -> None:
        super().__init__()
        count = TRACKED_COUNT * 3
        self.register_buffer("face_mean", torch.zeros(count))
        self.register_buffer("face_scale", torch.ones(count))
        self.register_buffer("change_scale", torch.ones(count))
        layers, width = [], 2 * count + 4
        for hidden in params.hidden:
            layers += [nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(params.dropout)]
            width = hidden
        self.body = nn.Sequential(*layers)
        self.intensities = nn.Linear(width, facs.INTENSITY_COUNT)
        self.gaze = nn.Linear(width, 2)

    def forward(
        self, landmarks_cm: Tensor, head_rad: Tensor, neutral_cm: Tensor, has_neutral: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Intensities `(N, INTENSITY_COUNT)` (not limited) and gaze `(N, 2)` rad.

        `landmarks_cm` and `neutral_cm` are `(N, 478, 3)`, `head_rad` `(N, 3)`, `has_neutral` `(N, 1)` 1 or 0; with 0
        `neutral_cm` may be anything finite.
        """
        face = landmarks_cm.flatten(1)
        change = (face - neutral_cm.flatten(1)) * self.change_scale * has_neutral
        x = torch.cat([(face - self.face_mean) * self.face_scale, change, HEAD_SCALE * head_rad, has_neutral], 1)
        hidden = self.body(x)
        return self.intensities(hidden) * facs.MAX_INTENSITY, self.gaze(hidden)

    def standardise(self, landmarks_cm: np.ndarray, neutral_cm: np.ndarray) -> None:
        """Take mean and spread from data `(N, 478, 3)`; coordinates that hardly vary don't get blown up."""
        face = landmarks_cm.reshape(len(landmarks_cm), -1)
        change = face - neutral_cm.reshape(len(neutral_cm), -1)
        self.face_mean.copy_(torch.from_numpy(face.mean(0)))
        self.face_scale.copy_(torch.from_numpy(1 / np.maximum(face.std(0), 0.05)))
        self.change_scale.copy_(torch.from_numpy(1 / np.maximum(np.nanstd(change, 0), 0.05)))


def export_onnx(model: AuRegressor, path: Path, metadata: dict[str, str]) -> None:
    """Write the network as one ONNX file: inputs as `forward`, outputs `intensities` and `gaze_rad`.

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

    face = node("Flatten", ["landmarks_cm"], "face", axis=1)
    neutral = node("Flatten", ["neutral_cm"], "neutral", axis=1)
    centred = node("Sub", [face, constant("face_mean", model.face_mean)], "centred")
    scaled = node("Mul", [centred, constant("face_scale", model.face_scale)], "scaled")
    change = node("Sub", [face, neutral], "change")
    change = node("Mul", [change, constant("change_scale", model.change_scale)], "scaled_change")
    change = node("Mul", [change, "has_neutral"], "known_change")
    head = node("Mul", ["head_rad", constant("head_scale", np.array(HEAD_SCALE, np.float32))], "head")
    x = node("Concat", [scaled, change, head, "has_neutral"], "input", axis=1)
    for i, layer in enumerate(m for m in model.body if isinstance(m, nn.Linear)):
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
