"""`Evaluator`: photos in, measures out; and `evaluate`, which runs it over files with a journal."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...runtime.closing import Closing
from ...runtime.contract.modelfile import file_sha256
from ...runtime.errors import ArrayError, EngineError, ImageError, TargetError
from ...runtime.explainer import Explainer
from ..measures.access import EngineAccess
from .annotations import Annotation, AnnotationError, Annotations
from .journal import Journal
from .mosaics import measure_mosaics
from .plan import Plan
from .results import Evaluation, Measured, stack_columns
from .rows import make_rows
from .shared import SharedEngine
from .table_measures.registry import Context, Sample

__all__ = ["Evaluator", "evaluate", "run_identity"]

#: What goes wrong with one photo, and leaves the others alone.
_PHOTO_ERRORS = (ImageError, ArrayError, EngineError, TargetError, AnnotationError)


class Evaluator(Closing):
    """Measures photo after photo: `update`, `compute`, `reset`, for people who have their own loop.

    explainer: stays the caller's to close. plan: of `make_plan`. batch: images per inference. workers: inferences
    at once, as in `SharedEngine`.
    Memory does not grow with the photos, but for one value per photo, row and column.

    >>> with Explainer("dogs.cam.onnx") as explainer:                       # doctest: +SKIP
    ...     with Evaluator(explainer, make_plan(explainer)) as evaluator:
    ...         for photo in photos:
    ...             evaluator.update(photo)
    ...     table = make_table(evaluator.compute())
    """

    def __init__(self, explainer: Explainer, plan: Plan, *, batch: int = 8, workers: int = 1) -> None:
        self.plan = plan
        self.engine = SharedEngine(explainer, batch=batch, workers=workers)
        self.rows = make_rows(self.engine, plan.methods, plan.baselines)
        self.context = Context(self.engine, self.engine.input, plan.steps)
        self._photos: list[Measured] = []

    def close(self) -> None:
        """End the threads that ran inferences; nothing can be measured any more."""
        self.engine.close()

    def reset(self) -> None:
        """Forget every photo."""
        self._photos.clear()

    def update(self, source: Any, annotation: Annotation | None = None, *, name: str | None = None) -> Measured:
        """Measure one photo, and keep its values. source: as `Explainer.explain` takes. Raises a `CfcamError`."""
        measured = self.measure(source, annotation, name=name)
        self.add(measured)
        return measured

    def add(self, measured: Measured) -> None:
        """Keep what was measured before, with the same plan."""
        if measured.values.shape != (len(self.rows), len(self.plan.columns)):
            raise ArrayError(f"{measured.name}: was measured with another plan")
        self._photos.append(measured)

    def measure(
        self, source: Any, annotation: Annotation | None = None, *, name: str | None = None, identity: str = ""
    ) -> Measured:
        """The values of one photo; nothing is kept. identity: what its seed is made of, its pixels by default."""
        output = self.engine.explainer.spec.output
        images, frames = self.engine.load([source])
        target = self.plan.target
        if isinstance(target, str):
            named = None if annotation is None else annotation.class_index(output)
            if named is None:
                raise TargetError(f"{name or source}: the annotations name no class for it")
            target = named
        region = None if annotation is None else annotation.region(frames[0])
        identity = identity or hashlib.sha256(images.tobytes()).hexdigest()
        try:
            sample, ms = self.sample(
                images[0], target, region, name=str(source) if name is None else name, seed=identity
            )
            values = self.run("photo", sample)
        finally:
            self.engine.forget()
        return Measured(
            name=sample.name,
            target=sample.target,
            top=int(sample.probabilities.argmax()),
            probability=float(sample.probabilities[sample.target]),
            values=values,
            ms=ms,
        )

    def sample(
        self, image: np.ndarray, target: int, region: np.ndarray | None, *, name: str, seed: str
    ) -> tuple[Sample, np.ndarray]:
        """A ready image float32 (C, H, W) with every row's map, and the milliseconds of each map.

        target: -1 for the top class. The time of a map is that of the inference, where its method needs
        it, and of the method with its resize. seed: text from which, with the plan's seed, the sample's is made.
        """
        started = time.perf_counter()
        raw = self.engine.arrays(image[None], np.array([target], np.int64))
        inference_ms = (time.perf_counter() - started) * 1000
        chosen = int(raw.classes[0])
        ranked = [int(index) for index in np.argsort(-raw.probabilities[0], kind="stable")[:2]]
        others = [index for index in ranked if index != chosen]
        sample = Sample(
            name=name,
            image=image,
            probabilities=raw.probabilities[0],
            target=chosen,
            other=others[0] if others else None,
            region=region,
            seed=_seed(self.plan.seed, seed),
            maps={},
        )
        times = np.empty(len(self.rows))
        for i, row in enumerate(self.rows):
            row.begin(sample.seed)
            started = time.perf_counter()
            sample.maps[row.name] = row.explain(image[None], np.array([chosen]))[0]
            times[i] = (time.perf_counter() - started) * 1000 + (inference_ms if row.shares else 0)
        return sample, times

    def run(self, unit: Literal["photo", "mosaic"], sample: Sample) -> np.ndarray:
        """float64 (R, columns): what the plan's measures for `unit` say; NaN in the columns of others."""
        measured: dict[str, Any] = {}
        for measure in self.plan.table_measures:
            if measure.unit == unit:
                measured |= measure.run(sample, self.rows, self.context)
        return stack_columns(list(self.plan.columns), measured, len(self.rows))

    def compute(
        self,
        *,
        failures: Sequence[dict[str, str]] = (),
        warnings: Sequence[str] = (),
        resumed: int = 0,
        mosaics: Sequence[Measured] = (),
    ) -> Evaluation:
        """Everything that was kept. The arguments are passed on into the result."""
        explainer, plan = self.engine.explainer, self.plan
        spec = explainer.spec
        forms = {name: EngineAccess(explainer, name).form for name in plan.methods}
        return Evaluation(
            methods=plan.methods,
            baselines=plan.baselines,
            columns=plan.columns,
            groups={measure.name: tuple(measure.columns) for measure in plan.table_measures},
            photos=(*self._photos, *mosaics),
            failures=tuple(failures),
            warnings=(*warnings, *_one_class(self._photos, plan, spec.output.label)),
            plan=plan.to_dict(),
            model={
                "path": str(explainer.path),
                "sha256": file_sha256(explainer.path),
                "layer": spec.layer.name,
                "provider": explainer.provider,
                "forms": {name: form.to_dict() for name, form in forms.items() if form is not None},
            },
            resumed=resumed,
        )


