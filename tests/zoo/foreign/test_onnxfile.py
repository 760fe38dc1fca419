import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from mien.zoo.convert import convert
from mien.zoo.foreign.onnxfile import dynamic_size


def fully_convolutional() -> bytes:
    """A network as old exporters wrote it: fixed size, weights among the inputs, a weight that nobody uses."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(2, 3, 3, 3)).astype(np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["h"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["h"], ["y"]),
        ],
        "old",
        [value("x", TensorProto.FLOAT, [10, 3, 32, 32]), value("w", TensorProto.FLOAT, [2, 3, 3, 3])],
        [value("y", TensorProto.FLOAT, [10, 2, 16, 16])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(weight, "unused")],
        value_info=[value("h", TensorProto.FLOAT, [10, 2, 16, 16])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6).SerializeToString()


def test_a_fully_convolutional_network_takes_any_size_after_conversion(rng):
    old, free = session(fully_convolutional()), session(convert("dynamic-size", fully_convolutional()))
    picture = rng.normal(size=(10, 3, 32, 32)).astype(np.float32)

    np.testing.assert_allclose(free.run(None, {"x": picture})[0], old.run(None, {"x": picture})[0], atol=1e-5)
    assert free.run(None, {"x": picture[:1, :, :, :16]})[0].shape == (1, 2, 16, 8)
    assert [item.name for item in free.get_inputs()] == ["x"]
    model = onnx.load_model_from_string(dynamic_size(fully_convolutional()))
    assert [item.name for item in model.graph.initializer] == ["w"]


def session(data: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
