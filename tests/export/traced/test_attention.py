"""Attention written out: PyTorch's values in every form, and an adjoint that exporters know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from cfcam.export import export_torch
from cfcam.export.axes.layout import in_order
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.traced.attention import scaled_dot_product_attention
from tail_gradients import assert_same, gradients, operator_gradients
from torch import Tensor, nn
from torch.nn import functional as F


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


MASK = draw(5, 7, seed=9) > -0.5
MASK[2] = False  # a query that may look nowhere
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale": {"scale": 0.3},
    "added mask": {"attn_mask": draw(1, 3, 5, 7, seed=8)},
    "boolean mask": {"attn_mask": MASK},
    "causal": {"is_causal": True},
}


@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_are_pytorchs(form: str) -> None:
    query, key, value = (draw(2, 3, n, d, seed=n + d).requires_grad_() for n, d in ((5, 4), (7, 4), (7, 6)))
    expected = F.scaled_dot_product_attention(query, key, value, **FORMS[form])
    found = scaled_dot_product_attention(query, key, value, **FORMS[form])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    seed = draw(*expected.shape, seed=4)
    wanted = torch.autograd.grad(expected, (query, key, value), seed)
    for ours, theirs in zip(torch.autograd.grad(found, (query, key, value), seed), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_key_heads_that_serve_several_query_heads() -> None:
    query, key, value = draw(2, 6, 5, 4), draw(2, 2, 7, 4, seed=1), draw(2, 2, 7, 4, seed=2)
    expected = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    found = scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_probabilities_dropped_at_random_are_refused() -> None:
    query = draw(1, 1, 3, 2)
    with pytest.raises(UnsupportedOperatorError, match="drops out probabilities at random"):
        scaled_dot_product_attention(query, query, query, dropout_p=0.1)


class Attending(nn.Module):
    """Patches, a class token, one attention, the class token's linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.projections = nn.Linear(12, 36)
        self.head = nn.Linear(12, 5)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        n, t, _ = tokens.shape
        query, key, value = self.projections(tokens).reshape(n, t, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, t, 12)
        return self.head((tokens + mixed)[:, 0])


def test_the_probabilities_are_made_once_and_read_by_both_directions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Attending().eval()
    report = export_torch(net, (16, 20), tmp_path / "x.cam.onnx")
    assert (report.spec.layer.channels, report.spec.layer.grid, report.spec.layer.prefix_tokens) == (12, (4, 5), 1)
    operators = [node.op_type for node in onnx.load(report.path).graph.node]
    assert operators.count("Softmax") == 1
    assert not [name for name in operators if "Attention" in name or "Scatter" in name]


def test_gradients_through_an_attention_are_autograds() -> None:
    torch.manual_seed(0)
    found = gradients(Attending(), draw(3, 3, 16, 20).float(), torch.tensor([0, 3, 4]), axes=in_order(4, 5, 1))
    assert found.passes.shape == (3, 12, 4, 5)
    assert_same(found.passes, found.autograd)
    assert np.abs(found.passes).max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_converted(form: str) -> None:
    """Masks, scales and causal attention, as the converter gets them, behind a layer."""

    def attend(layer: Tensor) -> Tensor:
        query, key, value = layer[:, :3, :5], layer[:, :3, 5:12], layer[:, 3:6, 5:12]
        return F.scaled_dot_product_attention(query, key, value, **options)

    # A number in the code is float32's (`TailProgram`).
    options: dict[str, Any] = {
        key: float(np.float32(value)) if key == "scale" else value for key, value in FORMS[form].items()
    }
    ((passes, autograd),) = operator_gradients({form: attend}, draw(2, 6, 12, 4)).values()
    assert_same(passes, autograd)
