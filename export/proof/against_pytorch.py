"""The judge that a PyTorch model brings: eager autograd in float64, in which rounding is out of the way.

Of each target layer, beside what `checks` measures of any file:

1. Outputs against the module's own, run eagerly in float32 (1e-4 of the largest).
2. Activations against the captured program's in float64: three times what PyTorch's float32 is off by, or 1e-5.
3. The method: the part behind the layer is converted in float64, differentiated by the same passes as the file was, and
   evaluated; autograd differentiates the captured part. 1e-8 of the largest gradient, image by image.
4. The file: its tail in float64 against autograd, both fed with the file's activations. Float32 weights and folded
   batch norms alone cost 2e-8 to 9e-8: the median image 1e-6 (or what float32 alone does to that gradient), the worst
   by the yardstick of the file's rounding. Where values bypass the layer, which have float32's rounding in the file
   alone, the median goes by the yardstick too, and the nearest of several states with other last bits counts.
5. The module's own autograd, where its run makes the same values and it reaches the layer (1e-6 of the largest). Where
   it stops (a ``detach()``, ``torch.no_grad()``), or a function brings a derivative of its own, the file holds the
   derivative of what the network computes, which 3 and 4 have judged, and a note says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from ..axes.layout import NCHW, Layout, in_order
from ..reverse import Candidate, write_gradients
from ..reverse.opening import open_model
from ..reverse.score import find_score
from ..traced.capture import Captured
from ..traced.convert import tail_to_onnx
from ..traced.eager import eager_outputs, own_gradient
from ..traced.float64 import TailProgram, run_in_float64, values_of
from ..traced.names import permuted
from ..wording import first_line
from .exported_file import ExportedFile
from .float64 import Evaluator
from .results import Check, image_errors, relative_error
from .session import release_memory
from .yardstick import Yardstick

__all__ = ["PyTorchJudge"]

Array = NDArray[Any]

_log = logging.getLogger("cfcam.export.proof")

#: Limit for two runs of PyTorch in float64, of which one rounds the code's constants to float32 and the other does not.
_OWN = 1e-6

#: Of the file's gradient at the median image, where only weights and folded batch norms are rounded. Where float32
#: alone does more than this to the same gradient, as much as that.
_MEDIAN = 1e-6

#: How often the tail is differentiated with other last bits, and by how much they differ.
_MOST_TURNS = 4
_LAST_BITS = 1e-6

#: Images that run in float64 together: enough to mix them up, few enough for the memory.
_TOGETHER = 2


class PyTorchJudge:
    """Checks each layer of an exported file against the module that it was made of.

    Args:
        module: the user's own. captured: its program.
        layers: by the name of each target layer: how it holds its grid, and the captured value that it is.
        score: that which the model's own scores are.
        notes: where to put what the user should know.
        columns, signs: which column of those scores each class is, and with which sign; none where each is its own.
    """

    def __init__(
        self,
        module: nn.Module,
        captured: Captured,
        layers: Mapping[str, tuple[Layout, fx.Node | None]],
        score: fx.Node | None,
        notes: list[str],
        columns: Sequence[int] = (),
        signs: Sequence[int] = (),
    ) -> None:
        self._module, self._captured = module, captured
        self._columns, self._signs = torch.tensor(columns), torch.tensor(signs, dtype=torch.float64)
        self._layers, self._score, self._notes = layers, score, notes

    def __call__(self, file: ExportedFile) -> list[Check]:
        """All checks of the file's first layer; the outputs' with the first layer of all."""
        checks = [] if file.is_further else self._outputs(file)
        axes, node = self._layers[file.spec.layer.name]
        if node is None or self._score is None:  # named as in the plain export
            what = f"score '{file.spec.output.score}'" if node is not None else f"layer '{file.spec.layer.name}'"
            self._notes.append(
                f"{what} is a value of the ONNX graph, which the module does not have: the gradient was compared with "
                "differences, not with autograd"
            )
            return checks
        return checks + self._layer(file, axes, node, self._score)

    def _outputs(self, file: ExportedFile) -> list[Check]:
        batches = torch.from_numpy(file.plain_images).split(file.batch or len(file.images))
        expected = zip(*(eager_outputs(self._module, batch) for batch in batches), strict=True)
        return [
            Check(f"output '{name}' against eager PyTorch", relative_error(file.top.outputs[name], want), 1e-4)
            # The export may have added outputs behind them.
            for name, want in zip(file.top.outputs, (np.concatenate(parts) for parts in expected), strict=False)
        ]

    def _layer(self, file: ExportedFile, axes: Layout, node: fx.Node, score: fx.Node) -> list[Check]:
        graph = self._captured.graph
        places = _places(node.meta["val"].shape[1:], file.tail.shape[1:], axes)
        tail = TailProgram(graph, node, score, _together(file))
        passes: Evaluator | None = None
        own: list[Check] = []
        parts: list[list[Array]] = [[], [], [], []]
        for images, activations, asked in _pairs(file):
            release_memory()
            held, scores, *border = run_in_float64(graph, images, node, score, *tail.border)
            classes, signs = self._sides(asked, held.dim())
            gradient = tail.gradient(held, border, classes)
            if passes is None:
                passes = _differentiated(tail, [held, *border])
                own = self._own_autograd(file.spec.layer.name, images, held, scores, classes, gradient)
            given = held.reshape(len(held), -1).clone()
            given[:, places.reshape(-1)] = activations.double().reshape(len(held), -1)
            at_its_values = tail.gradient(given.reshape(held.shape), border, classes) * signs
            differentiated = _run(passes, tail, [held, *border], classes) * signs.numpy()
            for part, value in zip(parts, (held, gradient * signs, differentiated, at_its_values), strict=True):
                part.append(np.asarray(value).reshape(len(held), -1)[:, places])
        exact, autograd, differentiated, at_its_values = (np.concatenate(part)[: len(file.images)] for part in parts)
        rounding = Yardstick(exact, lambda turn: self._rounded(file, node, places, turn))
        worst = max(_of_largest(have, want) for have, want in zip(differentiated, autograd, strict=True))
        shares = file.yardstick.shares(at_its_values)
        for turn in range(_MOST_TURNS if file.tail.needed else 0):
            if shares.max() <= 1:
                break
            moved = self._at_moved_values(file, tail, node, score, places, turn)
            shares = np.minimum(shares, file.yardstick.shares(moved))
        name = "gradient of the file in float64 against autograd"
        if file.tail.needed:
            median = Check(f"{name}, share of the allowed error (median image)", float(np.median(shares)), 1)
        else:
            errors = image_errors(file.yardstick.exact, at_its_values)
            limit = _MEDIAN
            if np.median(errors) > limit:  # a network whose depth amplifies rounding: measured, not assumed
                limit = max(limit, float(np.median(file.yardstick.rounding())))
            median = Check(f"{name} (median image)", float(np.median(errors)), limit)
        activations_share = float(rounding.shares(file.top.activations).max())
        return [
            Check("activations in float32, share of the allowed error", activations_share, 1),
            Check("gradient in float64 against autograd", worst, 1e-8),
            median,
            Check(f"{name}, share of the allowed error (worst image)", float(shares.max()), 1),
            *own,
        ]

    def _at_moved_values(
        self, file: ExportedFile, tail: TailProgram, node: fx.Node, score: fx.Node, places: Array, turn: int
    ) -> Array:
        """Autograd's gradient with other last bits in all that enters the tail.

        What bypasses the layer is rounded in the file alone, and one mask in some image may lie on its other side.
        """
        numbers = torch.Generator().manual_seed(turn)

        def moved(value: torch.Tensor) -> torch.Tensor:
            noise = torch.randn(value.shape, generator=numbers, dtype=torch.float64)
            return value * (1 + _LAST_BITS * noise) if value.is_floating_point() else value

        parts = []
        for images, activations, asked in _pairs(file):
            release_memory()
            held, _, *border = run_in_float64(self._captured.graph, images, node, score, *tail.border)
            classes, signs = self._sides(asked, held.dim())
            given = held.reshape(len(held), -1).clone()
            given[:, places.reshape(-1)] = activations.double().reshape(len(held), -1)
            gradient = tail.gradient(moved(given.reshape(held.shape)), [moved(one) for one in border], classes) * signs
            parts.append(np.asarray(gradient).reshape(len(held), -1)[:, places])
        return np.concatenate(parts)[: len(file.images)]

    def _sides(self, classes: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The columns of the model's own scores that the classes are, and their signs, to multiply a gradient with."""
        if not len(self._columns):
            return classes, torch.ones(1)
        signs = self._signs[classes]
        return self._columns[classes], signs.reshape(-1, *(1,) * (rank - 1))

    def _rounded(self, file: ExportedFile, node: fx.Node, places: Array, turn: int) -> Array:
        """The activations in PyTorch's float32; from the second turn on with other last bits of the images."""
        noise = torch.randn(file.plain_images.shape, generator=torch.Generator().manual_seed(turn))
        images = torch.from_numpy(file.plain_images) * (1 + (2**-23 if turn else 0) * noise)
        parts = (values_of(self._captured.graph, batch, node)[0] for batch in images.split(file.batch or len(images)))
        held = np.concatenate([part.numpy() for part in parts])
        return held.reshape(len(held), -1)[:, places]

    def _own_autograd(
        self,
        layer: str,
        images: torch.Tensor,
        held: torch.Tensor,
        scores: torch.Tensor,
        classes: torch.Tensor,
        gradient: torch.Tensor,
    ) -> list[Check]:
        where = f"between layer '{layer}' and the score"
        try:
            own = own_gradient(self._module, images.double(), held, scores, classes)
        except Exception as error:  # the module is foreign code, which nobody has asked to run in float64
            _log.info("the module's own autograd was not compared: %s: %s", type(error).__name__, first_line(error))
            return []
        if not own:
            self._notes.append(
                f"PyTorch's own autograd stops {where} (a detach() or torch.no_grad()): the file holds the "
                "derivative of what the network computes"
            )
            return []
        # Values that hold the same numbers as the layer cannot be told from it here: one of them has its gradient.
        error = min(
            max(_of_largest(have, want) for have, want in zip(one.numpy(), gradient.numpy(), strict=True))
            for one in own
        )
        if error <= _OWN:
            return [Check("gradient in float64 against the module's own autograd", error, _OWN)]
        self._notes.append(
            f"PyTorch's own autograd gives another gradient (by {error:.2g} of its largest): {where} it stops on some "
            "way (a detach() or torch.no_grad()), or a function brings a derivative of its own; the file holds the "
            "derivative of what the network computes"
        )
        return []


