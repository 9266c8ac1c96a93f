"""Calibration images are read back as they came, in batches of any size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.precision.calibration_images import CalibrationImages
from cfcam.runtime.contract.spec import InputSpec

SPEC = InputSpec(name="image", height=4, width=6, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
BATCHES = [
    np.random.default_rng(i).standard_normal((count, 3, 4, 6)).astype(np.float32) for i, count in enumerate((3, 2))
]
ALL = np.concatenate(BATCHES)


@pytest.mark.parametrize("step", [1, 2, 5])
def test_they_are_read_as_often_as_one_likes(step: int, tmp_path: Path) -> None:
    images = CalibrationImages(iter(BATCHES), SPEC, tmp_path / "images", step)
    assert (images.count, len(images)) == (5, -(-5 // step))
    for _ in range(2):
        found = list(images)
        assert [len(batch) for batch in found] == [step] * len(images)
        np.testing.assert_array_equal(np.concatenate(found)[:5], ALL)


def test_the_first_ones_fill_the_last_batch(tmp_path: Path) -> None:
    (batch,) = CalibrationImages(BATCHES, SPEC, tmp_path / "images", 12)
    np.testing.assert_array_equal(batch, np.concatenate([ALL, ALL, ALL[:2]]))


def test_their_hash_is_of_the_tensors_in_their_order(tmp_path: Path) -> None:
    turned = np.asfortranarray(BATCHES[0])  # the same values in another order in memory
    images = CalibrationImages([turned, BATCHES[1]], SPEC, tmp_path / "images")
    assert images.sha256 == hashlib.sha256(ALL.tobytes()).hexdigest()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    for wrong, words in (
        ([], "INT8 needs calibration images, there are none"),
        ([ALL, ALL[:, :2]], r"expected float32 \('N', 3, 4, 6\), got float32 \(5, 2, 4, 6\)"),
        ([ALL.astype(np.float64)], "got float64"),
    ):
        with pytest.raises(ExportError, match=words):
            CalibrationImages(wrong, SPEC, tmp_path / "images")
