"""Look into an ONNX file before a library does: whole or truncated, metadata, identity.

Libraries answer a damaged file with a page of C++ or with lines on stderr that can't be caught. This walks the
protobuf's outer fields (bounded, in plain Python, nothing executed) and refuses what is not one complete ONNX model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.errors import EngineError

MAX_BYTES = 1 << 30

# Field numbers of onnx.proto.
_IR_VERSION, _GRAPH, _OPSET_IMPORT, _METADATA = 1, 7, 8, 14
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT = 1, 5, 11
_TENSOR_EXTERNAL_DATA = 13
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
            EngineError: missing, not ONNX, truncated, too large, or with weights in other files.
        """
        path = Path(path)
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise EngineError(f"model {path} has {size >> 20} MB: expected at most {MAX_BYTES >> 20} MB.")
            data = path.read_bytes()
        except FileNotFoundError as exc:
            raise EngineError(f"model {path} does not exist: expected an .onnx file. Check the path.") from exc
        except OSError as exc:
            raise EngineError(f"model {path} can't be read: {exc.strerror or exc}. Check the path and rights.") from exc
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
    has_version = False
    for number, value in _fields(data):
        if number == _IR_VERSION and isinstance(value, int):
            has_version = True
        elif number == _OPSET_IMPORT and isinstance(value, memoryview):
            entry = dict(_fields(value))
            if not bytes(entry.get(1, b"")):
                opset = int(entry.get(2, 0))
        elif number == _METADATA and isinstance(value, memoryview):
            entry = dict(_fields(value))
            metadata[str(entry.get(1, b""), "utf-8")] = str(entry.get(2, b""), "utf-8")
        elif number == _GRAPH and isinstance(value, memoryview):
            count, largest = _inspect_graph(value)
            nodes, elements = nodes + count, max(elements, largest)
    if not (has_version and opset and nodes):
        raise ValueError("no graph, version or opset in it")
    return opset, elements, metadata


def _inspect_graph(graph: memoryview) -> tuple[int, int]:
    """Number of nodes and size of the largest input."""
    nodes, largest = 0, 0
    for number, value in _fields(graph):
        nodes += number == _GRAPH_NODE
        if number == _GRAPH_INITIALIZER and isinstance(value, memoryview):
            if any(field == _TENSOR_EXTERNAL_DATA for field, _ in _fields(value)):
                raise ValueError("its weights are in another file")
        elif number == _GRAPH_INPUT and isinstance(value, memoryview):
            largest = max(largest, _elements(value))
    return nodes, largest


def _elements(value_info: memoryview) -> int:
    message = value_info
    for wanted in (_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE):
        found = dict(_fields(message)).get(wanted)
        if not isinstance(found, memoryview):
            return 1
        message = found
    sizes = (dict(_fields(dim)).get(_DIM_VALUE, 1) for number, dim in _fields(message) if number == _SHAPE_DIM)
    return math.prod(size if isinstance(size, int) else 1 for size in sizes)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of one protobuf message; ValueError where it runs over its end."""
    at = 0
    while at < len(data):
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
