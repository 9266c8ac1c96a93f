"""`verify`: does a candidate still explain as the float32 reference does?"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...runtime.errors import ArrayError, EngineError, ImageError
from ...runtime.explainer import Explainer
from ..statistics import mean_of_known
from ..workers import share_cores
from .compared_file import ComparedFile, open_files
from .comparing import Comparer, Failed, PhotoMeasures
from .deciding import planned_looks, risks
from .pictures import draw_cases
from .results import FileFacts, Top1, VerifyReport
from .summary import PlaceSummary, summarise
from .thresholds import Thresholds
from .verdict import Verdict, judge

__all__ = ["verify"]

Source = str | os.PathLike[str] | Explainer

_log = logging.getLogger("cfcam.calibration.verify")


def verify(
    candidate: Source,
    reference: Source,
    photos: Sequence[str | os.PathLike[str]],
    thresholds: Thresholds | Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    settings: Any = None,
    layer: str | None = None,
    provider: str | None = None,
    allow_fallback: bool = False,
    threads: int | None = None,
    batch: int = 8,
    seed: int = 0,
    pictures: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Compare a candidate's explanations of photos with those of the float32 reference.

    candidate: a path, or an open `Explainer`, which stays the caller's to close. reference: the ``.cam.onnx`` file in
    float32, or an `Explainer` of it; a path runs on the CPU. thresholds: None for those of the candidate's
    precision; a mapping says in what it differs from them.
    method, settings: a rule; None for the reference's own. layer: of several, the one to compare alone (for paths).
    provider, allow_fallback: for the candidate; None for what its manifest says, else the CPU. threads: CPU threads of
    both, None for all cores.
    batch: photos per inference. seed: of the jitter and the noise map. pictures: how many of the worst photos are drawn
    for each layer, 0 for none. progress: told how many photos of how many are done.
    The photos are taken in an order of chance, in steps (`planned_looks`), until the verdict is known: not all of them
    may be needed.

    Raises `VerifyError` for files that do not belong together, `ImageError` when no photo can be read, `EngineError`
    when the candidate can explain none, and what `Explainer` raises.
    """
    if batch < 1:
        raise ArrayError(f"batch: expected at least 1, got {batch}")
    if not photos:
        raise ImageError("verify: no photos were given")
    started = time.perf_counter()
    workers = 1
    if not isinstance(candidate, Explainer) and not isinstance(reference, Explainer):
        workers, threads = share_cores(provider, threads)
    _log.info("%d photos, %d batches at once, %s threads each", len(photos), workers, threads or "all")
    with open_files(
        candidate,
        reference,
        method=method,
        settings=settings,
        layer=layer,
        provider=provider,
        allow_fallback=allow_fallback,
        threads=threads,
    ) as (compared, base):
        if not isinstance(thresholds, Thresholds):
            thresholds = Thresholds.from_mapping(thresholds or {}, compared.spec.precision)
        comparer = Comparer(compared, base, seed)
        measured: list[PhotoMeasures] = []
        failed: list[Failed] = []
        places: tuple[PlaceSummary, ...] = ()
        verdict = Verdict()
        order = _shuffled(photos, seed)
        looks = planned_looks(len(photos))
        done = 0
        for look, risk in zip(looks, risks(len(looks)), strict=True):
            for count, results in _measured(comparer, order[done:look], batch, workers):
                measured += [one for one in results if isinstance(one, PhotoMeasures)]
                failed += [one for one in results if isinstance(one, Failed)]
                if progress is not None:
                    progress(done + count, len(photos))
            done = look
            if not measured:
                continue
            measured.sort(key=lambda one: one.index)
            places = tuple(
                summarise(place, [one.places[number] for one in measured]) for number, place in enumerate(base.places)
            )
            verdict = judge(
                places,
                sum(one.agrees for one in measured),
                len(measured),
                sum(one.candidate for one in failed),
                thresholds,
                identical=all(one.identical for one in measured),
                risk=risk,
            )
            _log.info("after %d of %d photos: %s", done, len(photos), verdict.outcome)
            if verdict.outcome != "undecided":
                break
        if not measured:
            raise _nothing(failed)
        agreeing = sum(one.agrees for one in measured)
        # The layers that fell short; all of them when none did, or when what failed has no layer.
        short = {one.place for one in (*verdict.failures, *verdict.undecided) if one.place is not None}
        short = short or {one.place.name for one in places}
        drawn = [(number, one.place.name) for number, one in enumerate(places) if one.place.name in short]
        return VerifyReport(
            candidate=_facts(compared),
            reference=_facts(base),
            method=base.method.name,
            settings=dataclasses.asdict(base.settings) if dataclasses.is_dataclass(base.settings) else {},  # type: ignore[arg-type]
            fusion=(base.method.fusion or base.spec.fusion) if len(base.spec.layers) > 1 else None,
            form=base.form,
            thresholds=thresholds,
            top1=_top1(agreeing, len(measured)),
            logits_max=max((one.logits_max for one in measured), default=math.nan),
            logits_mean=mean_of_known([one.logits_mean for one in measured]),
            jitter_max=max((one.jitter_max for one in measured), default=math.nan),
            jitter_mean=mean_of_known([one.jitter_mean for one in measured]),
            places=places,
            photos=tuple(measured),
            failures=verdict.failures,
            undecided=verdict.undecided,
            given=len(photos),
            failed=tuple(failed),
            warnings=(*_contrast(compared, base), *_warnings(places, len(measured))),
            cases=draw_cases(comparer, measured, drawn, pictures) if pictures else (),
            seconds=time.perf_counter() - started,
        )


