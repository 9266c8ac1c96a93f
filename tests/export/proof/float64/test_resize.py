"""Resizing against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cfcam.export.proof.float64.resize import resize
from onnx import helper

INTERPOLATE = torch.nn.functional.interpolate


def resized(x: np.ndarray, size: tuple[int, int], **attributes: Any) -> Any:
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    return resize(node, [x, None, None, np.array([*x.shape[:2], *size])], 18)


@pytest.mark.parametrize("size", [(11, 13), (3, 4), (1, 9)])
@pytest.mark.parametrize("frame", ["pytorch_half_pixel", "align_corners"])
def test_linear(frame: str, size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    corners = frame == "align_corners"
    want = INTERPOLATE(torch.from_numpy(x), size, mode="bilinear", align_corners=corners).numpy()
    found = resized(x, size, mode="linear", coordinate_transformation_mode=frame)
    if frame == "pytorch_half_pixel" and size[0] == 1:  # where ONNX takes the first row, and PyTorch the middle one
        want = INTERPOLATE(torch.from_numpy(x[:, :, :1]), size, mode="bilinear").numpy()
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)


def test_nearest() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    for size in ((11, 13), (3, 4)):
        for frame, rule, mode in (
            ("asymmetric", "floor", "nearest"),
            ("half_pixel", "round_prefer_ceil", "nearest-exact"),
        ):
            found = resized(x, size, mode="nearest", coordinate_transformation_mode=frame, nearest_mode=rule)
            np.testing.assert_array_equal(found, INTERPOLATE(torch.from_numpy(x), size, mode=mode).numpy())


@pytest.mark.parametrize(
    ("rule", "second"),
    [
        ("round_prefer_floor", [0, 0, 0, 1]),
        ("round_prefer_ceil", [0, 0, 1, 1]),
        ("floor", [0, 0, 0, 0]),
        ("ceil", [0, 1, 1, 1]),
    ],
)
def test_which_cell_is_nearest_by_hand(rule: str, second: list[int]) -> None:
    """Places 0, 1/4, 1/2, 3/4 between the first cell and the second, and behind the second there is none."""
    attributes: dict[str, Any] = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": rule}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest", **attributes)
    found = resize(node, [np.array([0.0, 1.0]), None, np.array([4.0])], 18)
    np.testing.assert_array_equal(found, [*second, 1, 1, 1, 1])


def test_scales_of_some_axes_by_hand() -> None:
    """Half-way places: 0.25 lies between cells; the size is rounded down."""
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", axes=[-1])
    found = resize(node, [np.array([[0.0, 4, 8]]), None, np.array([1.5])], 18)
    # Places (i + 0.5) / 1.5 - 0.5 = -1/6, 1/2, 7/6, 11/6 among cells 0, 1, 2.
    np.testing.assert_allclose(found, [[0, 2, 14 / 3, 22 / 3]], rtol=1e-12)


def test_forms_that_are_left_to_the_reference_evaluator() -> None:
    x = np.zeros((1, 1, 4, 4))
    for attributes in (
        {"mode": "cubic"},
        {"mode": "linear", "antialias": 1},
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
    ):
        assert resized(x, (2, 2), **attributes) is NotImplemented
    assert resize(helper.make_node("Resize", ["x"], ["y"]), [x], 18) is NotImplemented
