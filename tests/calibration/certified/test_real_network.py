"""EfficientNet-Lite0: its values lie inside the bounds, and its map cannot be certified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cfcam.calibration.certified import CertifiedTopK, IntervalNetwork
from cfcam.calibration.measures import EngineAccess
from cfcam.export.graph import load_model, prune, value_info
from cfcam.export.proof.session import Session
from cfcam.export.tail.cutting import open_exported
from cfcam.runtime import Explainer
from shared_data import shared_path


@pytest.mark.slow
def test_every_convolution_is_inside_and_nothing_is_certified(lite0: Callable[[str], Path]) -> None:
    path = lite0("last")
    model = load_model(path)
    graph = open_exported(model)
    before = graph.ancestors(["cam_activations"])
    names = [n for node in graph.nodes for n in node.output if node.op_type in ("Conv", "Add") and n in before]
    graph.outputs = [value_info(graph, name) for name in names]
    prune(graph)
    graph.inputs = [entry for entry in graph.inputs if entry.name != "cam_target"]
    engine, random = Session(graph.to_model(), threads=1), np.random.default_rng(0)
    with Explainer(path, threads=1) as explainer:
        image, _ = EngineAccess(explainer).load([shared_path("data/photos/two_dogs.jpg")])
        name = explainer.spec.input.name
        radius = 1e-3
        low, high = image.astype(np.float64) - radius, image.astype(np.float64) + radius
        bounds = IntervalNetwork(model, name, names)(low, high)
        for _ in range(4):
            corner = np.sign(random.standard_normal(image.shape))
            found = engine.run({name: np.clip(image + 0.999 * radius * corner, low, high).astype(np.float32)})
            for value in names:
                assert (bounds[value].low <= found[value]).all(), value
                assert (found[value] <= bounds[value].high).all(), value
        first = bounds[names[0]]
        assert first.radius.mean() < 0.02 * np.abs(first.centre).mean()  # the first layer's bounds say something
        certificate = CertifiedTopK(explainer, k=5).certify(image[0], 195)
    assert certificate.gap > 0
    assert certificate.radius == 0
    assert certificate.reason == "rounding alone makes the bounds wider than the gap"
