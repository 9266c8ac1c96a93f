"""One family of errors, and somebody else's error as one line."""

from __future__ import annotations

import cfcam.runtime.errors as module
import pytest


@pytest.mark.parametrize(
    ("error", "words"), [(ValueError("a\n  b\tc"), "a b c"), (KeyError(), "KeyError"), (OSError(" "), "OSError")]
)
def test_one_line(error, words):
    assert module.one_line(error) == words


def test_everything_raised_on_purpose_has_one_base():
    for name in module.__all__:
        if name not in ("one_line", "PhotoWarning"):
            assert issubclass(getattr(module, name), module.CfcamError)
