"""Compiled models behind one protocol: NumPy arrays in and out, by name.

    engine = engines.load("model.onnx", backend="auto")
    outputs = engine.run({"landmarks": landmarks})

Importing this package loads no backend; `load` imports the one that it takes.
"""

from engines.errors import EngineError
from engines.protocol import Engine, EngineInfo, TensorSpec
from engines.registry import BACKENDS, Attempt, load

__all__ = ["BACKENDS", "Attempt", "Engine", "EngineError", "EngineInfo", "TensorSpec", "load"]
