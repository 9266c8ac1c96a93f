"""The patch test: readings of a grid against responses whose places are known, and on files that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from cfcam.export import ProofError, export_onnx
from cfcam.export.proof.placement import CHECK, NOT_TESTABLE, Fit, better_readings, compare
from cfcam.export.reverse import LayerView
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.contract.spec import LayerSpec
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CENTRES = np.array([[(row + 0.5) / 4, (column + 0.5) / 4] for row in range(4) for column in range(4)])


def responses(height: int, width: int, channels: int = 6, spread: float = 0.3) -> NDArray[np.float64]:
    """(2, 16, C, H, W): squared changes where the patch is, and everywhere a little, by a gate: `spread`."""
    random = np.random.default_rng(1)
    rows, columns = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    apart = np.abs(rows - CENTRES[:, 0, None, None]) * (height > 1) + np.abs(columns - CENTRES[:, 1, None, None])
    local = np.exp(-((4 * apart) ** 2))[None, :, None]
    gate = spread * random.random((1, 1, channels, height, width))
    return (local * random.uniform(0.5, 1, (2, 1, channels, 1, 1)) + gate + 0.02 * random.random(gate.shape)) ** 2


def spec(squares: NDArray[Any], layout: Literal["NCHW", "NHWC", "NTC"] = "NCHW") -> LayerSpec:
    return LayerSpec(name="x", value="x", layout=layout, channels=squares.shape[2], grid=squares.shape[3:])


def better(squares: NDArray[Any], layout: Literal["NCHW", "NHWC", "NTC"] = "NCHW") -> list[Fit]:
    return better_readings(squares, CENTRES, spec(squares, layout))[1]


@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (6, 8), (2, 2), (1, 16), (14, 14)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NTC"])
def test_a_right_grid_is_the_best_reading(grid, layout) -> None:
    squares = responses(*grid)
    claimed, *_ = compare(squares, CENTRES, spec(squares, layout))
    assert claimed.located
    assert not better(squares, layout)


@pytest.mark.parametrize("grid", [(4, 4), (8, 8)])
def test_cells_that_strides_and_padding_shift_are_no_other_order(grid) -> None:
    """By a cell, down and to the right: a learned order knows better, and may."""
    squares = np.roll(responses(*grid), (1, 1), (3, 4))
    squares[..., 0, :] = squares[..., 0] = 0
    assert not better(squares)


@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda s: s.swapaxes(3, 4), "with rows and columns exchanged"),
        (lambda s: s[..., ::-1, :], "with rows turned round"),
        (lambda s: s[..., ::-1], "with columns turned round"),
        (lambda s: s[..., ::-1, ::-1], "with both turned round"),
        (lambda s: s.swapaxes(3, 4)[..., ::-1], "with rows and columns exchanged and rows turned round"),
    ],
)
def test_a_turned_grid_is_found(wrong, name, spread) -> None:
    """Also where a gate changes each cell three times as much as the patch does."""
    found = better(wrong(responses(6, 6, spread=spread)))
    assert (found[0].name, found[0].remedy) == (name, "")


@pytest.mark.parametrize(("claimed", "right"), [("NCHW", "NHWC"), ("NHWC", "NCHW")])
def test_channels_that_were_taken_for_rows_are_found(claimed, right) -> None:
    squares = responses(4, 4, channels=16)
    held = squares if right == "NCHW" else squares.transpose(0, 1, 3, 4, 2)  # the value's own order
    read = held if claimed == "NCHW" else held.transpose(0, 1, 4, 2, 3)
    best, *_ = better(read, claimed)
    assert (best.name, best.remedy) == (f"as {right}", f"--layout {right}")


def test_tokens_on_a_grid_of_other_sides_are_found() -> None:
    squares = responses(8, 8)
    best, *_ = better(squares.reshape(*squares.shape[:3], 4, 16), "NTC")
    assert (best.name, best.remedy) == ("as a grid of 8x8", "--grid 8x8")


def test_cells_in_any_other_order_are_found() -> None:
    squares = responses(6, 6)
    order = np.random.default_rng(0).permutation(36)
    shuffled = squares.reshape(*squares.shape[:3], 36)[..., order].reshape(squares.shape)
    assert [fit.name for fit in better(shuffled, "NTC")] == ["in an order that is learned from the image"]


@pytest.mark.parametrize("grid", [(4, 4), (14, 14)])
def test_cells_that_all_see_the_whole_image_are_not_testable(grid) -> None:
    squares = np.random.default_rng(2).random((2, 16, 6, *grid))
    claimed, *_ = compare(squares, CENTRES, spec(squares))
    assert not claimed.located
    assert not better(squares)


def test_patches_without_any_change_tell_nothing() -> None:
    assert not compare(np.zeros((2, 16, 6, 4, 4)), CENTRES, spec(np.zeros((2, 16, 6, 4, 4))))[0].located


def network(middle: str, folder: Path) -> Path:
    """A network on 24x24 images whose layer "y", made of the patches "c" (N, 16, 6, 6) by `middle`, is flattened.

    `middle`: "Operator inputs attribute=1,2 | ...", the last one makes "y".
    """
    random = np.random.default_rng(3)
    order = random.permutation(36)
    constants = {
        "w": random.standard_normal((16, 3, 4, 4)).astype(np.float32),
        "head": random.standard_normal((576, 5)).astype(np.float32),
        "mix": random.standard_normal((576, 576)).astype(np.float32),
        "flat": np.array([-1, 576]),
        "tokens": np.array([0, 16, -1]),
        "grid": np.array([-1, 16, 6, 6]),
        "same": np.arange(36),
        "order": order,
        "s": np.array(0.05, np.float32),
        "z": np.array(0, np.int8),
    }
    nodes, value = [helper.make_node("Conv", ["image", "w"], ["c"], strides=[4, 4])], "c"
    steps = [step.split() for step in middle.split("|")]
    for place, (operator, *words) in enumerate(steps):
        made = "y" if place == len(steps) - 1 else f"v{place}"
        given: dict[str, Any] = {
            k: [*map(int, v.split(","))] if "," in v else int(v) for k, v in (w.split("=") for w in words if "=" in w)
        }
        nodes.append(helper.make_node(operator, [value, *(w for w in words if "=" not in w)], [made], **given))
        value = made
    nodes += [helper.make_node("Reshape", ["y", "flat"], ["f"]), helper.make_node("MatMul", ["f", "head"], ["logits"])]
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 24, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in read],
    )
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_quantised_value_keeps_its_axes(tmp_path: Path) -> None:
    """Channels last behind a pair of quantisers: 16 channels of 6x6, not 6 of 6x16; nothing is assumed."""
    path = network("Transpose perm=0,2,3,1 | QuantizeLinear s z | DequantizeLinear s z", tmp_path)
    report = export_onnx(path, tmp_path / "out.onnx")
    layer = report.spec.layer
    assert (layer.layout, layer.channels, layer.grid, layer.assumed) == ("NHWC", 16, (6, 6), False)
    (check,) = [check for check in report.proof.checks if check.name == CHECK]
    assert (check.value, check.note) == (0, "")


@pytest.mark.parametrize("given", [None, "NHWC"])
def test_a_wrong_layout_is_refused_with_the_one_that_fits(given, tmp_path: Path) -> None:
    """The remedy of the message works."""
    path = network("Transpose perm=0,2,3,1", tmp_path)
    if given is None:
        with pytest.raises(ProofError, match=r"out\.onnx: not written.* read as NHWC.*export it with --layout NHWC"):
            export_onnx(path, tmp_path / "out.onnx", layer="y", view=LayerView(layout="NCHW"))
        assert not (tmp_path / "out.onnx").exists()
    else:
        report = export_onnx(path, tmp_path / "out.onnx", layer="y", view=LayerView(layout=given))
        assert report.spec.layer.grid == (6, 6)


@pytest.mark.parametrize(("order", "right"), [("same", True), ("order", False)])
def test_an_assumed_layout_is_said_and_tested(order, right, tmp_path: Path) -> None:
    """Tokens picked by a constant order: their places are assumed to be those of reading."""
    path = network(f"Reshape tokens | Transpose perm=0,2,1 | Gather {order} axis=1", tmp_path)
    if not right:
        with pytest.raises(ProofError, match=r"in an order that is learned .*choose another layer with --layer"):
            export_onnx(path, tmp_path / "out.onnx", layer="y")
        return
    report = export_onnx(path, tmp_path / "out.onnx", layer="y")
    assert report.spec.layer.assumed
    assert read_spec(tmp_path / "out.onnx").layer.assumed
    (note,) = [text for text in report.warnings if "assumed" in text]
    assert "assumed to be NTC, 16 channels of 6x6; patches of the image are found where this puts them" in note


def test_a_mixed_layer_is_not_testable_and_is_written(tmp_path: Path) -> None:
    path = network("Reshape flat | MatMul mix | Relu | Reshape grid", tmp_path)
    report = export_onnx(path, tmp_path / "out.onnx", layer="y", view=LayerView(layout="NCHW"))
    (check,) = [check for check in report.proof.checks if check.name == CHECK]
    assert check.ok
    assert check.note == NOT_TESTABLE
