"""Weights that a file stores twice are found, whatever was done to the copy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from cfcam.calibration.repeated_weights import repeated_weights
from onnx import TensorProto, helper, numpy_helper

KERNEL = np.random.RandomState(0).randn(12, 20, 3, 3).astype(np.float32)
MATRIX = np.random.RandomState(1).randn(40, 12).astype(np.float32)
FACTORS = np.random.RandomState(2).uniform(0.5, 2, 12).astype(np.float32)


def model(added: np.ndarray | None = None, plain: np.ndarray | None = None, constant: bool = False) -> onnx.ModelProto:
    """Conv, pool, Gemm -> ``scores``; `added` is what only ``extra`` needs, `plain` one more weight of the scores."""
    make = helper.make_node
    constants = {"kernel": KERNEL, "matrix": MATRIX}
    nodes = [
        make("Conv", ["x", "kernel"], ["c"]),
        make("GlobalAveragePool", ["c"], ["p"]),
        make("Flatten", ["p"], ["f"]),
        make("Gemm", ["f", "matrix"], ["s"], transB=1),
    ]
    extra = "f"
    if added is not None:
        extra = "added"
        if constant:
            nodes.append(make("Constant", [], ["added"], value=numpy_helper.from_array(added)))
        else:
            constants["added"] = added
    if plain is not None:
        constants["plain"] = plain
        nodes.append(make("ReduceSum", ["plain"], ["total"], keepdims=0))
    nodes.append(make("Add", ["s", "total"], ["scores"]) if plain is not None else make("Identity", ["s"], ["scores"]))
    nodes.append(make("Identity", [extra], ["extra"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 20, 8, 8])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("scores", "extra")],
        [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    ("added", "other", "how"),
    [
        (KERNEL, "kernel", "copy"),
        (KERNEL.reshape(12, -1), "kernel", "copy"),
        (KERNEL.transpose(1, 0, 2, 3), "kernel", "reordered"),
        (KERNEL.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1], "kernel", "reordered"),
        (MATRIX.T, "matrix", "reordered"),
        (MATRIX.T.reshape(12, 40, 1, 1), "matrix", "reordered"),
        (MATRIX / np.float32(49), "matrix", "scaled"),
        ((MATRIX / np.float32(49)).reshape(40, 12, 1, 1), "matrix", "scaled"),
        (MATRIX.T / np.float32(49), "matrix", "scaled"),
        (KERNEL * FACTORS[:, None, None, None], "kernel", "scaled"),
        ((KERNEL * FACTORS[:, None, None, None]).transpose(1, 0, 2, 3)[:, :, ::-1, ::-1], "kernel", "scaled"),
    ],
)
@pytest.mark.parametrize("constant", [False, True])
def test_what_was_added_to_explain(added, other, how, constant):
    (found,) = repeated_weights(model(added, constant=constant), ["scores"])
    assert (found.name, found.other, found.how, found.added) == ("added", other, how, True)
    assert found.bytes == added.nbytes
    assert "'added'" in str(found)


@pytest.mark.parametrize(
    "added",
    [
        None,
        np.random.RandomState(5).randn(12, 20, 3, 3).astype(np.float32),
        np.random.RandomState(6).randn(40, 12).astype(np.float32),
        np.full((40, 12), 0.5, np.float32),
        MATRIX[:20, :12],
        FACTORS,
    ],
)
def test_what_is_not_there_yet(added):
    """Other values, one number everywhere, a part, and less than 1 KB."""
    assert repeated_weights(model(added), ["scores"]) == []


def test_twice_in_what_was_added():
    proto = model(np.random.RandomState(7).randn(40, 12).astype(np.float32))
    again = numpy_helper.to_array(proto.graph.initializer[-1]).T * 3
    proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(again), "again"))
    proto.graph.node.append(helper.make_node("Identity", ["again"], ["more"]))
    (found,) = repeated_weights(proto, ["scores"])
    assert (found.name, found.other, found.how) == ("again", "added", "scaled")


def test_copies_of_the_plain_model_are_told_apart():
    (found,) = repeated_weights(model(plain=MATRIX), ["scores"])
    assert (found.name, found.added) == ("plain", False)
    assert repeated_weights(model(plain=MATRIX), ["scores"], model(plain=MATRIX)) == [], "the source has it twice too"
    assert len(repeated_weights(model(plain=MATRIX), ["scores"], model())) == 1
    assert repeated_weights(model(plain=MATRIX * 2), ["scores"]) == [], "weights of one model may resemble each other"
    twice = repeated_weights(model(MATRIX, plain=MATRIX), ["scores"], model(plain=MATRIX))
    assert [(r.name, r.added) for r in twice] == [("added", True)]
