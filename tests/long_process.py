"""What a process that runs thousands of tests need not do thousands of times.

Nothing here changes what is computed. Commands that tests start as processes of their own know nothing of it.
"""

from __future__ import annotations

import copy
import gc
import sys
from typing import Any

__all__ = ["collect_only_what_is_new", "read_torchlib_once"]

_REGISTRATION = "torch.onnx._internal.exporter._registration"


def collect_only_what_is_new() -> None:
    """Take what is alive now, the modules above all, out of every later garbage collection.

    Exporting and proving collect garbage several times for each file. Half a million objects of PyTorch,
    its converter and the tests to go through made that most of the time of a small network's export.
    """
    gc.collect()
    gc.freeze()


def read_torchlib_once() -> bool:
    """Let PyTorch's ONNX converter keep its table of operators; True when it has just learnt to.

    It makes the table anew for each graph, from the source of a thousand functions, always the same ones.
    Each graph still gets a copy of its own. False before the converter is loaded, and afterwards.
    """
    registry: Any = getattr(sys.modules.get(_REGISTRATION), "ONNXRegistry", None)
    if registry is None or hasattr(registry, "kept_tables"):
        return False
    make, tables = registry.from_torchlib, {}
    registry.kept_tables = tables

    def from_torchlib(*arguments: Any, **options: Any) -> Any:
        key = (arguments, tuple(sorted(options.items())))
        if key not in tables:
            tables[key] = make(*arguments, **options)
        table = copy.copy(tables[key])
        table.functions = {name: list(found) for name, found in table.functions.items()}
        return table

    registry.from_torchlib = staticmethod(from_torchlib)
    return True
