"""What INT8 could make faster, in the plain network inside an explained file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("onnx")

import onnx
from cfcam.calibration.build.nodes import read_nodes, refuse_unknown_nodes
from cfcam.export.errors import ExportError
from cfcam.export.writing import set_spec
from cfcam.runtime.contract.modelfile import read_spec
from onnx_classifiers import CLASSES, exported, make


def nodes_of(name: str, layer: str | None, folder: Path):
    model, spec = exported(make(name), layer)
    set_spec(model, spec)
    onnx.save(model, folder / "x.onnx")
    return read_nodes(folder / "x.onnx", spec)


def test_multiplications_ends_and_what_is_near_the_layer(tmp_path: Path) -> None:
    found = nodes_of("plain", "middle", tmp_path)
    # Three convolutions of 3 x 3 and a matrix; none of those of the backward pass.
    macs = [8 * 27 * 16 * 16, 12 * 8 * 9 * 8 * 8, 16 * 12 * 9 * 8 * 8, 16 * CLASSES]
    assert [node.macs for node in found.all] == macs
    names = [node.name for node in found.all]
    assert found.ends == (names[0], names[-1])
    assert found.near_layers == (names[1], names[2])  # the one that makes it, and the one that reads it
    assert found.quantised_share(()) == 1
    assert found.quantised_share(found.ends) == pytest.approx(sum(macs[1:3]) / sum(macs))
    assert found.quantised_share(names) == 0
    assert found.groups(2) == [tuple(names[:2]), tuple(names[2:])]
    assert found.groups(8) == [(name,) for name in names]


def test_what_makes_and_reads_the_detail_is_near_too(guided_path: Path) -> None:
    """`early` is made by the first convolution, and read by the second; `last` is made by the third."""
    found = read_nodes(guided_path, read_spec(guided_path))
    first, second, third, head = (node.name for node in found.all)
    assert set(found.near_layers) == {first, second, third, head}
    spec = read_spec(guided_path)
    alone = dataclasses.replace(spec, layers=(dataclasses.replace(spec.layer, detail=None),))
    assert set(read_nodes(guided_path, alone).near_layers) == {third, head}


def test_other_layouts(tmp_path: Path) -> None:
    found = nodes_of("keras", None, tmp_path)
    assert [node.macs for node in found.all] == [8 * 27 * 8 * 8, 8 * 12 * 8 * 8, 12 * CLASSES]
    assert found.near_layers == tuple(node.name for node in found.all[1:])
    # A matrix that multiplies two activations has no weight to quantise.
    assert len(nodes_of("tokens", "stream", tmp_path).all) == 1 + 3 + 1


def test_a_plan_that_names_a_node_which_is_not_there(tmp_path):
    found = nodes_of("plain", "middle", tmp_path)
    spec = read_spec(tmp_path / "x.onnx")
    refuse_unknown_nodes(tmp_path / "x.onnx", spec, [found.all[0].name])
    near = found.all[0].name
    with pytest.raises(ExportError, match=f"has no node '{near}x'; did you mean '{near}'"):
        refuse_unknown_nodes(tmp_path / "x.onnx", spec, [near + "x"])
