"""Layer normalisation: PyTorch's values and gradients, one output in the graph."""

from __future__ import annotations

import pytest
import torch
from adjoints import random_source
from cfcam.export.traced.normalisation import layer_norm
from torch.nn import functional as F


@pytest.mark.parametrize("shape", [(9,), (7, 9), (4, 7, 9)])
@pytest.mark.parametrize("affine", [True, False])
def test_values_and_gradients_are_pytorchs(shape: tuple[int, ...], affine: bool) -> None:
    source = random_source(7, 9, channels=4)
    generator = torch.Generator().manual_seed(3)
    weight, bias = (torch.randn(shape, dtype=torch.float64, generator=generator) if affine else None for _ in "wb")
    ours, theirs = source.clone().requires_grad_(), source.clone().requires_grad_()
    found, expected = layer_norm(ours, shape, weight, bias, 1e-3), F.layer_norm(theirs, shape, weight, bias, 1e-3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    seed = torch.randn(source.shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(
        torch.autograd.grad(found, ours, seed)[0],
        torch.autograd.grad(expected, theirs, seed)[0],
        rtol=0,
        atol=1e-12,
    )


def test_the_derivative_does_not_ask_for_the_operators_statistics() -> None:
    """TensorRT refuses a LayerNormalization of three outputs."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def gradient(source: torch.Tensor) -> torch.Tensor:
        source = source.detach().requires_grad_()
        return torch.autograd.grad(layer_norm(source, (9,)).square().sum(), source)[0]

    traced = make_fx(gradient)(random_source(7, 9))
    (norm,) = [n for n in traced.graph.nodes if "native_layer_norm" in str(n.target)]
    traced.graph.eliminate_dead_code()
    assert [user.args[1] for user in norm.users] == [0]
