"""The detail layer and the rivals' gradient: right ones pass, wrong ones are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.export import export_onnx
from cfcam.export.proof.exported_file import ExportedFile, open_exported_file
from cfcam.export.proof.guiding import detail_leads_to_activations, rivals_against_differences
from cfcam.export.sources.preprocessing import preset
from onnx import helper, numpy_helper
from onnx_classifiers import written


@pytest.fixture
def file(tmp_path: Path) -> ExportedFile:
    onnx.save(onnx_classifiers.plain(), tmp_path / "net.onnx")
    return open_exported_file(
        export_onnx(tmp_path / "net.onnx", tmp_path / "x.cam.onnx", preprocessing=preset("tf")).path
    )


def spoilt(file: ExportedFile, **changes: Any) -> ExportedFile:
    file.__dict__["top"] = replace(file.top, **changes)
    return file


def test_the_detail_leads_to_the_layer(file: ExportedFile) -> None:
    (check,) = detail_leads_to_activations(file)
    assert check.ok
    assert check.value < 1e-5
    assert file.top.detail is not None
    (check,) = detail_leads_to_activations(spoilt(file, detail=file.top.detail * np.float32(1.01)))
    assert not check.ok
    (check,) = detail_leads_to_activations(spoilt(file, detail=np.roll(file.top.detail, 1, axis=3)))
    assert not check.ok


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_cells_in_another_order_are_found_in_the_graph(axis: int, file: ExportedFile) -> None:
    """Channels turned round, or the grid: what only rearranges could be undone, and the map would lie elsewhere."""
    model = onnx.load(file.path)
    node = next(node for node in model.graph.node if "cam_detail" in node.output)
    for other in model.graph.node:
        for names in (other.input, other.output):
            for place, name in enumerate(names):
                names[place] = "right" if name == "cam_detail" else name
    assert "right" in node.output
    order = np.arange((8, 16, 16)[axis - 1])[::-1].copy()
    model.graph.initializer.append(numpy_helper.from_array(order, "order"))
    model.graph.node.append(helper.make_node("Gather", ["right", "order"], ["cam_detail"], axis=axis))
    onnx.save(model, file.path)
    (check,) = detail_leads_to_activations(open_exported_file(file.path))
    assert not check.ok
    assert "the order in which the file gives its cells" in (check.note or "")


def test_the_rivals_gradient_by_hand(file: ExportedFile) -> None:
    """Behind a mean and a linear layer: the rows of the weights, weighed by the softmax over the other classes."""
    top = file.top
    classes = range(onnx_classifiers.CLASSES)
    gradients = [file.exact.gradient(np.full(len(file.images), k))[:, :, :1, :1] for k in classes]
    for n, own in enumerate(top.classes):
        powers = {k: np.exp(score) for k, score in enumerate(top.outputs["logits"][n].astype(float)) if k != own}
        expected = sum(power / sum(powers.values()) * gradients[k][n] for k, power in powers.items())
        assert top.rivals is not None
        np.testing.assert_allclose(top.rivals[n], expected, rtol=1e-4, atol=1e-7)
    (check,) = rivals_against_differences(file)
    assert check.ok
    assert check.value < 1e-5


@pytest.mark.parametrize("wrong", [-1.0, 1.01, 0.0])
def test_another_gradient_of_the_rivals_is_found(wrong: float, file: ExportedFile) -> None:
    assert file.top.rivals is not None
    (check,) = rivals_against_differences(spoilt(file, rivals=file.top.rivals * np.float32(wrong)))
    assert not check.ok


def test_a_file_without_either(tmp_path: Path) -> None:
    file = open_exported_file(written(tmp_path)[0])
    assert detail_leads_to_activations(file) == []
    assert rivals_against_differences(file) == []
