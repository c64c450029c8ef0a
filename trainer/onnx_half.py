"""Store an ONNX file's weights in half precision; they are widened when it is loaded, and computed with in full."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_LEAST = 256  # smaller arrays stay as they are


def store_halves(path: Path, metadata: dict[str, str]) -> None:
    """Rewrite a model in place: large float32 weights become float16 behind a Cast, `metadata` is added."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    casts = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims, initial=1) < _LEAST:
            continue
        half = numpy_helper.to_array(tensor).astype(np.float16)
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(half, f"{tensor.name}_half"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    onnx.save(model, path)
