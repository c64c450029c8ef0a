"""Write a torch network as an ONNX file that stock ONNX Runtime and every engine here load.

Needs the `train` extra (torch, onnx, onnxscript).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.errors import EngineError
from engines.golden import TOLERANCE, seeded_inputs
from engines.model_file import ModelFile
from engines.protocol import Placement

if TYPE_CHECKING:
    import torch

OPSET = 18


def export_onnx(
    module: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    path: str | Path,
    *,
    metadata: Mapping[str, str],
    dynamic_batch: bool = True,
) -> float:
    """Export, write whole or not at all, and compare ONNX Runtime with torch.

    Args:
        module: takes the tensors of `inputs` in their order; in eval mode.
        inputs: example tensors by name; axis 0 is the batch.
        outputs: names for what the module gives, in its order.
        metadata: licence, AU order, version, ... as strings.
        dynamic_batch: axis 0 of every input and output is "batch", of any size. Without it only the example
            is compared: numbers at random may be nothing that such a module takes.

    Returns:
        The largest difference to torch as a share of the output's range.

    Raises:
        EngineError: the network can't be exported, or ONNX Runtime gives something else than torch.
    """
    import onnx
    import torch

    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    path = Path(path)
    # One example of a dynamic axis must not be 1, or export takes it for fixed.
    example = {name: torch.cat([t, t]) if dynamic_batch and len(t) == 1 else t for name, t in inputs.items()}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(example.values()),
                input_names=list(example),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamic_shapes=tuple(batch for _ in example) if dynamic_batch else None,
                dynamo=True,
                verbose=False,
            )
    except (RuntimeError, torch.onnx.OnnxExporterError) as exc:
        raise EngineError(f"{type(module).__name__} can't be exported: {' '.join(str(exc).split())[:300]}") from exc
    model = program.model_proto
    onnx.helper.set_model_props(model, dict(metadata))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(model.SerializeToString())
        arrays = {name: tensor.numpy() for name, tensor in example.items()}
        worst = _compare(module, partial, arrays, is_seeded=dynamic_batch)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return worst


def describe(path: str | Path) -> str:
    """A few lines about a model file: size, opset, tensors, metadata."""
    from engines.registry import REFERENCE, backend_class

    model = ModelFile.read(path)
    engine = backend_class(REFERENCE[0])(model, Placement(REFERENCE[1]))
    lines = [f"{model.path}: {model.size_bytes / 1e6:.2f} MB, opset {model.opset}, sha256 {model.sha256[:12]}"]
    lines += [f"  in  {name}: {spec}" for name, spec in engine.inputs.items()]
    lines += [f"  out {name}: {spec}" for name, spec in engine.outputs.items()]
    lines += [f"  {key}: {value}" for key, value in model.metadata.items()]
    return "\n".join(lines)


def _compare(module: torch.nn.Module, path: Path, example: Mapping[str, np.ndarray], *, is_seeded: bool) -> float:
    """Largest relative difference on the example and, where wanted, on seeded inputs of the smallest batch."""
    import torch

    from engines.backends.onnxruntime import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(ModelFile.read(path), Placement("cpu"))
    worst = 0.0
    for arrays in (example, seeded_inputs(engine.inputs)) if is_seeded else (example,):
        found = list(engine.run({name: np.asarray(a) for name, a in arrays.items()}).values())
        with torch.no_grad():
            expected = module(*(torch.from_numpy(np.array(arrays[name])) for name in example))
        expected = expected if isinstance(expected, (tuple, list)) else (expected,)
        for have, want in zip(found, expected, strict=True):
            scale = max(1.0, float(want.double().abs().max()))
            worst = max(worst, float(np.abs(have.astype(np.float64) - want.numpy()).max()) / scale)
    if not worst <= TOLERANCE["fp32"]:
        raise EngineError(f"the exported {type(module).__name__} is off by {worst:.4f} of its range against torch.")
    return worst
