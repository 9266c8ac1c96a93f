"""What fits into a budget here: every method, layer, number of classes and size of the map, from parts that are timed.

A whole explanation is a sum: reading the photo, one inference of as many images as there are classes, and a rule and
a resize for each. Timing the parts takes seconds where timing every sum would take hours; a few sums are timed
as a whole too, to see whether it adds up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cam import normalise
from ..engine import EngineInfo
from ..errors import CfcamError, EngineError
from ..explainer import Explainer
from ..images import open_image
from ..inference import Tensors
from ..methods import CamResult, get_method, method_names
from ..methods.layer_fusion import fuse_layers, fused_grid, settings_for
from ..preprocess import prepare
from .sampling import Clock, Progress, sample
from .subject import Subject

__all__ = ["CLASSES", "LatencyPlan", "PlanRow", "SpotCheck", "Taken", "latency_plan", "total"]

#: How many classes of one photo are explained.
CLASSES = (1, 2, 5)

#: A probe that has not ended after so many budgets, or milliseconds where there is no budget, is given up.
_BUDGETS, _PATIENCE_MS = 4, 1000.0
_LEAST = 5
_DRAWS = 2000

Part = tuple[Hashable, ...]
#: Milliseconds of every part in every round.
Taken = dict[Part, NDArray[np.float64]]


@dataclass(frozen=True)
class PlanRow:
    """One choice, and what it takes in milliseconds.

    layers: names; several are fused. classes: explanations of one photo in one batch. size: of the map, (H, W);
    to_input: whether that is the input's size, or else the layer's grid. p50: sum of the parts' medians. p99: 99th
    percentile of sums of parts drawn at random from their runs. fits: p99 within the budget, None where there is none.
    parts: milliseconds of each, medians.
    """

    method: str
    layers: tuple[str, ...]
    classes: int
    size: tuple[int, int]
    to_input: bool
    p50: float
    p99: float
    fits: bool | None
    parts: dict[str, float]


@dataclass(frozen=True)
class SpotCheck:
    """A row that was timed as a whole as well, in the same rounds; milliseconds."""

    method: str
    layers: tuple[str, ...]
    classes: int
    planned_p50: float
    measured_p50: float
    planned_p99: float
    measured_p99: float


@dataclass(frozen=True)
class LatencyPlan:
    """rows: every choice. checks: of some of them. left_out: what could not be timed, or was given up, and why.

    photo: whether reading and preparing the photo is counted. runs: of every part.
    """

    rows: tuple[PlanRow, ...]
    checks: tuple[SpotCheck, ...]
    left_out: dict[str, str]
    photo: bool
    runs: int
    budget_ms: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def latency_plan(
    subject: Subject,
    *,
    budget_ms: float | None = None,
    photo: bool = True,
    methods: Sequence[str] | None = None,
    classes: Sequence[int] = CLASSES,
    rounds: int = 30,
    seconds: float | None = 60.0,
    clock: Clock = time.perf_counter_ns,
    progress: Progress | None = None,
) -> LatencyPlan:
    """Time the parts of every choice, interleaved, and add them up.

    budget_ms: marks what fits. photo: count reading and preparing the photo. methods: None for every rule, and every
    probe that ends within four budgets (probes are timed as a whole, on the first layer). rounds, seconds: whichever
    comes first, but five rounds at least.
    Raises a `CfcamError` where not even one image can be explained.
    """
    maker = _Maker(subject, photo)
    rules, probes = _methods(subject, methods)
    maker.add_inferences(classes)
    maker.add_rules(rules)
    patience = _PATIENCE_MS if budget_ms is None else _BUDGETS * budget_ms
    maker.add_probes(probes, patience, clock)
    checks = maker.add_checks(rules, max(maker.batches))
    taken = sample(maker.parts, rounds=rounds, seconds=seconds, least=_LEAST, clock=clock, progress=progress)
    rows = [_row(choice, taken, budget_ms) for choice in maker.choices(rules, probes)]
    return LatencyPlan(
        rows=tuple(rows),
        checks=tuple(_check(part, rows, taken) for part in checks),
        left_out=maker.left_out,
        photo=photo,
        runs=len(next(iter(taken.values()))),
        budget_ms=budget_ms,
    )


def total(taken: Taken, parts: Sequence[tuple[Part, int]], seed: int = 0) -> tuple[float, float]:
    """(p50, p99) of a sum, milliseconds. parts: each with how often it is run.

    p50 is the sum of the medians. p99 is that of sums of runs that are drawn independently of each other: the sum of
    the parts' own p99 would say that everything is slow at once.
    """
    rng = np.random.default_rng(seed)
    sums = np.zeros(_DRAWS)
    for part, times in parts:
        for _ in range(times):
            sums += rng.choice(taken[part], _DRAWS)
    medians = sum(times * float(np.median(taken[part])) for part, times in parts)
    return medians, max(medians, float(np.percentile(sums, 99)))


@dataclass(frozen=True)
class _Choice:
    method: str
    layers: tuple[str, ...]
    classes: int
    size: tuple[int, int]
    to_input: bool
    parts: tuple[tuple[Part, int], ...]


class _Maker:
    """The callables that are timed, made from one real inference."""

    def __init__(self, subject: Subject, photo: bool) -> None:
        self._subject, self._photo = subject, photo
        self._input = subject.spec.input
        self._tensor = subject.tensors[0]
        names = [layer.name for layer in subject.spec.layers]
        alone = {(name,): self._explainer(name) for name in names}
        self._sets = {**alone, **({tuple(names): subject.explainer} if len(names) > 1 else {})}
        self.parts: dict[Part, Callable[[], object]] = {}
        self.batches: list[int] = []
        self.left_out: dict[str, str] = {}
        self._raw: Tensors = subject.explainer.tensors(self._tensor[None], subject.target)
        self._targets = [int(i) for i in np.argsort(-self._raw.scores[0], kind="stable")]
        if photo:
            self.parts["photo",] = lambda: prepare(open_image(subject.image), self._input)

    def _explainer(self, layer: str) -> Explainer:
        subject = self._subject
        return Explainer(subject.path, engine=subject.engine, layer=layer)

    def add_inferences(self, classes: Sequence[int]) -> None:
        for count in sorted(set(classes)):
            targets = (self._targets * count)[:count]
            batch = np.stack([self._tensor] * count)
            reason = _too_many(self._subject.info, count)
            if reason is None:
                try:
                    self._subject.explainer.tensors(batch, targets)
                except EngineError as error:
                    reason = str(error)
            if reason is not None:
                self.left_out[f"{count} classes"] = reason
                continue
            self.batches.append(count)
            for names, explainer in self._sets.items():
                self.parts["inference", names, count] = _bind(explainer.tensors, batch, targets)
        if not self.batches:
            raise EngineError("; ".join(self.left_out.values()) or "expected at least one number of classes")

    def add_rules(self, rules: Sequence[str]) -> None:
        """Rules per layer; the fusion of their maps, and the resize, which do not depend on the rule."""
        spec = self._subject.spec
        results: dict[str, CamResult] = {}
        for name in rules:
            chosen, settings = self._subject.explainer.resolve_method(name)
            for layer, found in zip(spec.layers, self._raw.layers, strict=True):
                own = settings_for(settings, layer)
                run = _bind(chosen.run, found.activations[0], found.gradients[0], own)
                results[layer.name] = run()
                self.parts["method", name, layer.name] = run
        for names in self._sets if rules else ():
            some = [results[name] for name in names]
            if len(some) > 1:
                self.parts["fusion", names] = _bind(fuse_layers, some, spec.fusion, names)
            height, width = self._grid(names)
            # What is in the map does not change the time, as long as it is not empty.
            filled = np.ones((height, width), np.float32)
            for size in {(height, width), self._size}:
                self.parts["resize", names, size] = _bind(normalise, filled, size)

    def add_probes(self, probes: Sequence[str], patience_ms: float, clock: Clock) -> None:
        """Whole explanations from the ready tensor, of probes that end in time."""
        for name in list(probes):
            started = clock()

            def watch(done: int, total: int, started: int = started) -> None:
                if (clock() - started) / 1e6 > patience_ms:
                    raise _TooSlow(done, total)

            run = _bind(self._subject.explainer.explain, self._tensor, self._targets[0], name)
            try:
                self._subject.explainer.explain(self._tensor, self._targets[0], name, progress=watch)
            except _TooSlow as slow:
                self.left_out[name] = f"given up after {patience_ms:.0f} ms, at {slow.done} of {slow.total} runs"
            except CfcamError as error:
                self.left_out[name] = str(error)
            else:
                self.parts["probe", name] = run

    def add_checks(self, rules: Sequence[str], most: int) -> list[Part]:
        """Some choices as a whole: the file's own method and the cheapest rule, one class and the most."""
        own = self._subject.method.name
        names = [name for name in dict.fromkeys([own, "gradcam"]) if name in rules]
        found = list(self._sets)[-1]
        for name in names:
            for count in dict.fromkeys([1, most]):
                if count in self.batches:
                    self.parts["whole", name, found, count] = _bind(self._whole, name, found, count)
        return [part for part in self.parts if part[0] == "whole"]

    def _whole(self, method: str, names: tuple[str, ...], count: int) -> None:
        tensor = self._tensor
        if self._photo:
            tensor = prepare(open_image(self._subject.image), self._input).tensor
        self._sets[names].maps(np.stack([tensor] * count), (self._targets * count)[:count], method)

    def choices(self, rules: Sequence[str], probes: Sequence[str]) -> list[_Choice]:
        found = []
        photo = [(("photo",), 1)] if self._photo else []
        for name in rules:
            for names in self._sets:
                for count in self.batches:
                    once: list[tuple[Part, int]] = [*photo, (("inference", names, count), 1)]
                    each: list[tuple[Part, int]] = [(("method", name, layer), count) for layer in names]
                    if len(names) > 1:
                        each.append((("fusion", names), count))
                    grid = self._grid(names)
                    for size in dict.fromkeys([grid, self._size]):
                        resize = (("resize", names, size), count)
                        choice = _Choice(name, names, count, size, size == self._size, (*once, *each, resize))
                        found.append(choice)
        first = next(iter(self._sets))
        for name in probes:
            if ("probe", name) in self.parts:
                for count in self.batches:
                    parts = (*photo, (("probe", name), count))
                    found.append(_Choice(name, first, count, self._size, True, parts))
        return found

    @property
    def _size(self) -> tuple[int, int]:
        return self._input.height, self._input.width

    def _grid(self, names: tuple[str, ...]) -> tuple[int, int]:
        layers = zip(self._subject.spec.layers, self._raw.layers, strict=True)
        grids = [found.activations.shape[2:] for layer, found in layers if layer.name in names]
        return fused_grid([(height, width) for height, width in grids])


