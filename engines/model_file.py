"""Look into an ONNX file before a library does: whole or truncated, metadata, identity.

Libraries answer a damaged file with a page of C++ or with lines on stderr that can't be caught. This walks the
protobuf's outer fields (bounded, in plain Python, nothing executed) and refuses what is not one complete ONNX model.
"""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.errors import EngineError

MAX_BYTES = 1 << 30
MAX_PARTS = 2_000_000
"""Fields looked at: a model of a thousand nodes has about twenty thousand."""
MAX_ELEMENTS = 1 << 26
"""Of one input: 64 million numbers, a quarter of a gigabyte."""

# Field numbers of onnx.proto.
_IR_VERSION, _GRAPH, _OPSET_IMPORT, _METADATA, _TRAINING, _FUNCTIONS = 1, 7, 8, 14, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_SPARSE = 1, 5, 11, 15
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_RAW, _TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 1, 2, 9, 13, 14
_BYTES_OF_TYPE = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
# ValueInfo.type -> Type.tensor_type -> Tensor.shape -> Shape.dim (several) -> Dimension.dim_value
_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE = 2, 1, 2, 1, 1
_LENGTH_DELIMITED = 2


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file that is complete, its identity and its metadata."""

    path: Path
    size_bytes: int
    sha256: str  # of the whole file: graph and weights
    opset: int
    input_elements: int  # of the largest input, dynamic axes counted as 1
    metadata: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.path.name

    @classmethod
    def read(cls, path: str | Path) -> ModelFile:
        """Check one file.

        Raises:
            EngineError: missing, not ONNX, truncated, too large, with weights in other files, with weights or inputs
                of absurd sizes, or with graphs in graphs (loops, which may not end).
        """
        path = Path(path)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise EngineError(f"model {path} is a folder, a pipe or a device: expected an .onnx file.")
            if status.st_size > MAX_BYTES:
                raise EngineError(f"model {path} has {status.st_size >> 20} MB: expected at most {MAX_BYTES >> 20} MB.")
            data = path.read_bytes()
        except FileNotFoundError as exc:
            raise EngineError(f"model {path} does not exist: expected an .onnx file. Check the path.") from exc
        except (OSError, ValueError) as exc:  # ValueError: a name that can't be one
            why = getattr(exc, "strerror", None) or exc
            raise EngineError(f"model {path} can't be read: {why}. Check the path and rights.") from exc
        try:
            opset, elements, metadata = _inspect(memoryview(data))
        except ValueError as exc:
            raise EngineError(
                f"model {path} is not a complete ONNX model ({exc}; {len(data)} bytes): "
                "expected an uncut .onnx file. Install or export it again."
            ) from exc
        return cls(path, len(data), hashlib.sha256(data).hexdigest(), opset, elements, metadata)


def _inspect(data: memoryview) -> tuple[int, int, dict[str, str]]:
    """Opset of the default domain, size of the largest input and metadata; ValueError says what is wrong."""
    opset, nodes, elements, metadata = 0, 0, 0, {}
    has_version, walk = False, _Walk()
    for number, value in walk.fields(data):
        if number == _IR_VERSION and isinstance(value, int):
            has_version = True
        elif number in (_TRAINING, _FUNCTIONS):
            raise ValueError("it has training steps or functions, which no engine here runs")
        elif not isinstance(value, memoryview):
            continue
        elif number == _OPSET_IMPORT:
            entry = dict(walk.fields(value))
            version = entry.get(2, 0)
            if not _text(entry) and isinstance(version, int):
                opset = version
        elif number == _METADATA:
            entry = dict(walk.fields(value))
            metadata[_text(entry)] = _text(entry, 2)
        elif number == _GRAPH:
            count, largest = _inspect_graph(value, walk)
            nodes, elements = nodes + count, max(elements, largest)
    if not (has_version and opset and nodes):
        raise ValueError("no graph, version or opset in it")
    return opset, elements, metadata


def _inspect_graph(graph: memoryview, walk: _Walk) -> tuple[int, int]:
    """Number of nodes and size of the largest input."""
    nodes, largest = 0, 0
    for number, value in walk.fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == _GRAPH_NODE:
            nodes += 1
            _inspect_node(value, walk)
        elif number == _GRAPH_INITIALIZER:
            _inspect_tensor(value, walk)
        elif number == _GRAPH_SPARSE:
            raise ValueError("it has sparse weights")
        elif number == _GRAPH_INPUT:
            largest = max(largest, _elements(value, walk))
    return nodes, largest


def _inspect_node(node: memoryview, walk: _Walk) -> None:
    for field, attribute in walk.fields(node):
        if field != _NODE_ATTRIBUTE or not isinstance(attribute, memoryview):
            continue
        for number, value in walk.fields(attribute):
            if number in _ATTRIBUTE_GRAPHS or number in _ATTRIBUTE_SPARSE:
                raise ValueError("it has loops, branches or sparse weights")
            if number in _ATTRIBUTE_TENSORS and isinstance(value, memoryview):
                _inspect_tensor(value, walk)


def _inspect_tensor(tensor: memoryview, walk: _Walk) -> None:
    """ValueError where a tensor lies in another file, or has not the bytes that its shape needs."""
    count, kind, raw = 1, 0, None
    for number, value in walk.fields(tensor):
        if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_LOCATION and value):
            raise ValueError("its weights are in another file")
        if number == _TENSOR_DIMS:
            count *= value if isinstance(value, int) else math.prod(walk.varints(value))
        elif number == _TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif number == _TENSOR_RAW and isinstance(value, memoryview):
            raw = len(value)
    # No type has more than four numbers in a byte.
    if count > 4 * len(tensor) or (raw is not None and raw != count * _BYTES_OF_TYPE.get(kind, raw / max(count, 1))):
        raise ValueError("weights are cut or of another shape than they say")


def _elements(value_info: memoryview, walk: _Walk) -> int:
    message = value_info
    for wanted in (_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE):
        found = dict(walk.fields(message)).get(wanted)
        if not isinstance(found, memoryview):
            return 1
        message = found
    dims = [dim for number, dim in walk.fields(message) if number == _SHAPE_DIM and isinstance(dim, memoryview)]
    sizes = (dict(walk.fields(dim)).get(_DIM_VALUE, 1) for dim in dims)
    count = math.prod(size if isinstance(size, int) else 1 for size in sizes)
    if count > MAX_ELEMENTS:  # a negative size, too: protobuf writes it as a huge one
        raise ValueError("an input of absurd size")
    return count


def _text(entry: Mapping[int, int | memoryview], number: int = 1) -> str:
    value = entry.get(number, b"")
    return "" if isinstance(value, int) else str(value, "utf-8")


class _Walk:
    """Reads protobuf messages, MAX_PARTS fields in all."""

    def __init__(self) -> None:
        self._left = MAX_PARTS

    def varints(self, data: memoryview) -> Iterator[int]:
        """Packed numbers."""
        at = 0
        while at < len(data):
            self._count()
            value, at = _varint(data, at)
            yield value

    def fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """(field number, value) of one message; ValueError where it runs over its end."""
        at = 0
        while at < len(data):
            self._count()
            key, at = _varint(data, at)
            number, kind = key >> 3, key & 7
            if number == 0:
                raise ValueError("foreign content")
            if kind == 0:
                value, at = _varint(data, at)
                yield number, value
                continue
            if kind == _LENGTH_DELIMITED:
                length, at = _varint(data, at)
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise ValueError("foreign content")
            if at + length > len(data):
                raise ValueError(f"{at + length - len(data)} bytes are missing")
            yield number, data[at : at + length]
            at += length

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {MAX_PARTS} parts")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends in the middle")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("foreign content")
