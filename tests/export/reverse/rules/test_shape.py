"""Operators that move, join, cut and pad values."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F
from cfcam.export.errors import UnsupportedOperatorError
from onnx import helper
from onnx_gradcheck import Case, prove

RNG = np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("shape", "target"),
    [((2, 3, 4), (2, 12)), ((2, 3, 4), (6, 4)), ((2, 3, 4), (-1,)), ((2, 12), (2, 3, 4)), ((2, 3, 4), (0, 4, 3))],
)
def test_reshape(shape, target) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("Mul", ["r", "r"], ["y"])]
    prove(Case(nodes, {"x": normal(*shape)}, {"s": ints(*target)}))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_flatten(axis: int) -> None:
    prove(Case([helper.make_node("Flatten", ["x"], ["y"], axis=axis)], {"x": normal(2, 3, 4)}))


def test_reshape_with_unknown_batch_and_grid() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["flat"]),
        helper.make_node("Mul", ["flat", "flat"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "last"], ["y"], keepdims=0),
    ]
    case = Case(nodes, {"x": normal(2, 3, 4, 5)}, {"s": ints(0, 0, -1), "last": ints(2)})
    case.symbolic = {"x": ["N", 3, "H", "W"]}
    prove(case)


def test_constant_axes_survive_reshaping() -> None:
    """(N, C, H * W) averaged over its last axis: nothing is expanded before the very end."""
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["tokens", "one"], ["y"], keepdims=0),
    ]
    case = Case(nodes, {"x": normal(2, 3, 4, 5)}, {"s": ints(0, 3, 20), "one": ints(1)})
    product = prove(case)
    added = [n.op_type for n in product.graph.node if n.name.startswith("grad")]
    assert added.count("Expand") == 1
    assert added[-1] == "Expand"


@pytest.mark.parametrize("axes", [None, [1], [-1, 1]])
def test_squeeze_and_unsqueeze(axes) -> None:
    names = ["x"] if axes is None else ["x", "axes"]
    constants = {} if axes is None else {"axes": ints(*axes)}
    prove(Case([helper.make_node("Squeeze", names, ["y"])], {"x": normal(2, 1, 3, 1)}, constants))
    if axes is not None:
        prove(Case([helper.make_node("Unsqueeze", names, ["y"])], {"x": normal(2, 3)}, constants))


@pytest.mark.parametrize("order", [None, [1, 0, 2], [2, 0, 1]])
def test_transpose(order) -> None:
    attributes = {} if order is None else {"perm": order}
    prove(Case([helper.make_node("Transpose", ["x"], ["y"], **attributes)], {"x": normal(2, 3, 4)}))


@pytest.mark.parametrize(("shape", "target"), [((3, 1), (2, 3, 4)), ((2, 3), (1, 1)), ((1,), (3, 2))])
def test_expand(shape, target) -> None:
    prove(Case([helper.make_node("Expand", ["x", "s"], ["y"])], {"x": normal(*shape)}, {"s": ints(*target)}))


@pytest.mark.parametrize("repeats", [(1, 2), (3, 1), (2, 3)])
def test_tile(repeats) -> None:
    prove(Case([helper.make_node("Tile", ["x", "r"], ["y"])], {"x": normal(2, 3)}, {"r": ints(*repeats)}))


def test_tile_of_unknown_batch() -> None:
    case = Case([helper.make_node("Tile", ["x", "r"], ["y"])], {"x": normal(2, 3)}, {"r": ints(1, 2)})
    case.symbolic = {"x": ["N", 3]}
    prove(case)


@pytest.mark.parametrize("wrt", [["a", "b", "c"], ["b"], ["a", "c"]])
@pytest.mark.parametrize("axis", [1, -1])
def test_concat(axis: int, wrt) -> None:
    shapes = [(2, k, 4) if axis == 1 else (2, 3, k) for k in (1, 2, 3)]
    inputs = {n: normal(*s) for n, s in zip("abc", shapes, strict=True)}
    prove(Case([helper.make_node("Concat", list("abc"), ["y"], axis=axis)], inputs, wrt=wrt))


@pytest.mark.parametrize("wrt", [["a", "b"], ["b"]])
def test_concat_of_unknown_sizes(wrt) -> None:
    case = Case(
        [helper.make_node("Concat", ["a", "b"], ["y"], axis=1)], {"a": normal(2, 3), "b": normal(2, 4)}, wrt=wrt
    )
    case.symbolic = {"a": [2, "A"], "b": [2, "B"]}
    prove(case)


@pytest.mark.parametrize("used", [["a", "b", "c"], ["b"], ["a", "c"], ["c"]])
def test_split(used) -> None:
    nodes = [
        helper.make_node("Split", ["x", "s"], ["a", "b", "c"], axis=-1),
        *(helper.make_node("ReduceSum", [n, "last"], [f"sum_{n}"]) for n in used),
        helper.make_node("Concat", [f"sum_{n}" for n in used], ["joined"], axis=1),
        helper.make_node("Mul", ["joined", "joined"], ["y"]),
    ]
    prove(Case(nodes, {"x": normal(2, 6)}, {"s": ints(1, 2, 3), "last": ints(1)}))


@pytest.mark.parametrize(
    "cut",
    [
        ([1], [3], [1], [1]),
        ([-3], [-1], [1], [1]),
        ([0, 1], [2, 100], [0, 2], [1, 2]),
        ([-1], [-100], [1], [-1]),
        ([5], [0], [1], [-2]),
        ([1, 0], [6, 3], [1, 0], [3, 1]),
    ],
)
def test_slice(cut) -> None:
    constants: dict[str, np.ndarray] = dict(
        zip(("starts", "ends", "axes", "steps"), (ints(*v) for v in cut), strict=True)
    )
    prove(Case([helper.make_node("Slice", ["x", *constants], ["y"])], {"x": normal(3, 7, 5)}, constants))


@pytest.mark.parametrize(
    "cut",
    [
        *((start, end, 1) for start, end in ((1, 3), (0, -1), (-2, 100), (-(2**63), 4))),
        *(
            (start, end, step)
            for step in (2, 3)
            for start, end in ((0, 100), (1, 100), (2, 6), (-5, -1), (-(2**63), 5))
        ),
        *((start, end, step) for step in (-1, -2, -3) for start, end in ((-1, -100), (2**63 - 1, 1), (4, 0), (-2, -6))),
    ],
)
@pytest.mark.parametrize("axis", [1, 2])
def test_slice_of_unknown_size(cut, axis: int) -> None:
    names = ("starts", "ends", "axes", "steps")
    constants: dict[str, np.ndarray] = dict(zip(names, (ints(v) for v in (*cut[:2], axis, cut[2])), strict=True))
    case = Case([helper.make_node("Slice", ["x", *constants], ["y"])], {"x": normal(2, 7, 7)}, constants)
    case.symbolic = {"x": ["N", "H", "W"]}
    prove(case)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("unknown", [False, True], ids=["static", "unknown"])
def test_pad(mode: str, unknown: bool) -> None:
    node = helper.make_node("Pad", ["x", "pads"], ["y"], mode=mode)
    case = Case([node], {"x": normal(2, 4, 5)}, {"pads": ints(0, 2, 1, 0, 1, 3)}, opset=19)
    if unknown:
        case.symbolic = {"x": ["N", "H", "W"]}
    prove(case)


@pytest.mark.parametrize("pads", [(0, -1, 0, -1), (0, -1, 0, 2), (0, 1, 0, -2)])
def test_pad_that_cuts(pads) -> None:
    node = helper.make_node("Pad", ["x", "pads"], ["y"])

    # The reference evaluator refuses negative pads.
    def reference(x):
        return F.pad(x, (pads[1], pads[3]))

    prove(Case([node], {"x": normal(2, 5)}, {"pads": ints(*pads)}, torch=reference, in_reference=False))


def test_pad_axes_and_value() -> None:
    node = helper.make_node("Pad", ["x", "pads", "value", "axes"], ["y"])
    constants = {"pads": ints(1, 2), "value": np.array(2.5), "axes": ints(-1)}
    prove(Case([node], {"x": normal(2, 3)}, constants))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    node = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)
    case = Case([node], {"x": normal(2, 8, 2, 3)})
    if mode == "CRD":
        case.torch = lambda x: F.pixel_shuffle(x, 2)
    prove(case)


def test_space_to_depth() -> None:
    prove(Case([helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=2)], {"x": normal(2, 3, 4, 6)}))


@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(upper: int) -> None:
    prove(Case([helper.make_node("Trilu", ["x", "k"], ["y"], upper=upper)], {"x": normal(2, 4, 5)}, {"k": np.array(1)}))


@pytest.mark.parametrize("kind", [1, 10])
def test_cast(kind: int) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=kind),
        helper.make_node("Mul", ["half", "half"], ["squared"]),
        helper.make_node("CastLike", ["squared", "x"], ["y"]),
    ]
    # Rounding to float16 makes differences coarse; float32 is fine enough.
    prove(Case(nodes, {"x": normal(3, 4)}, tolerance=5e-2 if kind == 1 else np.inf, torch=None, in_ort=kind == 1))


def test_shape_arithmetic_ends_a_path() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["v", "s"], ["r"]),
        helper.make_node("Mul", ["r", "x"], ["y"]),
    ]
    prove(Case(nodes, {"x": normal(2, 3), "v": normal(6)}, symbolic={"x": ["N", 3]}))


def test_dropout_in_training_is_refused() -> None:

    node = helper.make_node("Dropout", ["x", "ratio", "training"], ["y"])
    constants = {"ratio": np.array(0.5), "training": np.array(True)}
    with pytest.raises(UnsupportedOperatorError, match=r"Dropout node .* training mode"):
        prove(Case([node], {"x": normal(2, 3)}, constants))


def test_center_crop_pad() -> None:
    """One of the operators that ONNX defines by others."""
    node = helper.make_node("CenterCropPad", ["x", "size"], ["y"], axes=[2, 3])
    prove(Case([node], {"x": normal(1, 2, 5, 4)}, {"size": ints(3, 6)}))


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved: int) -> None:
    node = helper.make_node("RotaryEmbedding", ["x", "cos", "sin"], ["y"], interleaved=interleaved)
    inputs = {"x": normal(2, 3, 4, 6)}
    prove(Case([node], inputs, {"cos": normal(2, 4, 3), "sin": normal(2, 4, 3)}, opset=23, in_ort=False))
