"""What is kept between exports is what PyTorch would have made again."""

from __future__ import annotations

from typing import Any

import torch
from long_process import override_operators_once
from torch._subclasses.fake_impls import op_implementations_dict as fakes
from torch.export import exported_program

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def test_kept_overrides_are_those_that_pytorch_makes() -> None:
    override_operators_once()
    exporter: Any = exported_program
    own, ours = exporter.own_override, exporter._override_composite_implicit_decomp
    assert own is not ours
    operators: list[Any] = [torch.ops.aten.linear.default, torch.ops.aten.matmul.default]

    def state(override: Any) -> list[Any]:
        """For each operator: which functions stand in for it, what decomposes it, and what it does to fake tensors."""
        wanted = {op: lambda: None for op in operators}
        with override(wanted):
            assert all(op.py_kernels[COMPOSITE] is wanted[op] and not op._dispatch_cache for op in operators)
            return [
                (
                    {key: getattr(function, "__qualname__", None) for key, function in op.py_kernels.items()},
                    fakes[op].func,
                )
                for op in operators
            ]

    def bare() -> list[Any]:
        return [(dict(op.py_kernels), fakes.get(op)) for op in operators]

    before = bare()
    expected = [(kernels, fake.__qualname__) for kernels, fake in state(own)]
    assert len(expected[0][0]) > 15
    assert bare() == before
    first = state(ours)
    assert [(kernels, fake.__qualname__) for kernels, fake in first] == expected
    assert bare() == before
    again = state(ours)  # these are kept: the very functions that were made before
    assert again == first
    assert bare() == before
