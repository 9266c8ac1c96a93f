"""Proof of a derivative rule: a small ONNX model, its vector-Jacobian product, and independent answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from cfcam.export.reverse import vjp
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["Case", "build", "prove", "run_ort"]

ORT_LOG = 3


@dataclass
class Case:
    """A few nodes, the arrays that enter them, and what to compare with.

    inputs: graph inputs; those of floating type are differentiated unless `wrt` says which.
    constants: initializers. torch: the same function in PyTorch, of the inputs' tensors in
    order. symbolic: input name -> dims to write instead of the sizes.
    """

    nodes: Sequence[NodeProto]
    inputs: dict[str, np.ndarray]
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: Sequence[str] = ("y",)
    wrt: Sequence[str] | None = None
    opset: int = 18
    torch: Callable[..., Any] | None = None
    symbolic: dict[str, Sequence[Any]] = field(default_factory=dict)
    domains: Sequence[str] = ()
    in_ort: bool = True
    #: False where the reference evaluator lacks the operator or gets it wrong: then float32 against PyTorch.
    in_reference: bool = True
    tolerance: float = 1e-6
    output_kind: int | None = None


def _as(arrays: dict[str, np.ndarray], dtype: Any) -> dict[str, np.ndarray]:
    """float64 arrays in `dtype`; arrays of other types, float32 included, mean what they say."""
    return {k: np.asarray(v.astype(dtype) if v.dtype == np.float64 else v) for k, v in arrays.items()}


def build(case: Case, dtype: Any) -> ModelProto:
    """The case as a model of that floating type."""
    inputs, constants = _as(case.inputs, dtype), _as(case.constants, dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        case.nodes,
        "case",
        [
            helper.make_tensor_value_info(
                k, helper.np_dtype_to_tensor_dtype(v.dtype), list(case.symbolic.get(k, v.shape))
            )
            for k, v in inputs.items()
        ],
        [
            helper.make_value_info(o, helper.make_tensor_type_proto(case.output_kind or kind, None))
            for o in case.outputs
        ],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    imports = [helper.make_opsetid("", case.opset), *(helper.make_opsetid(d, 1) for d in case.domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10 if case.opset <= 21 else 13)
    return onnx.shape_inference.infer_shapes(model)


def run_ort(model: ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ORT_LOG
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(v) for v in session.run(None, feeds)]


def _run_reference(model: ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, feeds)]  # type: ignore[union-attr]


def prove(case: Case, seed: int = 0) -> ModelProto:
    """Compare the gradient in float64 with central differences and PyTorch, then in float32 in ONNX Runtime.

    Returns the float64 model of the vector-Jacobian product.
    """
    rng = np.random.default_rng(seed)
    if not case.in_reference:
        return _prove_in_single_precision(case, rng)
    inputs = _as(case.inputs, np.float64)
    wrt = list(case.wrt if case.wrt is not None else [k for k, v in inputs.items() if v.dtype.kind == "f"])
    double = build(case, np.float64)
    product = vjp(double, wrt, list(case.outputs))
    onnx.checker.check_model(product)
    names = [o.name for o in product.graph.output]
    run = _run_reference
    plain = run(double, inputs)
    cotangents = {
        f"cotangent_{o}": np.asarray(rng.standard_normal(v.shape)) for o, v in zip(case.outputs, plain, strict=True)
    }
    found = dict(zip(names, run(product, {**inputs, **cotangents}), strict=True))

    def value(feeds: dict[str, np.ndarray]) -> float:
        return float(sum((c * v).sum() for c, v in zip(cotangents.values(), run(double, feeds), strict=True)))

    for name in wrt:
        gradient = found[f"gradient_{name}"]
        assert gradient.shape == inputs[name].shape, (name, gradient.shape, inputs[name].shape)
        assert np.isfinite(gradient).all()
        step = 1e-5
        for _ in range(3):
            direction = rng.standard_normal(gradient.shape)
            ahead = value({**inputs, name: inputs[name] + step * direction})
            behind = value({**inputs, name: inputs[name] - step * direction})
            want, got = (ahead - behind) / (2 * step), float((gradient * direction).sum())
            scale = max(abs(want), float(np.abs(gradient * direction).sum()), 1e-3)
            assert abs(want - got) <= case.tolerance * scale, (name, want, got)
    if case.torch is not None:
        _against_torch(case, inputs, wrt, cotangents, found, plain)
    if case.in_ort:
        single = vjp(build(case, np.float32), wrt, list(case.outputs))
        feeds = _as({**inputs, **cotangents}, np.float32)
        for name, values in zip(names, run_ort(single, feeds), strict=True):
            limit = 2e-4 * max(np.abs(found[name]).max(), 1e-3)
            assert np.abs(values - found[name]).max() <= limit, (name, np.abs(values - found[name]).max())
    return product


def _prove_in_single_precision(case: Case, rng: np.random.Generator) -> ModelProto:
    assert case.torch is not None, "nothing to compare with"
    inputs = _as(case.inputs, np.float32)
    wrt = list(case.wrt if case.wrt is not None else [k for k, v in inputs.items() if v.dtype.kind == "f"])
    single = build(case, np.float32)
    product = vjp(single, wrt, list(case.outputs))
    plain = run_ort(single, inputs)
    cotangents = {
        f"cotangent_{o}": rng.standard_normal(v.shape).astype(np.float32)
        for o, v in zip(case.outputs, plain, strict=True)
    }
    found = dict(zip([o.name for o in product.graph.output], run_ort(product, {**inputs, **cotangents}), strict=True))
    _against_torch(case, _as(case.inputs, np.float64), wrt, _as(cotangents, np.float64), found, plain, 1e-4)
    return product


def _against_torch(
    case: Case,
    inputs: dict[str, np.ndarray],
    wrt: Sequence[str],
    cotangents: dict[str, np.ndarray],
    found: dict[str, np.ndarray],
    plain: list[np.ndarray],
    tolerance: float = 1e-7,
) -> None:
    import torch

    tensors = {k: torch.tensor(v, requires_grad=k in wrt) for k, v in inputs.items()}
    assert case.torch is not None
    made = case.torch(*tensors.values())
    outs = list(made) if isinstance(made, tuple | list) else [made]
    for ours, theirs in zip(plain, outs, strict=True):
        np.testing.assert_allclose(theirs.detach().numpy(), ours, rtol=max(1e-6, tolerance), atol=tolerance)
    total = sum((o * torch.tensor(c)).sum() for o, c in zip(outs, cotangents.values(), strict=True))
    assert isinstance(total, torch.Tensor)
    total.backward()
    for name in wrt:
        gradient = tensors[name].grad
        assert gradient is not None
        want = gradient.numpy()
        limit = tolerance * max(np.abs(want).max(), 1e-3)
        assert np.abs(want - found[f"gradient_{name}"]).max() <= limit, name
