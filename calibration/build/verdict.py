"""`verify` as a build needs it: by the job's own method and thresholds, against its source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...runtime.explainer import Explainer
from ..verify import VerifyReport, verify
from .job import Job

__all__ = ["verify_product"]


def verify_product(job: Job, candidate: Explainer | Path, photos: Sequence[Path], **options: Any) -> VerifyReport:
    """`verify` for a product of `job`; a path is run on the CPU. options: of `verify`. Raises what that raises."""
    method, settings = job.verified_method
    return verify(
        candidate,
        job.source,
        photos,
        job.config.thresholds,
        method=method,
        settings=settings,
        provider=None if isinstance(candidate, Explainer) else "cpu",
        **options,
    )
