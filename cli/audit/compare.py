"""``cfcam audit compare``: two audits, or a reference profile and an audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...runtime.shown import shown
from ..console import DONE, DONE_IN_PART, Bold, print_json, print_rows, say
from ..options import Json, needing

__all__ = ["compare"]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Folder of an audit, or a reference profile (.json).")],
    b: Annotated[str, typer.Argument(metavar="B", help="Folder of an audit, compared with it.")],
    fail: Annotated[bool, typer.Option("--fail-on-drift", help="Exit code 1 when anything has drifted.")] = False,
    json: Json = False,
) -> None:
    """Say what has drifted between two audits: columns of the maps, and findings.

    Photos with the same content are compared with each other where they are at least half of the smaller audit. All
    p-values are corrected for being many (Holm); drift is one below 0.05.
    """
    with needing("comparing audits", "audit", "pyarrow"):
        from ...calibration.audit.compare import compare_folders
    found = compare_folders(Path(a), Path(b))
    if json:
        print_json({**found, "a": a, "b": b})
    else:
        _print(found)
    raise typer.Exit(DONE_IN_PART if fail and found["drift"] else DONE)


def _print(found: dict[str, Any]) -> None:
    if found["differences"]:
        say("not measured alike:")
        print_rows(("", "A", "B"), [(name, _short(x), _short(y)) for name, x, y in found["differences"]])
        say()
    photos = found["photos"]
    how = "the same photos, pair by pair" if found["paired"] else "different photos"
    say(f"photos: {photos['a']} and {photos['b']}, {photos['same']} the same: compared as {how}")
    if found["labels_changed"] is not None:
        say(f"predicted classes that changed: {found['labels_changed']}")
    rows = [
        (entry["name"], _number(entry["a"]), _number(entry["b"]), _number(entry["p_value"]), _verdict(entry))
        for entry in (*found["columns"], *found["findings"])
        if entry["a"] is not None or entry["b"] is not None
    ]
    print_rows(("mean or rate", "A", "B", "p", ""), rows, right=("A", "B", "p"))
    say(f"\ndrifted: {', '.join(found['drift'])}" if found["drift"] else "\nnothing drifted")


def _verdict(entry: dict[str, Any]) -> str:
    return Bold("drift") if entry["drift"] else "" if entry["p_value"] is not None else "too few photos"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:16]}..." if len(text) == 64 and " " not in text else shown(text, 60)
