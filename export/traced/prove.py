"""The last pass, prove: the file is right, or it is not written.

What is compared, with which limit and why:

1. Plain outputs: against a plain export in the same runtime (1e-5 of the largest), and
   against eager PyTorch (1e-4).
2. Gradients in float64: the traced program, run in PyTorch, against eager autograd (1e-8 of
   the largest, per image). Rounding is out of the way here, so this decides correctness.
3. Finite differences in float64: eager scores on both sides of the layer's value along a
   direction, against the gradient. The third oracle: it knows nothing of any derivative.
4. Gradients in float32, as the file gives them in ONNX Runtime, against eager float64: a
   rounding difference flips ReLU masks, so the yardstick is what eager float32 itself is
   off by on the same image: three times that, or 1e-5. Whether a mask flips is chance
   (one flip in a sparse tail is an error of 1e-3 that eager may happen not to make), so
   where one run of eager float32 is not enough it is run again with the image's last bits
   changed, a few times, and the largest error counts; most images must then pass, and no
   image may be off by more than a tenth.
5. Frozen gradients, the classic silent failure: when the image changes, the gradient
   changes by as much as eager's does; when the target changes, it changes.
6. A batch equals its singles.
7. The class that was explained is the one that was asked for, or the top one.

Of a file with several target layers, 2 to 6 are measured for each. Eager runs once per layer and takes
the gradient from the score to that layer alone: it knows nothing of a backward pass that layers share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import fx, nn

from ..proof.results import Proof, image_errors, of_layer, relative_error
from ..proof.session import Session, release_memory
from .candidates import Score, Value
from .capture import Captured
from .eager import Doubles, Eager, in_float64, run_eager, value_of
from .outputs import by_class

__all__ = ["Subject", "proof_images", "prove"]

FloatArray = NDArray[Any]


@dataclass
class Subject:
    """What is proved: a file (as `model`), the traced program it came from, and the module.

    values: the target layers. joint64: makes the program in float64, ``(image, target) -> (*outputs,
    activations, gradients, ..., chosen)``; it has twice the size of the model, so it is made when it is
    needed. model, plain: contents, or paths of files, which leaves more memory for the proof.
    """

    module: nn.Module
    captured: Captured
    values: tuple[Value, ...]
    score: Score
    joint64: Callable[[], fx.GraphModule]
    model: onnx.ModelProto | str
    plain: onnx.ModelProto | str

    @property
    def value(self) -> Value:
        """The first target layer."""
        return self.values[0]


def proof_images(captured: Captured, seed: int = 0) -> torch.Tensor:
    """Random images (N, C, H, W) float32 with structure at all scales, about unit variance.

    N equals no other size in the graph, so that a batch that was taken for another
    dimension cannot pass unnoticed.
    """
    sizes = {
        size
        for node in captured.graph.graph.nodes
        if isinstance(node.meta.get("val"), torch.Tensor)
        for size in node.meta["val"].shape
        if isinstance(size, int)
    }
    count = next(n for n in range(5, 64) if n not in sizes)
    _, channels, height, width = captured.image.meta["val"].shape
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, channels, height, width)
    for cells in (2, 5, 11, 32, max(height, width)):
        noise = torch.randn(count, channels, cells, cells, generator=generator)
        images += nn.functional.interpolate(noise, size=(height, width), mode="bilinear", align_corners=False)
    return images / images.std(dim=(1, 2, 3), keepdim=True)


def prove(subject: Subject, images: torch.Tensor | None = None) -> Proof:
    """Measure everything above. Raises `ProofError` only when eager cannot be compared at all.

    images: float32 (N, C, H, W), preprocessed; None makes some.
    """
    if images is None:
        images = proof_images(subject.captured)
    proof = Proof()
    batch, count = images.numpy(), len(images)
    answers = _ask(subject, batch)
    top, classes = answers[0].outputs, answers[0].classes
    plain_session = Session(subject.plain)
    plain, plain_names = plain_session.run({plain_session.inputs[0]: batch}), plain_session.outputs
    del plain_session
    expected = plain[plain_names[subject.score.position]].reshape(count, -1).argmax(1)
    proof.add("explained class is the top class", int((classes != expected).sum()), 0)
    for name in plain_names:
        proof.add(f"output '{name}' against the plain export", relative_error(top[name], plain[name]), 1e-5)
    del plain

    chosen = torch.from_numpy(classes)
    layers = [replace(subject, values=(value,)) for value in subject.values]
    rounded = []
    for one in layers:
        eager32 = _eager(one, _Graph(one.captured.graph, one.value.node, one.score.node, images))
        if not rounded:
            for name, output in zip(plain_names, eager32.outputs, strict=True):
                proof.add(f"output '{name}' against eager PyTorch", relative_error(top[name], output.numpy()), 1e-4)
        rounded.append((eager32.activations.numpy(), eager32.gradient(chosen).numpy()))
        del eager32

    release_memory()
    traced = _traced_gradients(subject.joint64(), images, chosen, len(layers))
    for index, one in enumerate(layers):
        release_memory()
        checks = _prove_layer(one, images, answers[index], traced[index], rounded[index]).checks
        proof.checks += of_layer(one.value.name, checks) if index else checks
    proof.add("explained class is the one asked for", int((answers[0].singles[0] != classes).sum()), 0)
    return proof


def _prove_layer(
    subject: Subject,
    images: torch.Tensor,
    answers: _Answers,
    traced: FloatArray,
    rounded: tuple[FloatArray, FloatArray],
) -> Proof:
    """Activations and gradients of one layer, the first of `subject`.

    traced: gradients of the traced program in float64. rounded: activations and gradients of eager float32.
    """
    proof = Proof()
    chosen = torch.from_numpy(answers.classes)
    activations, gradients = answers.activations, answers.gradients
    exact = _exact(subject, images, answers)
    gradient64 = exact.gradient
    worst = max(_of_maximum(a, b) for a, b in zip(traced, gradient64, strict=True))
    proof.add("gradient in float64 against autograd", worst, 1e-8)
    proof.add("gradient in float64 against finite differences", exact.differences, 1e-3)

    yardstick = _Yardstick(subject, images, chosen, exact.activations, gradient64)
    yardstick.add(*rounded)
    shares = yardstick.shares(activations, gradients)
    proof.add("activations in float32, share of the allowed error", shares[0].max(), 1)
    proof.add("gradient in float32, share of the allowed error (median image)", np.median(shares[1]), 1)
    proof.add("gradient in float32, relative error (worst image)", image_errors(gradients, gradient64).max(), 0.1)

    _prove_movement(proof, answers, exact)

    _, activations1, gradients1 = answers.singles
    shares = yardstick.shares(activations1, gradients1, reference=(activations, gradients))
    proof.add("a batch against its singles, share of the allowed error", max(np.median(s) for s in shares), 1)
    return proof


@dataclass
class _Answers:
    """What the file says of one layer, all of it, so that its session is gone when float64 needs the memory.

    outputs, classes, activations, gradients: to the batch, asked for the top class. same_class: the
    gradients for the first image's class. next_class: classes that were asked for, classes that
    were explained, gradients; None for a single class. singles: classes, activations, gradients of
    the images one by one, asked for their top classes.
    """

    outputs: dict[str, FloatArray]
    classes: FloatArray
    activations: FloatArray
    gradients: FloatArray
    same_class: FloatArray
    next_class: tuple[FloatArray, FloatArray, FloatArray] | None
    singles: tuple[FloatArray, FloatArray, FloatArray]


def _ask(subject: Subject, batch: FloatArray) -> list[_Answers]:
    """The answers of each layer."""
    session = Session(subject.model)
    image_name, target_name = session.inputs
    *added, chosen = session.outputs[-2 * len(subject.values) - 1 :]

    def explain(images: FloatArray, targets: Any) -> dict[str, FloatArray]:
        return session.run({image_name: images, target_name: np.asarray(targets, np.int64)})

    top = explain(batch, [-1] * len(batch))
    classes = top[chosen]
    # One class for all images, so that only the image differs between neighbours.
    same = explain(batch, np.full(len(batch), classes[0]))
    others = (classes + 1) % subject.score.classes
    other = explain(batch, others) if subject.score.classes > 1 else None
    each = [explain(batch[i : i + 1], classes[i : i + 1]) for i in range(len(batch))]
    single = {name: np.concatenate([one[name] for one in each]) for name in (*added, chosen)}
    return [
        _Answers(
            top,
            classes,
            top[activations],
            top[gradients],
            same[gradients],
            None if other is None else (others, other[chosen], other[gradients]),
            (single[chosen], single[activations], single[gradients]),
        )
        for activations, gradients in zip(added[::2], added[1::2], strict=True)
    ]


#: Images that run in float64 together: enough to mix them up, few enough for the memory.
_TOGETHER = 2


def _traced_gradients(
    joint64: fx.GraphModule, images: torch.Tensor, classes: torch.Tensor, count: int
) -> list[FloatArray]:
    """The gradients of each of `count` layers."""
    parts = []
    for batch, wanted in zip(images.split(_TOGETHER), classes.split(_TOGETHER), strict=True):
        with torch.no_grad():
            found = joint64(batch.double(), wanted)
        parts.append([gradient.numpy() for gradient in found[-2 * count : -1 : 2]])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@dataclass
class _Exact:
    """Eager PyTorch in float64. gradient, same_class, next_class: of the classes of `_Answers`.

    differences: the worst relative error of the gradient against finite differences.
    """

    activations: FloatArray
    gradient: FloatArray
    same_class: FloatArray
    next_class: FloatArray | None
    differences: float


def _exact(subject: Subject, images: torch.Tensor, answers: _Answers) -> _Exact:
    doubles = Doubles()
    value, score = subject.value, subject.score
    graph, (layer, logits) = in_float64(subject.captured.graph, value.node, score.node, doubles=doubles)
    wanted = [answers.classes, np.full(len(images), answers.classes[0])]
    if answers.next_class is not None:
        wanted.append(answers.next_class[0])
    activations, gradients, worst = [], [], []
    for start in range(0, len(images), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        traced = _Graph(graph, layer, logits, images[part].double())
        eager = _eager(subject, traced, doubles)
        classes = [torch.from_numpy(each[part]) for each in wanted]
        activations.append(eager.activations.numpy())
        gradients.append([eager.gradient(each).numpy() for each in classes])
        worst.append(_differences(traced, classes[0], eager.own_gradient(classes[0])))
    top, same, *following = (np.concatenate(each) for each in zip(*gradients, strict=True))
    known = [error for error in worst if error == error]  # not a number where all derivatives are zero
    differences = max(known) if known else float("nan")
    return _Exact(np.concatenate(activations), top, same, following[0] if following else None, differences)


class _Graph:
    """The captured graph in one dtype, with the values that the oracles need on one batch."""

    def __init__(self, graph: fx.GraphModule, layer: fx.Node, score: fx.Node, images: torch.Tensor) -> None:
        self.graph, self.layer, self.score, self.images = graph, layer, score, images
        behind = {layer}
        for node in graph.graph.nodes:
            if any(source in behind for source in node.all_input_nodes):
                behind.add(node)
        self._outside = [node for node in graph.graph.nodes if node not in behind]
        # What the part behind the layer reads besides the layer itself.
        border = {source for node in behind - {layer} for source in node.all_input_nodes} - behind
        nodes = [layer, score, *border]
        values = dict(zip(nodes, value_of(graph, images, *nodes), strict=True))
        self.layer_value, self.score_value = values[layer], values[score]
        self._around = {node: values[node] for node in border}

    def tail(self, value: torch.Tensor) -> torch.Tensor:
        """The score when the layer's value is replaced by `value`."""
        score = self.score

        class Reader(fx.Interpreter):
            found: Any = None

            def run_node(self, n: fx.Node) -> Any:
                result = super().run_node(n)
                if n is score:
                    self.found = result
                return result

        interpreter = Reader(self.graph)
        known = {**dict.fromkeys(self._outside), **self._around, self.layer: value}
        with torch.no_grad():
            interpreter.run(self.images, initial_env=known)
        return interpreter.found


