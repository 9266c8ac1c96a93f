"""The one reader of JSON from outside: what cannot be meant is one clear error, before anybody works with it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

from .errors import CfcamError
from .shown import shown, shown_value

__all__ = ["parse_json", "read_json", "read_text"]

#: Bytes of a document that people or programs write. In memory it may take twenty times as much.
_MOST_BYTES = 16 * 2**20
#: Lists and objects inside each other.
_MOST_LEVELS = 50
#: 10 to the power of 308 is about the largest number of a float.
_MOST_DIGITS = 308


def read_json(
    path: str | os.PathLike[str], error: type[CfcamError], *, remedy: str = "", most: int = _MOST_BYTES
) -> Any:
    """What the JSON file at `path` holds.

    Args:
        path: The file, in UTF-8, with or without a byte-order mark.
        error: What is raised.
        remedy: What to do about a file that is no JSON, for the message's end.
        most: Bytes of the largest file that is read.

    Returns:
        Plain values: objects without a key twice, finite numbers, text that can be written as UTF-8.

    Raises:
        CfcamError: `error`, where the file cannot be read or is not such JSON.
    """
    return parse_json(read_text(path, error, most=most), str(path), error, remedy=remedy)


def read_text(path: str | os.PathLike[str], error: type[CfcamError], *, most: int = _MOST_BYTES) -> str:
    """The text in a file: UTF-8, with or without a byte-order mark.

    Args:
        path: The file.
        error: What is raised.
        most: Bytes of the largest file that is read.

    Returns:
        The text.

    Raises:
        CfcamError: `error`, where the file is missing, cannot be read, is too large or is not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(most + 1)  # and no look at its size: a device has none, and no end
    except (OSError, ValueError) as cause:  # ValueError: a name with a zero byte
        raise error(f"{path}: cannot be read ({getattr(cause, 'strerror', None) or cause})") from cause
    if len(data) > most:
        raise error(f"{path}: is larger than {most / 2**20:g} MiB, more than is read of such a file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{path}: is not UTF-8 text (byte {cause.start}): save it in that encoding") from cause


def parse_json(text: str | bytes, where: str, error: type[CfcamError], *, remedy: str = "") -> Any:
    """What JSON text says, as `read_json`.

    Args:
        text: The JSON.
        where: What the text is, as the message begins.
        error: What is raised.
        remedy: The message's end.

    Returns:
        As `read_json`.

    Raises:
        CfcamError: `error`.
    """

    def refuse(problem: str, cause: BaseException | None = None) -> NoReturn:
        raise error(f"{where}: is not valid JSON ({problem}){remedy}") from cause

    try:
        text = text.decode() if isinstance(text, bytes) else text
        data = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_float,
        )
    except RecursionError as cause:
        refuse("nested without end", cause)
    except (ValueError, TypeError) as cause:  # UnicodeDecodeError is a ValueError; TypeError: the text is no text
        refuse(str(cause), cause)
    if _levels_beyond(data, _MOST_LEVELS):
        refuse(f"lists and objects are nested more than {_MOST_LEVELS} deep")
    try:
        # Only an escape such as \ud800 makes half a character, or text that was never a file.
        if not text.isascii() or "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as cause:
        refuse(f"{shown_value(cause.object[cause.start])} is half a character, which no file in UTF-8 can hold", cause)
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key '{shown(twice)}' comes twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text, 40)} is no finite number")
    return value


def _levels_beyond(data: Any, most: int) -> bool:
    """Whether lists and objects lie inside each other more than `most` deep."""
    level = [data]
    for _ in range(most + 1):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder if isinstance(holder, list) else ())
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True
