"""Whether the grid of the target layer lies on the image as the file claims: the patch test.

Patches of an image are exchanged for those of another, one at a time, and the layer's activations are compared with
those of the whole image. What gates and attention spread changes every cell a little, so each cell's mean change is
taken off, and only the cells that change *most* count: a sixteenth of them. Their centre of mass says where the patch
was; the distance to where it really was (rows plus columns, in sides of the image) is the error of a *reading* of the
layer.

The claimed reading is compared with others: rows and columns exchanged, either turned round, channels taken for rows or
columns, tokens on a grid of other sides, and cells in any other order, which is learned from the patches of one image
and judged by those of the other. Another reading fits significantly better when

1. it is closer in so many patches as happens by chance once in a thousand tests (sign test, for all readings together),
2. its mean error is below seven tenths of the claimed one's, and by a tenth of a side at least, and
3. it knows where the patches were: with the patches' places exchanged among each other its mean error is as small in at
   most one of a hundred draws.

An order that is learned also learns by how much strides and padding shift the cells. So where the claimed reading
passes 3 too, it must gain more than one cell, along rows and columns together.

Where neither the claimed reading passes 3 nor another one fits better, the layer is *not testable*: every cell sees
the whole image, say, or there is one cell only. That is said, and is no failure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.contract.spec import InputSpec, LayerSpec
from .exported_file import ExportedFile
from .images import structured_images
from .results import Check

__all__ = ["CHECK", "NOT_TESTABLE", "Fit", "better_readings", "compare", "placement"]

Array = NDArray[Any]

CHECK = "readings of the grid that fit the image better than the claimed one"
NOT_TESTABLE = "not testable: no reading of the grid shows where the image was changed"

#: Images whose patches are exchanged, and patches of each, which tile it.
_BASES, _PATCHES = 2, 16
#: Images that run at once, where the batch is free.
_AT_ONCE = 6
#: The share of the cells that count.
_HOTTEST = 1 / 16
#: Limits of the three points above.
_SIGNIFICANT, _CLOSER, _GAIN, _LOCATED = 1e-3, 0.7, 0.1, 1e-2
_DRAWS = 999
_LEARNED = "in an order that is learned from the image"


@dataclass(frozen=True)
class Fit:
    """How well a reading says where the patches were.

    Attributes:
        name: What the layer is read as; empty for the claimed reading.
        errors: Of each patch, in sides of the image.
        chance: How often patches whose places are exchanged are said as well.
        remedy: What an export would have to say for this reading; empty where no option does.
        shift: What it may gain, in sides of the image, without any other order of the cells.
    """

    name: str
    errors: NDArray[np.float64]
    chance: float
    remedy: str = ""
    shift: float = 0.0

    @property
    def located(self) -> bool:
        """Whether the reading knows where the patches were."""
        return self.chance <= _LOCATED

    def is_better(self, claimed: Fit, compared: int) -> bool:
        """Whether it fits significantly better than `claimed`, as one of so many readings that are compared."""
        closer, farther = (int((s * (claimed.errors - self.errors) > 1e-9).sum()) for s in (1, -1))
        significant = _sign_test(closer, farther) * compared <= _SIGNIFICANT
        here, there = self.errors.mean(), claimed.errors.mean()
        gain = max(_GAIN, self.shift) if claimed.located else _GAIN
        return bool(significant and self.located and here < _CLOSER * there and here <= there - gain)


def placement(file: ExportedFile) -> list[Check]:
    """The patch test of the file's first layer: no reading of its grid fits the image better than the claimed one."""
    squares, centres = _changes(file)
    claimed, better = better_readings(squares, centres, file.spec.layer)
    note = "" if claimed.located or better else NOT_TESTABLE
    if better:
        best = better[0]
        remedy = _remedy(file, best)
        note = (
            f"read {best.name}, the places that change most lie {best.errors.mean():.2f} sides of the image from where "
            f"it was changed, and {claimed.errors.mean():.2f} as claimed: {remedy}"
        )
    return [Check(CHECK, len(better), 0, note=note)]


def better_readings(squares: Array, centres: Array, layer: LayerSpec) -> tuple[Fit, list[Fit]]:
    """The claimed reading, and those that fit significantly better, the best first; what `compare` takes.

    An order that is learned comes last: it finds what any other reading finds.
    """
    claimed, *others = compare(squares, centres, layer)
    better = [fit for fit in others if fit.is_better(claimed, len(others))]
    return claimed, sorted(better, key=lambda fit: (fit.name == _LEARNED, fit.errors.mean()))


def _remedy(file: ExportedFile, fit: Fit) -> str:
    torch = file.spec.source.kind == "torch"
    if fit.remedy and not (torch and "--layout" in fit.remedy):
        return f"export it with {fit.remedy}"
    return "choose another layer with --layer"


def compare(squares: Array, centres: Array, layer: LayerSpec) -> list[Fit]:
    """The readings of a layer, the claimed one first.

    Args:
        squares: (images, patches, C, H, W): squared changes of the activations, as claimed.
        centres: (patches, 2): row and column of each patch's centre, in sides of the image.
        layer: how the file claims to hold the layer.
    """
    fits = []
    for name, maps, remedy in _readings(squares, layer):
        rows, columns = ((np.arange(size) + 0.5) / size for size in maps.shape[2:])
        cells = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
        hottest = [_hottest(image.reshape(len(centres), -1)) for image in maps]
        fits.append(_fit(name, [weights @ cells for weights in hottest], centres, remedy))
    maps = np.sqrt(squares.sum(axis=2)).reshape(*squares.shape[:2], -1)
    learned = _in_learned_order(maps, centres)
    return [*fits, replace(learned, shift=1 / layer.grid[0] + 1 / layer.grid[1])]


