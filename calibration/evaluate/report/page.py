"""The evaluation as one HTML file that needs nothing else: tables, plots, best and worst photos."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from ....runtime.files import write_bytes
from ...html_page import page_template
from ..results import Evaluation
from ..rows import BASELINES, CONTROLS
from ..table import Table
from ..table_measures.registry import get_measure
from .pictures import Case, deciding_column
from .plots import make_plot

__all__ = ["render_report", "save_report"]


def render_report(
    evaluation: Evaluation,
    table: Table,
    cases: Sequence[Case] = (),
    *,
    command: str = "",
    about: Mapping[str, str] = {},
) -> str:
    """The HTML text. cases: of `pick_cases`. command: how it was asked for. about: of `machine`.

    Every name in it is escaped. Raises `MissingDependencyError` without Jinja2.
    """
    page = page_template(__package__ or "")
    groups = [
        {
            "name": name,
            "summary": get_measure(name).summary,
            "columns": columns,
            "plots": [plot for plot in (make_plot(evaluation, table, column) for column in columns) if plot],
            "known": any(table.cells[row][column].count for row in evaluation.rows for column in columns),
        }
        for name, columns in evaluation.groups.items()
    ]
    return page.render(
        evaluation=evaluation,
        table=table,
        groups=groups,
        cases=[(method, [case for case in cases if case.method == method]) for method in evaluation.methods],
        any_cases=bool(cases),
        decides=deciding_column(evaluation),
        compared={(one.row, one.column): one for one in table.comparisons},
        shown=[one for one in table.comparisons if one.shown],
        photos=[one for one in evaluation.photos if one.unit == "photo"],
        baselines=BASELINES,
        controls=CONTROLS,
        command=command,
        about=dict(about),
        when=time.strftime("%Y-%m-%d %H:%M"),
    )


def save_report(path: str | os.PathLike[str], html: str) -> None:
    """Write it under a temporary name and rename. Raises `OutputError`."""
    write_bytes(path, html.encode())
