"""What ``cfcam explain`` says of each explanation: an entry of its JSON document, and a line of its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import print_rows

if TYPE_CHECKING:
    from ..runtime.contract.spec import OutputSpec
    from ..runtime.explanation import Explanation

__all__ = ["MUCH", "print_results", "result_entry"]

#: Share of a photo that may be left out without a warning.
MUCH = 1 / 3


def result_entry(explanation: Explanation, place: Path | None, top: int, output: OutputSpec) -> dict[str, Any]:
    """One entry of ``results``. place: where it was written."""
    result = {**explanation.to_dict(), "output": None if place is None else str(place)}
    if explanation.frame.left_out > MUCH:
        result["left_out"] = round(explanation.frame.left_out, 3)
    if top and explanation.value is not None and explanation.logits is not None:
        unit = output.unit
        result["top"] = [
            {"target": k, "label": output.label(k)[:-1] or "value", "value": float(explanation.logits[k]), "unit": unit}
            for k in range(min(top, output.values))
        ]
    elif top:
        best = (-explanation.probabilities).argsort(kind="stable")[:top]
        result["top"] = [
            {"target": int(i), "label": output.label(int(i)), "probability": float(explanation.probabilities[i])}
            for i in best
        ]
    return result


def print_results(results: Sequence[dict[str, Any]]) -> None:
    """A line for each entry, and one for each of the best classes where they were asked for."""
    written = any(result["output"] for result in results)
    what = "probability" if all("value" not in result for result in results) else "value"
    columns = ["image", "class", what, "peak x, y", *(["written"] if written else [])]
    rows: list[list[str]] = []
    previous = None
    for result in results:
        peak = result["peak"]
        where = f"{peak[0]:.2f}, {peak[1]:.2f}" if peak else f"none: {result.get('reason', 'empty map')}"
        name = _class_name(result)
        if "against" in result:
            name += f" against {_class_name(result['against'])}"
        cells = [result["image"], name, _measured(result), where]
        rows.append(cells + ([result["output"] or ""] if written else []))
        best = result.get("top", []) if result["image"] != previous else []  # the same for every target
        rows += [["", f"  {rank}. {entry['label']}", _measured(entry)] for rank, entry in enumerate(best, 1)]
        previous = result["image"]
    print_rows(columns, rows, right=(what,))


def _class_name(entry: dict[str, Any]) -> str:
    """The label with the class's number, or the number alone."""
    numbered = entry["label"] != str(entry["target"])
    return f"{entry['label']} ({entry['target']})" if numbered else entry["label"]


def _measured(result: dict[str, Any]) -> str:
    """A class's probability, or a regression's value with its unit."""
    if "value" in result:
        return " ".join(filter(None, (f"{result['value']:.4g}", result["unit"])))
    return f"{result['probability']:.1%}"
