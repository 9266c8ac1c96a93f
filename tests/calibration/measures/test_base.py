from __future__ import annotations

import doctest
import importlib
import math
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from cfcam.calibration import measures
from cfcam.calibration.measures import base
from cfcam.runtime.errors import ArrayError, TargetError

MODULES = [module.name for module in pkgutil.iter_modules(measures.__path__)]


class Echo(base.Measure):
    def __init__(self):
        super().__init__({"first": "higher", "second": "lower"})

    def update(self, first, second):
        return self._keep(first=first, second=second)


def test_update_compute_reset():
    echo = Echo()
    assert math.isnan(echo.compute()["first"])
    assert echo.values("first").shape == (0,)
    given = echo.update([1, 2], [math.nan, 4])
    np.testing.assert_array_equal(given["first"], [1, 2])
    echo.update([6], [math.nan])
    assert echo.compute() == {"first": 3, "second": 4}
    np.testing.assert_array_equal(echo.values("second"), [math.nan, 4, math.nan])
    echo.reset()
    echo.update([5], [7])
    assert echo.compute() == {"first": 5, "second": 7}


def test_slices():
    assert [(part.start, part.stop) for part in base.slices(5, 2)] == [(0, 2), (2, 4), (4, 5)]
    with pytest.raises(ArrayError, match="at least 1"):
        base.slices(5, 0)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(f"cfcam.calibration.measures.{name}")).failed == 0


def test_importing_is_cheap():
    code = (
        "import sys, cfcam.calibration.measures;"
        "print(*sorted({'scipy', 'sklearn', 'PIL', 'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.ones((3, 8, 8)), "shape"),
        (np.ones((1, 3, 8, 8), np.uint8), "got uint8"),
        (np.ones((0, 3, 8, 8)), "shape"),
        (np.full((1, 3, 8, 8), np.nan), "finite"),
    ],
)
def test_images_are_checked(images, words):
    with pytest.raises(ArrayError, match=words):
        base.check_images(images)


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (np.ones((8, 8)), r"\(N, H, W\)"),
        (np.full((1, 8, 8), 1.5), "0 to 1"),
        (np.full((1, 8, 8), -0.5), "0 to 1"),
        (np.full((1, 8, 8), np.nan), "0 to 1"),
        (np.ones((1, 7, 8)), r"expected shape \(1, 8, 8\)"),
    ],
)
def test_maps_are_checked(maps, words):
    with pytest.raises(ArrayError, match=words):
        base.check_maps(maps, (1, 8, 8))


@pytest.mark.parametrize("classes", [[0], [0, 3], [-1, 0], [0.0, 1.0], [[0, 1]]])
def test_classes_are_checked(classes):
    with pytest.raises(TargetError, match="classes: expected"):
        base.check_classes(classes, 2, 3)


def test_what_the_network_returns_is_checked():
    images = np.zeros((2, 3, 4, 4))
    with pytest.raises(ArrayError, match="does it return logits"):
        base.predicted(lambda x: np.full((len(x), 3), 4.0), images)
    with pytest.raises(ArrayError, match=r"predict: expected \(2, K\) for 2 images, got shape \(3,\)"):
        base.predicted(lambda x: np.ones(3), images)
    with pytest.raises(ArrayError, match=r"maps: expected shape \(2, 4, 4\)"):
        base.explained(lambda x, _: np.ones((2, 2, 2)), images, np.zeros(2, np.int64))
