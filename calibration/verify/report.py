"""A comparison as one HTML file that loads nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..html_page import jpeg_url, machine, page_template
from . import pictures, table

if TYPE_CHECKING:
    from .layerwise import LayerwiseReport
    from .results import VerifyReport

__all__ = ["render_report"]


def render_report(report: VerifyReport, *, command: str = "", layerwise: LayerwiseReport | None = None) -> str:
    """The HTML text. Every name in it is escaped. Raises `MissingDependencyError` without Jinja2."""
    return page_template(__package__ or "", picture=jpeg_url).render(
        report=report,
        columns=table.COLUMNS,
        layerwise=layerwise,
        layerwise_columns=table.LAYERWISE_COLUMNS,
        layerwise_title=layerwise and table.layerwise_title(layerwise),
        layerwise_rows=layerwise and table.layerwise_rows(layerwise),
        top_rows=table.top_rows(report),
        places=[(table.place_title(one), table.place_rows(report, one)) for one in report.places],
        picture_columns=pictures.COLUMNS,
        changed=[one for one in report.photos if not one.agrees],
        command=command,
        about=machine(),
        when=time.strftime("%Y-%m-%d %H:%M"),
    )
