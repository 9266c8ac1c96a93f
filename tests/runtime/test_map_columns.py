"""A map in seven numbers, against the definitions written out pixel by pixel."""

import math

import numpy as np
import pytest
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.map_columns import MAP_COLUMNS, map_columns


def written_out(heat):
    height, width = heat.shape
    pixels = [((c + 0.5) / width, (r + 0.5) / height, float(heat[r, c])) for r in range(height) for c in range(width)]
    total = sum(value for _, _, value in pixels)
    highest = max(value for _, _, value in pixels)
    centre_x = sum(x * value for x, _, value in pixels) / total
    centre_y = sum(y * value for _, y, value in pixels) / total
    spread = sum(((x - centre_x) ** 2 + (y - centre_y) ** 2) * value for x, y, value in pixels) / total
    peak = next((x, y) for x, y, value in pixels if value == highest)
    return {
        "area": sum(value >= highest / 2 for _, _, value in pixels) / len(pixels),
        "border": sum(value for x, y, value in pixels if not (0.1 <= x <= 0.9 and 0.1 <= y <= 0.9)) / total,
        "centre_x": centre_x,
        "centre_y": centre_y,
        "spread": math.sqrt(spread),
        "peak_x": peak[0],
        "peak_y": peak[1],
    }


@pytest.mark.parametrize("shape", [(7, 7), (23, 17), (1, 4), (1, 1)])
def test_the_definitions(shape):
    heat = np.random.default_rng(3).random(shape, np.float32) ** 4
    found = map_columns(heat)
    assert tuple(found) == MAP_COLUMNS
    assert found == pytest.approx(written_out(heat), abs=1e-12)


def test_plain_maps():
    even = map_columns(np.ones((100, 200), np.float32))
    assert even["area"] == 1
    assert even["border"] == pytest.approx(0.36)
    assert (even["centre_x"], even["centre_y"]) == pytest.approx((0.5, 0.5))
    assert even["spread"] == pytest.approx(math.sqrt(1 / 6), rel=1e-3)
    corner = np.zeros((10, 10), np.float32)
    corner[9, 0] = 3
    found = map_columns(corner)
    assert all(type(value) is float for value in found.values())
    assert found == pytest.approx(
        {
            "area": 0.01,
            "border": 1.0,
            "centre_x": 0.05,
            "centre_y": 0.95,
            "spread": 0.0,
            "peak_x": 0.05,
            "peak_y": 0.95,
        },
        abs=1e-9,
    )


@pytest.mark.parametrize("heat", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.ones(3), np.ones((0, 3))])
def test_what_is_no_map(heat):
    with pytest.raises(ArrayError, match="a map: expected"):
        map_columns(heat.astype(np.float32))
