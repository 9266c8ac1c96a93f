"""The two packages that speak TensorRT's Python API, and what the library says, collected.

`tensorrt_rtx` (TensorRT for RTX) parses and builds without a GPU. `tensorrt` is the one of data
centres and Jetson, and needs its GPU for everything. The first one that is asked for is imported, and stays the only
one of the process: Polygraphy, through which engines are built, settles on one when it is imported.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ...errors import EngineError, MissingDependencyError

__all__ = ["PACKAGES", "Messages", "Package", "load_package"]

_KEPT = 1000

#: Module -> what to do about its absence. The one that needs no GPU is tried first.
PACKAGES = {
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
class Package:
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

    @contextmanager
    def polygraphy(self) -> Iterator[tuple[Any, Messages]]:
        """Polygraphy's ``backend.trt`` for this package, silent, and what TensorRT says within the block.

        Raises:
            MissingDependencyError: Polygraphy is not installed.
            EngineError: This process has imported Polygraphy for the other package.
        """
        try:
            from polygraphy import config
            from polygraphy.logger import G_LOGGER
        except ImportError as error:
            raise MissingDependencyError(
                "TensorRT engines are built with Polygraphy, which is not installed: install cfcam[rtx] or "
                "cfcam[tensorrt]"
            ) from error
        is_rtx = self.name == "tensorrt_rtx"
        if "polygraphy.backend.trt" in sys.modules and is_rtx != config.USE_TENSORRT_RTX:
            raise EngineError(_one_only("Polygraphy's other package", self.name))
        # As POLYGRAPHY_USE_TENSORRT_RTX does, which child processes would inherit.
        config.USE_TENSORRT_RTX = is_rtx
        loaders = importlib.import_module("polygraphy.backend.trt")
        util: Any = importlib.import_module("polygraphy.backend.trt.util")
        util.TRT_LOGGER = self.logger
        with self.listen() as messages, G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):
            yield loaders, messages


#: The package of this process, once one was asked for.
_in_use: Package | None = None


def load_package(name: str | None = None) -> Package:
    """Import a TensorRT package.

    Args:
        name: A key of `PACKAGES`; None for the one in use, or else the first that is installed.

    Returns:
        The package, the same one in every call.

    Raises:
        MissingDependencyError: It is not installed.
        EngineError: The other one is in use in this process.
    """
    global _in_use
    if _in_use is None:
        _in_use = _first_installed() if name is None else _load(name)
    if name not in (None, _in_use.name):
        raise EngineError(_one_only(str(_in_use), name))
    return _in_use


def _one_only(present: str, wanted: str) -> str:
    return f"{present} is in use in this process, which can have one TensorRT package: run {wanted} in another process"


def _first_installed() -> Package:
    for candidate in PACKAGES:
        with suppress(MissingDependencyError):
            return _load(candidate)
    raise MissingDependencyError(f"TensorRT is not installed: for TensorRT for RTX {PACKAGES['tensorrt_rtx']}")


def _load(name: str) -> Package:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: the package is there, its libraries are not
        raise MissingDependencyError(f"{name} is not installed: {PACKAGES[name]}") from error
    if not hasattr(module, "Builder"):
        raise MissingDependencyError(f"{name} is an empty package here: {PACKAGES[name]}")
    return Package(name, module, _collecting_logger(module))


def _collecting_logger(module: Any) -> Any:
    """TensorRT keeps the first logger of a process and ignores all later ones, so there is one."""
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
