"""ONNX's own operator test cases: graphs and inputs that nobody here chose.

Every case of a covered operator is tried: its gradient against central differences of the
operator itself, in the case's own precision. Run with ``-rP`` to see the counts.
"""

from __future__ import annotations

import collections
import warnings

import numpy as np
import onnx
import pytest
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.reverse import supported_operators, vjp
from onnx import ModelProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator
from onnx_gradcheck import run_ort

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
}


def _run(model: ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    try:
        return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, feeds)]  # type: ignore[union-attr]
    except Exception:  # the evaluator lacks operators and cases; ONNX Runtime lacks others
        return run_ort(model, feeds)


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


def _disagreement(model: ModelProto, data: dict[str, np.ndarray], output: str, value: np.ndarray) -> str | None:
    rng = np.random.default_rng(0)
    product = vjp(model, list(data), [output])
    cotangent = rng.standard_normal(value.shape).astype(value.dtype)
    found = _run(product, {**data, f"cotangent_{output}": cotangent})

    def total(name: str, array: np.ndarray) -> float:
        result = _run(model, {**data, name: array.astype(data[name].dtype)})[0]
        return float((result.astype(np.float64) * cotangent).sum())

    for name, gradient in zip(data, found, strict=True):
        if gradient.shape != data[name].shape:
            return f"{name}: shape {gradient.shape} instead of {data[name].shape}"
        errors = []
        for step in (1e-2, 1e-3):
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


def test_every_case_of_a_covered_operator() -> None:
    covered = {*supported_operators(), "Attention"}
    counts: collections.Counter[str] = collections.Counter()
    refused: collections.Counter[str] = collections.Counter()
    wrong: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
        for case in cases:
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
            reason = next((why for part, why in EXCUSED.items() if part in case.name), None)
            if reason is not None:
                counts["excused"] += 1
                continue
            try:
                problem = _disagreement(*prepared)
            except UnsupportedOperatorError as error:
                refused[str(error).split(": ", 1)[1]] += 1
                counts["refused with a reason"] += 1
                continue
            counts["passed" if problem is None else "wrong"] += 1
            if problem is not None:
                wrong[case.name] = problem
    print(f"onnx {onnx.__version__}: {dict(counts)}")
    for why, count in refused.most_common():
        print(f"  refused {count}: {why}")
    assert not wrong
    assert counts["passed"] > 400
