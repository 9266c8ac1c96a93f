"""float16: what stays float32, and gradients that are too small for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from cfcam.export.graph import Graph
from cfcam.export.precision.half import scale_gradients, scale_seeds, to_half
from cfcam.export.proof.session import Session
from cfcam.runtime.contract.spec import CamSpec
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from onnx_classifiers import CLASSES, Builder, exported

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)


def network(size: float) -> tuple[onnx.ModelProto, CamSpec]:
    """Its gradients are about `size`; a sum, a softmax inside."""
    b = Builder(seed=3)
    x = b("Relu", b.conv("image", 3, 8, stride=2), out="early")
    gate = b("Softmax", b("GlobalAveragePool", x), axis=1)
    x = b("Sigmoid", b.conv(b("Mul", x, gate), 8, 16, stride=2))  # no kink behind the layer
    x = b("Mul", b("Flatten", b("GlobalAveragePool", x)), b.constant(np.float32(size)))
    b("Gemm", x, b.weight(CLASSES, 16), b.weight(CLASSES), transB=1, out="logits")
    return exported(b.model({"logits": ["N", CLASSES]}, ["N", 3, 32, 32]), "early")


def gradients(model: onnx.ModelProto) -> np.ndarray:
    return np.asarray(Session(model).run({"image": IMAGE, "cam_target": np.array([1, 2])})["cam_gradients"])


def in_half(model: onnx.ModelProto) -> np.ndarray:
    """By ONNX's own evaluator: ONNX Runtime's CPU computes in float32 between casts, where nothing is lost."""
    feeds = {"image": IMAGE, "cam_target": np.array([1, 2])}
    (found,) = ReferenceEvaluator(model).run(["cam_gradients"], feeds)  # type: ignore[misc]
    return np.asarray(found)


def test_small_gradients_survive() -> None:
    model, spec = network(1e-3)
    want = gradients(model)
    assert 0 < np.abs(want).max() < 2e-5  # subnormal in float16
    plain = to_half(model, replace(spec, chosen="another"))  # scales nothing
    scaled = to_half(model, spec)
    wrong, right = (np.linalg.norm(in_half(one) - want) / np.linalg.norm(want) for one in (plain, scaled))
    assert right < 2e-3 < 1e-2 < wrong


def test_scaling_changes_nothing_in_float32() -> None:
    model, spec = network(1.0)
    graph = Graph(model)
    assert scale_seeds(graph, spec, 64.0)
    np.testing.assert_allclose(gradients(graph.to_model()), 64 * gradients(model), rtol=1e-6)
    scale_gradients(graph, spec, 1 / 64)
    np.testing.assert_allclose(gradients(graph.to_model()), gradients(model), rtol=1e-6)


def test_islands() -> None:
    model, spec = network(1.0)
    inferred = onnx.shape_inference.infer_shapes(to_half(model, spec))
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *inferred.graph.output)}
    by_operator: dict[str, set[int | None]] = {}
    for node in inferred.graph.node:
        by_operator.setdefault(node.op_type, set()).add(kinds.get(node.output[0]))
    assert by_operator["Softmax"] == {TensorProto.FLOAT}
    assert by_operator["GlobalAveragePool"] == {TensorProto.FLOAT}
    assert by_operator["ReduceSum"] == {TensorProto.FLOAT}
    assert by_operator["Conv"] == {TensorProto.FLOAT16}
    assert {output.type.tensor_type.elem_type for output in inferred.graph.output} <= {
        TensorProto.FLOAT,
        TensorProto.INT64,
    }


@pytest.mark.parametrize("small", [0, 1024])
def test_a_node_that_stays_float_has_its_weights_in_float(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backward pass reads them too, and must not make them float16 for both. Only what is small is copied."""
    monkeypatch.setattr("cfcam.export.precision.half._SMALL", small)
    model, spec = network(1.0)
    (head,) = (node for node in model.graph.node if node.op_type == "Gemm")
    made = to_half(model, spec, [head.name])
    (after,) = (node for node in made.graph.node if node.op_type == "Gemm")
    stored = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert stored[after.input[1]] == TensorProto.FLOAT
    kinds = [tensor.data_type for tensor in made.graph.initializer if list(tensor.dims) == [CLASSES, 16]]
    assert sorted(kinds) == ([TensorProto.FLOAT, TensorProto.FLOAT16] if small else [TensorProto.FLOAT])
