"""``cfcam check``: proof that a file explains what it computes, by ONNX Runtime and float64 arithmetic alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import DONE, DONE_IN_PART, Bold, print_json, print_rows, say, stderr
from .options import Json, MaxPixels, ModelFile, needing
from .sources import photo_batch, report_failures

if TYPE_CHECKING:
    from ..calibration.check import CheckReport

__all__ = ["SCHEMA", "check"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.check/1"


def check(
    model: ModelFile,
    images: Annotated[
        list[str] | None,
        typer.Option("--images", metavar="DIR", help="Photos to check with: folder, file or pattern. Repeatable."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="MODEL.onnx", help="The plain model, whose outputs must be unchanged."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=2, help="Use the first N photos.")] = 5,
    json: Json = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Check that an exported file is right.

    Gradients against differences of the scores in float64, batches against single images, the class, the weights, and
    what TensorRT refuses. Without photos, random images are used.
    """
    from ..runtime.contract.modelfile import read_spec

    spec = read_spec(model)
    batch, names, errors = photo_batch(images, limit, spec.input, "check")
    with stderr().status("checking") as status:
        report = _checked(model, batch, source, lambda step: status.update(f"checking: {step}"))
    if json:
        used: dict[str, Any] = {"kind": "photos" if names else "random", "count": report.images, "files": names}
        print_json({"schema": SCHEMA, **report.to_dict(), "images": used, "errors": errors})
    else:
        report_failures(errors)
        _print(report)
    raise typer.Exit(DONE if report and not errors else DONE_IN_PART)


def _checked(model: str, batch: Any, source: str | None, progress: Any) -> CheckReport:
    with needing("checking a file", "onnx", "onnx"):
        from ..calibration.check import check_file
    return check_file(model, batch, source=source, progress=progress)


def _print(report: CheckReport) -> None:
    rows = []
    words = {"ok": "ok", "failed": "FAILED", "warning": "warning", "skipped": "-"}
    for row in report.rows:
        value = "" if row.value is None else f"{row.value:.3g}"
        limit = "" if row.limit is None else f"{'>=' if row.at_least else '<='} {row.limit:.3g}"
        word = Bold(words[row.status]) if row.status in ("failed", "warning") else words[row.status]
        rows.append([row.name, value, limit, word, row.note])
    print_rows(("check", "value", "limit", "", ""), rows, right=("value", "limit"))
    failed = sum(row.status == "failed" for row in report.rows)
    verdict = "all checks hold" if report else f"{failed} of {len(report.rows)} checks FAILED"
    seconds = sum(report.seconds.values())
    layers = f"layer{'s' if ', ' in report.layer else ''} {report.layer}"
    say(f"{report.path}: {layers}, {report.images} images, {seconds:.1f} s: {verdict}")
