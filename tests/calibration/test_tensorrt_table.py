"""The table of what TensorRT refuses, against TensorRT's own parser."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cfcam.calibration.tensorrt_table import LARGEST_OPSET, LARGEST_TOP_K, tensorrt_refusals
from cfcam.runtime.engines.tensorrt.build import build_engine, parse_onnx
from cfcam.runtime.errors import CfcamError, EngineError
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests
from tensorrt_required import require_tensorrt

make = helper.make_node


def model(*nodes: onnx.NodeProto, opset: int = 18, **constants: np.ndarray) -> onnx.ModelProto:
    """Nodes from ``x`` (4, 6, 8, 8) float32 to ``y``."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 6, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


INDICES = np.zeros((4, 6, 8, 8), np.int64)

REFUSED: dict[str, tuple[onnx.ModelProto, str]] = {
    "scatter elements": (
        model(make("ScatterElements", ["x", "i", "x"], ["y"], reduction="add", name="s"), i=INDICES),
        "s",
    ),
    "scatter nd": (
        model(
            make("ScatterND", ["x", "i", "u"], ["y"], reduction="add"),
            i=np.zeros((1, 1), np.int64),
            u=np.ones((1, 6, 8, 8), np.float32),
        ),
        "silently",
    ),
    "indices": (model(make("MaxPool", ["x"], ["y", "where"], kernel_shape=[2, 2])), "indices"),
    "non zero": (
        model(make("NonZero", ["x"], ["z"]), make("Cast", ["z"], ["y"], to=TensorProto.FLOAT)),
        "plugin",
    ),
    "large K": (
        model(
            make("Reshape", ["x", "flat"], ["f"]),
            make("Concat", ["f"] * 4, ["longer"], axis=0),
            make("TopK", ["longer", "k"], ["y", "where"]),
            flat=np.array([-1]),
            k=np.array([LARGEST_TOP_K + 1]),
        ),
        str(LARGEST_TOP_K),
    ),
    "unpool": (
        model(make("MaxUnpool", ["x", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2]), i=INDICES),
        "no such layer",
    ),
    "another domain": (
        model(make("BiasGelu", ["x", "b"], ["y"], domain="com.microsoft"), b=np.ones(8, "f")),
        "com.mic",
    ),
}

ACCEPTED = {
    "scatter elements": model(make("ScatterElements", ["x", "i", "x"], ["y"]), i=INDICES),
    "pooling": model(make("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])),
    "largest K": model(
        make("Reshape", ["x", "flat"], ["f"]),
        make("Concat", ["f"] * 4, ["longer"], axis=0),
        make("TopK", ["longer", "k"], ["y", "where"]),
        flat=np.array([-1]),
        k=np.array([LARGEST_TOP_K]),
    ),
    "constant axes": model(make("ReduceSum", ["x", "a"], ["y"]), a=np.array([1])),
    "constant axes as a node": model(
        make("Constant", [], ["a"], value_ints=[1]), make("ReduceSum", ["x", "a"], ["y"], keepdims=0)
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    proto, words = REFUSED[name]
    found = tensorrt_refusals(proto)
    assert len(found) == 1
    assert words in str(found[0])
    assert found[0].operator in str(found[0])


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_taken(name):
    assert tensorrt_refusals(ACCEPTED[name]) == []


@pytest.mark.parametrize(("opset", "count"), [(LARGEST_OPSET, 0), (LARGEST_OPSET + 1, 1)])
def test_newest_operator_set(opset, count):
    found = tensorrt_refusals(model(make("Relu", ["x"], ["y"]), opset=opset))
    assert len(found) == count
    assert not found or str(opset) in str(found[0])


def test_bodies_are_looked_into_and_local_functions_are_not_foreign():
    body = helper.make_graph(
        [make("NonZero", ["x"], ["inner"])], "b", [], [helper.make_tensor_value_info("inner", TensorProto.INT64, None)]
    )
    proto = model(make("If", ["c"], ["y"], then_branch=body, else_branch=body), c=np.array(True))
    assert [r.operator for r in tensorrt_refusals(proto)] == ["NonZero", "NonZero"]
    proto = model(make("Mine", ["x"], ["y"], domain="local"))
    assert len(tensorrt_refusals(proto)) == 1
    proto.functions.append(
        helper.make_function("local", "Mine", ["a"], ["b"], [make("Relu", ["a"], ["b"])], [helper.make_opsetid("", 18)])
    )
    assert tensorrt_refusals(proto) == []


class TestAgainstTheParser:
    @pytest.fixture(autouse=True)
    def parser(self):
        require_tensorrt()

    @pytest.mark.parametrize("name", [name for name in REFUSED if name != "large K"])
    def test_refused(self, name):
        assert not parse_onnx(REFUSED[name][0].SerializeToString())

    def test_a_large_k_is_refused_when_the_engine_is_built(self, tmp_path):
        path = tmp_path / "k.onnx"
        onnx.save(REFUSED["large K"][0], path)
        with pytest.raises(EngineError):
            build_engine(path, compute_capability="8.6")
        onnx.save(ACCEPTED["largest K"], path)
        assert build_engine(path, compute_capability="8.6")

    @pytest.mark.parametrize("name", ACCEPTED)
    def test_accepted(self, name):
        result = parse_onnx(ACCEPTED[name].SerializeToString())
        assert result, str(result)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    def test_no_row_is_wrong_on_the_cases_of_onnx(self):
        """Every test case of ONNX that the table refuses, the parser refuses too."""
        rows: Counter[str] = Counter()
        wrong = []
        for case in load_model_tests(kind="node"):
            proto: Any = case.model or onnx.load(Path(str(case.model_dir)) / "model.onnx")
            found = [r for r in tensorrt_refusals(proto) if r.operator]
            if not found:
                continue
            rows.update({r.operator for r in found})
            try:
                accepted = bool(parse_onnx(proto.SerializeToString()))
            except CfcamError:
                accepted = False
            if accepted:
                wrong.append((case.name, str(found[0])))
        assert not wrong
        print(f"{sum(rows.values())} cases of {len(rows)} operators: {dict(rows)}")
        assert len(rows) > 30, "the cases were not found"
