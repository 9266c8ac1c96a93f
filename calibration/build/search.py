"""``--auto-precision``: the fastest assignment of precisions whose explanations still agree with float32.

What is kept float grows from attempt to attempt, by what is known to hurt: nothing; the first and the last layer; the
layers around the target layers and the detail layer, whose values are the explanation; then the stretches of the
network that hurt most, measured one by one; then no INT8 at all. With each step fewer multiplications are left to INT8,
so the first INT8 assignment that passes has the most of them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...export.errors import ExportError
from ...export.precision import Plan
from ...runtime.bench.sampling import sample
from ...runtime.explainer import Explainer
from ...runtime.methods.layer_fusion import own_form
from ...runtime.photos.preprocess import prepare
from .job import Job
from .nodes import Nodes, read_nodes
from .photos import PhotoSets
from .verdict import verify_product

__all__ = ["Attempt", "candidates", "harmful_first", "search"]

#: Stretches that the network is cut into to find where it hurts, and how many of them are kept float in turn.
_GROUPS = 8
_KEPT = (1, 2, 4)
#: Photos on which that is measured.
_PROBES = 8
_ROUNDS = 30


#: As `Lowering`: plan, path, whether to prove and whether to fuse -> path.
Lower = Callable[..., Path]


@dataclass(frozen=True)
class Attempt:
    """One assignment and what came of it.

    name: for people. int8_share: of the multiplications. passed: the gate. failures: what it missed, and what is
    undecided. ms: median time of one image, where the product runs in ONNX Runtime on the CPU. chosen: whether it
    became the product.
    """

    name: str
    plan: Plan
    int8_share: float
    passed: bool
    failures: tuple[str, ...]
    ms: float | None = None
    chosen: bool = False

    def __str__(self) -> str:
        verdict = "passed" if self.passed else f"failed: {'; '.join(self.failures)}"
        return f"{self.name} ({self.int8_share:.0%} of the multiplications in INT8): {verdict}"


def candidates(
    plan: Plan, nodes: Nodes, harmful: Callable[[tuple[str, ...]], Sequence[tuple[str, ...]]], *, half: bool
) -> Iterator[tuple[str, Plan]]:
    """Names and plans, fastest first. plan: the configuration's.

    harmful: given what is float already, stretches of the network, the one that hurts most first; only asked when
    everything before has failed. half: whether float16 is faster than float32 on the target.
    """
    if plan.precision == "int8":
        kept = plan.float_nodes

        def keeping(*names: str) -> Plan:
            return dataclasses.replace(plan, float_nodes=tuple(dict.fromkeys([*kept, *names])))

        yield "INT8 as configured", plan
        yield "also the first and the last layer float", keeping(*nodes.ends)
        base = (*nodes.ends, *nodes.near_layers)
        yield "also the layers around the target layers", keeping(*base)
        ranked = harmful((*kept, *base))
        for count in _KEPT:
            if count < len(ranked):
                names = [name for group in ranked[:count] for name in group]
                yield f"also the {count} most harmful of {len(ranked)} stretches", keeping(*base, *names)
    if half and plan.precision != "float32":
        yield "float16", dataclasses.replace(plan, precision="float16", float_nodes=())
    yield "float32", dataclasses.replace(plan, precision="float32", float_nodes=())


def search(
    job: Job,
    sets: PhotoSets,
    scratch: Path,
    lower: Lower,
    tell: Callable[..., None],
    tried: Callable[[str], None],
    *,
    allow_undecided: bool = False,
) -> tuple[Plan, tuple[Attempt, ...]]:
    """Lower and judge the candidates until one passes; the plan that was chosen, and all attempts.

    Where the product runs in ONNX Runtime on the CPU, what passed is timed against float32, interleaved, and the
    faster one is taken: INT8 that is slower than float32 is no gain. Elsewhere the most multiplications in INT8
    decide. When nothing passes, float32 comes out, which the gate then judges as usual. A plan that passes is proved,
    and one that fails its proof, or cannot be made, has failed. allow_undecided: what so few photos do not decide is
    taken for passed.
    """
    nodes = read_nodes(job.source, job.spec)
    on_cpu = job.config.backend == "onnxruntime" and job.config.engine_options.provider == "cpu"

    def harmful(kept: tuple[str, ...]) -> list[tuple[str, ...]]:
        return harmful_first(job, sets, nodes, kept, lower, scratch, tell)

    attempts: list[Attempt] = []
    files: list[Path] = []
    for name, plan in candidates(job.config.plan, nodes, harmful, half=not on_cpu):
        last = plan.precision == "float32"
        if any(attempt.passed for attempt in attempts) and not (on_cpu and last):
            continue
        tell(f"attempt: {name}")
        path = scratch / f"{len(files)}.onnx"
        try:
            lower(plan, path, prove=False)
            report = verify_product(job, path, sets.gate, pictures=0)
            failures = tuple(one.text for one in report.failures)
            if not allow_undecided:
                failures += tuple(f"undecided: {one.text}" for one in report.undecided)
            if not failures:  # what is worth taking is worth proving
                lower(plan, path)
        except ExportError as error:  # nothing left to quantise, a proof that fails
            failures = (str(error).replace(f"{scratch}/", ""),)
        float_nodes = (*plan.float_nodes, *(nodes.first_convolution if plan.float_first else ()))
        share = nodes.quantised_share(float_nodes) if plan.quantised else 0.0
        if failures:
            path.unlink(missing_ok=True)  # of a large network, many attempts fill a disk
        attempts.append(Attempt(name, plan, share, not failures, failures))
        files.append(path)
        tried(str(attempts[-1]))
    passed = [i for i, attempt in enumerate(attempts) if attempt.passed]
    best = passed[0] if passed else len(attempts) - 1
    if on_cpu and len(passed) > 1:
        tell("timing what passed")
        times = _times([files[i] for i in passed], _tensors(job, sets.gate[:1]))
        for i, ms in zip(passed, times, strict=True):
            attempts[i] = dataclasses.replace(attempts[i], ms=ms)
            tried(f"{attempts[i].name}: {ms:.2f} ms")
        best = passed[times.index(min(times))]
    attempts[best] = dataclasses.replace(attempts[best], chosen=True)
    tried(f"taken: {attempts[best].name}")
    return attempts[best].plan, tuple(attempts)


def harmful_first(
    job: Job,
    sets: PhotoSets,
    nodes: Nodes,
    kept: Sequence[str],
    lower: Lower,
    scratch: Path,
    tell: Callable[..., None],
) -> list[tuple[str, ...]]:
    """Stretches of the network, first the one that brings the explanations closest to float32 when it is kept float."""
    # Not those that judge, where there are others.
    photos = [path for path, _ in sets.calibration.photos] if sets.calibration is not None else sets.gate
    tensors = _tensors(job, photos[:_PROBES])
    reference = _evidence(_two_stage(job, lower, scratch), tensors)
    errors = []
    groups = [group for group in nodes.groups(_GROUPS) if not set(group) <= set(kept)]
    for number, group in enumerate(groups):
        tell("where INT8 hurts", number, len(groups))
        plan = dataclasses.replace(job.config.plan, float_nodes=tuple(dict.fromkeys([*kept, *group])))
        try:
            found = _evidence(lower(plan, scratch / "probe.onnx", prove=False, fused=False), tensors)
        except ExportError:  # nothing would be left to quantise
            errors.append(math.inf)
            continue
        errors.append(sum(float(np.linalg.norm(f - r)) for f, r in zip(found, reference, strict=True)))
    return [groups[i] for i in np.argsort(errors, kind="stable")]


def _two_stage(job: Job, lower: Lower, scratch: Path) -> Path:
    """The job's file, or one of the same network that gives out what maps are made of."""
    if job.spec.fused is None:
        return job.source
    plan = dataclasses.replace(job.config.plan, precision="float32", float_nodes=())
    return lower(plan, scratch / "reference.onnx", prove=False, fused=False)


