"""What runs a model: the `Engine` protocol, and what an engine says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["Engine", "EngineInfo"]


@dataclass(frozen=True)
class EngineInfo:
    """What runs, and how.

    backend: library and version. provider: the one that really runs, by its short name; of a built
    engine, the backend's own. inputs, outputs: names in the file's order. batch: the fixed batch size, or
    None when any size, or any from min_batch to max_batch, will do (max_batch None: there is no largest).
    """

    backend: str
    provider: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batch: int | None = None
    min_batch: int = 1
    max_batch: int | None = None


class Engine(AbstractContextManager["Engine", None], Protocol):
    """A loaded model. `infer` may be called from several threads at once; what it returns is the caller's.

    Entering it gives the engine itself, leaving it closes it.
    """

    def describe(self) -> EngineInfo:
        """What runs, and how."""
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
