"""``cfcam triton``: a model repository for Triton Inference Server, and whether a server answers as it should."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import DONE, DONE_IN_PART, Bold, print_json, print_rows, say, stderr
from .options import Json, Threads, needing

if TYPE_CHECKING:
    from ..export.triton.checking import ServedRow

__all__ = ["triton"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.triton/1"


def triton(
    model: Annotated[str, typer.Argument(metavar="FILE", help="Made by `cfcam export` or `cfcam build`.")],
    repository: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="REPOSITORY", help="Folder of models; others in it stay."),
    ] = None,
    layout: Annotated[
        Literal["plain", "one", "ensemble", "bls"] | None,
        typer.Option(
            "--layout",
            help="plain: the file alone (default for fused files); one: one Python model (default); bls: it calls the "
            "file on another backend; ensemble: Triton does.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What clients call (default: the file's name).")
    ] = None,
    device: Annotated[
        Literal["cpu", "gpu"] | None,
        typer.Option("--device", help="Where the file runs (default: cpu, engines gpu); batching is on for gpu only."),
    ] = None,
    backend: Annotated[
        Literal["onnxruntime", "tensorrt", "python"] | None,
        typer.Option(
            "--backend",
            help="What runs the file in all layouts but one (default: onnxruntime, tensorrt for engines); python where "
            "Triton has no other.",
        ),
    ] = None,
    max_batch: Annotated[
        int, typer.Option("--max-batch", metavar="N", min=1, max=4096, help="Images in a request, at most.")
    ] = 8,
    instances: Annotated[
        int,
        typer.Option(
            "--instances",
            metavar="N",
            min=1,
            max=1024,
            help="Processes of each Python model; instances of a plain one.",
        ),
    ] = 1,
    threads: Threads = None,
    environment: Annotated[
        str | None,
        typer.Option("--env", metavar="FOLDER", help="The venv with cfcam on the server (EXECUTION_ENV_PATH)."),
    ] = None,
    exact_int8: Annotated[
        bool,
        typer.Option(
            "--exact-int8", help="The server's processor has VNNI: ONNX Runtime's backend may run INT8 files."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace models of the same names.")] = False,
    allow_failing: Annotated[
        bool, typer.Option("--allow-failing", help="Take a product that missed its gate.")
    ] = False,
    check: Annotated[
        str | None,
        typer.Option(
            "--check", metavar="URL", help="Ask a running server (http://... or grpc://...) and compare bit for bit."
        ),
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option("--image", metavar="FILE", help="A photo to check with. Repeatable.")
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", metavar="T", min=0, help="How much numbers may differ in a check; else no bit may."
        ),
    ] = 0.0,
    json: Json = False,
) -> None:
    """Write a model repository for Triton Inference Server, or check a server that runs one."""
    if (repository is None) == (check is None):
        raise typer.BadParameter("give -o REPOSITORY to write one, or --check URL to ask a running server")
    if images and check is None:
        raise typer.BadParameter("--image goes with --check")
    if tolerance and check is None:
        raise typer.BadParameter("--tolerance goes with --check")
    with needing("a Triton repository", "onnx", "onnx"):
        from ..export.triton.repository import default_name
    called = name or default_name(model)
    if check is not None:
        raise typer.Exit(_check(model, check, called, images or [], threads, tolerance, json))
    from ..export.triton.repository import plan_for, write_repository

    with needing("a Triton repository", "onnx", "onnx"):
        plan = plan_for(
            model,
            called,
            layout=layout,
            device=device,
            backend=backend,
            max_batch=max_batch,
            instances=instances,
            threads=threads,
            environment=environment,
            exact_int8=exact_int8,
        )
        written = write_repository(model, repository or "", plan, force=force, allow_failing=allow_failing)
    if json:
        models = list(written.models)
        print_json({"schema": SCHEMA, "repository": str(written.path), "models": models, "readme": str(written.readme)})
    else:
        say(f"{written.path}: {', '.join(written.models)}; how to start it: {written.readme}")


def _check(
    model: str, url: str, name: str, images: list[str], threads: int | None, tolerance: float, json: bool
) -> int:
    from ..export.triton.checking import check_server

    with stderr().status("asking") as status:
        rows = check_server(
            model,
            url,
            name,
            images,
            threads=threads,
            tolerance=tolerance,
            progress=lambda step: status.update(f"asking: {step}"),
        )
    right = sum(row.same or row.close for row in rows)
    if json:
        answers = [row.to_dict() for row in rows]
        print_json({"schema": SCHEMA, "url": url, "model": name, "same": right == len(rows), "answers": answers})
    else:
        cells = [
            [
                row.source,
                row.sent,
                "top" if row.target < 0 else str(row.target),
                _verdict(row),
                row.error or _differing(row),
            ]
            for row in rows
        ]
        print_rows(("photo", "sent as", "class", "", ""), cells)
        how = f"within {tolerance:g}" if tolerance else "bit for bit"
        say(f"{url}: {right} of {len(rows)} answers are cfcam's own, {how}")
    return DONE if right == len(rows) else DONE_IN_PART


def _differing(row: ServedRow) -> str:
    names = ", ".join(row.differing)
    return f"{names}: by {row.largest:.2g}" if names and math.isfinite(row.largest) else names


def _verdict(row: ServedRow) -> str:
    if row.same:
        return "same bits"
    return "close" if row.close else Bold("DIFFERENT" if row.error is None else "ERROR")
