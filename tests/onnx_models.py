"""Small ONNX models for tests, written with the onnx package."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def model_bytes(weight=WEIGHT, metadata=()):
    """y = relu(x @ weight), z = x @ weight; x is (batch, 4) float32."""
    return graph_bytes(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])],
        {"x": ["batch", 4]},
        {"y": ["batch", 3], "z": ["batch", 3]},
        {"w": weight},
        metadata,
    )


def graph_bytes(nodes, inputs, outputs, constants, metadata=(), opset=18):
    """A model from nodes, shapes by name (float32) and constants by name."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    helper.set_model_props(model, dict(metadata))
    return model.SerializeToString()


def with_outside_weights(data):
    """The model with its first weights moved to another file, as a hostile one might."""
    model = onnx.load_from_string(data)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return model.SerializeToString()
