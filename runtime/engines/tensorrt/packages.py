"""The two packages that speak TensorRT's Python API, and what the library says, collected.

`tensorrt_rtx` (TensorRT for RTX) parses and builds without a GPU. `tensorrt` is the one of data
centres and Jetson, and needs its GPU for everything. Both are imported when they are first asked for.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...errors import MissingDependencyError

__all__ = ["FLAVOURS", "Flavour", "Messages", "load_flavour"]

_KEPT = 1000

#: Module -> what to do about its absence. The one that needs no GPU is tried first.
FLAVOURS = {
    "tensorrt_rtx": "install cfcam[rtx] (its wheels are for x86-64)",
    "tensorrt": "install it from NVIDIA's packages for this machine (JetPack has it)",
}


@dataclass
class Messages:
    """What TensorRT said during one call.

    problems: warnings and errors, oldest first. node: what the parser looked at last, as
    ``name [operator]``: some of its errors do not say where they arose. A node without a name is
    called ``node_of_`` and its output there.
    """

    problems: list[str] = field(default_factory=list)
    node: str = ""

    @property
    def last(self) -> str:
        """The last problem, for an error."""
        return self.problems[-1] if self.problems else "it gave no reason"


@dataclass(frozen=True)
class Flavour:
    """One of the two packages. module: with TensorRT's Python API. logger: for all its objects."""

    name: str
    module: Any
    logger: Any

    def __str__(self) -> str:
        return f"{self.name} {self.module.__version__}"

    @contextmanager
    def listen(self) -> Iterator[Messages]:
        """Collect what is said within the block. One block at a time; others wait."""
        with self.logger.lock:
            self.logger.messages = Messages()
            yield self.logger.messages


def load_flavour(name: str | None = None) -> Flavour:
    """The package `name` (a key of `FLAVOURS`), or the first of them that is installed.

    Raises `MissingDependencyError`.
    """
    if name is not None:
        return _load(name)
    for candidate in FLAVOURS:
        try:
            return _load(candidate)
        except MissingDependencyError:
            continue
    raise MissingDependencyError(f"TensorRT is not installed: for TensorRT for RTX {FLAVOURS['tensorrt_rtx']}")


@functools.cache
def _load(name: str) -> Flavour:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: the package is there, its libraries are not
        raise MissingDependencyError(f"{name} is not installed: {FLAVOURS[name]}") from error
    if not hasattr(module, "Builder"):
        raise MissingDependencyError(f"{name} is an empty package here: {FLAVOURS[name]}")
    return Flavour(name, module, _collecting_logger(module))


def _collecting_logger(module: Any) -> Any:
    """TensorRT keeps the first logger of a process and ignores all later ones, so there is one per flavour."""
    severity = module.ILogger.Severity

    class Logger(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.lock = threading.RLock()
            self.messages = Messages()

        def log(self, level: Any, message: str) -> None:
            if int(level) <= int(severity.WARNING):
                self.messages.problems.append(" ".join(message.split()))
                del self.messages.problems[:-_KEPT]  # an engine may run for months
            elif "arsing node: " in message:  # "Static check for parsing node: x [Op]", "Parsing node: x [Op]"
                self.messages.node = message.partition("arsing node: ")[2]

    return Logger()