def _eager(subject: Subject, traced: _Graph, doubles: Doubles | None = None) -> Eager:
    layout = subject.value.layout
    return run_eager(subject.module, traced.images, traced.layer_value, traced.score_value, layout, doubles)


class _Yardstick:
    """What float32 rounding alone does to the activations and gradients of each image."""

    _MOST_RUNS = 6

    def __init__(
        self,
        subject: Subject,
        images: torch.Tensor,
        classes: torch.Tensor,
        activations: FloatArray,
        gradients: FloatArray,
    ) -> None:
        self._subject, self._images, self._classes = subject, images, classes
        self._exact = (activations, gradients)
        self._errors = [np.zeros(len(images)), np.zeros(len(images))]
        self._runs = 0

    def add(self, activations: FloatArray, gradients: FloatArray) -> None:
        """Count one eager float32 run."""
        for part, value in enumerate((activations, gradients)):
            self._errors[part] = np.maximum(self._errors[part], image_errors(value, self._exact[part]))
        self._runs += 1

    def shares(
        self, activations: FloatArray, gradients: FloatArray, reference: tuple[FloatArray, FloatArray] | None = None
    ) -> list[FloatArray]:
        """Which share of the allowed error each image uses up: (N,) for activations, gradients."""
        reference = reference or self._exact
        found = [image_errors(v, r) for v, r in zip((activations, gradients), reference, strict=True)]
        while True:
            allowed = [np.maximum(1e-5, 3 * errors) for errors in self._errors]
            shares = [f / a for f, a in zip(found, allowed, strict=True)]
            if max(share.max() for share in shares) <= 1 or self._runs >= self._MOST_RUNS:
                return shares
            self._run_again()

    def _run_again(self) -> None:
        generator = torch.Generator().manual_seed(self._runs)
        noise = torch.randn(self._images.shape, generator=generator)
        jittered = self._images * (1 + 2**-23 * noise)
        subject = self._subject
        graph = _Graph(subject.captured.graph, subject.value.node, subject.score.node, jittered)
        eager = _eager(subject, graph)
        self.add(eager.activations.numpy(), eager.gradient(self._classes).numpy())