def _readings(squares: Array, layer: LayerSpec) -> Iterator[tuple[str, Array, str]]:
    """(name, changes (images, patches, rows, columns), remedy) of each reading, the claimed one first."""
    maps = np.sqrt(squares.sum(axis=2))
    height, width = layer.grid
    yield "", maps, ""
    for turned, name in ((maps, ""), (maps.swapaxes(2, 3), "with rows and columns exchanged")):
        for flips, what in (((2,), "rows turned round"), ((3,), "columns turned round"), ((2, 3), "both turned round")):
            if all(turned.shape[axis] > 1 for axis in flips):
                yield (name + " and " if name else "with ") + what, np.flip(turned, flips), ""
        if name:
            yield name, turned, ""
    if layer.layout == "NTC":
        cells = maps.reshape(*maps.shape[:2], -1)
        for rows in _divisors(height * width):
            columns = height * width // rows
            if (rows, columns) != (height, width):
                grid = f"{rows}x{columns}"
                yield f"as a grid of {grid}", cells.reshape(*cells.shape[:2], rows, columns), f"--grid {grid}"
        side = math.isqrt(layer.channels)
        if side > 1 and side * side == layer.channels:
            yield (
                "with channels for tokens",
                np.sqrt(squares.sum(axis=(3, 4))).reshape(*squares.shape[:2], side, side),
                "",
            )
        return
    # The value's axes in their own order, called what the other layout calls them.
    other, (rows, columns) = ("NHWC", (2, 3)) if layer.layout == "NCHW" else ("NCHW", (4, 2))
    for first, second in ((2, 3), (3, 2), (2, 4), (4, 2)):
        if squares.shape[first] * squares.shape[second] == 1:
            continue
        (gone,) = {2, 3, 4} - {first, second}
        sums = np.sqrt(squares.sum(axis=gone))
        exact = (first, second) == (rows, columns)
        name = f"as {other}" if exact else "with channels for rows" if first == 2 else "with channels for columns"
        yield name, sums if first < second else sums.swapaxes(2, 3), f"--layout {other}" if exact else ""


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _hottest(changes: Array) -> Array:
    """(patches, cells) -> weights of the cells that change most, which add up to 1 for each patch."""
    beyond = np.maximum(changes - changes.mean(axis=0), 0)
    count = max(1, round(_HOTTEST * beyond.shape[1]))
    least = np.partition(beyond, -count, axis=1)[:, -count, None]
    weights = np.where(beyond >= least, beyond, 0)
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / beyond.shape[1])


def _in_learned_order(maps: Array, centres: Array) -> Fit:
    """Each cell lies where a patch of the other image changes it most: any order of the cells is found by this."""
    told = []
    for image, other in zip(maps, maps[::-1], strict=True):
        learned = centres[np.argmax(other - other.mean(axis=0), axis=0)]
        told.append(_hottest(image) @ learned)
    return _fit(_LEARNED, told, centres, "")


def _fit(name: str, told: list[Array], centres: Array, remedy: str) -> Fit:
    """told: of each image, where its patches are said to lie: (patches, 2)."""
    random = np.random.default_rng(0)
    every = range(len(centres))
    distances = np.stack([np.abs(t[:, None] - centres[None]).sum(axis=2) for t in told])
    errors = distances[:, every, every]
    orders = random.permuted(np.tile(np.arange(len(centres)), (_DRAWS, len(told), 1)), axis=2)
    drawn = sum(distances[i][every, orders[:, i]].mean(axis=1) for i in range(len(told))) / len(told)
    chance = (1 + np.count_nonzero(drawn <= errors.mean() + 1e-9)) / (1 + _DRAWS)
    return Fit(name, errors.reshape(-1), float(chance), remedy)


def _sign_test(wins: int, losses: int) -> float:
    """How often a fair coin falls on one side at least `wins` times of `wins + losses`."""
    total = wins + losses
    return sum(math.comb(total, k) for k in range(wins, total + 1)) / 2**total


def _changes(file: ExportedFile) -> tuple[Array, Array]:
    """Squared changes of the activations by each patch, (images, patches, C, H, W), and the patches' centres."""
    spec = file.spec.input
    images = structured_images(spec, 2 * _BASES, seed=1)
    tiles, centres = _tiles(spec)
    found = []
    for base, donor in zip(images[:_BASES], images[_BASES:], strict=True):
        changed = np.repeat(base[None], 1 + len(tiles), axis=0)
        for place, (rows, columns) in enumerate(tiles, start=1):
            tile = (slice(None), rows, columns) if spec.layout == "NCHW" else (rows, columns)
            changed[place][tile] = donor[tile]
        activations = file.activations(changed, _AT_ONCE).astype(np.float64)
        found.append((activations[1:] - activations[0]) ** 2)
    return np.nan_to_num(np.stack(found), posinf=0.0), centres


def _tiles(spec: InputSpec) -> tuple[list[tuple[slice, slice]], Array]:
    """Sixteen patches that cover the image, as far as its pixels allow, and their centres."""
    side = math.isqrt(_PATCHES)
    rows = min(side, spec.height)
    columns = min(_PATCHES // rows, spec.width)
    rows = min(_PATCHES // columns, spec.height)
    spans = []
    for size, count in ((spec.height, rows), (spec.width, columns)):
        edges = np.linspace(0, size, count + 1).round().astype(int)
        spans.append([slice(a, b) for a, b in pairwise(edges)])
    tiles = [(r, c) for r in spans[0] for c in spans[1]]
    centres = [[(r.start + r.stop) / 2 / spec.height, (c.start + c.stop) / 2 / spec.width] for r, c in tiles]
    return tiles, np.array(centres)
