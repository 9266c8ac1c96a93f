"""From an explained file to products for a target: lower the precision, build engines, judge, write.

Nothing is in its place before everything is done, and nothing at all unless the gate passes or is overruled: what is
undecided is as little handed over as what fails.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ...runtime.errors import EngineError, ImageError, ManifestError, MissingDependencyError
from ...runtime.explainer import Explainer
from ..caches import Cache, cache_folder
from ..verify import VerifyReport
from .config import BuildConfig
from .job import Job, make_job
from .lowering import Lowering
from .photos import PhotoSets, choose_photos
from .products import Product, finish_graph, graph_product, make_engine, write_command
from .search import Attempt, search
from .staging import publish, staging_in
from .tensor_cache import TensorCache
from .verdict import verify_product

__all__ = ["BuildReport", "Progress", "build"]


class Progress(Protocol):
    """Told what is being done, and how far it is where that is known: done of total."""

    def __call__(self, step: str, done: float | None = None, total: float | None = None) -> None: ...


@dataclass(frozen=True)
class BuildReport:
    """What came of a build.

    products: what was written, each with its manifest; empty where the gate was not passed. files: all that there is.
    gate: None where nothing was judged. ran_on: what the gate ran: the product, or its graph where it cannot run
    here. notes: what a person should know. attempts: of a search for a precision.
    """

    job: Job
    products: tuple[Path, ...]
    files: tuple[Path, ...]
    gate: VerifyReport | None
    ran_on: str
    photos: PhotoSets | None
    notes: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    seconds: dict[str, float]

    @property
    def passed(self) -> bool | None:
        """Whether every limit was shown to be kept, False also where that is undecided; None where nobody judged."""
        return None if self.gate is None else bool(self.gate)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "source": str(self.job.source),
            "config": self.job.config_name,
            "products": [str(path) for path in self.products],
            "files": [str(path) for path in self.files],
            "passed": self.passed,
            "verdict": None if self.gate is None else self.gate.verdict,
            "ran_on": self.ran_on,
            "gate": None if self.gate is None else self.gate.to_dict(),
            "photos": None if self.photos is None else self.photos.to_dict(),
            "notes": list(self.notes),
            "attempts": [dataclasses.asdict(attempt) for attempt in self.attempts],
            "trtexec": list(self.job.command) or None,
            "seconds": self.seconds,
        }


@dataclass
class _Steps:
    """Tells what is going on, and adds up how long each kind of step took."""

    progress: Progress | None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    told_of_caches: bool = False

    def tell(self, step: str, done: float | None = None, total: float | None = None) -> None:
        if self.progress is not None:
            self.progress(step, done, total)

    def note_unkept(self, cache: Cache) -> None:
        """Remark once on caches that cannot be written."""
        if cache.problem is not None and not self.told_of_caches:
            self.told_of_caches = True
            self.notes.append(f"nothing is kept for the next build: {cache.problem}; set CFCAM_CACHE to another folder")

    def timed(self, step: str, work: Callable[[], Any]) -> Any:
        self.tell(step)
        started = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - started


def build(
    source: Path,
    config_name: str,
    config: BuildConfig,
    output: Path,
    photos: Sequence[Path] = (),
    *,
    onnx_only: bool = False,
    allow_failing: bool = False,
    allow_undecided: bool = False,
    auto_precision: bool = False,
    fused: bool = False,
    timing_cache: Path | None = None,
    progress: Progress | None = None,
    tried: Callable[[str], None] | None = None,
) -> BuildReport:
    """Make the products of `config` from `source` in the folder `output`.

    photos: to calibrate and to judge with. onnx_only: write the graph and the command that builds the engine.
    allow_failing: write what fails, or what cannot be judged for want of photos, and say so in the manifest.
    allow_undecided: write what so few photos neither pass nor fail, and say so in the manifest; allow_failing does too.
    auto_precision: look for the fastest assignment of precisions that passes. fused: make the method part of the
    product's graph, as it is in any case where `source` is fused. timing_cache: folder of
    TensorRT's timings; None for the user's cache. tried: told each attempt of that search as a sentence.

    Raises a `CfcamError`: before any work for what is absent, and `OutputError` for a full disk. Nothing is written
    then.
    """
    steps = _Steps(progress)
    job = make_job(source, config_name, config, output, onnx_only=onnx_only, fused=fused)
    refuse_missing_photos(job, photos, allow_failing, auto_precision)
    sets = None if not photos else steps.timed("photos", lambda: _choose(job, photos, steps))
    with staging_in(output, job.stem) as stage:
        graph, attempts = _lowered(
            job, sets, stage, auto_precision, steps, tried or (lambda text: None), allow_undecided
        )
        steps.timed("graph", lambda: finish_graph(job, graph))
        calibration = None if sets is None else sets.calibration
        products = _products(job, graph, timing_cache or cache_folder("tensorrt"), steps)
        for product in products:
            product.write_manifest(job, calibration, None)  # an engine is opened by what it says
        gate, ran_on = None, ""
        if sets is not None:
            gate, ran_on = steps.timed("gate", lambda: _verify(job, products, graph, sets, steps))
            steps.notes += gate.warnings
        for product in products:
            # A manifest keeps the gate's figures, without those of single photos.
            record = None if gate is None else {**gate.to_dict(photos=False), "ran_on": ran_on}
            product.write_manifest(job, calibration, record)
        of_earlier = {output / name for outcome in ("failed", "undecided") for name in _report_names(job, outcome)}
        verdict = "passed" if gate is None else gate.verdict
        if gate is not None and not (gate or allow_failing or (allow_undecided and verdict == "undecided")):
            files = _save_report(gate, stage / verdict, output / _report_names(job, verdict)[0], steps)
            products = []
        else:
            files = publish(stage, output)
            if not job.command:
                of_earlier.add(output / job.script_name)
        for stale in of_earlier.difference(files):
            stale.unlink(missing_ok=True)
    return BuildReport(
        job=job,
        products=tuple(output / product.path.name for product in products),
        files=tuple(files),
        gate=gate,
        ran_on=ran_on,
        photos=sets,
        notes=tuple(steps.notes),
        attempts=attempts,
        seconds=steps.seconds,
    )


def refuse_missing_photos(job: Job, photos: Sequence[Path], allow_failing: bool, auto_precision: bool) -> None:
    """Raise `ImageError` where photos are needed and there are none."""
    if photos:
        return
    if job.config.precision == "int8":
        raise ImageError(
            f"configuration '{job.config_name}' is INT8, whose ranges are learnt from photos: give --images"
        )
    if auto_precision:
        raise ImageError("a search for a precision judges each attempt on photos: give --images")
    if not allow_failing:
        raise ImageError(
            "the gate compares explanations on photos: give --images; or --allow-failing, and the product says that "
            "nobody judged it"
        )


def _choose(job: Job, photos: Sequence[Path], steps: _Steps) -> PhotoSets:
    config = job.config
    cache = TensorCache(cache_folder("tensors"), job.spec.input)
    sets = choose_photos(
        photos,
        cache,
        job.spec.input,
        calibrate=config.calibrating_photos(len(photos)),
        verify=config.gate.images,
        seed=config.calibration.seed,
        progress=lambda done, total: steps.tell("photos", done, total),
    )
    cache.cache.trim()
    steps.note_unkept(cache.cache)
    if sets.calibration is not None and sets.calibration.one_colour:
        steps.notes.append(
            f"{sets.calibration.one_colour} of {sets.calibration.count} photos for calibration show one colour only"
        )
    return sets


def _lowered(
    job: Job,
    sets: PhotoSets | None,
    stage: Path,
    auto_precision: bool,
    steps: _Steps,
    tried: Callable[[str], None],
    undecided: bool,
) -> tuple[Path, tuple[Attempt, ...]]:
    """The graph in its precision, in `stage`; and what was tried for it."""
    scratch = stage / "scratch"
    scratch.mkdir()
    lowering = Lowering(job, sets.calibration if sets else None, scratch, lambda step: steps.tell(f"precision: {step}"))
    plan, attempts = job.config.plan, ()
    if auto_precision:
        assert sets is not None
        search_plan = functools.partial(search, job, sets, scratch, lowering, steps.tell, tried)
        plan, attempts = steps.timed("search", lambda: search_plan(allow_undecided=undecided))
    proved = any(attempt.chosen and attempt.passed for attempt in attempts)
    graph = steps.timed("precision", lambda: lowering(plan, stage / job.graph_name, prove=not proved))
    steps.notes += lowering.notes
    steps.note_unkept(lowering.cache)
    return graph, attempts


def _products(job: Job, graph: Path, timing_cache: Path, steps: _Steps) -> list[Product]:
    if job.command:
        write_command(job, graph)
    if not job.targets:
        return [graph_product(job, graph)]
    made = []
    for target in job.targets:
        what = "engine" if target is None else f"engine for compute capability {target}"

        def tell(phase: str, share: float, what: str = what) -> None:
            steps.tell(f"{what}: {phase}", share, 1)

        made.append(steps.timed(what, lambda: make_engine(job, graph, target, timing_cache, tell)))  # noqa: B023
    return made


def _verify(
    job: Job, products: Sequence[Product], graph: Path, sets: PhotoSets, steps: _Steps
) -> tuple[VerifyReport, str]:
    """The gate on a product that can run here, or else on the graph by ONNX Runtime on the CPU; and which it was."""

    def verified(candidate: Explainer | Path) -> VerifyReport:
        report = verify_product(job, candidate, sets.gate, progress=lambda done, total: steps.tell("gate", done, total))
        place = job.output / Path(report.candidate.path).name  # where it will lie
        return dataclasses.replace(report, candidate=dataclasses.replace(report.candidate, path=str(place)))

    reasons = []
    for product in products:
        if product.path == graph and product.backend.provider == "cpu":
            break  # as a path, which several threads of the gate may open
        try:
            explainer = Explainer(product.path)
        except (EngineError, ManifestError, MissingDependencyError) as error:
            reasons.append(str(error).replace(f"{product.path.parent}/", ""))
            continue
        with explainer:  # one that opens and cannot run is no reason to take the graph instead
            return verified(explainer), f"{product.path.name} on {explainer.provider}"
    if reasons:
        steps.notes.append(f"the gate ran the graph by ONNX Runtime on the CPU, not the product itself: {reasons[0]}")
    return verified(graph), f"{graph.name} on cpu"


def _report_names(job: Job, outcome: str) -> tuple[str, str]:
    """The report of a gate that was not passed, and its figures."""
    return f"{job.stem}.{outcome}-gate.html", f"{job.stem}.{outcome}-gate.json"


def _save_report(gate: VerifyReport, folder: Path, path: Path, steps: _Steps) -> list[Path]:
    """Of a gate that was not passed, made in `folder`, and put where the products would have been; what was written."""
    folder.mkdir()
    page = folder / path.name
    page.with_suffix(".json").write_text(json.dumps(gate.to_dict(), indent=2) + "\n")
    try:
        gate.save_html(page)
    except MissingDependencyError as error:  # after all that work, figures are better than nothing
        steps.notes.append(str(error))
    return publish(folder, path.parent)
