"""The proof of an exported file: from the file alone, the plain model if it is at hand, and its origin's judge.

What is compared, with which limit and why. "Exact" means: the tail of the file itself (`cut_tail`),
scores and gradient alike, evaluated in float64 from the activations that ONNX Runtime gave.

1. `outputs_unchanged`: plain outputs against the source file's, in the same runtime: 1e-5 of the largest.
2. `activations_lead_to_scores`: the exact tail, fed with ``cam_activations``, gives the scores that
   the file gives (1e-4 of the largest): so the activations are what the network computes with.
3. `gradient_against_differences` (`differences`): the exact gradient against central differences of the exact scores.
   This decides correctness, and knows nothing of any derivative.
4. `gradient_in_float32`: what ONNX Runtime gives against exact. A rounding difference flips ReLU
   masks, so the yardstick is what float32 itself is off by on the same image: the same tail in
   float32 by numpy, three times its error, or 1e-5. Whether a mask flips is chance, so where one such run
   is not enough it is repeated with the last bits of the activations changed, a few times, and the largest
   error counts; half of the images must then pass, and no image may be off by more than a tenth. In a quantised
   graph the images that pass may: an activation on a rounding boundary moves by a whole step in either arithmetic.
5. `gradient_moves`: when the image changes (and the class does not), the gradient changes by as much as the
   exact one, which for pooling and a linear head means: not at all. When the class changes, likewise.
6. `batch_against_others`: gradients by the yardstick of 4, activations and scores: images in a batch against the same
   images alone and in pairs; in quantised graphs the median image's activations and scores count. A file with a
   fixed batch gets its images in another order, and beside others; with a batch of one there is nothing to compare.
7. `explained_class`: the top class when none is asked for, else the one that is asked for.
8. `placement`: patches of the image are changed, and no other reading of the layer's grid knows better where.
9. `columns_apart`: where a file explains several classes at once, each has its own gradient beside any others.
10. What guides the map (`guiding`): ``cam_detail`` leads to ``cam_activations``, ``cam_rivals`` agrees with
    differences.
11. The map of a fused file (`finished_map`) against the host's rule on what the map is made of. All other checks are of
   the file's two-stage view, which gives that out.
12. A file with a fixed target (`fixed_target`) against its view, which is told that class.

Of a file with several target layers, 2 to 6 and 8 are measured for each, with a tail of its own: the differences of a
layer know nothing of a backward pass that it shares with others.

Weights and activations in float16 carry three digits, and a quantised value near a rounding
boundary jumps by a step: for such files the limits of 1, 2 and 4 are widened to the constants below, those of 1 and 2
also to what ONNX Runtime's kernels for quantised values do to the scores, with and without its optimisations; without
them, node by node, the outputs are compared once more, which no kernel excuses. Where float16
comes behind the scores only, 2 is widened by what that rounds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batches import batch_against_others
from .columns import columns_apart
from .differences import gradient_against_differences
from .exported_file import COARSE_GRADIENT, ExportedFile, PlainOutputs
from .finished_map import finished_map
from .fixed_target import fixed_target
from .guiding import detail_leads_to_activations, rivals_against_differences
from .placement import placement
from .results import Check, Proof, image_errors, of_layer, relative_error
from .session import Session

__all__ = [
    "LAYER_CHECKS",
    "Judge",
    "activations_lead_to_scores",
    "explained_class",
    "gradient_in_float32",
    "gradient_moves",
    "outputs_unchanged",
    "prove_file",
    "tail_file_agrees",
]

Array = NDArray[Any]

#: Limits for files whose numbers are coarser than float32's.
_COARSE_OUTPUT, _COARSE_SCORE = 2e-3, 2e-2
#: So many times what kernels for quantised values do to the plain model's outputs they may do to ours.
_KERNELS = 1.5
#: Where float16's rounding decides which step of the quantisation an activation takes, all through the tail.
_COARSER_SCORE = 5e-2


#: Checks that only the origin of a file can make, of one of its layers.
Judge = Callable[[ExportedFile], "list[Check]"]


def prove_file(
    file: ExportedFile,
    plain: Mapping[str, Array] | None = None,
    *,
    tail: str | os.PathLike[str] | None = None,
    judge: Judge | None = None,
    watch: Callable[[str], AbstractContextManager[None]] = nullcontext,
) -> Proof:
    """All checks: what an export, a change of precision and ``cfcam check`` prove a file by.

    Args:
        file: the file, opened.
        plain: the plain model's outputs for the file's images, see `plain_outputs`.
        tail: the file that `TailSpec` names.
        judge: more checks of each layer; PyTorch's, for a model that came from there.
        watch: called with the name of each step, times it.
    """
    proof = Proof()
    if plain is not None:
        proof.checks += outputs_unchanged(file, plain)
    with watch("classes"):
        proof.checks += explained_class(file)
    for step, measure in LAYER_CHECKS.items():
        with watch(step):
            proof.checks += _of_every_layer(file, measure)
    if file.fused is not None:
        with watch("map"):
            proof.checks += finished_map(file)
    if file.written is not None and file.written.fixed_target is not None:
        with watch("fixed target"):
            proof.checks += fixed_target(file, file.written)
    if tail is not None:
        with watch("tail file"):
            proof.checks += tail_file_agrees(file, tail)
    if judge is not None:
        file.release()
        with watch("PyTorch"):
            proof.checks += _of_every_layer(file, judge)
    return proof


def _of_every_layer(file: ExportedFile, measure: Judge) -> list[Check]:
    further = [of_layer(other.spec.layer.name, measure(other)) for other in file.further]
    return [*measure(file), *(check for checks in further for check in checks)]


def outputs_unchanged(file: ExportedFile, plain: Mapping[str, Array]) -> list[Check]:
    """Each output of the plain model, in the exported file."""
    found = []
    for name, want in plain.items():
        limit = _COARSE_OUTPUT if file.coarse or file.coarse_before or want.dtype == np.float16 else 1e-5
        have = file.top.outputs.get(name)
        if have is not None and file.batch == 1 and have.shape == (len(file.images), want.size // len(file.images)):
            want = want.reshape(have.shape)  # a single image's row comes without its batch
        if have is None or have.shape != want.shape:
            error = float("inf")
        elif want.dtype.kind != "f":
            error = float((have != want).sum())
        else:
            error = relative_error(have, want) if want.any() else float(np.abs(have).max(initial=0))
        found += _output_checks(file, name, error, limit, plain)
    return found


def _output_checks(
    file: ExportedFile, name: str, error: float, limit: float, plain: Mapping[str, Array]
) -> list[Check]:
    """An output against the plain model's; where values are quantised, also node by node.

    ONNX Runtime puts quantised nodes together, other ones in either file, and what is rounded on the way then falls on
    another step here and there. How much that is the plain model shows by itself: with and without optimisations. Node
    by node, without, both compute the same.
    """
    title = f"output '{name}' against the plain model"
    alone = plain.node_by_node if isinstance(plain, PlainOutputs) else None
    have = file.node_by_node.outputs.get(name) if alone is not None else None
    if alone is None or have is None or plain[name].dtype.kind != "f":
        return [Check(title, error, limit)]
    moved = relative_error(alone[name], plain[name])
    errors = image_errors(have.reshape(alone[name].shape), alone[name])
    return [
        Check(title, error, max(limit, _KERNELS * moved)),
        Check(f"{title}, node by node (median image)", float(np.median(errors)), limit),
    ]


def explained_class(file: ExportedFile) -> list[Check]:
    """The top class when none is asked for, the one that is asked for otherwise."""
    scores = file.top.outputs[file.spec.output.name].reshape(len(file.images), -1)
    picked = np.take_along_axis(scores, file.top.classes[:, None], 1)[:, 0]
    # A softmax may give two classes the same probability: either is the top one.
    wrong = int((picked < scores.max(1)).sum()) if scores.shape[1] > 1 else int(file.top.classes.any())
    asked = file.other_classes
    answered = file.other.classes
    return [
        Check("explained class is the top class", wrong, 0),
        Check("explained class is the one asked for", int((answered != asked).sum()), 0),
    ]


def activations_lead_to_scores(file: ExportedFile) -> list[Check]:
    """The tail, from the activations that the file gives out, against the scores that it gives out."""
    return [_scores_check(file, file.exact.scores(), "scores of the tail, from the activations")]


def tail_file_agrees(file: ExportedFile, path: str | os.PathLike[str]) -> list[Check]:
    """The file that `TailSpec` names, in ONNX Runtime from the activations, against the scores of the file."""
    tail = file.spec.tail
    assert tail is not None
    session = Session(os.fspath(path))
    feeds = {file.spec.layer.activations: file.top.activations, file.spec.input.name: file.images}
    scores = session.run_in_batches(feeds, file.batch or len(file.images))[tail.score]
    return [_scores_check(file, scores, "scores of the tail's own file")]


def _scores_check(file: ExportedFile, logits: Array, name: str) -> Check:
    """Logits (N, classes) against what the file gives."""
    scores, output = np.asarray(logits, np.float64), file.spec.output
    largest = np.abs(scores).max()
    shown = output.score if output.score in file.top.outputs else output.name
    if shown == output.score:
        pass
    elif output.kind == "softmax":
        scores = np.exp(scores - scores.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
    elif output.kind == "sigmoid":
        scores = 1 / (1 + np.exp(-scores))
    given = file.top.outputs[shown].reshape(scores.shape).astype(np.float64)
    # What is rounded behind the logits: themselves, or through an exponential.
    rounded = file.score_rounding * max(np.abs(given).max(), 0.0 if output.kind == "logits" else largest)
    # A log-softmax differs from its logits by one number per image.
    if output.kind == "logits" and shown != output.score:
        scores, given = (s - s.mean(1, keepdims=True) for s in (scores, given))
    limit = _COARSER_SCORE if file.quantised and file.half else _COARSE_SCORE if file.coarse else 1e-4
    limit = max(limit, file.quantised_scores) if file.quantised else limit
    return Check(name, relative_error(scores, given), float(limit + rounded / (np.abs(given).max() or 1.0)))


def gradient_in_float32(file: ExportedFile) -> list[Check]:
    """What ONNX Runtime gives against the exact gradient."""
    gradients, yardstick = file.top.gradients, file.yardstick
    shares = yardstick.shares(gradients)
    errors = image_errors(gradients, yardstick.exact)
    if file.quantised:  # one activation that rounds the other way may change a whole image
        errors = errors[shares > 1]
    worst = errors.max(initial=0)
    explained = int(gradients.any(axis=(1, 2, 3)).sum())
    return [
        Check("gradient in float32, share of the allowed error (median image)", float(np.median(shares)), 1),
        Check("gradient in float32, relative error (worst image)", float(worst), 0.1),
        Check("images whose gradient is not zero", explained, 1, at_least=True),
    ]


def gradient_moves(file: ExportedFile) -> list[Check]:
    """Another image, another class: the gradient changes as the exact one does."""
    exact, count = file.exact, len(file.images)
    shared = np.full(count, file.top.classes[0])
    moved = _movement(file.explain(file.images, shared).gradients)
    expected = _movement(exact.gradient(shared))
    if expected > 1e-6:
        found = [Check("gradient moves with the image, against exact", moved / expected, 0.5, at_least=True)]
    else:
        # After pooling and one linear layer the gradient is the class's weights, whatever the image.
        limit = COARSE_GRADIENT if file.coarse else 1e-5
        found = [Check("gradient is the same for every image, as it should", moved, limit, note="a linear head")]
    if file.spec.output.classes > 1:
        # Where a quantiser cut a score off, its gradient is zero, and cannot move.
        here, there = file.yardstick.exact, exact.gradient(file.other_classes)
        told = here.any(axis=(1, 2, 3)) & there.any(axis=(1, 2, 3))
        if told.any():
            expected = float(np.median(image_errors(there[told], here[told])))
            moved = float(np.median(image_errors(file.other.gradients[told], file.top.gradients[told])))
            share = moved / expected if expected else float("nan")
            found.append(Check("gradient moves with the class, against exact", share, 0.5, at_least=True))
    return found


def _movement(gradients: Array) -> float:
    """Median relative distance between each image's gradient and the next image's."""
    return float(np.median(image_errors(np.roll(gradients, 1, axis=0), gradients)))


#: What is measured on each target layer, in this order: what people read while they wait, and the checks.
LAYER_CHECKS: dict[str, Callable[[ExportedFile], list[Check]]] = {
    "activations": activations_lead_to_scores,
    "differences": gradient_against_differences,
    "float32": gradient_in_float32,
    "movement": gradient_moves,
    "batch": batch_against_others,
    "columns": columns_apart,
    "rivals": rivals_against_differences,
    "detail": detail_leads_to_activations,
    "placement": placement,
}
