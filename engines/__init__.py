"""Compiled models behind one protocol: NumPy arrays in and out, by name.

    engine = engines.load("model.onnx", backend="auto")
    outputs = engine.run({"landmarks": landmarks})

Importing this package loads no backend; `load` imports the one that it takes.
"""

from engines.cache import EngineCache
from engines.errors import EngineError
from engines.program import Program
from engines.protocol import Engine, EngineInfo, TensorSpec
from engines.registry import BACKENDS, Attempt, load, survey

__all__ = [
    "BACKENDS",
    "Attempt",
    "Engine",
    "EngineCache",
    "EngineError",
    "EngineInfo",
    "Program",
    "TensorSpec",
    "load",
    "survey",
]
