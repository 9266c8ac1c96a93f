"""The suite that needs a GPU: `make gpu`. `make test` leaves it out (marker ``gpu``)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parent


def _why_no_gpu() -> str | None:
    spec = importlib.util.spec_from_file_location("gpu_driver", _FOLDER / "driver.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.why_no_gpu()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if _FOLDER in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.gpu)
    if mine and (reason := _why_no_gpu()):
        for item in mine:
            item.add_marker(pytest.mark.skip(reason=f"NOT RUN: {reason}"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if "/gpu/" in f"/{report.nodeid}"]
    if skipped and (reason := _why_no_gpu()):
        terminalreporter.section("NO GPU", red=True)
        terminalreporter.write_line(f"GPU SUITE NOT RUN: {reason}. NOTHING WAS TESTED ON A GPU.", red=True)
    elif skipped:
        terminalreporter.section("NOT COMPLETE", yellow=True)
        terminalreporter.write_line(f"{len(skipped)} GPU tests were NOT RUN, for the reasons above.", yellow=True)
