"""Central differences on functions whose derivative is known, kinks among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from cfcam.export.proof.differences import gradient_against_differences, moved
from cfcam.export.proof.exported_file import open_exported_file
from mutations import rewired
from numpy.typing import NDArray
from onnx_classifiers import written

Array = NDArray[Any]
Function = Callable[[Array], Array]

COUNT, CHANNELS, SIZE, CLASSES = 5, 4, 3, 6
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.standard_normal((CLASSES, CHANNELS, SIZE, SIZE))
ACTIVATIONS = np.maximum(RANDOM.standard_normal((COUNT, CHANNELS, SIZE, SIZE)), 0)  # half of them are exactly zero


def file_of(function: Function, derivative: Function, activations: Array = ACTIVATIONS) -> Any:
    """A file whose class scores are the weighted sums of `function` over the layer's cells."""
    tail = SimpleNamespace(index=np.arange(CHANNELS * SIZE * SIZE).reshape(CHANNELS, SIZE, SIZE))

    def exact_at(part: slice) -> Any:
        held = activations[part]

        def scores(change: Callable[[Array, int], Array] | None = None) -> Array:
            value = held if change is None else change(held, 0)
            return np.tensordot(function(value), WEIGHTS, ((1, 2, 3), (1, 2, 3)))

        def gradient(classes: Array) -> Array:
            return WEIGHTS[classes] * derivative(held)

        return SimpleNamespace(tail=tail, scores=scores, gradient=gradient)

    classes = np.arange(COUNT)
    return SimpleNamespace(
        **{"batch": None, "images": activations, "exact_at": exact_at, "quantised": False, "half": False},
        top=SimpleNamespace(activations=activations, classes=classes),
        other_classes=(classes + 1) % CLASSES,
    )


def measured(file: Any) -> tuple[float, float, bool]:
    error, share = gradient_against_differences(file)
    return error.value, share.value, error.ok and share.ok


def test_a_smooth_function() -> None:
    error, share, ok = measured(file_of(lambda x: x**3 + x, lambda x: 3 * x**2 + 1))
    assert ok
    assert error < 1e-6
    assert share == 1


@pytest.mark.parametrize(
    "wrong", [lambda x: -2 * x, lambda x: 2.01 * x, lambda x: 2 * np.roll(x, 1, 1), lambda x: 0 * x]
)
def test_a_wrong_gradient_is_off_by_what_is_wrong(wrong: Function) -> None:
    error, share, ok = measured(file_of(lambda x: x**2, wrong))
    assert not ok
    assert error > 1e-3
    assert share == 1


def test_cells_on_a_kink_are_left_out_and_the_others_count() -> None:
    """|x| has no derivative at zero, where half of the cells are."""
    error, share, ok = measured(file_of(np.abs, np.sign))
    assert ok
    assert error < 1e-6
    assert share == 1


def test_kinks_everywhere_tell_nothing_and_so_fail() -> None:
    held = ACTIVATIONS.copy()
    error, share, ok = measured(file_of(lambda x: np.abs(x - held[:3]), lambda x: np.zeros_like(x), held + 0.0))
    assert not ok
    assert np.isnan(error)
    assert share == 0


def test_images_without_gradient_need_scores_that_stand_still() -> None:
    still = measured(file_of(lambda x: np.ones_like(x), lambda x: np.zeros_like(x)))
    assert still[2]
    assert not measured(file_of(lambda x: 1 + x, lambda x: np.zeros_like(x)))[2]


def test_a_change_goes_to_the_places_of_the_layers_own_layout() -> None:
    """Two tokens of two channels behind a class token: cell (c, 0, w) is number 2 + 2 w + c of the flat value."""
    tail: Any = SimpleNamespace(index=np.array([[[2, 4]], [[3, 5]]]))
    change = np.arange(8.0).reshape(2, 2, 1, 2) + 1
    value = np.zeros((1, 3, 2))
    found = moved(tail, change)(value, 1)  # the second image
    np.testing.assert_array_equal(found, [[[0, 0], [5, 7], [6, 8]]])
    assert not value.any()


def test_an_exported_file(tmp_path: Path) -> None:
    path, _ = written(tmp_path, layer="middle")
    error, share, ok = measured(open_exported_file(path))
    assert ok
    assert error < 1e-6
    assert share == 1
    model = onnx.load(path)
    rewired(model, "cam_gradients", ("Neg", ["it"], {}))
    onnx.save(model, path)
    error, _, ok = measured(open_exported_file(path))
    assert not ok
    assert error > 0.1
