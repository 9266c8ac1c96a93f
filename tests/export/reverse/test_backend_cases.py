"""ONNX's own operator test cases: graphs and inputs that nobody here chose.

Every case of a covered operator is tried: its gradient against central differences of the
operator itself, in the case's own precision, and against onnx-ad, a second implementation that
shares nothing with this one. The counts are printed at the end of the run; ``-rP`` shows the rest.
"""

from __future__ import annotations

import collections
import contextlib
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ad
import onnxruntime as ort
import pytest
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.reverse import supported_operators, vjp
from onnx import ModelProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops import op_pool_common

pytestmark = pytest.mark.slow

# Inputs from this position on are settings (statistics, bounds, scales), not data.
DATA_INPUTS = {
    "Attention": 3, "BatchNormalization": 3, "CastLike": 1, "Clip": 1, "Dropout": 1, "Mod": 1, "Pad": 1,
    "QuantizeLinear": 1, "Resize": 1,
}  # fmt: skip

# Where differences say nothing, or the case lies outside of what is covered.
EXCUSED = {
    "causal_boolmask_nan_robustness": "a row that sees nothing is 0 by definition; written out, it sees everything",
    "fullymasked_row": "the same",
    "large_number": "values of 10000 leave differences in float32 no digits",
    "l2normalization_axis_0": "the norm of one number jumps at 0",
    "l1normalization_axis_last": "the sign jumps at 0",
    "test_sign": "jumps at 0",
    "allowzero": "no elements",
    "reduce_log_sum_empty_set": "no elements",
    "downsample_scales_linear_align_corners": "the reference aligns the corners of a size that is no whole number",
    "downsample_scales_cubic_align_corners": "the same; engines use the whole number, and so does the rule",
}