def evaluate(
    explainer: Explainer,
    photos: Sequence[str | os.PathLike[str]],
    plan: Plan,
    *,
    annotations: Annotations | None = None,
    journal: Journal | None = None,
    batch: int = 8,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure files by `plan`.

    annotations: of `read_boxes` or `read_masks`. journal: photos that it knows are not measured again,
    the others are added. batch, workers: as in `Evaluator`. progress: called with how many of how many photos
    are done. A photo that cannot be measured, and a copy of an earlier one, are listed in the result. Raises
    `ArrayError` for no photo at all.
    """
    if not photos:
        raise ArrayError("evaluate: expected at least one photo")
    run = run_identity(explainer, plan)
    failures: list[dict[str, str]] = []
    first_of: dict[str, str] = {}
    measured_photos: list[tuple[Path, Measured]] = []
    warnings: list[str] = []
    resumed = unknown = 0
    with Evaluator(explainer, plan, batch=batch, workers=workers) as evaluator:
        for number, photo in enumerate(map(Path, photos)):
            annotation = None if annotations is None else annotations.of(photo)
            unknown += annotations is not None and annotation is None
            try:
                content = file_sha256(photo, ImageError)
                if content in first_of:
                    warnings.append(f"{photo}: is a copy of {first_of[content]}, counted once")
                    continue
                identity = json.dumps([run, content, None if annotation is None else annotation.identity()])
                key = hashlib.sha256(identity.encode()).hexdigest()
                measured = _from_journal(journal, key, evaluator)
                if measured is None:
                    measured = evaluator.measure(photo, annotation, identity=content)
                    if journal is not None:
                        journal.add(key, measured.to_dict())
                else:
                    resumed += 1
                    measured = replace(measured, name=str(photo))  # it may lie elsewhere now
                evaluator.add(measured)
                measured_photos.append((photo, measured))
                first_of[content] = str(photo)
            except _PHOTO_ERRORS as error:
                failures.append({"image": str(photo), "error": " ".join(str(error).split())})
            finally:
                if progress is not None:
                    progress(number + 1, len(photos))
        if unknown:
            warnings.append(f"{unknown} of {len(photos)} photos have no boxes or mask and are missing in localisation")
        mosaics: list[Measured] = []
        if any(measure.unit == "mosaic" for measure in plan.table_measures):
            mosaics, notes = measure_mosaics(evaluator, measured_photos)
            warnings += notes
        return evaluator.compute(failures=failures, warnings=warnings, resumed=resumed, mosaics=mosaics)


def run_identity(explainer: Explainer, plan: Plan) -> str:
    """SHA-256 of the file, of what it was told to use, and of the plan: what a journal's lines must belong to."""
    # The explainer may have been told to use one of several layers: its spec says so, the file does not.
    parts = (file_sha256(explainer.path), explainer.spec.to_json(), plan.digest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _from_journal(journal: Journal | None, key: str, evaluator: Evaluator) -> Measured | None:
    entry = None if journal is None else journal.get(key)
    if entry is None:
        return None
    try:
        measured = Measured.from_dict(entry)
    except (KeyError, TypeError, ValueError):  # damaged, although it is JSON
        return None
    fits = measured.values.shape == (len(evaluator.rows), len(evaluator.plan.columns))
    return measured if fits and len(measured.ms) == len(measured.values) else None


def _one_class(photos: Sequence[Measured], plan: Plan, label: Callable[[int], str]) -> list[str]:
    tops = {one.top for one in photos}
    if len(photos) < 2 or len(tops) != 1:
        return []
    top = tops.pop()
    return [
        f"the model's top class is '{label(top)}' ({top}) for all {len(photos)} photos: if they do not all show it, "
        "the model or its preprocessing is at fault, and class sensitivity, drops and curves mean little"
    ]


def _seed(seed: int, identity: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{identity}".encode()).digest()[:8], "big")
