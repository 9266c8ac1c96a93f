"""Latency of a `TimedFile`: model alone, maps, whole explanations, per stage, and beside the plain model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from ..contract.modelfile import ValueInfo, read_model_info
from ..contract.spec import InputSpec
from ..engines.base import Engine
from ..engines.opening import open_engine
from ..errors import ModelFileError
from ..inference import infer_all
from .machine import load
from .sampling import Clock, Progress, sample
from .summary import Ratio, Summary
from .timed_file import STAGES, TimedFile

__all__ = ["MEASURES", "Budget", "Measure", "Measurement", "check_plain", "measure"]

#: What is timed: from the photo's file to the explanation; from the ready tensor to the map; the model alone.
Measure = Literal["explanation", "map", "inference"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

#: Rounds that are run at least, where the time decides.
_LEAST = 20


@dataclass(frozen=True)
class Budget:
    """The 99th percentile of one measure against a limit, both in milliseconds."""

    of: Measure
    ms: float
    p99: float

    @property
    def met(self) -> bool:
        return self.p99 <= self.ms

    def to_dict(self) -> dict[str, Any]:
        return {"of": self.of, "ms": self.ms, "p99": self.p99, "met": self.met}


@dataclass(frozen=True)
class Measurement:
    """Times of one file, per call (of the whole batch).

    latency: of each of `MEASURES`. stages: of an explanation; ``other`` is what no stage counts (probabilities, the
    result object). plain: the plain model, where there is one; ratio: inference / plain, taken within rounds;
    control: plain / plain by the same rule, 1 on a quiet machine. load_before, load_after: of the machine.
    seconds: how long it all took.
    """

    latency: dict[str, Summary]
    stages: dict[str, Summary]
    batch: int
    plain: Summary | None
    ratio: Ratio | None
    control: Ratio | None
    seconds: float
    load_before: float | None
    load_after: float | None

    def images_per_second(self, name: str) -> float:
        """Images of one measure, one call after the other."""
        return 1000 * self.batch / self.latency[name].mean

    def budget(self, ms: float, of: Measure = "explanation") -> Budget:
        """Whether the 99th percentile stays within `ms`."""
        return Budget(of, ms, self.latency[of].p99)


def measure(
    timed: TimedFile,
    *,
    rounds: int | None = 200,
    seconds: float | None = None,
    against: str | os.PathLike[str] | None = None,
    clock: Clock = time.perf_counter_ns,
    progress: Progress | None = None,
) -> Measurement:
    """Time a file that is warm; everything that is compared is interleaved.

    rounds, seconds: whichever comes first, but 20 rounds at least. against: the plain model with the same input, run by
    the same provider with the same threads, twice a round.
    Raises `ModelFileError` for a plain model with another input, and `EngineError`.
    """
    stages: list[dict[str, float]] = []
    calls: dict[str, Callable[[], object]] = {
        "explanation": lambda: stages.append(timed.explain()),
        "map": timed.maps,
        "inference": timed.infer,
    }
    before = load()
    with _open_plain(against, timed) if against is not None else nullcontext() as plain:
        if plain is not None:
            feed, outputs = {timed.spec.input.name: timed.tensors}, plain.describe().outputs
            run = partial(infer_all, plain, feed, outputs)
            run()
            calls |= {"plain": run, "control": run}
        begun = clock()
        taken = sample(calls, rounds=rounds, seconds=seconds, least=_LEAST, clock=clock, progress=progress)
        spent = (clock() - begun) / 1e9
    named = {stage: [one[stage] for one in stages] for stage in STAGES}
    whole = taken["explanation"]
    named["other"] = [max(0.0, ms - sum(one.values())) for ms, one in zip(whole, stages, strict=True)]
    return Measurement(
        latency={name: Summary.of(taken[name]) for name in MEASURES},
        stages={stage: Summary.of(values) for stage, values in named.items()},
        batch=timed.batch,
        plain=None if plain is None else Summary.of(taken["plain"]),
        ratio=None if plain is None else Ratio.of(taken["inference"], taken["plain"]),
        control=None if plain is None else Ratio.of(taken["control"], taken["plain"]),
        seconds=spent,
        load_before=before,
        load_after=load(),
    )


def check_plain(path: str | os.PathLike[str], spec: InputSpec) -> None:
    """Raise `ModelFileError` unless the model's only input is that of `spec`; the batch may be any that it takes."""
    inputs = read_model_info(path).inputs
    if len(inputs) != 1 or not _fits(inputs[0], spec):
        wanted = ValueInfo(spec.name, spec.dtype, ("N", *spec.shape(1)[1:]))
        found = "; ".join(_value(value) for value in inputs)
        raise ModelFileError(
            f"{Path(path)}: expected the plain model, with the input {_value(wanted)} alone, found {found}: give the "
            "ONNX file that was exported"
        )


def _fits(value: ValueInfo, spec: InputSpec) -> bool:
    sizes = spec.shape(1)
    shape = sizes if value.shape is None else value.shape  # of which nothing is known, anything may fit
    return (value.name, value.dtype, len(shape)) == (spec.name, spec.dtype, len(sizes)) and all(
        axis == size or not isinstance(axis, int) for axis, size in zip(shape[1:], sizes[1:], strict=True)
    )


def _value(value: ValueInfo) -> str:
    shape = "?" if value.shape is None else ", ".join("?" if axis is None else str(axis) for axis in value.shape)
    return f"'{value.name}' {value.dtype} ({shape})"


def _open_plain(path: str | os.PathLike[str], timed: TimedFile) -> Engine:
    check_plain(path, timed.spec.input)
    # Beside a TensorRT engine the plain ONNX file runs on ONNX Runtime's own provider for it.
    provider = {"tensorrt_rtx": "rtx"}.get(timed.info.provider, timed.info.provider)
    return open_engine(path, provider, options=timed.options)
