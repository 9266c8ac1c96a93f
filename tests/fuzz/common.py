"""What all kinds of cases share: the one rule, spoilt values, and spoilt bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cfcam.runtime.errors import CfcamError

__all__ = ["odd_json", "refused_cleanly", "spoil_bytes", "spoil_json"]

_ODD: list[Callable[[random.Random], str]] = [
    lambda r: "null",
    lambda r: "true",
    lambda r: str(r.choice([0, -1, 1, 2, 10**6, 10**9, 2**31, 2**63, 10**20])),
    lambda r: str(10 ** r.choice([308, 309, 400])),
    lambda r: "9" * r.choice([400, 5000]),
    lambda r: r.choice(["1e999", "-1e999", "1e-999", "0.1", "NaN", "Infinity", "-Infinity", "1e308"]),
    lambda r: r.choice(['""', '"x"', '"NCHW"', '"1.0"', '"99.0"', '"٣.١"', '"1."', '"../x"', '"/"']),
    lambda r: r.choice([r'"\ud800"', r'"a\udfffb"', r'"\u0000"', r'"\u001b[2J"', r'"\u202egpj"', r'"a\nb"']),
    lambda r: '"' + "y" * r.choice([300, 20_000]) + '"',
    lambda r: r.choice(["[]", "{}", "[1]", "[[]]", '[""]', '{"": 1}', "[null]", '["a", "a"]', '{"a": 1, "a": 2}']),
    lambda r: "[" * (depth := r.choice([10, 60, 2000])) + "]" * depth,
    lambda r: '{"a":' * (depth := r.choice([10, 60, 2000])) + "1" + "}" * depth,
    lambda r: r.choice(["", "٣", "0x10", "01", "+1", "1_000", "'a'", "undefined"]),
]


@contextmanager
def refused_cleanly() -> Iterator[None]:
    """Nothing else than an error of cfcam's own leaves the block, and its message is one clean line."""
    try:
        yield
    except CfcamError as error:
        message = str(error)
        assert message.isprintable() or "\u200c" in message or "\u200d" in message, ascii(message)
        assert 0 < len(message) <= 4100, len(message)


def odd_json(chance: random.Random) -> str:
    """The text of one odd JSON value; some are none."""
    return chance.choice(_ODD)(chance)


def spoil_json(document: Any, chance: random.Random) -> str:
    """The document as JSON, in which one or two values are odd, missing, or there twice."""
    marks: dict[str, str] = {}
    document = json.loads(json.dumps(document))
    for number in range(chance.choice([1, 1, 2])):
        places = list(_places(document))
        holder, key = chance.choice(places)
        if chance.random() < 0.15:
            del holder[key]
        else:
            marks[f'"@{number}@"'] = odd_json(chance)
            holder[key] = f"@{number}@"
        if not document:
            break
    text = json.dumps(document)
    for mark, odd in marks.items():
        text = text.replace(mark, odd)
    return text


def spoil_bytes(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, removed, put in, or the end cut off."""
    spoilt = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        if not spoilt:
            break
        at = chance.randrange(len(spoilt))
        match chance.randrange(5):
            case 0:
                spoilt[at] = chance.randrange(256)
            case 1:
                spoilt[at] = chance.choice([0, 0xFF, 0x7F, 0x80])
            case 2:
                del spoilt[at : at + chance.choice([1, 4, 100])]
            case 3:
                spoilt[at:at] = chance.randbytes(chance.choice([1, 4, 64]))
            case 4:
                del spoilt[at + 1 :]
    return bytes(spoilt)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (holder, key) inside nested lists and mappings."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)