def _of_maximum(value: FloatArray, reference: FloatArray) -> float:
    """max|difference| over max|reference|, where a zero reference asks for a zero value."""
    if not reference.any():
        return 0.0 if not value.any() else float("inf")
    return relative_error(value, reference)


def _differences(traced: _Graph, classes: torch.Tensor, gradient: torch.Tensor) -> float:
    """Largest relative error of the directional derivative over a few random directions.

    Directions leave exact zeros alone: after a ReLU they sit on the kink of what follows.
    """
    value = traced.layer_value
    generator = torch.Generator().manual_seed(1)
    every = tuple(range(1, value.dim()))
    apart = (-1, *[1] * len(every))
    scale = value.abs().mean(dim=every, keepdim=True) * 1e-7
    worst = 0.0
    for _ in range(2):
        direction = torch.randn(value.shape, generator=generator, dtype=value.dtype) * (value != 0)
        # Half of the direction along the gradient, so that the derivative is not a small
        # difference of large terms.
        size = direction.flatten(1).norm(dim=1).clamp_min(1e-300).reshape(apart)
        along = gradient * (value != 0)
        along = along / along.flatten(1).norm(dim=1).clamp_min(1e-300).reshape(apart)
        direction = (direction / size + along) * value[0].numel() ** 0.5
        sides = [traced.tail(value + sign * scale * direction) for sign in (1, -1)]
        steps = [by_class(side).gather(1, classes[:, None])[:, 0] for side in sides]
        numeric = (steps[0] - steps[1]) / (2 * scale.flatten())
        analytic = (gradient * direction).sum(dim=every)
        error = (numeric - analytic).abs() / analytic.abs().clamp_min(1e-300)
        worst = max(worst, float(error[analytic != 0].max()) if bool((analytic != 0).any()) else float("nan"))
    return worst


def _prove_movement(proof: Proof, answers: _Answers, exact: _Exact) -> None:
    """Changed image, changed target: the gradient must move as eager's does."""
    moved, expected = _movement(answers.same_class), _movement(exact.same_class)
    if expected > 1e-6:
        proof.add("gradient moves with the image, against eager", moved / expected, 0.5, at_least=True)
    else:
        # After global pooling and one linear layer the gradient is the class's weights,
        # whatever the image: it must not move either.
        proof.add("gradient is the same for every image, as in eager", moved, 1e-5, note="pooling and a linear head")
    if answers.next_class is not None and exact.next_class is not None:
        others, answered, other = answers.next_class
        proof.add("another target is taken", int((answered != others).sum()), 0)
        expected = float(np.median(image_errors(exact.next_class, exact.gradient)))
        proof.add(
            "gradient moves with the target, against eager",
            float(np.median(image_errors(other, answers.gradients))) / expected if expected else float("nan"),
            0.5,
            at_least=True,
        )


def _movement(gradients: FloatArray) -> float:
    """Median relative distance between each image's gradient and the next image's."""
    return float(np.median(image_errors(np.roll(gradients, 1, axis=0), gradients)))