Runner = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def _runner(model: ModelProto) -> Runner:
    """ONNX Runtime, where it has the operator in this form and precision; else the reference evaluator."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    engines: list = []
    with contextlib.suppress(Exception):
        engines.append(ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]))

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        while engines and not isinstance(engines[0], ReferenceEvaluator):
            try:
                return [np.asarray(v) for v in engines[0].run(None, feeds)]
            except Exception:  # some forms are refused only when they are run
                engines.clear()
        if not engines:
            engines.append(ReferenceEvaluator(model))
        return [np.asarray(v) for v in engines[0].run(None, feeds)]

    return run


def _prepared(case) -> tuple[ModelProto, dict[str, np.ndarray], str, np.ndarray] | None:
    """(model with settings as constants, data inputs, output, its value), or None where nothing is to derive."""
    model = ModelProto()
    model.CopyFrom(case.model)
    operator = model.graph.node[0].op_type
    inputs, outputs = case.data_sets[0]
    names = [i.name for i in model.graph.input]
    data = {
        n: np.asarray(v)
        for n, v in list(zip(names, inputs, strict=True))[: DATA_INPUTS.get(operator, 99)]
        if isinstance(v, np.ndarray) and v.dtype in (np.float32, np.float64)
    }
    value = outputs[0]
    if not data or not isinstance(value, np.ndarray) or value.dtype not in (np.float32, np.float64):
        return None
    kept = [i for i in model.graph.input if i.name in data]
    for name, array in zip(names, inputs, strict=True):
        if name not in data:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model, data, model.graph.output[0].name, value


def _disagreement(
    model: ModelProto, data: dict[str, np.ndarray], cotangent: np.ndarray, found: list[np.ndarray]
) -> str | None:
    """How `found`, the gradients of `data`, differ from central differences."""
    rng = np.random.default_rng(0)
    run = _runner(model)

    def total(name: str, array: np.ndarray) -> float:
        result = run({**data, name: array.astype(data[name].dtype)})[0]
        return float((result.astype(np.float64) * cotangent).sum())

    for name, gradient in zip(data, found, strict=True):
        if gradient.shape != data[name].shape:
            return f"{name}: shape {gradient.shape} instead of {data[name].shape}"
        errors = []
        for step in (1e-2, 1e-3, 2e-4):
            direction = rng.standard_normal(gradient.shape).astype(gradient.dtype)
            ahead, behind = (total(name, data[name] + s * direction) for s in (step, -step))
            middle = total(name, data[name])
            want, got = (ahead - behind) / (2 * step), float((gradient.astype(np.float64) * direction).sum())
            # One-sided differences that differ have a kink between them; its size is forgiven.
            kink = abs((ahead - middle) - (middle - behind)) / (2 * step)
            scale = max(abs(want), 0.1 * float(np.abs(gradient * direction).sum()), 1e-2)
            errors.append((abs(want - got) - kink) / scale)
        if min(errors) > 3e-2:
            return f"{name}: relative errors {errors}"
    return None


def _of_onnx_ad(
    model: ModelProto, data: dict[str, np.ndarray], output: str, cotangent: np.ndarray
) -> list[np.ndarray] | str:
    """The same gradients by onnx-ad, or the name of what kept it from giving them."""
    try:
        made = onnx_ad.reverse(model, inputs=list(data), outputs=[output], prefix="adj_", dim="seeds", layout="onnx")
        values = _runner(made)({**data, f"adj_{output}": cotangent[..., None]})
    except Exception as error:
        return type(error).__name__
    names = [o.name for o in made.graph.output]
    return [values[names.index(f"adj_{n}")][..., 0] for n in data]


def _same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return all(
        a.shape == b.shape and np.abs(a - b).max(initial=0) <= 1e-3 * max(np.abs(a).max(initial=0), 1e-3)
        for a, b in zip(ours, theirs, strict=True)
    )


def _cases(monkeypatch: pytest.MonkeyPatch) -> list[TestCase]:
    """All cases; the values of pools, of which only the shape is needed, are left out: they take half a minute."""
    with monkeypatch.context() as patch:
        patch.setattr(
            op_pool_common,
            "pool",
            lambda padded, shape, kernel, strides, out, *_, **__: np.zeros((*shape[:2], *out), padded.dtype),
        )
        return collect_testcases(None)


def test_every_case_of_a_covered_operator(summary_line, monkeypatch: pytest.MonkeyPatch) -> None:
    covered = set(supported_operators())
    counts: collections.Counter[str] = collections.Counter()
    refused: collections.Counter[str] = collections.Counter()
    second: collections.Counter[str] = collections.Counter()
    operators: set[str] = set()
    wrong: dict[str, str] = {}
    apart: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in _cases(monkeypatch):
            model = case.model
            if model is None or len(model.graph.node) != 1 or model.graph.node[0].op_type not in covered:
                continue
            if model.graph.node[0].domain or any(o.domain for o in model.opset_import):
                continue
            prepared = _prepared(case)
            if prepared is None:
                counts["not applicable (no floating-point data)"] += 1
                continue
            counts["tried"] += 1
            if any(part in case.name for part in EXCUSED):
                counts["excused"] += 1
                continue
            model, data, output, value = prepared
            cotangent = np.random.default_rng(1).standard_normal(value.shape).astype(value.dtype)
            try:
                product = vjp(model, list(data), [output])
            except UnsupportedOperatorError as error:
                refused[str(error).split(": ", 1)[1]] += 1
                counts["refused with a reason"] += 1
                continue
            found = _runner(product)({**data, f"cotangent_{output}": cotangent})
            problem = _disagreement(model, data, cotangent, found)
            counts["passed" if problem is None else "wrong"] += 1
            if problem is not None:
                wrong[case.name] = problem
            theirs = _of_onnx_ad(model, data, output, cotangent)
            operator = model.graph.node[0].op_type
            if isinstance(theirs, str):
                second[f"not given ({theirs})"] += 1
            elif _same(found, theirs):
                second["equal"] += 1
                operators.add(operator)
            elif not all(np.isfinite(t).all() for t in theirs):
                second["different, and theirs is not finite"] += 1
                apart[case.name] = operator
            elif _disagreement(model, data, cotangent, theirs) is not None:
                second["different, and theirs is refuted by differences"] += 1
                apart[case.name] = operator
            else:
                second["different at a kink, where both are right"] += 1
                apart[case.name] = operator
    summary_line(f"ONNX {onnx.__version__} backend cases against central differences: {dict(counts)}")
    summary_line(f"ONNX backend cases against onnx-ad, {len(operators)} operators: {dict(second)}")
    for why, count in refused.most_common():
        print(f"  refused {count}: {why}")
    print(f"  onnx-ad differs: {apart}")
    assert not wrong
    assert counts["passed"] > 560
    assert second["equal"] > 500
    assert len(operators) >= 100
    assert not second["different at a kink, where both are right"]
