"""Normalisation layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cfcam.export.reverse import vjp
from onnx import helper
from onnx_gradcheck import Case, build, prove, run_ort

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


@pytest.mark.parametrize("computed", [False, True], ids=["weights", "computed"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3, 3), (2, 4, 5)])
def test_batch_normalization(shape, computed: bool) -> None:
    affine = {"scale": normal(4), "shift": normal(4)}
    statistics = {"mean": normal(4), "var": np.abs(normal(4)) + 0.5}
    node = helper.make_node("BatchNormalization", ["x", "scale", "shift", "mean", "var"], ["y"], epsilon=1e-3)
    inputs = {"x": normal(*shape), **(affine if computed else {})}
    prove(Case([node], inputs, {**statistics, **({} if computed else affine)}))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 6)])
def test_instance_normalization(shape) -> None:
    node = helper.make_node("InstanceNormalization", ["x", "s", "b"], ["y"])
    inputs = {"x": normal(*shape), "s": normal(3), "b": normal(3)}
    prove(Case([node], inputs, torch=lambda x, s, b: F.instance_norm(x, weight=s, bias=b)))


@pytest.mark.parametrize("axis", [-1, 1, -2])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(axis: int, bias: bool) -> None:
    shape = (2, 3, 4)
    inner = shape[axis:]
    inputs = {"x": normal(*shape), "s": normal(*inner)}
    if bias:
        inputs["b"] = normal(*inner)
    node = helper.make_node("LayerNormalization", list(inputs), ["y"], axis=axis)
    prove(Case([node], inputs, torch=lambda x, s, b=None: F.layer_norm(x, inner, s, b)))


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(opset: int) -> None:
    size = 2 if opset < 21 else 6
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    inputs = {"x": normal(2, 6, 3, 2), "s": normal(size), "b": normal(size)}

    def reference(x, s, b):
        if size == 2:
            s, b = s.repeat_interleave(3), b.repeat_interleave(3)
        return F.group_norm(x, 2, s, b)

    # From opset 21 on the reference evaluator normalises in float32.
    prove(Case([node], inputs, torch=reference, opset=opset, tolerance=1e-6 if opset < 21 else 5e-2))


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_normalization(axis: int) -> None:
    shape = (2, 3, 4)
    inputs = {"x": normal(*shape), "s": normal(*shape[axis:])}
    node = helper.make_node("RMSNormalization", ["x", "s"], ["y"], axis=axis)
    prove(Case([node], inputs, opset=23, torch=lambda x, s: F.rms_norm(x, shape[axis:], s, 1e-5), in_ort=False))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 1])
def test_lp_normalization(p: int, axis: int) -> None:
    node = helper.make_node("LpNormalization", ["x"], ["y"], p=p, axis=axis)
    # The reference evaluator forgets the absolute values for p = 1.
    prove(Case([node], {"x": normal(2, 3, 4)}, torch=lambda x: F.normalize(x, p, axis), in_reference=p == 2))


@pytest.mark.parametrize("size", [3, 4, 5])
def test_lrn(size: int) -> None:
    """The reference evaluator's LRN looks at the wrong neighbours, and ONNX Runtime refuses even sizes.

    The gradient's own graph holds no LRN, so it runs there for any size.
    """
    node = helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.5, beta=0.7, bias=1.5)
    x, cotangent = normal(2, 6, 3, 2), normal(2, 6, 3, 2)
    product = vjp(build(Case([node], {"x": x}), np.float32), ["x"], ["y"])
    (found,) = run_ort(product, {"x": x.astype(np.float32), "cotangent_y": cotangent.astype(np.float32)})
    tensor = torch.tensor(x, requires_grad=True)
    before, after = (size - 1) // 2, size // 2
    squares = F.pad(tensor * tensor, (0, 0, 0, 0, before, after)).unfold(1, size, 1).sum(-1)
    y = tensor / (1.5 + 0.5 / size * squares) ** 0.7
    (y * torch.tensor(cotangent)).sum().backward()
    assert tensor.grad is not None
    np.testing.assert_allclose(found, tensor.grad.numpy(), atol=1e-5)
    if size % 2:
        (plain,) = run_ort(build(Case([node], {"x": x}), np.float32), {"x": x.astype(np.float32)})
        np.testing.assert_allclose(plain, y.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("axes", [None, [1, 2], [-1]])
def test_mean_variance_normalization(axes) -> None:
    attributes = {} if axes is None else {"axes": axes}
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"], **attributes)
    dims = tuple(axes or (0, 2, 3))

    def reference(x):
        return (x - x.mean(dims, keepdim=True)) / x.std(dims, keepdim=True, correction=0)

    # The reference evaluator cannot run it in float64.
    prove(Case([node], {"x": normal(2, 3, 4, 3)}, torch=reference, in_reference=False))


@pytest.mark.parametrize("op", ["LayerNormalization", "InstanceNormalization"])
def test_constant_gradient_through_normalisation(op: str) -> None:
    """The gradient that comes in is the same in every cell and is not written out."""
    names = ["x", "s", "b"]
    axis = 2 if op == "LayerNormalization" else 1
    weights = {"s": normal(5) if op == "LayerNormalization" else normal(3), "b": normal(5 if axis == 2 else 3)}
    nodes = [
        helper.make_node(op, names, ["n"]),
        helper.make_node("ReduceMean", ["n", "axes"], ["y"], keepdims=0),
    ]
    prove(Case(nodes, {"x": normal(2, 3, 5)}, {**weights, "axes": np.array([2])}))
