"""What a process that runs thousands of tests need not do thousands of times.

Nothing here changes what is computed. Commands that tests start as processes of their own know nothing of it.
"""

from __future__ import annotations

import copy
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["collect_only_what_is_new", "look_for_operators_once", "override_operators_once", "read_torchlib_once"]

_EXPORT_UTILS = "torch._export.utils"
_EXPORTED_PROGRAM = "torch.export.exported_program"
_USERS_OF_OPERATORS = (_EXPORTED_PROGRAM, "torch.export.decomp_utils")
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


def look_for_operators_once() -> None:
    """Let PyTorch's exporter look through its composite operators again only where there are more of them.

    It goes through thousands, several times for each graph, because a package may have added one since.
    Does nothing before the exporter is loaded, and afterwards.
    """
    utils: Any = sys.modules.get(_EXPORT_UTILS)
    users: list[Any] = [sys.modules.get(name) for name in _USERS_OF_OPERATORS]
    if utils is None or hasattr(utils, "kept_operators") or not all(users):
        return
    collect, utils.kept_operators = utils._collect_all_valid_cia_ops, {}
    registered = sys.modules["torch"]._C._dispatch_get_registrations_for_dispatch_key

    def collect_if_there_are_more() -> Any:
        number = len(registered("CompositeImplicitAutograd"))
        if number not in utils.kept_operators:
            utils.kept_operators[number] = collect()
        return utils.kept_operators[number]

    for module in (utils, *users):
        module._collect_all_valid_cia_ops = collect_if_there_are_more


def override_operators_once() -> None:
    """Let PyTorch's exporter keep the functions by which it overrides composite operators while it decomposes a graph.

    It makes some ten thousand of them, always the same ones, three times for each graph.
    Does nothing before the exporter is loaded, and afterwards.
    """
    exporter: Any = sys.modules.get(_EXPORTED_PROGRAM)
    if exporter is None or hasattr(exporter, "own_override"):
        return
    exporter.own_override = override = exporter._override_composite_implicit_decomp
    kept: dict[Any, tuple[Any, dict[Any, Any], Any]] = {}
    composite = sys.modules["torch"]._C.DispatchKey.CompositeImplicitAutograd
    implementations: Any = sys.modules["torch._subclasses.fake_impls"]
    fakes: dict[Any, Any] = implementations.op_implementations_dict

    @contextmanager
    def override_as_before(wanted: dict[Any, Any]) -> Iterator[None]:
        found = {op: (dict(op.py_kernels), fakes.get(op)) for op in wanted}
        if any(op not in kept or kept[op][0] != found[op] for op in wanted):
            with override(wanted):
                kept.update({op: (found[op], dict(op.py_kernels), fakes.get(op)) for op in wanted})
                yield
            return
        try:
            for op, decompose in wanted.items():
                _, kernels, fake = kept[op]
                op.py_kernels.update({**kernels, composite: decompose})
                op._dispatch_cache.clear()
                fakes[op] = fake
            yield
        finally:
            for op, (kernels, _) in found.items():
                op.py_kernels.clear()
                op.py_kernels.update(kernels)
                op._dispatch_cache.clear()
                fakes.pop(op, None)

    exporter._override_composite_implicit_decomp = override_as_before
