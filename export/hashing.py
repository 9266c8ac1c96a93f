"""The identity of a model's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

__all__ = ["state_dict_sha256"]


def state_dict_sha256(state: Mapping[str, Any]) -> str:
    """SHA-256 over names, shapes and bytes of `state` (name -> tensor), in sorted order.

    Each entry contributes ``name``, a zero byte, the shape as ``[2, 3]``, a zero byte, the
    dtype, a zero byte, and the values in row-major order, little-endian.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        if not isinstance(tensor, torch.Tensor):  # extra state of some modules
            continue
        tensor = tensor.detach().cpu().contiguous()
        for part in (name, str(list(tensor.shape)), str(tensor.dtype).removeprefix("torch.")):
            digest.update(part.encode() + b"\0")
        # Through a view of bytes, so that bfloat16, which numpy lacks, counts as well.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
