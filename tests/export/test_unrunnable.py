"""Operators of domains that nobody knows: off the way to the scores they are no obstacle, on it they are named."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from cfcam.export import export_onnx
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.layers import list_layers
from cfcam.export.unrunnable import runnable_part
from cfcam.runtime import Explainer
from onnx import helper
from onnx_classifiers import CLASSES, Builder, _features, _head


def saved(
    folder: Path,
    source: str,
    *,
    outputs: tuple[str, ...],
    front: bool = False,
    operator: str = "com.example::Foo",
    imported: bool = True,
) -> Path:
    """A classifier with a node of an unknown operator that reads `source` and makes ``other``."""
    b = Builder()
    domain, _, kind = operator.rpartition("::")
    strange = helper.make_node(kind, [source], ["other"], domain=domain, name="foo")
    if front:
        b.nodes.append(strange)
    _head(b, _features(b, "other" if front else "image"))
    if not front:
        b.nodes.append(strange)
    model = b.model({name: ["N", CLASSES] for name in outputs}, ["N", 3, 32, 32])
    if domain and imported:
        model.opset_import.append(helper.make_opsetid(domain, 1))
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


@pytest.mark.parametrize(
    ("operator", "imported", "why"),
    [
        ("Foo", True, "Foo, which ONNX Runtime does not know"),
        ("CDist", True, "CDist, which ONNX Runtime does not know"),  # it belongs to com.microsoft
        ("ai.onnx.ml::Foo", True, "ai.onnx.ml::Foo, which ONNX Runtime does not know"),
        ("com.microsoft::Foo", True, "com.microsoft::Foo, which ONNX Runtime does not know"),
        ("com.microsoft::Gelu", False, "com.microsoft::Gelu, of whose domain the file imports no version"),
    ],
)
def test_so_is_an_unknown_one_of_a_known_domain(operator: str, imported: bool, why: str, tmp_path: Path) -> None:
    outputs = ("other", "logits")
    path = saved(tmp_path, "logits", outputs=outputs, operator=operator, imported=imported)
    assert f"output 'other' is left out: it depends on {why}" in export_onnx(path, tmp_path / "x.cam.onnx").warnings
    assert list_layers(path).score == "logits"
    path = saved(tmp_path, "logits", outputs=("other",), operator=operator, imported=imported)
    for refused in (lambda: export_onnx(path, tmp_path / "y.cam.onnx"), lambda: list_layers(path)):
        with pytest.raises(UnsupportedOperatorError, match=f"the scores depend on node 'foo', of {why}"):
            refused()


def test_functions_of_the_model_are_known(tmp_path: Path) -> None:
    model = onnx.load(saved(tmp_path, "logits", outputs=("other",)))
    body = [helper.make_node("Neg", ["a"], ["b"])]
    model.functions.append(
        helper.make_function("com.example", "Foo", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    )
    model.ir_version = 8
    assert runnable_part(model, None) == (model, [])
    model.functions[0].node[0].op_type = "Bar"
    with pytest.raises(UnsupportedOperatorError, match=r"node 'foo', of com\.example::Foo, which"):
        runnable_part(model, None)


def test_a_value_in_front_of_it_can_be_explained(tmp_path: Path) -> None:
    report = export_onnx(saved(tmp_path, "logits", outputs=("other",)), tmp_path / "x.cam.onnx", score="logits")
    assert report.spec.output.name == "logits"


@pytest.mark.parametrize(("source", "front"), [("logits", False), ("image", True)])
def test_on_the_way_it_is_named(source: str, front: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, source, outputs=("logits",) if front else ("other",), front=front)
    with pytest.raises(UnsupportedOperatorError, match=r"depend on node 'foo', of com\.example::Foo, which"):
        export_onnx(path, tmp_path / "x.cam.onnx")
