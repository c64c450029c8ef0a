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


class AuRegressor(nn.Module):
    """Aligned landmarks and head angles to intensities and gaze.

    Inputs are standardised inside, so that the exported graph takes `puppet.estimate.align`'s output as it is.
    """

    def __init__(self, params: RegressorParams) -> None:
        super().__init__()
        inputs = TRACKED_COUNT * 3 + 3
        self.register_buffer("input_mean", torch.zeros(inputs))
        self.register_buffer("input_scale", torch.ones(inputs))
        layers, width = [], inputs
        for hidden in params.hidden:
            layers += [nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(params.dropout)]
            width = hidden
        self.body = nn.Sequential(*layers)
        self.intensities = nn.Linear(width, facs.INTENSITY_COUNT)
        self.gaze = nn.Linear(width, 2)

    def forward(self, landmarks_cm: Tensor, head_rad: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, 478, 3)` and `(N, 3)` to intensities `(N, INTENSITY_COUNT)` (not limited) and gaze `(N, 2)` rad."""
        x = torch.cat([landmarks_cm.flatten(1), head_rad], 1)
        hidden = self.body((x - self.input_mean) * self.input_scale)
        return self.intensities(hidden) * facs.MAX_INTENSITY, self.gaze(hidden)

    def standardise(self, landmarks_cm: np.ndarray, head_rad: np.ndarray) -> None:
        """Take mean and spread from data; coordinates that hardly vary don't get blown up."""
        x = np.concatenate([landmarks_cm.reshape(len(landmarks_cm), -1).astype(np.float32), head_rad], 1)
        self.input_mean.copy_(torch.from_numpy(x.mean(0)))
        self.input_scale.copy_(torch.from_numpy(1 / np.maximum(x.std(0), 0.05)))


def export_onnx(model: AuRegressor, path: Path, metadata: dict[str, str]) -> None:
    """Write the network as ONNX (inputs `landmarks_cm`, `head_rad`; outputs `intensities`, `gaze_rad`), one file."""
    import onnx

    model = model.eval()
    example = (torch.zeros(1, TRACKED_COUNT, 3), torch.zeros(1, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model,
        example,
        str(path),
        input_names=["landmarks_cm", "head_rad"],
        output_names=["intensities", "gaze_rad"],
        dynamic_axes={name: {0: "n"} for name in ("landmarks_cm", "head_rad", "intensities", "gaze_rad")},
        dynamo=False,
    )
    graph = onnx.load(str(path))
    fixed = {"intensities": json.dumps(facs.INTENSITY_NAMES), "gaze": json.dumps(facs.GAZE_NAMES)}
    for key, value in {**fixed, **metadata}.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(graph, str(path))
