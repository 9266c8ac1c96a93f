"""Batches that an engine does not take, and outputs that cannot be used."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cfcam.runtime.engines.base import EngineInfo
from cfcam.runtime.errors import EngineError
from cfcam.runtime.inference import Inference, LayerTensors, Tensors, by_class, finite, infer_all
from tiny_model import VARIANTS


class Doubling:
    """Gives twice what it gets; takes from `least` to `most` rows at once."""

    def __init__(self, least: int = 1, most: int | None = None) -> None:
        self.info = EngineInfo("fake", "cpu", ("x",), ("y",), min_batch=least, max_batch=most)
        self.seen: list[int] = []

    def describe(self) -> EngineInfo:
        return self.info

    def infer(self, inputs: Any, outputs: Any = None) -> Any:
        self.seen.append(len(inputs["x"]))
        return {"y": 2 * inputs["x"]}


@pytest.mark.parametrize(
    ("least", "most", "seen"), [(1, None, [5]), (1, 2, [2, 2, 1]), (2, 2, [2, 2, 2]), (3, 4, [4, 3]), (8, 8, [8])]
)
def test_rows_are_given_in_batches_that_are_taken(least: int, most: int | None, seen: list[int]) -> None:
    engine: Any = Doubling(least, most)
    found = infer_all(engine, {"x": np.arange(5.0)}, ["y"])["y"]
    assert found.tolist() == [0, 2, 4, 6, 8]
    assert engine.seen == seen


def test_what_cannot_be_used_is_named() -> None:
    path = Path("x.onnx")
    with pytest.raises(EngineError, match=r"x\.onnx: output 'y' has shape \(2,\), expected 3 images"):
        finite(path, "y", np.zeros(2), 3, "here")
    with pytest.raises(EngineError, match="NaN or infinity for image 1 of the batch: the model overflows in here"):
        finite(path, "y", np.array([[0.0, 1], [0, np.inf]]), 2, "here")
    with pytest.raises(EngineError, match=r"shape \(2, 3\), expected 4 classes"):
        by_class(path, "y", np.zeros((2, 3), np.float32), 4)
    assert by_class(path, "y", np.zeros((2, 4, 1, 1), np.float32), 4).shape == (2, 4)


def test_a_layer_of_two_shapes_is_refused() -> None:
    spec = VARIANTS["logits"].spec

    class Odd:
        def describe(self) -> EngineInfo:
            return EngineInfo("fake", "cpu", (), (spec.output.name, *spec.added_outputs))

        def infer(self, inputs: Any, outputs: Any = None) -> Any:
            shapes = {"cam_activations": (1, 8, 8, 12), "cam_gradients": (1, 8, 8, 11), "cam_class": (1,)}
            return {name: np.zeros(shapes.get(name, (1, 6)), np.float32) for name in outputs}

    odd: Any = Odd()
    with pytest.raises(EngineError, match="expected 'cam_activations' and 'cam_gradients' of one shape"):
        Inference(Path("x.onnx"), spec, odd).tensors(np.zeros((1, 3, 32, 48)), np.array([0]), [])


def test_outputs_that_the_model_lacks_are_said_when_it_is_opened() -> None:
    spec = VARIANTS["logits"].spec
    engine: Any = SimpleNamespace(describe=lambda: EngineInfo("fake", "cpu", (), (spec.output.name, "cam_class")))
    with pytest.raises(EngineError, match=r"names the outputs cam_activations, cam_gradients, but .* are scores, cam_"):
        Inference(Path("x.onnx"), spec, engine)


def test_the_first_layer_answers_for_one_layer() -> None:
    first, second = (LayerTensors(*np.full((2, 1, 3, 2, 2), value, np.float32)) for value in (1, 2))
    raw = Tensors((first, second), np.zeros(1, np.int64), np.zeros((1, 3), np.float32), None, ())
    assert raw.activations is first.activations
    assert raw.gradients is first.gradients
    assert second.detail is None
