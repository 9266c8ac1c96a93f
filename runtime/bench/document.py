"""The result of ``cfcam bench`` as one JSON document: everything that its tables show."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from ..contract.modelfile import file_sha256
from ..methods.layer_fusion import form_of
from .machine import BUSY, describe_machine, versions
from .measure import Budget, Measurement
from .plan import LatencyPlan
from .sampling import GARBAGE_COLLECTION
from .soak import SoakReport
from .summary import ENOUGH_FOR_P99
from .timed_file import TimedFile

__all__ = ["SCHEMA", "document", "warnings_of"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.bench/1"

#: What is known of copies between host and device, by where the model runs.
_TRANSFERS = {
    "host": "none: the model runs in the host's memory",
    "device": "inside the inference; not timed apart",
}

#: Shares by which the slow tenth may lie above the median, and plain / plain beside 1, without a word.
_WIDE, _UNSTEADY = 0.25, 0.02


def document(
    timed: TimedFile,
    found: Measurement,
    *,
    image_name: str,
    budget: Budget | None = None,
    soaked: SoakReport | None = None,
    plan: LatencyPlan | None = None,
) -> dict[str, Any]:
    """Plain JSON values. image_name: how the photo is to be called."""
    spec, info = timed.spec, timed.info
    manifest = timed.explainer.manifest
    machine = describe_machine(info.provider)
    form = form_of(timed.method, timed.settings, spec.layers, spec.fusion)
    return {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": {
            "path": str(timed.path),
            "bytes": timed.path.stat().st_size,
            "sha256": file_sha256(timed.path),
            "source_sha256": spec.source.sha256,
            "precision": spec.precision if manifest is None else manifest.precision,
            "input": {
                "name": spec.input.name,
                "shape": list(spec.input.shape(timed.batch)),
                "dtype": spec.input.dtype,
            },
        },
        "engine": {
            "backend": info.backend,
            "provider": info.provider,
            "threads": timed.options.threads,
            "fixed_batch": info.batch,
        },
        "what": {
            "method": timed.method.name,
            "settings": {} if timed.settings is None else asdict(timed.settings),
            "layers": [layer.name for layer in spec.layers],
            "fusion": spec.fusion if len(spec.layers) > 1 else None,
            "form": None if form is None else form.to_dict(),
            "batch": timed.batch,
            "target": None if timed.target < 0 else timed.target,
        },
        "image": {"name": image_name, "width": timed.photo_size[0], "height": timed.photo_size[1]},
        "clock": "time.perf_counter_ns",
        "garbage_collection": GARBAGE_COLLECTION,
        "warm_up_rounds": timed.warm_up_rounds,
        "rounds": found.latency["explanation"].n,
        "seconds": found.seconds,
        "open_ms": timed.open_ms,
        "first_ms": timed.first_ms,
        "latency_ms": {
            name: {**asdict(summary), "images_per_second": found.images_per_second(name)}
            for name, summary in found.latency.items()
        },
        "stages_ms": {name: asdict(summary) for name, summary in found.stages.items()},
        "transfers": _TRANSFERS["host" if info.provider == "cpu" else "device"],
        "plain_ms": None if found.plain is None else asdict(found.plain),
        "ratio": None if found.ratio is None else asdict(found.ratio),
        "control": None if found.control is None else asdict(found.control),
        "memory": dict(timed.memory),
        "machine": machine,
        "load": {"before": found.load_before, "after": found.load_after},
        "versions": versions(info.backend),
        "budget": None if budget is None else budget.to_dict(),
        "soak": None if soaked is None else soaked.to_dict(),
        "plan": None if plan is None else asdict(plan),
        "warnings": warnings_of(found, machine["usable_cores"] or 1),
    }


def warnings_of(found: Measurement, cores: int) -> list[str]:
    """What makes the times less than they seem."""
    said = []
    runs = found.latency["explanation"].n
    if runs < ENOUGH_FOR_P99:
        said.append(f"p99 of {runs} runs is little else than the slowest one: measure {ENOUGH_FOR_P99} at least")
    busy = found.load_before
    if busy is not None and busy > BUSY * cores:
        said.append(f"the machine had other work (load {busy:g} on {cores} cores): times are upper bounds")
    for name, summary in found.latency.items():
        if summary.spread > _WIDE:
            said.append(f"{name}: the slow tenth is {summary.spread:.0%} above the median, so that times are rough")
    if found.control is not None and abs(found.control.median - 1) > _UNSTEADY:
        said.append(f"plain / plain is {found.control.median:.3f} instead of 1: the ratio is a rough one")
    return said
