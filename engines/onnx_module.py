"""An ONNX graph as a torch module, so that one model file serves every engine.

Values that shapes, axes or limits depend on ("static") are worked out on the CPU; `fix` notes them once for one set of
input shapes, after which `forward` is plain tensor code that `torch.export` and CUDA graphs can record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from engines.errors import EngineError
from engines.model_file import ModelFile
from engines.onnx_operators import OPERATORS, STATIC_INPUTS


@contextlib.contextmanager
def reading(model: ModelFile) -> Iterator[onnx.GraphProto]:
    """The file's graph; whatever its parts make the library throw is an EngineError. Other files are not followed."""
    try:
        yield onnx.load(model.path, load_external_data=False).graph
    except (DecodeError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as exc:
        if isinstance(exc, EngineError):
            raise
        why = " ".join(str(exc).split())[:300]
        raise EngineError(f"{model.name} can't be read as ONNX ({why}). Install or export it again.") from exc


class OnnxModule(nn.Module):
    """Takes and gives tensors in the order of the file's inputs and outputs (`input_names`, `output_names`)."""

    def __init__(self, model: ModelFile):
        """Raises EngineError where the graph has an operator without a torch counterpart."""
        super().__init__()
        with reading(model) as graph:
            self._build(graph, model.name)

    def _build(self, graph: onnx.GraphProto, name: str) -> None:
        constants = {tensor.name: _tensor(tensor) for tensor in graph.initializer}
        constants.update((n.output[0], _constant(n)) for n in graph.node if n.op_type == "Constant")
        nodes = _without_stored_casts([node for node in graph.node if node.op_type != "Constant"], constants)
        unknown = sorted({str(node.op_type) for node in nodes if node.op_type not in OPERATORS or node.domain})
        if unknown:
            raise EngineError(f"{name} has operators that the torch engine does not know: {', '.join(unknown)}.")
        self._nodes = [_Node(node) for node in nodes]
        static = self._static_names()
        self._names: dict[str, str] = {}
        self._static: dict[str, Tensor] = {}
        for name, value in constants.items():
            if name in static:
                self._static[name] = value
            else:
                self._names[name] = f"tensor_{len(self._names)}"
                self.register_buffer(self._names[name], value)
        self._static_nodes = {id(node) for node in self._nodes if set(node.outputs) & static}
        self._fixed: dict[str, Tensor] | None = None
        given = {tensor.name for tensor in graph.initializer}
        self.input_names = [value.name for value in graph.input if value.name not in given]
        self.output_names = [value.name for value in graph.output]

    def fix(self, *inputs: Tensor) -> None:
        """Note the static values for the shapes of these inputs; others will not fit afterwards."""
        self._fixed = None
        fixed: dict[str, Tensor] = {}
        for node in self._nodes:
            node.numbers = None
        self._interpret(inputs, keep=fixed)
        self._fixed = fixed
        known = {**self._static, **fixed}
        for node in self._nodes:
            node.numbers = node.static_numbers(known)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._interpret(inputs)

    def _interpret(self, inputs: tuple[Tensor, ...], keep: dict[str, Tensor] | None = None) -> tuple[Tensor, ...]:
        values: dict[str, Tensor] = dict(self._static)
        values.update((name, getattr(self, place)) for name, place in self._names.items())
        values.update(zip(self.input_names, inputs, strict=True))
        values.update(self._fixed or {})
        for node in self._nodes:
            if self._fixed is not None and id(node) in self._static_nodes:
                continue
            result = OPERATORS[node.kind](node.attributes, *node.arguments(values))
            results = result if isinstance(result, (tuple, list)) else (result,)
            values.update(zip(node.outputs, results, strict=False))
            if keep is not None and id(node) in self._static_nodes:
                keep.update(zip(node.outputs, results, strict=False))
        return tuple(values[name] for name in self.output_names)

    def _static_names(self) -> set[str]:
        """Names that static inputs depend on, back to initializers and `Shape`."""
        wanted = {
            node.inputs[i] for node in self._nodes for i in STATIC_INPUTS.get(node.kind, ()) if i < len(node.inputs)
        }
        for node in reversed(self._nodes):
            if set(node.outputs) & wanted and node.kind != "Shape":
                wanted |= set(node.inputs)
        return wanted - {""}


class _Node:
    """One node with its attributes decoded."""

    def __init__(self, node: onnx.NodeProto):
        self.kind = node.op_type
        self.inputs = list(node.input)
        self.outputs = list(node.output)
        self.numbers: dict[int, list | float] | None = None  # static inputs as Python has them, once they are fixed
        self.attributes = _attributes(node)

    def arguments(self, values: dict[str, Tensor]) -> list:
        numbers = self.static_numbers(values) if self.numbers is None else self.numbers
        found = [values[name] if name else None for name in self.inputs]
        return [numbers.get(i, value) for i, value in enumerate(found)]

    def static_numbers(self, values: dict[str, Tensor]) -> dict[int, list | float]:
        """The static inputs by their places."""
        places = [i for i in STATIC_INPUTS.get(self.kind, ()) if i < len(self.inputs) and self.inputs[i]]
        return {i: values[self.inputs[i]].tolist() for i in places}


def _without_stored_casts(nodes: list[onnx.NodeProto], constants: dict[str, Tensor]) -> list[onnx.NodeProto]:
    """The nodes that are left once weights stored in another type are widened, here and not at every run.

    Widened weights also follow the module into half precision, which a Cast in the graph would undo.
    """
    rest = []
    for node in nodes:
        if node.op_type == "Cast" and node.input[0] in constants:
            constants[node.output[0]] = OPERATORS["Cast"](_attributes(node), constants[node.input[0]])
        else:
            rest.append(node)
    used = {name for node in rest for name in node.input}
    for name in [name for name in constants if name not in used]:
        del constants[name]
    return rest


def _attributes(node: onnx.NodeProto) -> dict:
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: _tensor(v) if isinstance(v, onnx.TensorProto) else v for name, v in values.items()}


def _tensor(tensor: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy())


def _constant(node: onnx.NodeProto) -> Tensor:
    value = onnx.helper.get_attribute_value(node.attribute[0])
    return _tensor(value) if isinstance(value, onnx.TensorProto) else torch.tensor(value)