class _TooSlow(Exception):
    def __init__(self, done: int, total: int) -> None:
        super().__init__(done, total)
        self.done, self.total = done, total


def _bind(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def _too_many(info: EngineInfo, count: int) -> str | None:
    if info.max_batch is not None and count > info.max_batch:
        return f"the engine takes at most {info.max_batch} images at once"
    return None


def _methods(subject: Subject, names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    wanted = [get_method(name) for name in (method_names() if names is None else names)]
    if names is None and subject.spec.tail is None:
        wanted = [method for method in wanted if not method.needs_tail]
    return [m.name for m in wanted if m.kind == "rule"], [m.name for m in wanted if m.kind == "probe"]


def _row(choice: _Choice, taken: Taken, budget_ms: float | None) -> PlanRow:
    p50, p99 = total(taken, choice.parts)
    parts: dict[str, float] = {}
    for part, times in choice.parts:
        stage = str(part[0])
        parts[stage] = parts.get(stage, 0.0) + times * float(np.median(taken[part]))
    fits = None if budget_ms is None else p99 <= budget_ms
    return PlanRow(choice.method, choice.layers, choice.classes, choice.size, choice.to_input, p50, p99, fits, parts)


def _check(part: Part, rows: Sequence[PlanRow], taken: Taken) -> SpotCheck:
    _, method, names, count = part
    row = next(r for r in rows if (r.method, r.layers, r.classes, r.to_input) == (method, names, count, True))
    p50, p99 = np.percentile(taken[part], [50, 99])
    return SpotCheck(row.method, row.layers, row.classes, row.p50, float(p50), row.p99, float(p99))
