"""Tests of the runtime run without PyTorch and onnx; with them, only those that this left open."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

__all__ = ["still_to_run", "write_passed"]


def write_passed(reports: Iterable[pytest.TestReport], file: Path) -> None:
    """Write the names of the tests that passed to `file`, one a line."""
    names = sorted(report.nodeid for report in reports if report.when == "call")
    file.write_text("".join(f"{name}\n" for name in names), "utf-8")


def still_to_run(items: list[pytest.Item], file: Path) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Of `items`, those to run, and those that `file` says have passed elsewhere.

    What was skipped or not known there is run, and so is what is marked `everywhere`.
    """
    passed = frozenset(file.read_text("utf-8").splitlines())
    run: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        again = item.nodeid not in passed or item.get_closest_marker("everywhere") is not None
        (run if again else left_out).append(item)
    return run, left_out
