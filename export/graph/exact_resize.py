"""Resize as ONNX's reference evaluator computes it, but in float64 all through."""

from __future__ import annotations

from typing import Any

from onnx.reference.ops import op_resize

__all__ = ["Resize"]


class Resize(op_resize.Resize):
    """The evaluator hands over attributes as float32 scalars, in which numpy then computes all weights of a cubic."""

    op_domain = ""

    def _run(self, *inputs: Any, cubic_coeff_a: Any = None, **attributes: Any) -> Any:  # type: ignore[override]
        exact = None if cubic_coeff_a is None else float(cubic_coeff_a)
        return super()._run(*inputs, cubic_coeff_a=exact, **attributes)
