"""Whether an ONNX file quantises with float16 scales, read from its graph without onnx.

Field numbers are those of ``onnx.proto``; nothing large is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .wire import BYTES, VARINT, Field, Wire, WireError

__all__ = ["has_float16_scales"]

_FLOAT16 = 10
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")
#: What makes a float16 value without reading any: the fields of AttributeProto that say so.
_MAKING = {"Constant": 5, "Cast": 3}


def has_float16_scales(path: str | os.PathLike[str]) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear of the file takes its scale as float16.

    Scales are initializers in practice; a Constant and a Cast to float16 count too.

    Args:
        path: Any ONNX file, whoever wrote it.

    Returns:
        False also for what cannot be read as ONNX: whoever opens the file then says so.
    """
    scales: set[str] = set()
    halves: set[str] = set()
    try:
        with Path(path).open("rb") as file:
            wire = Wire(file, os.fstat(file.fileno()).st_size)
            for graph in _numbered(wire.fields(0, wire.size), 7):
                for item in wire.children(graph):
                    if item.number == 1:
                        _read_node(wire, item, scales, halves)
                    elif item.number == 5 and _is_float16(wire, item):
                        halves.update(wire.text(part) for part in _numbered(wire.children(item), 8))
    except (OSError, WireError):
        return False
    return not scales.isdisjoint(halves)


def _read_node(wire: Wire, node: Field, scales: set[str], halves: set[str]) -> None:
    """Add the node's scale to `scales`, and what it makes in float16 to `halves`."""
    fields = list(wire.children(node))
    for kind in _numbered(fields, 4):
        name = wire.text(kind)
        if name in _QUANTISING:
            scales.update(wire.text(part) for part in list(_numbered(fields, 1))[1:2])
        elif name in _MAKING and any(_says_float16(wire, part, _MAKING[name]) for part in _numbered(fields, 5)):
            halves.update(wire.text(part) for part in _numbered(fields, 2))


def _says_float16(wire: Wire, attribute: Field, number: int) -> bool:
    return any(
        part.value == _FLOAT16 if part.kind == VARINT else part.kind == BYTES and _is_float16(wire, part)
        for part in _numbered(wire.children(attribute), number)
    )


def _is_float16(wire: Wire, tensor: Field) -> bool:
    return any(part.value == _FLOAT16 for part in _numbered(wire.children(tensor), 2) if part.kind == VARINT)


def _numbered(fields: Iterable[Field], number: int) -> Iterable[Field]:
    return (item for item in fields if item.number == number)
