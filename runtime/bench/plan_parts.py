"""What a latency plan times: the parts of every choice, made from one real inference."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..cam import normalise
from ..errors import CfcamError, EngineError
from ..explainer import Explainer
from ..inference import Tensors
from ..methods import CamResult, get_method
from ..methods.layer_fusion import fuse_layers, fused_grid, run_on_layers
from .sampling import Clock
from .timed_file import TimedFile

__all__ = ["Choice", "Combination", "Part", "Parts"]

#: What is timed: its stage, and of what.
Part = tuple[Hashable, ...]


@dataclass(frozen=True)
class Combination:
    """What a row of the plan is about.

    layers: names; several are fused. classes: explanations of one photo in one batch. size: of the map, (H, W);
    to_input: whether that is the input's size, or else the layer's grid.
    """

    method: str
    layers: tuple[str, ...]
    classes: int
    size: tuple[int, int]
    to_input: bool


@dataclass(frozen=True)
class Choice(Combination):
    """One row of the plan. parts: what is added up, each with how often it is run."""

    parts: tuple[tuple[Part, int], ...]


class Parts:
    """The callables that are timed, made from one real inference."""

    def __init__(self, timed: TimedFile, photo: bool) -> None:
        self._timed, self._photo = timed, photo
        self._input = timed.spec.input
        self._tensor = timed.tensors[0]
        names = [layer.name for layer in timed.spec.layers]
        same = {"engine": timed.engine, "manifest": timed.explainer.manifest}
        alone = {(name,): Explainer(timed.path, layer=name, **same) for name in names}
        self._sets = {**alone, **({tuple(names): timed.explainer} if len(names) > 1 else {})}
        self.calls: dict[Part, Callable[[], object]] = {}
        self.batches: list[int] = []
        self.left_out: dict[str, str] = {}
        self._raw: Tensors = timed.explainer.tensors(self._tensor[None], timed.target)
        self._targets = [int(i) for i in np.argsort(-self._raw.scores[0], kind="stable")]
        if photo:
            self.calls["photo",] = partial(timed.explainer.prepare, timed.image)

    def add_inferences(self, classes: Sequence[int]) -> None:
        most = self._timed.info.max_batch
        for count in sorted(set(classes)):
            targets = (self._targets * count)[:count]
            batch = np.stack([self._tensor] * count)
            try:
                if most is not None and count > most:
                    raise EngineError(f"the engine takes at most {most} images at once")
                self._timed.explainer.tensors(batch, targets)
            except EngineError as error:
                self.left_out[f"{count} classes"] = str(error)
                continue
            self.batches.append(count)
            for names, explainer in self._sets.items():
                self.calls["inference", names, count] = partial(explainer.tensors, batch, targets)
        if not self.batches:
            raise EngineError("; ".join(self.left_out.values()) or "expected at least one number of classes")

    def add_rules(self, rules: Sequence[str]) -> None:
        """Rules per layer; the fusion of their maps, and the resize, which do not depend on the rule."""
        spec = self._timed.spec
        results: dict[str, CamResult] = {}
        for name in rules:
            chosen, settings = self._timed.explainer.resolve_method(name)
            for layer, found in zip(spec.layers, self._raw.layers, strict=True):
                run = partial(run_on_layers, chosen, settings, (layer,), (found,), 0, spec.fusion)
                (results[layer.name],) = run()
                self.calls["method", name, layer.name] = run
        for names in self._sets if rules else ():
            some = [results[name] for name in names]
            if len(some) > 1:
                self.calls["fusion", names] = partial(fuse_layers, some, spec.fusion, names)
            height, width = self._grid(names)
            # What is in the map does not change the time, as long as it is not empty.
            filled = np.ones((height, width), np.float32)
            for size in {(height, width), self._size}:
                self.calls["resize", names, size] = partial(normalise, filled, size)

    def add_probes(self, probes: Sequence[str], patience_ms: float, clock: Clock) -> None:
        """Whole explanations from the ready tensor, of probes that end in time."""
        for name in list(probes):
            started = clock()

            def watch(done: int, total: int, started: int = started) -> None:
                if (clock() - started) / 1e6 > patience_ms:
                    raise _TooSlow(done, total)

            run = partial(self._timed.explainer.explain, self._tensor, self._targets[0], name)
            try:
                run(progress=watch)
            except _TooSlow as slow:
                done, total = slow.args
                self.left_out[name] = f"given up after {patience_ms:.0f} ms, at {done} of {total} runs"
            except CfcamError as error:
                self.left_out[name] = str(error)
            else:
                self.calls["probe", name] = run

    def add_checks(self, rules: Sequence[str], most: int) -> list[Part]:
        """Some choices as a whole: the file's own method and the cheapest rule, one class and the most."""
        own = self._timed.method.name
        names = [name for name in dict.fromkeys([own, "gradcam"]) if name in rules]
        found = list(self._sets)[-1]
        for name in names:
            for count in dict.fromkeys([1, most]):
                if count in self.batches:
                    self.calls["whole", name, found, count] = partial(self._whole, name, found, count)
        return [part for part in self.calls if part[0] == "whole"]

    def _whole(self, method: str, names: tuple[str, ...], count: int) -> None:
        tensor = self._tensor
        if self._photo:
            tensor = self._timed.explainer.prepare(self._timed.image).tensor
        self._sets[names].maps(np.stack([tensor] * count), (self._targets * count)[:count], method)

    def choices(self, rules: Sequence[str], probes: Sequence[str]) -> list[Choice]:
        found = []
        photo = [(("photo",), 1)] if self._photo else []
        for name in rules:
            for names in self._sets:
                if len(names) == 1 and get_method(name).fusion is not None:
                    continue
                for count in self.batches:
                    once: list[tuple[Part, int]] = [*photo, (("inference", names, count), 1)]
                    each: list[tuple[Part, int]] = [(("method", name, layer), count) for layer in names]
                    if len(names) > 1:
                        each.append((("fusion", names), count))
                    grid = self._grid(names)
                    for size in dict.fromkeys([grid, self._size]):
                        resize = (("resize", names, size), count)
                        found.append(Choice(name, names, count, size, size == self._size, (*once, *each, resize)))
        first = next(iter(self._sets))
        for name in probes:
            if ("probe", name) in self.calls:
                for count in self.batches:
                    parts = (*photo, (("probe", name), count))
                    found.append(Choice(name, first, count, self._size, True, parts))
        return found

    @property
    def _size(self) -> tuple[int, int]:
        return self._input.height, self._input.width

    def _grid(self, names: tuple[str, ...]) -> tuple[int, int]:
        layers = zip(self._timed.spec.layers, self._raw.layers, strict=True)
        grids = [found.activations.shape[2:] for layer, found in layers if layer.name in names]
        return fused_grid([(height, width) for height, width in grids])


class _TooSlow(Exception):
    """A probe is given up; the arguments are the runs that are done, and of how many."""
