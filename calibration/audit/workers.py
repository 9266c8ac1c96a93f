"""Rows of many photos: in this process, or in several that may die."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from ...runtime.explainer import Explainer
from ...runtime.profile import read_profile
from ..evaluate.annotations import Annotations, read_boxes, read_masks
from .errors import AuditError
from .plan import Plan
from .row import Row
from .rungs import Auditor
from .sources import Photo

__all__ = ["Job", "end_with", "opened", "rows_of"]

#: Photos that wait for each worker: enough that none is idle, and few enough that little is lost.
_WAITING = 4
#: How often in a row workers may die without a photo done.
_DEATHS = 3


@dataclass(frozen=True)
class Job:
    """What a process needs to audit photos: paths, and the plan. It can be pickled.

    Attributes:
        model: The file.
        plan: What is measured.
        boxes: A file of boxes; None without.
        masks: A folder of masks; None without.
        metadata: A table with a row per photo; None without.
        reference: A reference profile; None without.
        max_pixels: Photos with more are refused; None for the usual limit.
    """

    model: Path
    plan: Plan
    boxes: Path | None = None
    masks: Path | None = None
    metadata: Path | None = None
    reference: Path | None = None
    max_pixels: int | None = None

    def annotations(self) -> Annotations | None:
        """Boxes or masks, or None. Raises `AnnotationError`."""
        if self.boxes is not None:
            return read_boxes(self.boxes)
        return None if self.masks is None else read_masks(self.masks)


@contextlib.contextmanager
def opened(job: Job) -> Iterator[Auditor]:
    """An `Auditor` for a job.

    Args:
        job: What to open.

    Yields:
        The auditor; its engine is closed at the end.

    Raises:
        CfcamError: The file, the annotations or the method cannot be used.
    """
    plan = job.plan
    with Explainer(job.model, provider=plan.provider, threads=plan.threads, max_pixels=job.max_pixels) as explainer:
        auditor = Auditor(explainer, plan, job.annotations(), _metadata(job), _distance(job))
        auditor.warm_up()
        yield auditor


def _metadata(job: Job) -> Callable[[Path], Mapping[str, str] | None] | None:
    if job.metadata is None:
        return None
    from .slices import metadata_of, read_metadata

    known = read_metadata(job.metadata)
    return lambda photo: metadata_of(photo, known)


def _distance(job: Job) -> Callable[[Mapping[str, float | None]], tuple[float, str]] | None:
    if job.reference is None:
        return None
    profile = read_profile(job.reference)
    if (profile.model_sha256, profile.method) != (job.plan.model_sha256, job.plan.method):
        raise AuditError(
            f"{job.reference}: is the profile of another model or method than {job.model} with '{job.plan.method}': "
            "make one with cfcam audit profile, of an audit of this model"
        )
    return profile.distance


def rows_of(job: Job, photos: Iterable[Photo], workers: int = 1) -> Iterator[Row]:
    """A row for every photo, each once, in the order in which they are done.

    A worker that dies takes nothing along: its photos are given to others.

    Args:
        job: What to do.
        photos: They are asked for when a worker is free, so that few are in memory.
        workers: Processes; with one, the work is done in this one.

    Yields:
        The rows.

    Raises:
        AuditError: Workers die again and again.
        CfcamError: The job cannot be opened.
    """
    if workers == 1:
        with opened(job) as auditor:
            for photo in photos:
                yield auditor.row(photo) | {"worker": "0"}
        return
    rest = iter(photos)
    given: dict[str, Photo] = {}  # what a worker has, or a pool that broke
    deaths, finished = 0, 0
    while True:
        before, again = finished, list(given.values())
        try:
            for row in _pooled(job, itertools.chain(again, rest), workers, given):
                finished += 1
                yield row
            return
        except BrokenProcessPool as error:
            deaths = deaths + 1 if finished == before else 1
            if deaths >= _DEATHS:
                raise AuditError(
                    f"workers died {deaths} times without finishing a photo, next is {next(iter(given))}: is there "
                    "enough memory for all of them? Run again with --workers 1, which goes on where this stopped"
                ) from error


def _pooled(job: Job, photos: Iterator[Photo], workers: int, given: dict[str, Photo]) -> Iterator[Row]:
    # Not by fork: an engine's threads and locks do not survive it.
    context = multiprocessing.get_context("spawn")
    waiting: dict[Future[Row], str] = {}
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(job, os.getpid()))
    try:
        while True:
            for photo in itertools.islice(photos, workers * _WAITING - len(waiting)):
                given[photo.name] = photo
                waiting[pool.submit(_work, photo)] = photo.name
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            # Those that are done come first: a broken pool must not take their rows along.
            for future in sorted(done, key=lambda one: one.exception() is not None):
                row = future.result()
                del given[waiting.pop(future)]
                yield row
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


#: Of a worker process: its auditor, or what went wrong when it was opened.
_auditor: Auditor | Exception | None = None
_open = contextlib.ExitStack()


def _start(job: Job, parent: int) -> None:
    """In a new worker: open the job. An error is kept for the first photo, because a pool would only call it broken."""
    global _auditor
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    try:
        _auditor = _open.enter_context(opened(job))
    except Exception as error:
        _auditor = error


def end_with(parent: int) -> None:
    """End this process with its parent: a worker whose driver was killed would wait for ever. Never returns."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(photo: Photo) -> Row:
    if isinstance(_auditor, Exception):
        raise _auditor
    assert _auditor is not None
    return _auditor.row(photo) | {"worker": str(os.getpid())}
