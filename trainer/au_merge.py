"""`python -m trainer au-merge`: several AU regressors as one model that gives their mean.

Regressors that were trained with other seeds and shares of sources err differently, on real faces most of all; the mean
of a few is better than each (Breiman 1996) and still takes half a millisecond.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from puppet.errors import InputError
from puppet.estimate import MODEL_PATH
from trainer.onnx_half import store_halves


@dataclass(frozen=True)
class MergeConfig:
    """Merge AU regressors into one that gives their mean."""

    models: tuple[Path, ...]
    """ONNX files made by `python -m trainer au`."""
    output: Path = MODEL_PATH
    """ONNX file that is written."""
    dry_run: bool = False
    """Print what would be merged and stop."""


def merge(config: MergeConfig) -> None:
    """Write the merged model, its weights in half precision.

    Raises:
        InputError: a file is missing or is not such a regressor, or they do not take and give the same.
    """
    import onnx
    from onnx import compose, helper

    if config.dry_run:
        print(f"would merge {', '.join(map(str, config.models))} into {config.output}")
        return
    models = []
    for path in config.models:
        try:
            models.append(onnx.load(path))
        except (OSError, ValueError) as exc:
            raise InputError(f"{path} can't be read ({exc}): expected a model made by `python -m trainer au`.") from exc
    first = models[0]
    if any(_interface(model) != _interface(first) for model in models):
        raise InputError("these models do not take and give the same: train them with one version of the trainer.")
    outputs = [output.name for output in first.graph.output]
    nodes, weights = [], []
    for i, model in enumerate(models):
        graph = compose.add_prefix(model, f"member{i}.", rename_inputs=False).graph
        nodes += graph.node
        weights += graph.initializer
    for name in outputs:
        members = [f"member{i}.{name}" for i in range(len(models))]
        nodes.append(helper.make_node("Sum", members, [f"{name}.sum"]))
        nodes.append(helper.make_node("Mul", [f"{name}.sum", "share"], [name]))
    weights.append(helper.make_tensor("share", onnx.TensorProto.FLOAT, [], [1 / len(models)]))
    graph = helper.make_graph(nodes, "au_regressor", first.graph.input, first.graph.output, weights)
    merged = helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)
    for entry in first.metadata_props:
        if entry.key != "config":
            merged.metadata_props.add(key=entry.key, value=entry.value)
    configs = [{p.key: p.value for p in model.metadata_props}.get("config", "{}") for model in models]
    merged.metadata_props.add(key="config", value=json.dumps([json.loads(text) for text in configs]))
    onnx.checker.check_model(merged)
    onnx.save(merged, config.output)
    store_halves(config.output, {})
    print(f"wrote {config.output}, the mean of {len(models)} models")


def _interface(model) -> list[tuple[str, bytes]]:
    """Names and types of what a model takes and gives."""
    return [(value.name, value.type.SerializeToString()) for value in (*model.graph.input, *model.graph.output)]