def _shuffled(photos: Sequence[str | os.PathLike[str]], seed: int) -> list[tuple[int, Path]]:
    """Photos and their places in the list, in an order of chance: the first looks must not see one class alone."""
    numbered = [(index, Path(one)) for index, one in enumerate(photos)]
    random.Random(seed).shuffle(numbered)
    return numbered


def _measured(
    comparer: Comparer, numbered: Sequence[tuple[int, Path]], batch: int, workers: int
) -> Iterator[tuple[int, list[PhotoMeasures | Failed]]]:
    """(photos done so far, results of some more), a batch at a time and `workers` of them at once."""
    # A short set is shared out among the workers too.
    step = max(1, min(batch, -(-len(numbered) // workers)))
    parts = [numbered[start : start + step] for start in range(0, len(numbered), step)]
    pool = ThreadPoolExecutor(workers)
    try:
        done = 0
        for part, results in zip(parts, pool.map(comparer.measure, parts), strict=True):
            done += len(part)
            yield done, results
    finally:
        pool.shutdown(cancel_futures=True)


def _nothing(failed: Sequence[Failed]) -> Exception:
    first = next((one for one in failed if one.candidate), None)
    if first is not None:
        return EngineError(f"the candidate could explain none of {len(failed)} photos; {first.name}: {first.error}")
    return ImageError(f"none of {len(failed)} photos could be used: {failed[0].error}")


def _top1(agreeing: int, count: int) -> Top1:
    from scipy.stats import binomtest

    interval = binomtest(agreeing, count).proportion_ci(0.95, "wilson")
    return Top1(agreeing, count, agreeing / count, float(interval.low), float(interval.high))


def _facts(file: ComparedFile) -> FileFacts:
    return FileFacts(str(file.explainer.path), file.spec.precision, file.explainer.provider)


def _contrast(candidate: ComparedFile, reference: ComparedFile) -> tuple[str, ...]:
    """What the contrast of fused files does to the figures of two classes."""
    if reference.takes_contrast_off and candidate.takes_contrast_off:
        return ()
    fused = candidate if reference.takes_contrast_off else reference
    assert fused.form is not None
    text = f"class sensitivity is measured at contrast {fused.form.contrast:g}, a constant of the fused file"
    if not reference.takes_contrast_off:
        text += (
            ", and so is the scale of the scores, which forgives more then: for the strict one, give the "
            "reference that is exported without --fused"
        )
    return (text,)


def _warnings(places: Sequence[PlaceSummary], count: int) -> tuple[str, ...]:
    warnings = []
    for one in places:
        if one.count == 0:
            continue  # a failure
        if one.typical_scale:
            warnings.append(
                f"{one.place.name}: the reference's maps do not tell two classes apart, scores take a typical scale"
            )
        elif one.light:
            warnings.append(
                f"{one.place.name}: on {one.light} of {one.count} photos the reference's maps of both classes are "
                "nearly the same: they count for less"
            )
        if 0 < one.count < count:
            warnings.append(
                f"{one.place.name}: {count - one.count} photos have no map in the reference and are left out"
            )
    return tuple(warnings)
