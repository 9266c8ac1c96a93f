"""The precision pass, with this build's photos, and the ranges that were learnt from them kept for the next one.

Ranges belong to one network, one set of photos and one calibrator; which nodes stay float does not matter to them, so
all attempts of a search share them, and so does the next build.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

from ...export.graph.loading import load_model, model_shell
from ...export.precision import Plan, lower
from ...export.precision.plain_model import plain_model
from ...runtime.errors import OutputError
from ...runtime.json_reader import parse_json
from ..caches import Cache, cache_folder
from .job import Job
from .photos import CalibrationPhotos

__all__ = ["Lowering"]

#: Bytes of ranges that are kept; those of a network are some ten thousand.
_LIMIT = 32 * 2**20


class Lowering:
    """Makes lowered files of one job. scratch: folder for what is not wanted afterwards. tell: told each pass.
    notes: of `lower`, on the file that was made last."""

    def __init__(
        self, job: Job, calibration: CalibrationPhotos | None, scratch: Path, tell: Callable[[str], None]
    ) -> None:
        self._job, self._calibration, self._scratch, self._tell = job, calibration, scratch, tell
        self.cache = Cache(cache_folder("ranges"), _LIMIT)
        self.notes: list[str] = []

    def __call__(self, plan: Plan, path: Path, *, prove: bool = True, fused: bool | None = None) -> Path:
        """Write the job's file in the precision of `plan` to `path`. prove: False for what is only tried. fused:
        whether the method is part of it; None for what the job says.

        Raises what `lower` raises, `ExportError` and `ProofError` among others.
        """
        images = ranges = None
        if (plan.quantised or plan.half) and self._calibration is not None:
            images = self._calibration.batches(self._job.fixed_batch)
            ranges = self._ranges(plan) if plan.quantised else None
        fuse = self._job.plan_rule if (self._job.fused if fused is None else fused) else None
        made = lower(self._job.source, path, plan, images, prove=prove, ranges=ranges, fuse=fuse, progress=self._tell)
        self.notes = made.notes
        if ranges is not None and ranges.is_file() and not self.cache.has(ranges.name):
            self.cache.write(ranges.name, ranges.read_bytes())
            self.cache.trim()
        return path

    def _ranges(self, plan: Plan) -> Path:
        """A file of this build's own: it is written bit by bit, and one of which a half is there must not be found."""
        assert self._calibration is not None
        import onnxruntime

        key = [
            importlib.metadata.version("cfcam"),
            onnxruntime.__version__,
            self._network_sha256,
            self._calibration.tensors_sha256,
            plan.calibrator,
            plan.percentile if plan.calibrator == "percentile" else None,
            plan.symmetric,
        ]
        own = self._scratch / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}.json"
        if not own.exists():
            data = self.cache.read(own.name)
            if data is not None:
                with contextlib.suppress(OutputError):  # damaged: learnt anew
                    parse_json(data, own.name, OutputError)
                    own.write_bytes(data)
        return own

    @functools.cached_property
    def _network_sha256(self) -> str:
        """Of the network that calibrates: the one inside the file as our own passes leave it, weights included."""
        model = plain_model(load_model(self._job.source), self._job.spec).model
        digest = hashlib.sha256(model_shell(model).SerializeToString(deterministic=True))
        for tensor in model.graph.initializer:
            digest.update(tensor.SerializeToString(deterministic=True))
        return digest.hexdigest()
