"""MatMul, Gemm and Einsum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_gradcheck import Case, prove

RNG = np.random.default_rng(2)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 3)),
    ],
)
def test_matmul(shapes) -> None:
    inputs = {"a": normal(*shapes[0]), "b": normal(*shapes[1])}
    prove(Case([helper.make_node("MatMul", ["a", "b"], ["y"])], inputs, torch=torch.matmul))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 2, 3, 4)])
def test_matmul_with_weight_reads_the_weight_itself(shape) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    product = prove(Case([node], {"x": normal(*shape)}, {"w": normal(4, 5)}))
    readers = [n for n in product.graph.node if "w" in n.input]
    assert [n.op_type for n in readers] == ["Gemm"]


@pytest.mark.parametrize("turn_a", [0, 1])
@pytest.mark.parametrize("turn_b", [0, 1])
@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (3, 1), (3, 5)])
def test_gemm(turn_a: int, turn_b: int, bias) -> None:
    inputs = {"a": normal(*((4, 3) if turn_a else (3, 4))), "b": normal(*((5, 4) if turn_b else (4, 5)))}
    names = ["a", "b"]
    if bias is not None:
        inputs["c"] = normal(*bias)
        names.append("c")
    node = helper.make_node("Gemm", names, ["y"], transA=turn_a, transB=turn_b, alpha=0.5, beta=1.25)

    def reference(a, b, c=None):
        y = 0.5 * (a.T if turn_a else a) @ (b.T if turn_b else b)
        return y if c is None else y + 1.25 * c

    prove(Case([node], inputs, torch=reference))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", ((2, 3), (3, 4))),
        ("bij,bkj->bik", ((2, 3, 4), (2, 5, 4))),
        ("bhqd,bhkd->bhqk", ((2, 2, 3, 4), (2, 2, 5, 4))),
        ("ij,jk", ((2, 3), (3, 4))),
        ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5))),
        ("bij->bi", ((2, 3, 4),)),
        ("ij->ji", ((2, 3),)),
        ("i,j->ij", ((2,), (3,))),
        ("ij,j->i", ((2, 3), (3,))),
        ("ab,bc,cd->ad", ((2, 3), (3, 4), (4, 2))),
    ],
)
def test_einsum(equation: str, shapes) -> None:
    names = [f"x{i}" for i in range(len(shapes))]
    node = helper.make_node("Einsum", names, ["y"], equation=equation)
    inputs = {n: normal(*s) for n, s in zip(names, shapes, strict=True)}
    prove(Case([node], inputs, torch=lambda *v: torch.einsum(equation, *v)))
