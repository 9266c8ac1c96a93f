"""``cfcam compare``: two results of ``cfcam bench`` side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import DONE, DONE_IN_PART, file_size, print_json, print_rows, say
from .options import Json

if TYPE_CHECKING:
    from ..runtime.bench.comparing import Comparison, Row

__all__ = ["SCHEMA", "compare"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.compare/1"


def compare(
    a: Annotated[str, typer.Argument(metavar="A.json", help="A result of `cfcam bench`.")],
    b: Annotated[str, typer.Argument(metavar="B.json", help="Another one, compared with it.")],
    most: Annotated[
        float | None,
        typer.Option("--max-regression", metavar="X", min=0.01, help="Exit code 1 when p50 or p99 rose by more."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare two results of `cfcam bench`.

    What was not equal (machine, threads, model, batch, versions, ...) is said first. --max-regression 1.1 allows a
    tenth more, in the median and the 99th percentile of explanations, maps and inferences.
    """
    from ..runtime.bench.comparing import compare as side_by_side

    found = side_by_side(_read(a), _read(b), (a, b))
    worse = [] if most is None else found.regressions(most)
    if json:
        names = [{"name": row.name, "point": row.point, "ratio": row.ratio} for row in worse]
        print_json({"schema": SCHEMA, "a": a, "b": b, **found.to_dict(), "max_regression": most, "regressions": names})
    else:
        _print(found, worse, most)
    raise typer.Exit(DONE_IN_PART if worse else DONE)


def _read(path: str) -> Any:
    from ..runtime.bench.comparing import ResultError
    from ..runtime.json_reader import read_json

    return read_json(path, ResultError)


def _print(found: Comparison, worse: list[Row], most: float | None) -> None:
    if found.differences:
        say("not measured alike:")
        print_rows(("", "A", "B"), [(what, _short(a), _short(b)) for what, a, b in found.differences])
        say()
    rows = [
        (row.name, row.point, _value(row, row.a), _value(row, row.b), "-" if row.ratio is None else f"{row.ratio:.3f}")
        for row in found.rows
    ]
    print_rows(("milliseconds", "", "A", "B", "B / A"), rows, right=("A", "B", "B / A"))
    if most is not None:
        names = ", ".join(f"{row.point} of the {row.name} ({row.ratio:.3f})" for row in worse)
        say(f"\nrose by more than {most:g}: {names}" if worse else f"\nnothing rose by more than {most:g}")


def _value(row: Row, value: float) -> str:
    return file_size(int(value)) if row.name == "memory" else f"{value:.3f}"


def _short(text: str) -> str:
    return f"{text[:16]}..." if len(text) == 64 and " " not in text else text
