"""The proof of an exported file without PyTorch: from the file alone, and the plain model if it is at hand.

What is compared, with which limit and why. "Exact" means: the tail of the file itself (`cut_tail`),
scores and gradient alike, evaluated in float64 from the activations that ONNX Runtime gave.

1. `outputs_unchanged`: plain outputs against the source file's, in the same runtime: 1e-5 of the largest.
2. `activations_lead_to_scores`: the exact tail, fed with ``cam_activations``, gives the scores that
   the file gives (1e-4 of the largest): so the activations are what the network computes with.
3. `gradient_against_differences`: the exact gradient g against central differences of the exact
   scores along random directions r. For normally distributed r, (g - g') r is on average as large as |g - g'|: each
   direction is an estimate of the relative L2 error of the *whole* gradient, in which one swapped
   channel among two thousand shows as a few percent. Limit 1e-4; rounding makes 1e-6.
   This decides correctness, for the top class and for another one, and it knows nothing of any
   derivative. A kink (ReLU, max-pool, clip) inside the step makes the two one-sided differences
   disagree, and the central one is wrong by at most half of that disagreement. So a direction counts
   at the first step at which they agree to 1e-4; where they never do, it is tried again
   without the cells that are exactly zero (after a ReLU these sit on the kink of a max-pool), and
   then left out; as are steps in which so small a gradient moves the score by no more than rounding does. Half of
   the directions must count.
   Quantised graphs: rounding has no derivative; what is differentiated is the function that the
   straight-through rule stands for, in which values are clipped to the range but not rounded.
4. `gradient_in_float32`: what ONNX Runtime gives against exact. A rounding difference flips ReLU
   masks, so the yardstick is what float32 itself is off by on the same image: the same tail in
   float32 by numpy, three times its error, or 1e-5. Whether a mask flips is chance, so where one such run
   is not enough it is repeated with the last bits of the activations changed, a few times, and the largest
   error counts; half of the images must then pass, and no image may be off by more than a tenth. In a quantised
   graph the images that pass may: an activation on a rounding boundary moves by a whole step in either arithmetic.
5. `gradient_moves`: when the image changes (and the class does not), the gradient changes by as much as the
   exact one, which for pooling and a linear head means: not at all. When the class changes, likewise.
6. `batch_equals_singles`, by the yardstick of 4; in quantised graphs the median image's activations count. A
   file with a fixed batch gets the same images in another order; with a fixed batch of one there is nothing to compare.
7. `explained_class`: the top class when none is asked for, else the one that is asked for.

Of a file with several target layers, 2 to 6 are measured for each, with a tail of its own: the differences of a layer
know nothing of a backward pass that it shares with others.

Weights and activations in float16 carry three digits, and a quantised value near a rounding
boundary jumps by a step: for such files the limits of 1, 2 and 4 are widened to the constants below.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tail.cutting import Tail
from .exported_file import COARSE_GRADIENT, Answer, Exact, Subject, open_subject, plain_outputs
from .float64 import Evaluator
from .results import Check, Proof, image_errors, of_layer, relative_error
from .session import Session

__all__ = [
    "LAYER_CHECKS",
    "Answer",
    "Subject",
    "activations_lead_to_scores",
    "batch_equals_singles",
    "explained_class",
    "gradient_against_differences",
    "gradient_in_float32",
    "gradient_moves",
    "open_subject",
    "outputs_unchanged",
    "plain_outputs",
    "prove_file",
    "tail_file_agrees",
]

Array = NDArray[Any]

#: Differences cost several runs of the tail each, so they are taken on this many images.
_DIFFERENCED = 3
#: Steps of the differences, relative to the mean size of the activations. Small ones first: in a wide one
#: lie many kinks, which may cancel each other and pass for none.
_STEPS = (1e-7, 1e-8, 1e-6, 1e-5)
_KINK = 1e-4
#: Rounding of a score in float64, relative to the largest, over a network's depth.
_ROUNDING = 4e-15
#: Limits for files whose numbers are coarser than float32's.
_COARSE_OUTPUT, _COARSE_SCORE = 2e-3, 2e-2
#: Where float16's rounding decides which step of the quantisation an activation takes, all through the tail.
_COARSER_SCORE = 5e-2
#: A constant of the backward pass that float16 rounds (1 / cells of a mean), which the forward pass has exactly.
_HALF_DIFFERENCE = 1e-3


def prove_file(subject: Subject, plain: Mapping[str, Array] | None = None) -> Proof:
    """All checks. plain: the plain model's outputs for the subject's images, see `plain_outputs`."""
    proof = Proof()
    if plain is not None:
        proof.checks += outputs_unchanged(subject, plain)
    proof.checks += explained_class(subject)
    for measure in LAYER_CHECKS.values():
        proof.checks += measure(subject)
    for further in subject.further:
        for measure in LAYER_CHECKS.values():
            proof.checks += of_layer(further.spec.layer.name, measure(further))
    return proof


def outputs_unchanged(subject: Subject, plain: Mapping[str, Array]) -> list[Check]:
    """Each output of the plain model, in the exported file."""
    limit = _COARSE_OUTPUT if subject.coarse or subject.spec.input.dtype == "float16" else 1e-5
    found = []
    for name, want in plain.items():
        have = subject.top.outputs.get(name)
        if have is None or have.shape != want.shape:
            error = float("inf")
        elif want.dtype.kind != "f":
            error = float((have != want).sum())
        else:
            error = relative_error(have, want) if want.any() else float(np.abs(have).max(initial=0))
        found.append(Check(f"output '{name}' against the plain model", error, limit))
    return found


def explained_class(subject: Subject) -> list[Check]:
    """The top class when none is asked for, the one that is asked for otherwise."""
    scores = subject.top.outputs[subject.spec.output.name].reshape(len(subject.images), -1)
    picked = np.take_along_axis(scores, subject.top.classes[:, None], 1)[:, 0]
    # A softmax may give two classes the same probability: either is the top one.
    wrong = int((picked < scores.max(1)).sum()) if scores.shape[1] > 1 else int(subject.top.classes.any())
    asked = subject.other_classes
    answered = subject.other.classes
    return [
        Check("explained class is the top class", wrong, 0),
        Check("explained class is the one asked for", int((answered != asked).sum()), 0),
    ]


def activations_lead_to_scores(subject: Subject) -> list[Check]:
    """The tail, from the activations that the file gives out, against the scores that it gives out."""
    return [_scores_check(subject, subject.exact.scores(), "scores of the tail, from the activations")]


def tail_file_agrees(subject: Subject, path: str | os.PathLike[str]) -> list[Check]:
    """The file that `TailSpec` names, in ONNX Runtime from the activations, against the scores of the file."""
    tail = subject.spec.tail
    assert tail is not None
    session = Session(os.fspath(path))
    feeds = {subject.spec.layer.activations: subject.top.activations, subject.spec.input.name: subject.images}
    scores = session.run_in_batches(feeds, subject.batch or len(subject.images))[tail.score]
    return [_scores_check(subject, scores, "scores of the tail's own file")]


def _scores_check(subject: Subject, logits: Array, name: str) -> Check:
    """Logits (N, classes) against what the file gives."""
    scores = np.asarray(logits, np.float64)
    if subject.spec.output.kind == "softmax":
        scores = np.exp(scores - scores.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
    elif subject.spec.output.kind == "sigmoid":
        scores = 1 / (1 + np.exp(-scores))
    given = subject.top.outputs[subject.spec.output.name].reshape(scores.shape).astype(np.float64)
    if subject.spec.output.kind == "logits":  # a log-softmax differs from its logits by one number per image
        scores, given = (s - s.mean(1, keepdims=True) for s in (scores, given))
    limit = _COARSER_SCORE if subject.quantised and subject.half else _COARSE_SCORE if subject.coarse else 1e-4
    return Check(name, relative_error(scores, given), limit)


def gradient_against_differences(subject: Subject) -> list[Check]:
    """The exact gradient against central differences of the exact scores, for two classes."""
    size = subject.batch or _DIFFERENCED
    part = slice(0, size * -(-min(_DIFFERENCED, len(subject.images)) // size))
    exact = subject.exact_at(part)
    if subject.quantised:
        exact = exact.with_evaluator(Evaluator(subject.tail.model, straight_through=True))
    activations = subject.top.activations[part].astype(np.float64)
    errors: list[Array] = []
    counted = 0
    for turn, classes in enumerate((subject.top.classes[part], subject.other_classes[part])):
        gradient = exact.gradient(classes)
        found = _differences(exact, classes, activations, gradient, np.random.default_rng(turn))
        errors.append(found)
        counted += int(np.isfinite(found).sum())
    every = np.concatenate(errors)
    # Among float16 values the bounds of a quantiser are rounded in the backward pass alone: a value between the
    # two forms of a bound tells nothing, and there are many of them. What is wrong is wrong in most directions.
    judge = np.nanmedian if subject.quantised and subject.half else np.nanmax
    worst = float(judge(every)) if counted else float("nan")
    return [
        Check("gradient in float64 against differences", worst, _HALF_DIFFERENCE if subject.half else 1e-4),
        Check("directions that could be compared, share", counted / every.size, 0.5, at_least=True),
    ]


def _differences(exact: Exact, classes: Array, activations: Array, gradient: Array, random: Any) -> Array:
    """Relative error of each image's gradient along one direction (N,); NaN where no step can tell."""
    count = len(activations)
    apart = (count, 1, 1, 1)
    size = np.abs(activations).mean(axis=(1, 2, 3)) + 1e-300
    norm = np.sqrt((gradient**2).sum(axis=(1, 2, 3)))
    scores = exact.scores()
    here, largest = _picked(scores, classes), np.abs(scores).max(axis=1)
    # An image whose gradient is zero: the scores must not move, by more than rounding.
    unit = np.where(norm > 0, norm * size, largest + 1e-300)
    errors = np.full(count, np.nan)
    for keep in (np.ones(apart, bool), activations != 0):
        direction = random.standard_normal(activations.shape) * keep
        expected = (gradient * direction).sum(axis=(1, 2, 3)) * size / unit
        for step in _STEPS:
            change = step * size.reshape(apart) * direction
            ahead, behind = (_picked(exact.scores(_moved(exact.tail, sign * change)), classes) for sign in (1, -1))
            forward, backward = (ahead - here) / (step * unit), (here - behind) / (step * unit)
            smooth = np.abs(forward - backward) <= _KINK
            told = _ROUNDING * largest / (step * unit) <= _KINK
            errors = np.where(np.isnan(errors) & smooth & told, np.abs((forward + backward) / 2 - expected), errors)
            if not np.isnan(errors).any():
                return errors
    return errors


