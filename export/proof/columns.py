"""Several classes of an image in one inference: each with its own gradient, whatever the other columns ask for."""

from __future__ import annotations

import numpy as np

from .exported_file import ExportedFile
from .results import Check, image_errors

__all__ = ["columns_apart"]

_MOST = 4


def columns_apart(file: ExportedFile) -> list[Check]:
    """Columns against single classes and beside others, and the classes by rank."""
    columns = file.spec.columns
    if columns is None:
        return []
    images, classes = file.images, file.spec.output.classes
    count = columns.count or min(classes, _MOST)
    asked = (file.top.classes[:, None] + np.arange(len(images))[:, None] + np.arange(count)) % classes
    gradients, answered = file.columns(images, asked)
    wrong, worst = int((answered != asked).sum()), 0.0
    for k in range(min(count, _MOST)):
        alone = file.explain(images, asked[:, k]).gradients
        shares = file.yardstick.shares(gradients[:, k], alone)
        worst = max(worst, float(np.median(shares)))
    found = [
        Check("classes of the columns are those asked for", wrong, 0),
        Check("columns against single classes, share of the allowed error", worst, 1),
    ]
    if count > 1:
        beside = (asked + count) % classes  # another class in every other column
        beside[:, ::2] = asked[:, ::2]
        among, _ = file.columns(images, beside)
        moved = max(float(image_errors(among[:, k], gradients[:, k]).max()) for k in range(0, count, 2))
        found.append(Check("columns beside other classes", moved, 1e-5))
    ranks = min(columns.ranks, count)
    best = file.columns(images, np.repeat(-1 - np.arange(count)[None].clip(max=ranks - 1), len(images), axis=0))[1]
    scores = file.top.outputs[file.spec.output.name].reshape(len(images), -1)
    picked = np.take_along_axis(scores, best[:, :ranks], 1)
    expected = -np.sort(-scores, axis=1)[:, :ranks]
    # A softmax may give several classes the same probability: either has the rank.
    found.append(Check("classes by rank are in the order of the scores", int((picked != expected).sum()), 0))
    return found
