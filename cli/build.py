"""``cfcam build``: an explained file in, products for a target out, if their explanations still agree with float32."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import DONE, DONE_IN_PART, file_size, note, print_json, print_rows, say, stderr
from .options import Json, MaxPixels, ModelFile, needing
from .sources import failure, find_each, report_failures
from .verify_tables import print_report

if TYPE_CHECKING:
    from ..calibration.build.config import BuildConfig
    from ..calibration.build.pipeline import BuildReport

__all__ = ["SCHEMA", "build"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.build/1"


def _print_schema(asked: bool) -> None:
    if asked:
        print_json(_config_files().config_schema())
        raise typer.Exit()


def _print_configs(asked: bool) -> None:
    if asked:
        files = _config_files()
        configs = {name: files.read_config(name)[1] for name in files.config_names()}
        rows = [(name, config.backend, config.precision, config.description) for name, config in configs.items()]
        print_rows(("configuration", "backend", "precision", ""), rows)
        raise typer.Exit()


def build(
    model: ModelFile,
    config: Annotated[
        list[str],
        typer.Option(
            "--config",
            metavar="NAME|FILE",
            help="A configuration that comes with cfcam, or the path of a .yaml file. Repeatable.",
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The folder for the products.")],
    images: Annotated[
        list[str] | None,
        typer.Option("--images", metavar="DIR", help="Photos to calibrate and to judge with. Repeatable."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            help="Photos that calibrate, at most (default: the configuration's).",
        ),
    ] = None,
    onnx_only: Annotated[
        bool,
        typer.Option("--onnx-only", help="No engine: the ready graph, and the command that builds it on the target."),
    ] = False,
    auto_precision: Annotated[
        bool,
        typer.Option("--auto-precision", help="Look for the fastest assignment of precisions that passes the gate."),
    ] = False,
    fused: Annotated[
        bool,
        typer.Option("--fused", help="Products give out finished maps: the method is part of the graph, in float32."),
    ] = False,
    allow_failing: Annotated[
        bool, typer.Option("--allow-failing", help="Write what fails the gate too; its manifest says so.")
    ] = False,
    allow_undecided: Annotated[
        bool,
        typer.Option("--allow-undecided", help="Write what so few photos do not decide too; its manifest says so."),
    ] = False,
    timing_cache: Annotated[
        str | None,
        typer.Option(
            "--timing-cache", metavar="DIR", help="Where TensorRT's timings are kept (default: the user's cache)."
        ),
    ] = None,
    json: Json = False,
    max_pixels: MaxPixels = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", callback=_print_schema, is_eager=True, help="Print the JSON Schema of configurations and exit."
        ),
    ] = False,
    list_configs: Annotated[
        bool,
        typer.Option(
            "--list-configs", callback=_print_configs, is_eager=True, help="List the configurations and exit."
        ),
    ] = False,
) -> None:
    """Build an explained file for a target, or for several.

    Lowers the precision, builds TensorRT engines where the configuration asks for them, compares the explanations
    with those of the float32 file, and writes the products with a manifest beside each. When the gate fails, or is
    undecided because there are too few photos, nothing is written but a report, and the exit code is 1.
    """
    from ..runtime.errors import ImageError

    if len(config) > 1:
        options = {"--limit": limit, "--timing-cache": timing_cache, "--output": output, "--max-pixels": max_pixels}
        flags = {"--onnx-only": onnx_only, "--auto-precision": auto_precision, "--allow-failing": allow_failing}
        flags |= {"--allow-undecided": allow_undecided, "--fused": fused}
        words = [model, *(f"--images={one}" for one in images or [])]
        words += [f"{name}={value}" for name, value in options.items() if value is not None]
        words += [name for name, given in {**flags, "--json": json}.items() if given]
        raise typer.Exit(max(_in_a_process_of_its_own([f"--config={one}", *words]) for one in config))
    name, settings = _config_files().read_config(config[0])
    settings = _limited(settings, limit)
    found, errors = find_each(images or [])
    if images and not found:
        raise ImageError("; ".join(entry["error"] for entry in errors))
    report = _built(
        model,
        name,
        settings,
        output,
        found,
        json,
        {
            "onnx_only": onnx_only,
            "auto_precision": auto_precision,
            "fused": fused,
            "allow_failing": allow_failing,
            "allow_undecided": allow_undecided,
            "timing_cache": None if timing_cache is None else Path(timing_cache),
        },
    )
    if report.photos is not None:
        errors += [failure(path, error) for path, error in report.photos.failures]
    if json:
        print_json({"schema": SCHEMA, **report.to_dict(), "errors": errors})
    else:
        report_failures(errors)
        for remark in report.notes:
            note(f"cfcam: note: {remark}")
        _print(report)
    raise typer.Exit(DONE if report.passed is not False and not errors else DONE_IN_PART)


def _in_a_process_of_its_own(words: list[str]) -> int:
    """Build what `words` say; the exit code. A process can have one of the two TensorRT packages."""
    command = [sys.executable, "-m", "cfcam.cli", "build", *words]
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()  # removes what is unfinished
            raise


def _config_files() -> Any:
    with needing("building", "build", "pydantic", "yaml", "onnx"):
        from ..calibration.build import config_files
    return config_files


def _limited(config: BuildConfig, limit: int | None) -> BuildConfig:
    if limit is None:
        return config
    if config.precision == "float32":
        raise typer.BadParameter(f"--limit: nothing is calibrated with precision {config.precision}")
    return config.model_copy(update={"calibration": config.calibration.model_copy(update={"images": limit})})


def _built(
    model: str, name: str, config: BuildConfig, output: str, photos: list[Path], quiet: bool, options: dict[str, Any]
) -> BuildReport:
    with needing("building", "build", "onnx", "pydantic"):
        from ..calibration.build.pipeline import build as run
    console = stderr()
    with console.status("building") as status:

        def tell(step: str, done: float | None = None, total: float | None = None) -> None:
            far = "" if done is None or not total else f" {done / total:.0%}"
            status.update(f"building: {step}{far}")

        def tried(text: str) -> None:
            if not quiet:
                note(text, console)

        return run(Path(model), name, config, Path(output), photos, progress=tell, tried=tried, **options)


def _print(report: BuildReport) -> None:
    if report.photos is not None:
        say(str(report.photos))
    if report.gate is not None:
        print_report(report.gate)
    for path in report.files:
        say(f"{path}: {file_size(path.stat().st_size)}")
    if report.gate is not None and not report.products:
        if report.gate.verdict == "undecided":
            say("nothing was built: give more photos with --images, or take it as it is with --allow-undecided")
        else:
            say("nothing was built: see the report, try --auto-precision, or take it as it is with --allow-failing")
    if report.products and report.job.command:
        say(f"on the target, beside the graph: {shlex.join(report.job.command)}")
