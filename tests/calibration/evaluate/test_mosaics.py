"""Mosaics of photos that the model knows."""

import pytest
from cfcam.calibration.evaluate import (
    evaluate,
    make_plan,
)


def test_mosaics(explainer, coloured, tmp_path):
    """Red, green, blue and dark: the map of a class must lie in its cell."""
    from PIL import Image

    photos = []
    for name, colour in (("r", (255, 0, 0)), ("g", (0, 255, 0)), ("b", (0, 0, 255)), ("d", (0, 0, 0))):
        photos.append(tmp_path / f"{name}.png")
        Image.new("RGB", (96, 64), colour).save(photos[-1])
    plan = make_plan(explainer, methods=["hirescam"], measures=["mosaics"], baselines=["uniform"])
    found = evaluate(explainer, [*photos, coloured[0][0]], plan)
    (mosaic,) = [one for one in found.photos if one.unit == "mosaic"]
    assert mosaic.name.startswith("mosaic of ")
    assert found.values("uniform", "grid_pointing_game")[-1] == pytest.approx(0.25)
    assert found.values("hirescam", "grid_pointing_game")[-1] > 0.75
    assert found.values("hirescam", "cell_pointing")[-1] == 1
    assert not found.warnings
    few = evaluate(explainer, photos[:3], plan)
    assert "a mosaic needs 4 photos of different classes" in " ".join(few.warnings)
    assert len(few.photos) == 3