def _together(file: ExportedFile) -> int:
    """How many images run at once: one where each is right by itself only."""
    return 1 if file.batch == 1 else _TOGETHER


def _pairs(file: ExportedFile) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Images, activations and classes, as many as run at once; the last is repeated where it has no other beside it."""
    everything = (file.plain_images, file.top.activations, file.top.classes)
    for start in range(0, len(file.images), _together(file)):
        chosen = np.minimum(np.arange(start, start + _together(file)), len(file.images) - 1)
        images, activations, classes = (torch.from_numpy(array[chosen]) for array in everything)
        yield images, activations, classes


def _places(shape: Sequence[int], exported: Sequence[Any], axes: Layout) -> Array:
    """Where each cell (C, H, W) lies in a captured value, which the export may hold with its axes turned round."""
    number = np.arange(math.prod(shape)).reshape(1, *shape)
    as_exported = (array for array in (number, *permuted(number)) if array.shape[1:] == tuple(exported))
    return axes.to_nchw(next(as_exported))[0]


def _differentiated(tail: TailProgram, values: Sequence[torch.Tensor]) -> Evaluator:
    """The part behind the layer, converted in float64 and differentiated as the file was."""
    graph, _ = open_model(tail_to_onnx(tail, values))
    shape = graph.shape("layer") or ()
    # The gradient is wanted as the value is held: tokens count as a grid of one row.
    axes = NCHW if len(shape) == 4 else in_order(1, int(values[0].shape[1]))
    layer = Candidate("layer", "", "", shape, axes, 0)
    return Evaluator(write_gradients(graph, [layer], find_score(graph, graph.output_names[0], "logits")).model)


def _run(passes: Evaluator, tail: TailProgram, values: Sequence[torch.Tensor], classes: torch.Tensor) -> Array:
    """The gradient as the layer's value is held."""
    feeds = {name: value.numpy() for name, value in zip(tail.inputs, values, strict=True)}
    gradient = passes.run({**feeds, "cam_target": classes.numpy()}, ["cam_gradients"])["cam_gradients"]
    return gradient if values[0].dim() == 4 else gradient[:, :, 0].transpose(0, 2, 1)


def _of_largest(value: Array, reference: Array) -> float:
    """max|difference| over max|reference|, where a zero reference asks for a zero value."""
    if not reference.any():
        return 0.0 if not value.any() else float("inf")
    return relative_error(value, reference)