def _picked(scores: Array, classes: Array) -> Array:
    return np.take_along_axis(scores, classes[:, None], 1)[:, 0]


def _moved(tail: Tail, change: Array) -> Callable[[Array, int], Array]:
    """Adds `change` (N, C, H, W) to batches of the layer's value."""

    def move(value: Array, place: int) -> Array:
        moved = value.reshape(len(value), -1).copy()
        moved[:, tail.index.reshape(-1)] += change[place : place + len(value)].reshape(len(value), -1)
        return moved.reshape(value.shape)

    return move


def gradient_in_float32(subject: Subject) -> list[Check]:
    """What ONNX Runtime gives against the exact gradient."""
    gradients, yardstick = subject.top.gradients, subject.yardstick
    shares = yardstick.shares(gradients)
    errors = image_errors(gradients, yardstick.gradient)
    if subject.quantised:  # one activation that rounds the other way may change a whole image
        errors = errors[shares > 1]
    worst = errors.max(initial=0)
    explained = int(gradients.any(axis=(1, 2, 3)).sum())
    return [
        Check("gradient in float32, share of the allowed error (median image)", float(np.median(shares)), 1),
        Check("gradient in float32, relative error (worst image)", float(worst), 0.1),
        Check("images whose gradient is not zero", explained, 1, at_least=True),
    ]


