"""The precision pass, with this build's photos, and the ranges that were learnt from them kept for the next one.

Ranges belong to one network, one set of photos and one calibrator; which nodes stay float does not matter to them, so
all attempts of a search share them, and so does the next build.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.files import atomic_path
from ...runtime.modelfile import file_sha256
from .caches import cache_folder
from .job import Job
from .photos import CalibrationPhotos

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...export.precision import Plan

__all__ = ["Lowering"]


class Lowering:
    """Makes lowered files of one job. scratch: folder for what is not wanted afterwards. tell: told each pass."""

    def __init__(
        self, job: Job, calibration: CalibrationPhotos | None, scratch: Path, tell: Callable[[str], None]
    ) -> None:
        self._job, self._calibration, self._scratch, self._tell = job, calibration, scratch, tell
        self._source_sha256 = file_sha256(job.source)

    def __call__(self, plan: Plan, path: Path, *, prove: bool = True) -> Path:
        """Write the job's file in the precision of `plan` to `path`. prove: False for what is only tried.

        Raises what `lower` raises, `ExportError` and `ProofError` among others.
        """
        from ...export.precision import lower

        images = ranges = None
        if (plan.quantised or plan.half) and self._calibration is not None:
            images = self._calibration.batches(self._job.fixed_batch)
            ranges = self._ranges(plan) if plan.quantised else None
        lower(self._job.source, path, plan, images, prove=prove, ranges=ranges, progress=self._tell)
        if ranges is not None and ranges.is_file():
            self._keep(ranges)
        return path

    def _ranges(self, plan: Plan) -> Path:
        """A file of this build's own: it is written bit by bit, and one of which a half is there must not be found."""
        assert self._calibration is not None
        import onnxruntime

        key = [
            onnxruntime.__version__,
            self._source_sha256,
            self._calibration.sha256,
            self._job.spec.input.name,
            plan.calibrator,
            plan.percentile if plan.calibrator == "percentile" else None,
            plan.symmetric,
        ]
        own = self._scratch / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}.json"
        kept = self._kept(own)
        if not own.exists() and kept.is_file():
            shutil.copyfile(kept, own)
        return own

    def _keep(self, own: Path) -> None:
        kept = self._kept(own)
        if not kept.is_file():
            with atomic_path(kept) as temporary:
                shutil.copyfile(own, temporary)

    def _kept(self, own: Path) -> Path:
        return cache_folder("ranges") / own.name
