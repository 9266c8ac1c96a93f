"""What runs a model: the `Engine` protocol, and what an engine says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..checks import expect

__all__ = ["Engine", "EngineInfo", "check_feed"]


@dataclass(frozen=True)
class EngineInfo:
    """What runs, and how.

    Attributes:
        backend: Library and version.
        provider: The one that really runs, by its short name; for a built engine, the backend's own.
        inputs: Names in the file's order.
        outputs: Names in the file's order.
        batch: The fixed batch size, or None when any size from `min_batch` to `max_batch` will do.
        min_batch: The smallest batch.
        max_batch: The largest batch, or None when there is none.
        takes: By the name of each input its dtype, as numpy calls it, and its sizes, None for those that are free;
            empty where the backend does not say.
    """

    backend: str
    provider: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batch: int | None = None
    min_batch: int = 1
    max_batch: int | None = None
    takes: Mapping[str, tuple[str, tuple[int | None, ...]]] = field(default_factory=dict)


class Engine(AbstractContextManager["Engine", None], Protocol):
    """A loaded model. `infer` may be called from several threads at once; what it returns is the caller's.

    Entering it gives the engine itself, leaving it closes it.
    """

    def describe(self) -> EngineInfo:
        """What runs, and how.

        Returns:
            The same for as long as the engine is open.
        """
        ...

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run once.

        Args:
            inputs: Arrays by name; integers are cast to the type of the input, int64 or int32.
            outputs: Names to compute; None for all.

        Returns:
            The outputs by name.

        Raises:
            EngineError: The engine is closed, or the backend refuses.
        """
        ...

    def close(self) -> None:
        """Free the model. Calling it again does nothing; `infer` raises afterwards."""
        ...


def check_feed(inputs: Any, outputs: Any) -> None:
    """Raise `ArrayError` unless `inputs` are arrays by name, and `outputs` names or None."""
    expect("infer", "inputs", inputs, Mapping)
    for name, value in inputs.items():
        expect("infer", f"inputs['{name}']", value, np.ndarray)
    expect("infer", "outputs", outputs, Sequence, None)
    for name in outputs or ():
        expect("infer", "outputs", name, str)
