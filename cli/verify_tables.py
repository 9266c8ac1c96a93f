"""The result of ``cfcam verify`` for people: tables, what was missed, and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .console import Bold, note, print_rows, say

if TYPE_CHECKING:
    from ..calibration.verify import VerifyReport
    from ..calibration.verify.layerwise import LayerwiseReport

__all__ = ["print_layerwise", "print_report"]


def print_report(report: VerifyReport) -> None:
    """Print the measures as tables on stdout, every limit that was missed or is undecided, and the verdict."""
    from ..calibration.verify.table import COLUMNS, place_rows, place_title, top_rows

    parts = [("network", top_rows(report))]
    parts += [(place_title(one), place_rows(report, one)) for one in report.places]
    for title, rows in parts:
        cells = [[Bold(row.title), *row.cells, Bold(row.mark)] if row.mark else [row.title, *row.cells] for row in rows]
        print_rows(("", *COLUMNS, ""), cells, title=title, right=COLUMNS)
        say()
    for failure in report.failures:
        say(f"FAILED: {failure.text}")
    for one in report.undecided:
        say(f"undecided: {one.text}")
    count = f"{len(report.photos)} photos" + (f" of {report.given}" if report.given > len(report.photos) else "")
    candidate = report.candidate
    method = report.method if report.form is None else f"{report.method} ({report.form})"
    say(
        f"{candidate.path} ({candidate.precision}, {candidate.provider}) against {report.reference.path}: "
        f"method {method}, {count}, {report.seconds:.1f} s: {report.verdict_text}"
    )


def print_layerwise(report: LayerwiseReport) -> None:
    """Print the nodes at which the error jumps most, and what has to be known about that."""
    from ..calibration.verify.table import LAYERWISE_COLUMNS, layerwise_rows, layerwise_title

    say()
    print_rows(LAYERWISE_COLUMNS, layerwise_rows(report), title=layerwise_title(report), right=LAYERWISE_COLUMNS[3:])
    if report.note:
        note(f"cfcam: note: {report.note}")
