"""The module that people mean, in whatever their training has wrapped it, and in float32."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["in_float32", "unwrapped"]


def unwrapped(module: nn.Module) -> nn.Module:
    """What is inside of DataParallel, DistributedDataParallel and torch.compile, in any order.

    The module itself is not changed.
    """
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    while True:
        inner: Any = getattr(module, "_orig_mod", None)  # torch.compile's wrapper has a private class
        if inner is None and isinstance(module, DataParallel | DistributedDataParallel):
            inner = module.module
        if inner is None:
            return module
        module = inner


def in_float32(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The module with all weights in float32, a copy where some are not; and what is to be said about that."""
    import torch

    others = {
        str(value.dtype).removeprefix("torch.")
        for value in (*module.parameters(), *module.buffers())
        if value.is_floating_point() and value.dtype != torch.float32
    }
    if not others:
        return module, ()
    names = " and ".join(sorted(others))
    same = "" if "float64" in others else ", which has the same values"
    return copy.deepcopy(module).float(), (f"the weights are {names}: they are exported as float32{same}",)
