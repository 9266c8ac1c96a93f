"""Random classifiers, exported and explained, against what numpy says of the same graph.

What is compared: the tensor that a photo becomes, the probabilities that are shown, the class that is explained, the
activations of the target layer as (N, C, H, W), and the gradient of the class's score, along random directions, by
central differences. An export may be refused; what it writes must be right.
"""

from __future__ import annotations

import random
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from cfcam.export.onnx_export import export_onnx
from cfcam.export.sources.preprocessing import Preprocessing
from cfcam.runtime import Explainer
from cfcam.runtime.engines.options import EngineOptions
from cfcam.runtime.errors import CfcamError
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from PIL import Image

from .classifiers import body
from .common import refused_cleanly
from .graph_building import Building, Grid
from .heads import Head, head
from .numpy_onnx import NumpyGraph

__all__ = ["semantics"]

_PHOTOS = 3


class _Input:
    """A random input: its type, its preprocessing, photos for it, and the tensors that these must become."""

    def __init__(self, chance: random.Random) -> None:
        self.height, self.width = (chance.choice([12, 16, 20]) for _ in range(2))
        self.channels = chance.choice([1, 3, 3, 3, 4])
        self.last = self.channels < 4 and chance.random() < 0.3
        self.kind: Any = chance.choice([np.float32, np.float32, np.float32, np.uint8, np.int8])
        color: Any = {1: "gray", 3: chance.choice(["rgb", "bgr"]), 4: "channels"}[self.channels]
        scale, mean, std = chance.choice([(1 / 255, 0.5, 0.25), (1.0, 127.0, 128.0), (1 / 127.5, 1.0, 1.0)])
        means = tuple(mean * (1 + 0.1 * i) for i in range(self.channels))
        stds = tuple(std * (1 - 0.1 * i) for i in range(self.channels))
        if self.kind != np.float32:
            means = (0.0 if self.kind == np.uint8 else 128.0,) * self.channels
            scale, stds = 1.0, (1.0,) * self.channels
        self.placing = chance.choice(["whole", "whole", "cropped", "padded"])
        mode: Any = chance.choice(["stretch", "pad", "fit"])
        rows, columns, shorter = self.height, self.width, None
        if self.placing == "cropped":
            mode, rows, columns = "shorter", max(self.height, self.width) + 4, max(self.height, self.width) + 8
            shorter = rows
        elif self.placing == "padded":
            mode, rows = chance.choice(["pad", "fit"]), self.height // 2
        self.preprocessing = Preprocessing(
            scale=scale, mean=means, std=stds, color=color, mode=mode, shorter=shorter,
            crop="center" if mode == "shorter" else "none",
        )  # fmt: skip
        numbers = np.random.default_rng(chance.randrange(2**32))
        coarse = numbers.integers(0, 256, (_PHOTOS, -(-rows // 4), -(-columns // 4), self.channels))
        smooth = coarse.repeat(4, 1).repeat(4, 2)[:, :rows, :columns] + numbers.integers(-40, 41, (rows, columns, 1))
        self.pixels = np.clip(smooth, 0, 255).astype(np.uint8)
        # Of three colours mean and std are in the order R, G, B whatever the model's is.
        order = slice(None, None, -1) if color == "bgr" else slice(None)
        x = ((self.pixels * scale - np.array(means)) / np.array(stds))[..., order]
        self.tensors = self._placed(x)

    def _placed(self, x: Any) -> Any:
        """The photos' values (N, h, w, C) inside the input's rectangle, in its layout and type."""
        rows, columns = x.shape[1:3]
        if self.placing == "cropped":
            top, left = (rows - self.height) / 2, (columns - self.width) / 2
            x = x[:, int(top) :, int(left) :][:, : self.height, : self.width]
        elif self.placing == "padded":
            whole = np.zeros((len(x), self.height, self.width, x.shape[3]))  # the mean colour is 0
            top = (self.height - rows) // 2
            whole[:, top : top + rows] = x
            x = whole
        if not self.last:
            x = x.transpose(0, 3, 1, 2)
        if self.kind == np.float32:
            return x.astype(np.float32)
        limits = np.iinfo(self.kind)
        return np.clip(np.rint(x), limits.min, limits.max).astype(self.kind)

    @property
    def photos(self) -> list[Any]:
        if self.channels == 4:
            return [pixels[..., :] for pixels in self.pixels]
        return [Image.fromarray(p[..., 0] if self.channels == 1 else p) for p in self.pixels]


def _network(chance: random.Random, given: _Input) -> tuple[ModelProto, Head, Building]:
    """A random classifier of such images."""
    b = Building(chance, "image", given.tensors, chance.choice([13, 17, 18, 20]))
    b.quantised = chance.random() < 0.4
    x = "image"
    if given.kind != np.float32:
        x = b("Cast", x, to=TensorProto.FLOAT)
        x = b("Div", b("Sub", x, b.number(128.0 if given.kind == np.uint8 else 0.0)), b.number(64.0))
    if given.last:
        x = b("Transpose", x, perm=[0, 3, 1, 2])
    if b.quantised:
        x = b.pair(x)
    b.grids.pop(x, None)
    made = head(b, body(b, x))
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(given.kind))
    batch = chance.choice(["N", "N", "N", 1])
    model = b.model("image", kind, [batch, *given.tensors.shape[1:]], made.outputs)
    if batch == 1:
        for info in model.graph.output:
            if info.type.tensor_type.shape.dim:
                info.type.tensor_type.shape.dim[0].dim_value = 1
    return model, made, b


def semantics(chance: random.Random, folder: Path) -> str | None:
    """One classifier: everything is right (None), or the export is refused with the sentence that is returned."""
    given = _Input(chance)
    model, made, built = _network(chance, given)
    onnx.save(model, folder / "semantics.onnx")
    refusal: list[CfcamError] = []
    with warnings.catch_warnings(), refused_cleanly():
        warnings.simplefilter("ignore")
        try:
            export_onnx(
                folder / "semantics.onnx",
                folder / "semantics.cam.onnx",
                preprocessing=given.preprocessing,
                channels=given.channels,
                **made.options,
            )
        except CfcamError as error:
            refusal.append(error)
            raise
    if refusal:
        return f"{made.name.partition(',')[0]}: {_general(str(refusal[0]))}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _compare(folder / "semantics.cam.onnx", model, given, made, built)
    return None


def _general(message: str) -> str:
    """A message without its names and numbers."""
    message = re.sub(r"\S*semantics(\.cam)?\.onnx", "FILE", message)
    return re.sub(r"(?<![a-z\d])-?\d+(\.\d+)?(e[+-]?\d+)?", "0", re.sub(r"'[^']*'", "'...'", message))


def _compare(path: Path, model: ModelProto, given: _Input, made: Head, built: Building) -> None:
    graph = NumpyGraph(model)
    values = graph.run({"image": given.tensors.astype(np.float64)})
    scores = made.scores(values)
    count, classes = scores.shape
    others = np.arange(1, count + 1) % classes
    # A quantised network is judged node by node: kernels of ONNX Runtime that join its nodes round otherwise, and the
    # gradient then belongs to another state than any that numpy can be led to.
    options = EngineOptions(threads=1, graph_optimization="none" if built.quantised else "all")
    with Explainer(path, options=options) as explainer:
        tensors = np.stack([explainer.prepare(photo).tensor for photo in given.photos])
        _close("tensor", tensors, given.tensors, 1e-5)
        assert explainer.spec.output.classes == classes, f"{explainer.spec.output.classes} classes, not {classes}"
        alone = [explainer.explain(photo, method="gradcam") for photo in given.photos]
        together = explainer.explain_batch(given.photos, method="gradcam")
        top, other = explainer.tensors(given.photos), explainer.tensors(given.photos, list(map(int, others)))
        layer = explainer.spec.layer
    # A value that is about to be rounded may fall to the other side in float32, and attention makes much of it.
    loose = 0.1 + _by_kernels(model, given) if built.quantised else 0.0
    targets = np.array([one.target for one in alone])
    for one, same in zip(alone, together, strict=True):
        _close("map in company", same.map, one.map, 1e-3 + 2 * loose)
    assert built.quantised or (top.classes == targets).all(), "the explained class depends on the company"
    shown = made.shown(values)
    if made.options.get("score_kind") == "regression":
        told = np.array([one.value for one in alone])
        _close("value", told, shown[range(count), targets % (classes // 2)], 2e-3 + loose)
    else:
        _close("probability", np.stack([one.probabilities for one in alone]), shown, made.rounded + loose, "absolute")
        best = shown[range(count), targets]
        _close("explained class", best, shown.max(axis=1), 2 * (made.rounded + loose), "absolute")
    assert (other.classes == others).all(), "another class than the one that was asked for"
    name = _value_of(built, values, layer.value, top.layers[0].activations)
    for answer in (top, other):
        _check_gradient(graph, values, made, (name, built.grids[name]), answer, built.quantised)


def _by_kernels(model: ModelProto, given: _Input) -> float:
    """What ONNX Runtime's kernels for quantised values alone do to the source's own outputs."""
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    answers = []
    for options in (ort.SessionOptions(), plain):
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        rows = [session.run(None, {"image": one[None]}) for one in given.tensors]
        answers.append(
            [np.asarray(value, np.float64) for row in rows for value in row if np.asarray(value).dtype.kind == "f"]
        )
    return max((float(np.abs(a - b).max(initial=0)) for a, b in zip(*answers, strict=True)), default=0.0)


def _value_of(built: Building, values: Any, said: str, activations: NDArray[Any]) -> str:
    """Which value of the graph the activations are, its axes in the right places."""
    limit = 0.4 if built.quantised else 5e-3
    errors = {
        name: float(np.linalg.norm(planes - activations) / (np.linalg.norm(planes) + 1e-9))
        for name, grid in built.grids.items()
        if (planes := grid.planes(values[name])).shape == activations.shape
    }
    if errors.get(said, 1.0) <= limit:
        return said
    nearest = min(errors, key=lambda name: errors[name], default="")
    assert errors.get(nearest, 1.0) <= limit, (
        f"activations {activations.shape} of '{said}', {built.grids.get(said)}, are no value's: {errors}"
    )
    return nearest


def _check_gradient(
    graph: NumpyGraph, values: Any, made: Head, layer: tuple[str, Grid], answer: Any, coarse: bool
) -> None:
    """Gradients along random directions, and along themselves, against differences at the same activations.

    coarse: values are quantised. Then what is rounded behind the layer may lie a step beside what the file has, and a
    ReLU on its other side: the nearest of several such states counts.
    """
    name, grid = layer
    activations = answer.layers[0].activations.astype(np.float64)
    gradients = np.broadcast_to(answer.layers[0].gradients.astype(np.float64), activations.shape)
    numbers = np.random.default_rng(0)
    starts = [activations]
    if coarse:
        noise = (0.005 * activations.std() * numbers.standard_normal(activations.shape) for _ in range(6))
        starts += [grid.planes(values[name]), *(activations + some for some in noise)]
    random_ones = [numbers.standard_normal(activations.shape) for _ in range(3)]
    directions = [one * (activations != 0) for one in (*random_ones, gradients)]  # after a ReLU zeros are kinks
    directions = [one / (_size(one) + 1e-30) for one in directions]
    told = np.stack([(gradients * one).sum(axis=(1, 2, 3)) for one in directions])
    errors, images = [], np.arange(len(activations))
    for start in starts:
        base = graph.run({"image": values["image"], name: grid.value(start, values[name])})
        here = made.scores(base)[images, answer.classes]
        step = 1e-5 * _size(start) + 1e-30
        slopes = []
        for sign in (1, -1):
            moved = [grid.value(start + sign * step * one, values[name]) for one in directions]
            scores = [made.scores(graph.run({"image": values["image"], name: one}, base)) for one in moved]
            slopes.append((np.stack(scores)[:, images, answer.classes] - here) * sign / step.reshape(-1))
        right = (slopes[0] + slopes[1]) / 2
        size = np.linalg.norm(right, axis=0) + 1e-9
        smooth = np.abs(slopes[0] - slopes[1]) <= 1e-3 * size  # the others cross a kink
        errors.append(np.linalg.norm(np.where(smooth, told - right, 0), axis=0) / size)
    worst = np.min(errors, axis=0).max()
    assert worst <= (0.1 if coarse else 1e-2), f"gradient at '{name}': off by {worst:.3g}: {told.round(4).tolist()}"


def _size(planes: Any) -> Any:
    """The length of each image's vector, (N, 1, 1, 1)."""
    return np.sqrt((planes**2).sum(axis=(1, 2, 3), keepdims=True))


def _close(what: str, found: Any, right: Any, limit: float, kind: str = "relative") -> None:
    found, right = np.asarray(found, np.float64), np.asarray(right, np.float64)
    assert found.shape == right.shape, f"{what}: shape {found.shape}, expected {right.shape}"
    difference = found - right
    if kind == "absolute":
        error = np.abs(difference).max(initial=0)
    else:
        error = np.linalg.norm(difference) / (np.linalg.norm(right) + 1e-9)
    assert error <= limit, f"{what}: off by {error:.3g}: {found.round(4).tolist()} instead of {right.round(4).tolist()}"
