"""The proof of columns, on a right file and on files in which columns are mixed up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.export import export_onnx
from cfcam.export.proof.columns import columns_apart
from cfcam.export.proof.exported_file import open_exported_file
from onnx import ModelProto, helper, numpy_helper


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("columns")
    onnx.save(onnx_classifiers.make("softmax"), folder / "net.onnx")
    report = export_onnx(folder / "net.onnx", folder / "net.cam.onnx", classes_per_image=2)
    return Path(report.path)


def failed(path: Path) -> list[str]:
    return [check.name for check in columns_apart(open_exported_file(path)) if not check.ok]


def behind(model: ModelProto, output: str, op: str, array: np.ndarray, axis: int | None) -> None:
    """Put a node with a constant between what makes `output` and the output."""
    node = next(n for n in model.graph.node if output in n.output)
    node.output[list(node.output).index(output)] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(array, "spoilt"))
    spoil = helper.make_node(op, ["raw", "spoilt"], [output])
    if axis is not None:
        spoil.attribute.append(helper.make_attribute("axis", axis))
    model.graph.node.append(spoil)


def test_a_right_file_passes(exported: Path) -> None:
    assert failed(exported) == []


@pytest.mark.parametrize(
    ("output", "op", "array", "axis", "name"),
    [
        ("cam_gradients", "Gather", np.array([1, 0]), 1, "columns against single classes, share of the allowed error"),
        ("cam_gradients", "Gather", np.array([0, 0]), 1, "columns against single classes, share of the allowed error"),
        ("cam_class", "Gather", np.array([1, 0]), 1, "classes of the columns are those asked for"),
    ],
)
def test_columns_that_are_mixed_up_fail(
    output: str, op: str, array: np.ndarray, axis: int, name: str, exported: Path, tmp_path: Path
) -> None:
    model = onnx.load(exported)
    behind(model, output, op, array, axis)
    onnx.save(model, tmp_path / "spoilt.cam.onnx")
    assert name in failed(tmp_path / "spoilt.cam.onnx")


def test_a_column_that_looks_at_its_neighbour_fails(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    mix = np.array([[1, 1e-3], [0, 1]], np.float32)
    node = next(n for n in model.graph.node if "cam_gradients" in n.output)
    node.output[0] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(mix, "mix"))
    model.graph.node.append(helper.make_node("Einsum", ["mix", "raw"], ["cam_gradients"], equation="ij,njchw->nichw"))
    onnx.save(model, tmp_path / "spoilt.cam.onnx")
    assert "columns beside other classes" in failed(tmp_path / "spoilt.cam.onnx")
