"""What a command hands out: progress and notes to stderr, results to stdout, and an exit code."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from ..runtime.shown import shown, shown_message, utf8

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = [
    "DONE",
    "DONE_IN_PART",
    "NOT_DONE",
    "Bold",
    "file_size",
    "json_text",
    "note",
    "print_json",
    "print_rows",
    "progress",
    "quiet_stdout",
    "say",
    "stderr",
]

DONE = 0
#: Done, but some inputs failed, or a check, gate or budget was missed.
DONE_IN_PART = 1
NOT_DONE = 2


class Bold(str):
    """A cell that stands out."""


def stderr() -> Console:
    """A console on stderr for people."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def note(text: str, console: Console | None = None) -> None:
    """One remark on stderr; console: a running progress display to print above."""
    sys.stdout.flush()  # so that the two streams stay in order where they meet in one file
    (console or stderr()).print(shown_message(text))


def say(text: str = "") -> None:
    """One line on stdout, cleaned; empty lines around it stay."""
    line = text.strip("\n")
    before, _, after = text.partition(line) if line else (text, "", "")
    print(f"{before}{shown_message(line)}{after}")


def print_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    right: Sequence[str] = (),
    head: bool = True,
) -> None:
    """Print a table without lines on stdout; into a pipe or file no cell is wrapped or cut.

    Args:
        columns: their names.
        rows: of cells, as many as columns or fewer; a `Bold` one stands out.
        title: above the table.
        right: columns that are aligned to the right.
        head: whether the columns' names are printed.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title,
        title_justify="left",
        show_header=head,
        box=None,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(cell), style="bold" if isinstance(cell, Bold) else "") for cell in row))
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False, markup=False).print(table)
        return
    text = io.StringIO()
    Console(file=text, highlight=False, markup=False, width=10_000).print(table)
    for line in text.getvalue().splitlines():
        print(line.rstrip())


def _cell(text: str) -> str:
    """What a cell shows: cleaned, with the spaces in front that set it off."""
    return text[: len(text) - len(text.lstrip(" "))] + shown(text)


def file_size(count: int) -> str:
    """`count` bytes for people."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def json_text(document: Any) -> str:
    """A JSON document as commands write it, to stdout or into a file."""
    return json.dumps(utf8(document), indent=2, allow_nan=False) + "\n"


def print_json(document: Any) -> None:
    """The only thing that a command with ``--json`` writes to stdout."""
    sys.stdout.write(json_text(document))


def quiet_stdout() -> redirect_stdout[Any]:
    """Sends what models and libraries print to stderr: stdout is for results."""
    return redirect_stdout(sys.stderr)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr that is gone when the block ends; silent when stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as display:
        yield display