def _tensors(job: Job, photos: Sequence[Path]) -> NDArray[Any]:
    return np.stack([prepare(path, job.spec.input).tensor for path in photos])


def _evidence(path: Path, tensors: NDArray[Any]) -> list[NDArray[np.float32]]:
    """What maps are made of, one vector per image.

    Activations times gradients of all target layers, less the rivals' share where the maps have contrast; and the
    detail layer's activations where that guides them.
    """
    with Explainer(path) as explainer:
        layers = explainer.tensors(tensors).layers
        form = own_form(explainer.spec)
    first = layers[0]
    slopes = [layer.gradients for layer in layers]
    if form is not None and form.contrast and first.rivals is not None:
        slopes[0] = first.gradients - np.float32(form.contrast) * first.rivals
    products = [layer.activations * slope for layer, slope in zip(layers, slopes, strict=True)]
    if form is not None and form.detail is not None and first.detail is not None:
        products.append(first.detail)
    parts = [one.reshape(len(tensors), -1) for one in products]
    return [np.concatenate([part[i] / (np.linalg.norm(part[i]) or 1.0) for part in parts]) for i in range(len(tensors))]


def _times(files: Sequence[Path], tensor: NDArray[Any]) -> list[float]:
    """Median milliseconds of an inference on one thread; files take turns: a machine that slows down slows all."""
    with ExitStack() as stack:
        explainers = [stack.enter_context(Explainer(path, threads=1)) for path in files]
        calls = {i: functools.partial(explainer.answers, tensor) for i, explainer in enumerate(explainers)}
        sample(calls, rounds=3)  # warms up
        taken = sample(calls, rounds=_ROUNDS)
    return [float(np.median(taken[i])) for i in range(len(files))]
