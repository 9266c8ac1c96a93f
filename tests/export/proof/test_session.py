"""Running a model while it is exported: in memory or by way of a file, whole or in batches, and what is refused."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.proof import session as module
from cfcam.export.proof.session import Session, release_memory
from cfcam.runtime.errors import MissingDependencyError
from numpy.typing import NDArray
from onnx import TensorProto, helper
from score_heads import IMAGES, head, logits, node
from small_graphs import make, normal

WEIGHT = normal(3, 4)
GEMM = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
X = normal(5, 4)


def same(found: NDArray[Any], expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("large", [2**25, 1])
def test_a_model_in_memory_and_one_that_is_large(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", large)
    session = Session(make([GEMM], {"w": WEIGHT}), threads=1)
    assert (session.inputs, session.outputs) == (["x"], ["y"])
    same(session.run({"x": X})["y"], X @ WEIGHT.T)


def test_a_file(tmp_path: Path) -> None:
    onnx.save(make([GEMM], {"w": WEIGHT}), tmp_path / "x.onnx")
    found = Session(str(tmp_path / "x.onnx"), optimise=False).run({"x": X})
    same(found["y"], X @ WEIGHT.T)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_batches_are_put_together_again(size: int) -> None:
    session = Session(make([GEMM], {"w": WEIGHT}))
    found = session.run_in_batches({"x": X, "nobody takes this": X}, size)
    same(found["y"], X @ WEIGHT.T)


def test_a_number_for_a_whole_batch_becomes_one_for_each_batch() -> None:
    session = Session(make([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]))
    found = session.run_in_batches({"x": X}, 2)["y"]
    same(found, np.array([X[:2].sum(), X[2:4].sum(), X[4:].sum()]))


def test_outputs_that_are_no_numbers_are_left_out() -> None:
    nodes = [
        node("ArgMax", ["logits"], ["best"], axis=1),
        node("ArrayFeatureExtractor", ["names", "best"], ["label"], domain="ai.onnx.ml"),
    ]
    names = {"names": np.array(["a", "b", "c", "d", "e"], object)}
    session = Session(head(nodes, names, {"logits": TensorProto.FLOAT, "label": TensorProto.STRING}))
    assert session.outputs == ["logits"]
    same(session.run({"image": IMAGES})["logits"], logits())
    assert Session(head(nodes, names, {"label": TensorProto.STRING})).run({"image": IMAGES}) == {}


def test_refusals_have_the_backends_words() -> None:
    with pytest.raises(ExportError, match=r"ONNX Runtime refuses the graph: .*Sharpen") as caught:
        Session(make([helper.make_node("Sharpen", ["x"], ["y"])]))
    assert "\n" not in str(caught.value)
    with pytest.raises(ExportError, match=r"ONNX Runtime cannot run the graph: .*x") as caught:
        Session(make([GEMM], {"w": WEIGHT})).run({"x": X[:, :3]})
    assert "\n" not in str(caught.value)


def test_without_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"needs ONNX Runtime: install cfcam\[cpu\] or cfcam\[gpu\]"):
        Session(make([GEMM], {"w": WEIGHT}))


def test_memory_is_given_back_once_there_is_more_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ring:
        def __init__(self) -> None:
            self.own = self

    held: list[int | None] = []
    monkeypatch.setattr(module, "resident", lambda: held[-1])
    monkeypatch.setattr(module, "_held", 0)
    gc.disable()  # only what is asked for collects
    try:
        #: Held by the process, and whether a release then collects: from 32 MiB more than after the last one on.
        for size, collects in [(2**25 - 1, False), (2**25, True), (2**26 - 1, False), (2**26, True), (2**24, False)]:
            held.append(size)
            gone = weakref.ref(Ring())
            release_memory()
            assert (gone() is None) is collects, size
        held.append(2**24 + 2**25)
        release_memory()
        assert gone() is None
        held.append(None)  # nobody knows how much it is
        gone = weakref.ref(Ring())
        release_memory()
        assert gone() is None
    finally:
        gc.enable()