def gradient_moves(subject: Subject) -> list[Check]:
    """Another image, another class: the gradient changes as the exact one does."""
    exact, count = subject.exact, len(subject.images)
    shared = np.full(count, subject.top.classes[0])
    moved = _movement(subject.explain(subject.images, shared).gradients)
    expected = _movement(exact.gradient(shared))
    if expected > 1e-6:
        found = [Check("gradient moves with the image, against exact", moved / expected, 0.5, at_least=True)]
    else:
        # After pooling and one linear layer the gradient is the class's weights, whatever the image.
        limit = COARSE_GRADIENT if subject.coarse else 1e-5
        found = [Check("gradient is the same for every image, as it should", moved, limit, note="a linear head")]
    if subject.spec.output.classes > 1:
        others = subject.other_classes
        expected = float(np.median(image_errors(exact.gradient(others), subject.yardstick.gradient)))
        moved = float(np.median(image_errors(subject.other.gradients, subject.top.gradients)))
        share = moved / expected if expected else float("nan")
        found.append(Check("gradient moves with the class, against exact", share, 0.5, at_least=True))
    return found


def _movement(gradients: Array) -> float:
    """Median relative distance between each image's gradient and the next image's."""
    return float(np.median(image_errors(np.roll(gradients, 1, axis=0), gradients)))


def batch_equals_singles(subject: Subject) -> list[Check]:
    """Each image alone (where the batch is fixed: in another place of the batch) gives what it gives in the batch."""
    if subject.batch == 1:
        return []
    images = subject.images
    # Every image gets another class: behind a linear head that is all in which their gradients differ.
    classes = (subject.top.classes + np.arange(len(images))) % subject.spec.output.classes
    together = subject.explain(images, classes)
    if subject.batch is None:
        name = "a batch against its singles"
        parts = [subject.explain(images[i : i + 1], classes[i : i + 1]) for i in range(len(images))]
        gradients = np.concatenate([part.gradients for part in parts])
        activations = np.concatenate([part.activations for part in parts])
    else:
        name = "a batch against itself in another order"
        rolled = subject.explain(np.roll(images, 1, axis=0), np.roll(classes, 1))
        gradients, activations = (np.roll(a, -1, axis=0) for a in (rolled.gradients, rolled.activations))
    share = float(np.median(subject.yardstick.shares(gradients, together.gradients)))
    limit = COARSE_GRADIENT if subject.coarse else 1e-4
    errors = image_errors(activations, together.activations)
    # A kernel for another batch size may round a value to the next step of its quantisation, and so on from there.
    moved = np.median(errors) if subject.quantised else errors.max()
    return [
        Check(f"{name}, share of the allowed error", share, 1),
        Check(f"{name}, activations", float(moved), limit),
    ]


#: What is measured on each target layer, in this order: what people read while they wait, and the checks.
LAYER_CHECKS: dict[str, Callable[[Subject], list[Check]]] = {
    "activations": activations_lead_to_scores,
    "differences": gradient_against_differences,
    "float32": gradient_in_float32,
    "movement": gradient_moves,
    "batch": batch_equals_singles,
}
