"""Proof of operators that ONNX Runtime's optimiser writes: what a node of theirs is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cfcam.export.reverse import vjp
from onnx import NodeProto, helper
from onnx_gradcheck import Case, build, prove, run_ort

__all__ = ["microsoft", "prove_fused", "prove_without_a_kernel"]


def microsoft(op: str, names: list[str], **attributes: Any) -> NodeProto:
    """A node of ONNX Runtime's own domain, with one output ``y``."""
    return helper.make_node(op, names, ["y"], domain="com.microsoft", **attributes)


def prove_fused(node: NodeProto, inputs: dict[str, np.ndarray], reference: Callable[..., torch.Tensor]) -> None:
    """Compare with ONNX Runtime's own kernel, and the gradient with PyTorch's of the same function."""
    prove(Case([node], inputs, torch=reference, domains=["com.microsoft"], in_reference=False))


def prove_without_a_kernel(
    node: NodeProto, inputs: dict[str, np.ndarray], reference: Callable[..., torch.Tensor]
) -> None:
    """Compare the gradient alone, which is written in standard operators: the forward pass cannot run here."""
    tensors = [torch.tensor(v, requires_grad=True) for v in inputs.values()]
    y = reference(*tensors)
    cotangent = torch.tensor(np.random.default_rng(8).standard_normal(y.shape))
    (y * cotangent).sum().backward()
    product = vjp(build(Case([node], inputs, domains=["com.microsoft"]), np.float32), list(inputs), ["y"])
    feeds = {**inputs, "cotangent_y": cotangent.numpy()}
    taken = {i.name for i in product.graph.input}
    found = run_ort(product, {k: v.astype(np.float32) for k, v in feeds.items() if k in taken})
    for tensor, ours in zip(tensors, found, strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)
