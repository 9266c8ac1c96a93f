"""``cfcam triton``: a model repository for Triton Inference Server, and whether a server answers as it should."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from .console import DONE, DONE_IN_PART, Bold, print_json, print_rows, say, stderr
from .options import Json, Threads, needing

__all__ = ["triton"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.triton/1"


def triton(
    model: Annotated[str, typer.Argument(metavar="X.cam.onnx", help="A file made by `cfcam export` or `cfcam build`.")],
    repository: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="REPOSITORY", help="Folder of models; others in it stay."),
    ] = None,
    layout: Annotated[
        Literal["one", "ensemble", "bls"],
        typer.Option(
            "--layout",
            help="one: one Python model; bls: it calls a model on the ONNX Runtime backend; ensemble: Triton does.",
        ),
    ] = "one",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What clients call (default: the file's name).")
    ] = None,
    device: Annotated[
        Literal["cpu", "gpu"], typer.Option("--device", help="Where the file runs; batching is on for gpu only.")
    ] = "cpu",
    backend: Annotated[
        Literal["onnxruntime", "python"],
        typer.Option("--backend", help="What runs the file in bls and ensemble; python where Triton has no other."),
    ] = "onnxruntime",
    max_batch: Annotated[
        int, typer.Option("--max-batch", metavar="N", min=1, max=4096, help="Images in a request, at most.")
    ] = 8,
    instances: Annotated[
        int, typer.Option("--instances", metavar="N", min=1, max=1024, help="Processes of each Python model.")
    ] = 1,
    threads: Threads = None,
    environment: Annotated[
        str | None,
        typer.Option("--env", metavar="FOLDER", help="The venv with cfcam on the server (EXECUTION_ENV_PATH)."),
    ] = None,
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
    json: Json = False,
) -> None:
    """Write a model repository for Triton Inference Server, or check a server that runs one."""
    if (repository is None) == (check is None):
        raise typer.BadParameter("give -o REPOSITORY to write one, or --check URL to ask a running server")
    if images and check is None:
        raise typer.BadParameter("--image goes with --check")
    with needing("a Triton repository", "onnx", "onnx"):
        from ..export.triton.repository import default_name
    called = name or default_name(model)
    if check is not None:
        raise typer.Exit(_check(model, check, called, images or [], threads, json))
    from ..export.triton.config import TritonPlan
    from ..export.triton.repository import write_repository

    plan = TritonPlan(
        name=called,
        layout=layout,
        device=device,
        backend=backend,
        max_batch=max_batch,
        instances=instances,
        threads=threads,
        environment=environment,
    )
    with needing("a Triton repository", "onnx", "onnx"):
        written = write_repository(model, repository or "", plan, force=force, allow_failing=allow_failing)
    if json:
        models = list(written.models)
        print_json({"schema": SCHEMA, "repository": str(written.path), "models": models, "readme": str(written.readme)})
    else:
        say(f"{written.path}: {', '.join(written.models)}; how to start it: {written.readme}")


def _check(model: str, url: str, name: str, images: list[str], threads: int | None, json: bool) -> int:
    from ..export.triton.checking import check_server

    with stderr().status("asking") as status:
        rows = check_server(
            model, url, name, images, threads=threads, progress=lambda step: status.update(f"asking: {step}")
        )
    failed = sum(not row.same for row in rows)
    if json:
        answers = [row.to_dict() for row in rows]
        print_json({"schema": SCHEMA, "url": url, "model": name, "same": not failed, "answers": answers})
    else:
        cells = [
            [
                row.source,
                row.sent,
                "top" if row.target < 0 else str(row.target),
                "same bits" if row.same else Bold("DIFFERENT" if row.error is None else "ERROR"),
                row.error or (f"{', '.join(row.differing)}; map by {row.largest:.2g}" if row.differing else ""),
            ]
            for row in rows
        ]
        print_rows(("photo", "sent as", "class", "", ""), cells)
        say(f"{url}: {len(rows) - failed} of {len(rows)} answers are cfcam's own, bit for bit")
    return DONE_IN_PART if failed else DONE
