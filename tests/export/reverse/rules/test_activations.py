"""Activation functions, one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cfcam.export.reverse.vjp import vjp
from onnx import helper
from onnx_gradcheck import Case, build, prove, run_ort

RNG = np.random.default_rng(1)


def spread(*shape: int, low: float = 0.2, high: float = 1.5) -> np.ndarray:
    """Values of both signs, all at least `low` away from zero."""
    return RNG.uniform(low, high, shape) * RNG.choice([-1.0, 1.0], shape)


ACTIVATIONS = {
    "Relu": (spread, F.relu, {}),
    "LeakyRelu": (spread, lambda x: F.leaky_relu(x, 0.125), {"alpha": 0.125}),
    "Elu": (spread, lambda x: F.elu(x, 1.5), {"alpha": 1.5}),
    "Celu": (spread, lambda x: F.celu(x, 1.5), {"alpha": 1.5}),
    "Selu": (spread, F.selu, {}),
    "ThresholdedRelu": (spread, lambda x: F.threshold(x, 0.125, 0.0), {"alpha": 0.125}),
    "Shrink": (spread, lambda x: F.hardshrink(x, 0.125), {"lambd": 0.125}),
    "Sigmoid": (spread, torch.sigmoid, {}),
    "Tanh": (spread, torch.tanh, {}),
    "HardSigmoid": (lambda *s: spread(*s) * 2, None, {"alpha": 0.25, "beta": 0.5}),
    "HardSwish": (lambda *s: spread(*s) * 3.1, F.hardswish, {}),
    "Mish": (spread, F.mish, {}),
    "Softplus": (spread, F.softplus, {}),
    "Softsign": (spread, F.softsign, {}),
}


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activation(op: str) -> None:
    make, reference, attributes = ACTIVATIONS[op]
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    prove(Case([node], {"x": make(3, 5)}, torch=reference))


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh"])
def test_a_saturated_head_keeps_its_gradient_in_float32(op: str) -> None:
    """1 - y is 0 or has few digits left there, and y itself is clamped by ONNX Runtime's kernel beyond 18."""
    x = np.array([[-40.0, -20.0, -9.0, 0.5, 9.0, 20.0, 40.0]])
    model = vjp(build(Case([helper.make_node(op, ["x"], ["y"])], {"x": x}), np.float32), ["x"], ["y"])
    (gradient,) = run_ort(model, {"x": x.astype(np.float32), "cotangent_y": np.ones((1, 7), np.float32)})
    right = 1 / np.cosh(x / 2) ** 2 / 4 if op == "Sigmoid" else 1 / np.cosh(x) ** 2
    np.testing.assert_allclose(gradient, right, rtol=1e-5)


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu(form: str) -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], approximate=form)
    case = Case([node], {"x": spread(3, 5)}, opset=20, torch=lambda x: F.gelu(x, approximate=form))
    # The reference evaluator rounds Erf to float32, so differences of it are coarse; PyTorch's answer is exact.
    case.tolerance = 2e-2 if form == "none" else 1e-6
    prove(case)


def test_swish() -> None:
    node = helper.make_node("Swish", ["x"], ["y"], alpha=1.5)
    case = Case([node], {"x": spread(3, 5)}, opset=24, torch=lambda x: x * torch.sigmoid(1.5 * x), in_ort=False)
    prove(case)


@pytest.mark.parametrize("names", [["x", "lo", "hi"], ["x", "", "hi"], ["x", "lo"], ["x"]])
def test_clip(names: list[str]) -> None:
    bounds = {k: v for k, v in {"lo": np.array(-0.6), "hi": np.array(0.55)}.items() if k in names}
    x = spread(4, 6)
    x = x[(np.abs(x - 0.55) > 0.01) & (np.abs(x + 0.6) > 0.01)]
    prove(Case([helper.make_node("Clip", names, ["y"])], {"x": x}, bounds))


def test_clip_is_relu6_at_its_bounds() -> None:
    x = np.array([-1.0, 0.0, 3.0, 6.0, 7.0])
    bounds = {"lo": np.array(0.0), "hi": np.array(6.0)}
    case = Case([helper.make_node("Clip", ["x", "lo", "hi"], ["y"])], {"x": x}, bounds, torch=F.relu6, tolerance=np.inf)
    prove(case)


@pytest.mark.parametrize("slope", [(3, 1, 1), (1,), (2, 3, 4, 4)])
def test_prelu(slope) -> None:
    inputs = {"x": spread(2, 3, 4, 4), "s": spread(*slope)}
    prove(Case([helper.make_node("PRelu", ["x", "s"], ["y"])], inputs, torch=lambda x, s: torch.where(x > 0, x, x * s)))
