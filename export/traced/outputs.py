"""What a module returns, whatever it is: tensors, each with the name that it has there."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from ..errors import ExportError

__all__ = ["by_class", "check_scores", "named_tensors", "output_place", "tensors_only", "written_shape"]


def named_tensors(result: Any, name: str = "") -> list[tuple[str, torch.Tensor]]:
    """Every tensor in `result`, in order, with its key, field or attribute ("" where it has none).

    Looked through are mappings (and with them the outputs of transformers), named tuples, data
    classes, sequences and plain objects, nested at will. None, numbers and texts are left out.

    >>> [name for name, _ in named_tensors({"logits": torch.zeros(1), "more": [torch.zeros(1), None]})]
    ['logits', 'more']
    """
    if isinstance(result, torch.Tensor):
        return [(name, result)]
    if result is None or isinstance(result, str | bytes | int | float | complex):
        return []
    parts: list[tuple[str, Any]]
    if isinstance(result, Mapping):
        parts = [(str(key), value) for key, value in result.items()]
    elif isinstance(result, tuple) and hasattr(result, "_fields"):
        parts = list(zip(result._fields, result, strict=True))  # type: ignore[attr-defined]
    elif isinstance(result, Sequence):
        parts = [(name, value) for value in result]
    elif dataclasses.is_dataclass(result):
        parts = [(field.name, getattr(result, field.name)) for field in dataclasses.fields(result)]
    else:
        parts = list(getattr(result, "__dict__", {}).items())
    return [found for part, value in parts for found in named_tensors(value, part)]


@contextmanager
def tensors_only(module: nn.Module) -> Iterator[list[str]]:
    """Inside, `module` returns a flat tuple of its tensors, which any tracer takes.

    Yields a list that holds, after each call, the names of `named_tensors`.
    """
    names: list[str] = []
    forward, own = module.forward, module.__dict__.get("forward")

    @functools.wraps(forward)
    def flat(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        found = named_tensors(forward(*args, **kwargs))
        names[:] = [name for name, _ in found]
        return tuple(tensor for _, tensor in found)

    module.forward = flat
    try:
        yield names
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def by_class(scores: torch.Tensor) -> torch.Tensor:
    """Scores (N, K), from (N, K, 1, 1) or from the (N,) of a single class."""
    return scores.unsqueeze(1) if scores.dim() == 1 else scores.flatten(1)


def output_place(names: Sequence[str], asked: int | str) -> int:
    """The place of the output that is asked for by its place or name. Raises `ExportError` where there is none.

    names: what the module calls its outputs ("" where they have no name).
    """
    if isinstance(asked, str):
        if asked in names:
            return names.index(asked)
        if not asked.isdecimal():
            known = ", ".join(repr(name) for name in names if name) or "none has a name"
            raise ExportError(f"score output '{asked}': the model has no such output ({known}); its place will do too")
        asked = int(asked)
    if not 0 <= asked < len(names):
        raise ExportError(f"score output {asked}: the model has {len(names)} outputs (0 to {len(names) - 1})")
    return asked


def check_scores(outputs: Sequence[fx.Node], asked: int | None = None, batch: Any = None) -> None:
    """Raise `ExportError` where no output (or not the one that is asked for) can be the scores of classes.

    batch: the size of the first axis of the image, mostly a symbol, which the scores must have too; None is any.
    """
    values = [node.meta["val"] for node in outputs]
    rows = False
    for value in values if asked is None else [values[asked]]:
        if value.is_floating_point() and all(size == 1 for size in value.shape[2:]):
            first = [str(size) for size in value.shape[:1]]
            # A first axis of 1 is right for single images: the exported file then has a batch of one.
            if batch is None or first == [str(batch)] or (first == ["1"] and value.dim() > 1):
                return
            rows = True
    shapes = ", ".join(f"{i}: {written_shape(value)}" for i, value in enumerate(values))
    if rows:
        raise ExportError(
            f"the scores have not one row per image: for a batch of N images the model returns {shapes}; keep the "
            "batch as the first axis (flatten(1) for reshape(-1), squeeze(1) for squeeze(), no mean or sum over axis 0)"
        )
    raise ExportError(
        f"no output looks like class scores of shape (N, classes); the model returns {shapes}. "
        "cfcam explains classifiers: wrap the module so that it returns its class scores"
    )


def written_shape(value: Any) -> str:
    """A shape for people, N for every size that is free, 5*N for five times that."""
    if not isinstance(value, torch.Tensor):
        return "of no tensor"
    sizes = [str(size) if isinstance(size, int) else re.sub(r"[su]\d+", "N", str(size)) for size in value.shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
