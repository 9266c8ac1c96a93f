"""Prepared photos, kept by what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cfcam.calibration.build import tensor_cache
from cfcam.calibration.build.tensor_cache import TensorCache
from cfcam.runtime.contract.modelfile import file_sha256
from cfcam.runtime.contract.spec import InputSpec
from small_photos import make_photos
from tiny_model import VARIANTS

SPEC = VARIANTS["logits"].spec.input


@pytest.fixture
def cache(tmp_path: Path) -> TensorCache:
    return TensorCache(tmp_path / "cache", SPEC)


def test_tensors_are_kept_by_content(tmp_path: Path, cache: TensorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    (photo,) = make_photos(tmp_path / "photos", 1)
    sha256 = file_sha256(photo)
    first = cache.tensor(photo, sha256)
    (kept,) = (tmp_path / "cache").glob("*/*.npy")

    def refuse(*_: object) -> None:
        raise AssertionError("it was decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(tensor_cache, "prepare", refuse)
        moved = photo.rename(tmp_path / "elsewhere.png")
        assert np.array_equal(cache.tensor(moved, sha256), first)
        other = InputSpec(**{**vars(SPEC), "mean": (0.1, 0.2, 0.3)})  # another preprocessing has tensors of its own
        with pytest.raises(AssertionError):
            TensorCache(tmp_path / "cache", other).tensor(moved, sha256)
    for length in (50, 0):  # damaged
        kept.write_bytes(kept.read_bytes()[:length])
        assert np.array_equal(cache.tensor(moved, sha256), first)
    assert cache.cache.problem is None
    (tmp_path / "file").touch()
    nowhere = TensorCache(tmp_path / "file", SPEC)  # what cannot be kept is made each time
    assert np.array_equal(nowhere.tensor(moved, sha256), first)
    assert nowhere.cache.problem is not None
    assert "cannot be written" in nowhere.cache.problem
