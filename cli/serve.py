"""``cfcam serve``: explanations over HTTP."""

from __future__ import annotations

import warnings
from enum import Enum
from typing import Annotated

import typer

from ..runtime.errors import OutputError, PhotoWarning
from .console import note
from .options import needing

__all__ = ["serve"]


class Decode(str, Enum):
    """How photos are read."""

    exact = "exact"
    fast = "fast"


def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="FILE|NAME=FILE", help="What is served, and under which name.")
    ],
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 for any free one.")] = 8080,
    grpc_port: Annotated[
        int | None,
        typer.Option("--grpc-port", metavar="N", min=0, max=65535, help="Also answer over gRPC there; 0 for any free."),
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="What runs the models: cpu, cuda, ...")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", metavar="N", min=1, help="CPU threads per operator.")] = 1,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, max=256, help="Processes that answer on the one port.")
    ] = 1,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=64, help="Requests worked on at once.")] = 1,
    decode: Annotated[
        Decode, typer.Option("--decode", help="fast: large JPEGs at a part of their size; maps differ a little.")
    ] = Decode.exact,
    monitor: Annotated[
        list[str] | None,
        typer.Option("--monitor", metavar="PROFILE", help="Hold explanations against a profile of `cfcam audit`."),
    ] = None,
    max_body: Annotated[int, typer.Option("--max-body", metavar="BYTES", min=1, help="Longest body.")] = 20 * 2**20,
    max_pixels: Annotated[int, typer.Option("--max-pixels", metavar="N", min=1, help="Largest photo.")] = 40_000_000,
    max_waiting: Annotated[int, typer.Option("--max-waiting", metavar="N", min=0, help="More get a 503.")] = 32,
    deadline_ms: Annotated[
        float | None, typer.Option("--deadline-ms", metavar="MS", min=1, help="What takes longer gets a 503.")
    ] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", metavar="FILE", help="Answer only who sends the token in this file.")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option("--tls-cert", metavar="PEM", help="Certificate, for HTTPS.")] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", metavar="PEM", help="Its key.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name that the server may be called by; * for any."),
    ] = None,
    allow_failing: Annotated[
        bool, typer.Option("--allow-failing", help="Also serve a product whose gate failed.")
    ] = False,
) -> None:
    """Serve explanations by the Open Inference Protocol (V2) over HTTP and gRPC, and by KServe's V1."""
    from ..runtime.json_reader import read_text

    with needing("serving", "serve", "starlette", "uvicorn", "pydantic", "pydantic_core", "h11", "prometheus_client"):
        from ..runtime.serving.models import named
        from ..runtime.serving.server import bound_socket
        from ..runtime.serving.service import Limits
        from ..runtime.serving.supervisor import supervise
        from ..runtime.serving.worker import ServeOptions, answer
    if grpc_port is not None:
        with needing("--grpc-port", "grpc", "grpc", "google", "grpc_health", "tritonclient"):
            import grpc  # noqa: F401
            import grpc_health.v1  # noqa: F401
            import tritonclient.grpc  # noqa: F401

    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key go together: give both")
    token = None if token_file is None else read_text(token_file, OutputError, most=4096).strip()
    if token == "":
        raise OutputError(f"{token_file}: holds no token: write one into it")
    warnings.simplefilter("ignore", PhotoWarning)  # the answer's notes say it
    listener = bound_socket(host, port)
    # It keeps the port for the processes, which share it.
    grpc_listener = None if grpc_port is None else bound_socket(host, grpc_port, "--grpc-port")
    options = ServeOptions(
        files=tuple(models),
        provider=provider,
        threads=threads,
        max_pixels=max_pixels,
        allow_failing=allow_failing,
        decode=decode.value,
        profiles=tuple(monitor or ()),
        tls=None if tls_cert is None else (tls_cert, str(tls_key)),
        grpc=None if grpc_listener is None else grpc_listener.getsockname()[:2],
        limits=Limits(
            body=max_body,
            waiting=max_waiting,
            concurrency=concurrency,
            deadline=None if deadline_ms is None else deadline_ms / 1000,
            token=token,
            hosts=tuple(allow_host or ()),
        ),
    )
    address = listener.getsockname()
    if not address[0].startswith("127.") and address[0] != "::1" and (token is None or tls_cert is None):
        note(
            "cfcam: warning: whoever reaches this machine can ask, or listen: give --token-file, --tls-cert, --tls-key"
        )

    def started() -> None:
        scheme = "http" if tls_cert is None else "https"
        names = ", ".join(named(model)[0] for model in models)
        also = "" if options.grpc is None else f" and, over gRPC, at {host}:{options.grpc[1]}"
        processes = f", by {workers} processes" if workers > 1 else ""
        note(f"serving {names} at {scheme}://{host}:{address[1]}{also}{processes} (Ctrl-C stops it)")

    if workers == 1:
        answer(options, options.open(), listener, note, started=started)
    else:
        supervise(options, listener, workers, note, started)
