"""How messages and tables show what came from outside: names, labels, values.

A file's name or a label may hold anything: line breaks, sequences that a terminal obeys, marks that reverse the
direction of writing, bytes that are no UTF-8, or a megabyte of text.
"""

from __future__ import annotations

__all__ = ["shown", "shown_message", "shown_value", "utf8"]

#: They join or part letters in Persian, in Indian scripts and in emoji, and do nothing else.
_JOINERS = "\u200c\u200d"


def shown(text: str, most: int = 300) -> str:
    """A name on one line, cleaned: what cannot be printed stands as its escape, and a long name lacks its middle.

    Args:
        text: Any text.
        most: Characters, about.

    Returns:
        The text itself where nothing is wrong with it.

    >>> shown("dog\\x1b[2J.jpg")
    'dog\\\\x1b[2J.jpg'
    """
    if len(text) > most:
        text = f"{text[: most // 2]} ... {text[-(most // 2) :]}"
    if text.isprintable() and "  " not in text:
        return text
    line = " ".join(text.split())
    return "".join(char if char.isprintable() or char in _JOINERS else _escape(char) for char in line)


def shown_value(value: object, most: int = 80) -> str:
    """Any value as Python writes it, cleaned; only its kind where it cannot be written."""
    try:
        return shown(repr(value), most)
    except Exception:  # a number of thousands of digits, or somebody else's class
        return f"something of the type {type(value).__name__}"


def shown_message(text: str) -> str:
    """A whole message: one line, in which no word and no list goes on for ever."""
    words = " ".join(word if len(word) <= 300 else shown(word) for word in text.split())
    return shown(words, 4000)


def utf8(value: object) -> object:
    """A copy of nested JSON values in which bytes of a name that are no UTF-8 stand as escapes, for files in UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {utf8(key): utf8(item) for key, item in value.items()}
    return [utf8(item) for item in value] if isinstance(value, list | tuple) else value


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
