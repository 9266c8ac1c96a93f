"""``cfcam bench``: what a file costs on this machine, in milliseconds and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .console import DONE, DONE_IN_PART, json_text, print_json, progress
from .options import AllowFallback, Json, MaxPixels, Threads, check_name, json_object

if TYPE_CHECKING:
    from ..runtime.bench.plan import LatencyPlan
    from ..runtime.bench.soak import SoakReport
    from ..runtime.bench.timed_file import TimedFile

__all__ = ["bench"]

_ROUNDS = 200
_PLAN_ROUNDS = 30
_PHOTO = "two_dogs.jpg"


def bench(
    model: Annotated[
        str, typer.Argument(metavar="ENGINE_OR_ONNX", help="What `cfcam build` or `cfcam export` has made.")
    ],
    image: Annotated[
        str | None, typer.Option("--image", metavar="FILE", help="The photo to explain (default: a built-in one).")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Copies of it that go together.")] = 1,
    target: Annotated[
        str | None, typer.Option("--target", "-t", metavar="INDEX|LABEL", help="Class to explain (default: top).")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", "-m", metavar="NAME", help="Method (default: the file's).")
    ] = None,
    settings: Annotated[
        str | None, typer.Option("--settings", metavar="JSON", help="The method's settings as a JSON object.")
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", "--use-layer", metavar="NAME", help="Of several target layers, take this one alone."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option("--runs", metavar="N", min=1, help=f"How often each is run (default: {_ROUNDS}).")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", min=0.1, help="Measure for so long, instead or at most.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="plain.onnx", help="The plain model: how much more does it cost?")
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            "--budget-ms",
            metavar="MS",
            min=0.001,
            help="Exit code 1 when the p99 is above this (default: of a product, what its configuration says).",
        ),
    ] = None,
    budget_of: Annotated[
        Literal["explanation", "map", "inference"],
        typer.Option(
            "--budget-of",
            help="What the budget is for: from the photo's file to the explanation, from the ready tensor to the map, "
            "or the model alone.",
        ),
    ] = "explanation",
    soak: Annotated[
        float | None,
        typer.Option(
            "--soak", metavar="S", min=1, help="Explain for so many seconds: exit code 1 when it slows down or grows."
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--latency-plan", help="Which methods, layers, numbers of classes and map sizes fit the budget."),
    ] = False,
    json: Json = False,
    max_pixels: MaxPixels = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE.json", help="Write the JSON document here, too.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="What runs the model: cpu, cuda, tensorrt, ...")
    ] = None,
    allow_fallback: AllowFallback = False,
    threads: Threads = None,
) -> None:
    """Measure latency and memory of explanations on this machine.

    Everything is warmed up, then run interleaved: whole explanations, maps of ready tensors, the model alone, and with
    --against the plain model, twice. Exit code 1: over the budget, or the soak found something.
    """
    from ..runtime.bench.document import document
    from ..runtime.bench.measure import check_plain, measure
    from ..runtime.bench.timed_file import TimedFile
    from ..runtime.files import write_bytes
    from .bench_tables import print_result

    options = json_object(settings, "--settings")
    if plan and budget_of == "inference":
        raise typer.BadParameter("--latency-plan plans explanations: --budget-of explanation or map, not inference")
    check_name(output, "--output", ".json")
    with ExitStack() as stack:
        photo, name = _photo(stack, image)
        how = {"target": target, "method": method, "settings": options, "layer": layer, "batch": batch}
        how |= {"provider": provider, "allow_fallback": allow_fallback or None, "threads": threads}
        timed = stack.enter_context(TimedFile(model, photo, **how))
        if against is not None:  # before the warm-up
            check_plain(against, timed.spec.input)
        with _steps() as step:
            step("warming up", None)
            timed.warm_up()
            budgets = _configured(timed)
            budget_ms = budgets.get("p99_ms") if budget_ms is None else budget_ms
            rounds = None if runs is None and seconds is not None else runs or _ROUNDS
            found = measure(timed, rounds=rounds, seconds=seconds, against=against, progress=step("measuring", rounds))
            soaked = _soak(timed, soak, step)
            planned = _plan(timed, runs, budget_ms, budget_of, step) if plan else None
        budget = None if budget_ms is None else found.budget(budget_ms, budget_of)
        result = document(timed, found, image_name=name, budget=budget, soaked=soaked, plan=planned)
    memory_mb, high = budgets.get("memory_mb"), result["memory"]["high_water"]
    result["memory"]["budget"] = None if memory_mb is None else int(memory_mb * 2**20)
    too_large = memory_mb is not None and high is not None and high > memory_mb * 2**20
    if output is not None:
        write_bytes(output, json_text(result).encode())
    if json:
        print_json(result)
    else:
        print_result(result)
    missed = too_large or (budget is not None and not budget.met) or (soaked is not None and not soaked.passed)
    raise typer.Exit(DONE_IN_PART if missed else DONE)


def _configured(timed: TimedFile) -> dict[str, float | None]:
    """``p99_ms`` and ``memory_mb`` from the configuration that a product was built with."""
    manifest = timed.explainer.manifest
    return {} if manifest is None else dict(manifest.config.get("budgets") or {})


def _photo(stack: ExitStack, image: str | None) -> tuple[Path, str]:
    """The photo's path, and its name in the result."""
    if image is not None:
        return Path(image), Path(image).name
    from .data import data_file

    return stack.enter_context(data_file(_PHOTO)), f"{_PHOTO} (built in)"


Step = Callable[[str, "int | None"], Callable[[int, "int | None"], None]]


@contextmanager
def _steps() -> Iterator[Step]:
    """Gives a function that begins a task on stderr, and returns what is told of its progress."""
    with progress() as display:
        tasks: list[Any] = []

        def step(name: str, total: int | None) -> Callable[[int, int | None], None]:
            for task in tasks:
                display.update(task, visible=False)
            tasks.append(display.add_task(name, total=total))
            return lambda done, total: display.update(tasks[-1], completed=done, total=total)

        yield step


def _soak(timed: TimedFile, seconds: float | None, step: Step) -> SoakReport | None:
    from ..runtime.bench.soak import soak

    if seconds is None:
        return None
    whole = max(1, round(seconds))
    told = step("soaking, seconds", whole)
    return soak(timed.explain, seconds, progress=lambda passed: told(min(whole, round(passed)), whole))


def _plan(timed: TimedFile, runs: int | None, budget_ms: float | None, budget_of: str, step: Step) -> LatencyPlan:
    from ..runtime.bench.plan import latency_plan

    told = step("planning", None)
    photo, rounds = budget_of == "explanation", runs or _PLAN_ROUNDS
    return latency_plan(timed, budget_ms=budget_ms, photo=photo, rounds=rounds, progress=told)
