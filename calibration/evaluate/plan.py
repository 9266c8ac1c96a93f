"""What is measured: methods, baselines, measures, class, seed; and the hash by which a journal knows it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...runtime.errors import ArrayError, MethodError
from ...runtime.explainer import Explainer
from ...runtime.methods import method_names
from ...runtime.methods.layer_fusion import fitting
from ...runtime.targets import TOP_CLASS, Target, resolve_target
from .rows import BASELINES, DEFAULT_BASELINES
from .table_measures.registry import Column, TableMeasure, all_measures, get_measure

__all__ = ["ANNOTATED", "DEFAULT_METHODS", "DEFAULT_STEPS", "Plan", "make_plan"]

#: After the method that the file asks for; the first of all is what the others are compared with.
DEFAULT_METHODS = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam")
DEFAULT_STEPS = 8
#: In place of a class: the one that the boxes' file names for the photo.
ANNOTATED = "annotated"

# Goes up when a column's meaning changes, so that old journals are not believed.
_REVISION = 2


@dataclass(frozen=True)
class Plan:
    """Made by `make_plan`. methods: the first is the reference. settings: of each, as they will be used.

    target: class index, -1 for each photo's top class, or "annotated". steps: of insertion and deletion.
    """

    methods: tuple[str, ...]
    settings: tuple[Any, ...]
    baselines: tuple[str, ...]
    measures: tuple[str, ...]
    target: int | str = TOP_CLASS
    seed: int = 0
    steps: int = DEFAULT_STEPS

    @property
    def table_measures(self) -> list[TableMeasure]:
        return [get_measure(name) for name in self.measures]

    @property
    def columns(self) -> dict[str, Column]:
        """All columns by name, in order."""
        return {name: column for measure in self.table_measures for name, column in measure.columns.items()}

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows: methods, then baselines."""
        return self.methods + self.baselines

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def digest(self) -> str:
        """SHA-256 of everything in it."""
        text = json.dumps({"revision": _REVISION, **self.to_dict()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def make_plan(
    explainer: Explainer,
    *,
    methods: Sequence[str] | None = None,
    baselines: Sequence[str] | None = None,
    measures: Sequence[str] | None = None,
    target: Target = None,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    annotated: bool = False,
) -> Plan:
    """A checked plan for the explainer's file.

    methods: names, or ``all`` for all rules that suit the file's layers; None for the file's own method and
    five gradient rules.
    baselines: keys of `BASELINES`, ``all``; None for five. measures: names, ``all``, or
    ``cheap``; None for the cheap ones, without those that need boxes or masks unless `annotated`.
    target: index, label, None for each photo's top class, or ``annotated``.
    Raises `MethodError`, `TargetError`, `ArrayError` or `UnknownMeasureError`.
    """
    if steps < 1:
        raise ArrayError(f"steps: expected at least 1, got {steps}")
    if explainer.spec.fused is not None:  # whichever method is asked for
        raise MethodError(
            f"{explainer.path}: is fused: it gives out finished maps, and no activations or gradients to measure "
            "methods with; export the model without --fused for this"
        )
    own = explainer.spec.method.name
    chosen = _expanded(methods, {"all": fitting(method_names("rule"), explainer.spec.layers)}, [own, *DEFAULT_METHODS])
    cheap = [one.name for one in all_measures() if one.cheap]
    names = _expanded(measures, {"all": [one.name for one in all_measures()], "cheap": cheap}, cheap)
    for name in names:
        get_measure(name)
    if not annotated:
        if "localisation" in (measures or ()):
            raise MethodError("measure 'localisation' needs boxes or masks")
        if target == ANNOTATED:
            raise MethodError("target 'annotated' needs a file of boxes that names classes")
        names = [name for name in names if name != "localisation"]
    if not chosen or not names:
        raise MethodError("evaluate: expected at least one method and one measure")
    resolved = [explainer.resolve_method(name) for name in chosen]
    rows = _expanded(baselines, {"all": list(BASELINES), "none": []}, list(DEFAULT_BASELINES))
    for name in rows:
        if name not in BASELINES:
            raise MethodError(f"unknown baseline '{name}': expected some of {', '.join(BASELINES)}, 'all' or 'none'")
    return Plan(
        methods=tuple(method.name for method, _ in resolved),
        settings=tuple(
            dataclasses.asdict(options) if dataclasses.is_dataclass(options) else None  # type: ignore[arg-type]
            for _, options in resolved
        ),
        baselines=tuple(rows),
        measures=tuple(names),
        target=ANNOTATED if target == ANNOTATED else resolve_target(target, explainer.spec.output),
        seed=seed,
        steps=steps,
    )


def _expanded(names: Sequence[str] | None, groups: dict[str, list[str]], default: list[str]) -> list[str]:
    if names is None:
        return list(dict.fromkeys(default))
    each = [one for name in names for one in groups.get(name, [name])]
    return list(dict.fromkeys(each))
