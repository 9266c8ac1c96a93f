"""Where quantisers stand, and what their ranges are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from cfcam.export import export_onnx
from cfcam.export.graph import Graph, open_graph
from cfcam.export.precision import lower
from cfcam.export.precision.calibration_images import CalibrationImages
from cfcam.export.precision.plain_model import PlainModel
from cfcam.export.precision.plan import Plan
from lowered_nets import IMAGES, INT8
from score_heads import IMAGES as PHOTOS
from score_heads import head, node, run


def test_where_pairs_are_not(quantised: tuple[PlainModel, CalibrationImages, onnx.ModelProto]) -> None:
    """The logits saturate nowhere, a pooled layer keeps its constant gradient, a target layer keeps its ReLU."""
    plain, _, model = quantised
    graph, _ = open_graph(model)
    assert graph.producers["logits"].op_type == "Gemm"
    (layer,) = plain.layers
    assert graph.producers[layer].op_type == "Clip"
    assert [node.op_type for node in graph.consumers[layer]] == ["GlobalAveragePool"]
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    assert graph.constant(convolutions[0].input[1]) is not None  # the first stays float
    assert all(graph.constant(node.input[1]) is None for node in convolutions[1:])


def test_ranges_are_read_again(cam: Path, tmp_path: Path) -> None:
    """A second pass with the ranges of the first gives the same file."""
    ranges = tmp_path / "kept" / "ranges.json"
    first, second = (
        lower(cam, tmp_path / f"{i}.onnx", INT8, [IMAGES], prove=False, ranges=ranges).path.read_bytes()
        for i in range(2)
    )
    assert ranges.is_file()
    assert first == second


def test_calibrators_differ(cam: Path, tmp_path: Path) -> None:
    made = {
        name: lower(
            cam, tmp_path / f"{name}.onnx", replace(INT8, calibrator=name, percentile=95), [IMAGES], prove=False
        )
        for name in ("minmax", "percentile", "entropy")
    }
    scales = {}
    for name, one in made.items():
        graph = Graph(onnx.load(one.path))
        steps = [graph.constant(n.input[1]) for n in graph.nodes if n.op_type == "QuantizeLinear"]
        scales[name] = np.array([float(step) for step in steps if step is not None])
    assert (scales["percentile"] <= scales["minmax"] * (1 + 1e-6)).all()
    assert (scales["percentile"] < scales["minmax"]).any()


def test_nothing_behind_the_scores_is_quantised(tmp_path: Path) -> None:
    """A percentage stays one hundred times the softmax of the logits."""
    percent = [node("Softmax", ["logits"], ["p"], axis=1), node("Mul", ["p", "hundred"], ["out"])]
    onnx.save(head(percent, {"hundred": np.array(100, np.float32)}), tmp_path / "net.onnx")
    export_onnx(tmp_path / "net.onnx", tmp_path / "net.cam.onnx", layer="conv")
    lowered = lower(tmp_path / "net.cam.onnx", tmp_path / "low.cam.onnx", Plan(precision="int8"), [PHOTOS])
    assert lowered.proof
    values = run(open_graph(onnx.load(lowered.path))[0], "logits", "p", cam_target=np.full(len(PHOTOS), -1))
    powers = np.exp(values["logits"].astype(np.float64))
    np.testing.assert_allclose(values["out"], 100 * powers / powers.sum(1, keepdims=True), rtol=1e-4)
