"""Passes are run until nothing changes, and say what they changed."""

from __future__ import annotations

import logging

import onnx_classifiers
import pytest
from cfcam.export.graph import Graph, fold_constants, open_graph, prune
from cfcam.export.graph.passes import repeat


def counting_down(graph: Graph) -> int:
    """Changes something three times."""
    graph.ir_version -= 1
    return int(graph.ir_version > 7)


def test_they_are_repeated_until_none_changes_anything(caplog: pytest.LogCaptureFixture) -> None:
    graph, _ = open_graph(onnx_classifiers.plain())
    graph.ir_version = 10
    with caplog.at_level(logging.DEBUG, "cfcam.export.passes"):
        assert repeat(graph, counting_down, fold_constants, prune) >= 2
    assert graph.ir_version == 7
    assert "counting_down" in caplog.text


def test_a_graph_with_nothing_to_do_is_left_alone() -> None:
    graph, _ = open_graph(onnx_classifiers.plain())
    repeat(graph, fold_constants, prune)
    before = [node.SerializeToString() for node in graph.nodes]
    assert repeat(graph, fold_constants, prune) == 0
    assert [node.SerializeToString() for node in graph.nodes] == before
