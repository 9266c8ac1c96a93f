"""Operators of domains that nobody knows: off the way to the scores they are no obstacle, on it they are named."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from cfcam.export import export_onnx
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.runtime import Explainer
from onnx import helper
from onnx_classifiers import CLASSES, Builder, _features, _head


def saved(folder: Path, source: str, *, outputs: tuple[str, ...], front: bool = False) -> Path:
    """A classifier with a node of an unknown domain that reads `source` and makes ``other``."""
    b = Builder()
    strange = helper.make_node("Foo", [source], ["other"], domain="com.example", name="foo")
    if front:
        b.nodes.append(strange)
    _head(b, _features(b, "other" if front else "image"))
    if not front:
        b.nodes.append(strange)
    model = b.model({name: ["N", CLASSES] for name in outputs}, ["N", 3, 32, 32])
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("outputs", [("logits",), ("logits", "other"), ("other", "logits")])
def test_off_the_way_it_is_left_out(outputs: tuple[str, ...], tmp_path: Path) -> None:
    report = export_onnx(saved(tmp_path, "logits", outputs=outputs), tmp_path / "x.cam.onnx")
    notes = [note for note in report.warnings if "'other' is left out" in note and "com.example::Foo" in note]
    assert len(notes) == ("other" in outputs)
    assert "output 'logits' against the plain model" in {check.name for check in report.proof.checks}
    with Explainer(report.path) as explainer:
        assert explainer.spec.output.name == "logits"


def test_a_value_in_front_of_it_can_be_explained(tmp_path: Path) -> None:
    report = export_onnx(saved(tmp_path, "logits", outputs=("other",)), tmp_path / "x.cam.onnx", score="logits")
    assert report.spec.output.name == "logits"


@pytest.mark.parametrize(("source", "front"), [("logits", False), ("image", True)])
def test_on_the_way_it_is_named(source: str, front: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, source, outputs=("logits",) if front else ("other",), front=front)
    with pytest.raises(UnsupportedOperatorError, match=r"depend on node 'foo' \(com\.example::Foo\)"):
        export_onnx(path, tmp_path / "x.cam.onnx")
