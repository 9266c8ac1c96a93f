"""The weights of a cubic resize in float64, against PyTorch's."""

from __future__ import annotations

import numpy as np
import torch
from cfcam.export.graph.folding import evaluate_node
from onnx import helper
from torch.nn import functional as F


def test_cubic_weights_are_not_rounded_to_float32() -> None:
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="cubic", cubic_coeff_a=-0.75)
    impulses = np.eye(9)
    values = evaluate_node(node, {"x": impulses, "sizes": np.array([9, 13])}, 18)
    assert values is not None
    expected = F.interpolate(torch.from_numpy(impulses)[None, None], size=(9, 13), mode="bicubic")[0, 0]
    np.testing.assert_allclose(values[0], expected.numpy(), rtol=0, atol=1e-14)
