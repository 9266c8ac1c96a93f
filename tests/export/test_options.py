"""What is asked of an export travels as one object, and is refused where it means nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import onnx_classifiers
import pytest
import torch
from cfcam.export import ExportError, export_onnx, export_torch
from cfcam.export.options import DEFAULT_OPSET, ExportOptions
from cfcam.export.reverse import LayerView
from torch import nn


def test_keywords_win_over_options() -> None:
    options = ExportOptions(layer="a", name="net")
    changed = options.but({"layer": "b"})
    assert (changed.layer, changed.name) == ("b", "net")
    assert options.layer == "a"


def test_an_unknown_name_is_answered_with_those_that_are() -> None:
    with pytest.raises(
        ExportError, match="no such option: colour, route; the options are layer, grid, detail, view, score"
    ):
        ExportOptions().but({"route": "onnx", "colour": 1})


def test_they_cannot_be_changed_behind_the_exporter() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ExportOptions().layer = "x"  # type: ignore[misc]


def test_only_what_is_given_is_refused() -> None:
    ExportOptions().refuse("an ONNX file", "opset", "keep_plain")
    with pytest.raises(ExportError, match=r"^opset, keep_plain: not for an ONNX file"):
        ExportOptions(opset=18, keep_plain="x").refuse("an ONNX file", "opset", "keep_plain")


@pytest.mark.parametrize("given", [{"view": LayerView(grid=(2, 2))}, {"input_size": (32, 32)}], ids=str)
def test_what_a_module_has_no_use_for(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"{next(iter(given))}: not for a PyTorch module"):
        export_torch(nn.Identity(), 32, tmp_path / "x.cam.onnx", **given)


@pytest.mark.parametrize("given", [{"opset": 20}, {"keep_plain": "plain.onnx"}], ids=lambda given: next(iter(given)))
def test_what_a_file_has_no_use_for(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"{next(iter(given))}: not for an ONNX file"):
        export_onnx(tmp_path / "net.onnx", tmp_path / "x.cam.onnx", ExportOptions(**given))


@pytest.mark.slow
def test_both_exporters_take_the_object(tmp_path: Path) -> None:
    options = ExportOptions(name="known as", labels=[f"class {i}" for i in range(onnx_classifiers.CLASSES)])
    onnx.save(onnx_classifiers.plain(), str(tmp_path / "net.onnx"))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(4, onnx_classifiers.CLASSES))
    from_file = export_onnx(tmp_path / "net.onnx", tmp_path / "x.cam.onnx", options)
    from_module = export_torch(net, 32, tmp_path / "y.cam.onnx", options, layer="0")
    for report in (from_file, from_module):
        assert report.spec.source.name == "known as"
        assert report.spec.output.labels is not None
        assert report.spec.output.labels[1] == "class 1"
    assert from_module.spec.layer.name == "0"
    opset = {entry.domain: entry.version for entry in onnx.load(from_module.path).opset_import}[""]
    assert opset == DEFAULT_OPSET
