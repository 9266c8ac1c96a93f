"""What ONNX Runtime says when it refuses something, made readable; and how much of it is printed as it happens."""

from __future__ import annotations

import logging
import re

__all__ = ["log_severity", "refusal"]

_LONGEST = 300

#: What stands around the message itself: the kind of error, the node, places in C++ code, conditions that did not hold.
_WRAPPING = (
    (re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : "), ""),
    (
        re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: "),
        r"\1 node '\2': ",
    ),
    (re.compile(r"Load model from .+? failed:\s*"), ""),
    (re.compile(r"This is an invalid model\. "), ""),
    (re.compile(r"Exception during (?:initialization|loading): "), ""),
    (re.compile(r"/\S+\.(?:h|hpp|cc|cpp|cu|cuh):\d+ (?:(?:(?!was false)[^/])*? was false\. ?)?"), ""),
)


def refusal(error: BaseException) -> str:
    """The message of an exception of ONNX Runtime, on one line and without C++ code; its kind where it is empty."""
    text = " ".join(str(error).split())
    for pattern, words in _WRAPPING:
        text = pattern.sub(words, text)
    text = text.strip()
    return (text if len(text) <= _LONGEST else text[:_LONGEST] + "\u2026") or type(error).__name__


def log_severity() -> int:
    """From which severity on ONNX Runtime prints by itself: only what is fatal, errors too where debugging is on.

    Errors are raised as well, and what is printed is coloured, long, and comes before anybody has asked.
    """
    return 3 if logging.getLogger("cfcam").isEnabledFor(logging.DEBUG) else 4
