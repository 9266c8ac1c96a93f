"""Which photos calibrate, which judge, and the calibration photos as batches.

Judging with the photos that the ranges were learnt from flatters, so the two are kept apart wherever there are
enough. The order is a seeded shuffle, so that a folder sorted by class gives both sides all classes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.contract.manifest import CalibrationRecord
from ...runtime.contract.modelfile import file_sha256
from ...runtime.contract.spec import InputSpec
from ...runtime.errors import ImageError
from ...runtime.photos.photo import open_photo
from .tensor_cache import TensorCache

__all__ = ["FEWEST", "CalibrationPhotos", "PhotoSets", "choose_photos"]

#: With fewer photos than this on either side, both sides get all of them.
FEWEST = 8

#: Images per batch for a file of any batch.
_BATCH = 8


@dataclass(frozen=True)
class CalibrationPhotos:
    """Photos from which the ranges of INT8 are learnt, or the means of channels.

    sha256: of the sorted SHA-256 of the photos: the same photos, by whatever names, give the same.
    one_colour: how many of them show one colour only.
    """

    photos: tuple[tuple[Path, str], ...]
    one_colour: int
    _cache: TensorCache = field(repr=False)

    @property
    def count(self) -> int:
        return len(self.photos)

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\n".join(sorted(sha256 for _, sha256 in self.photos)).encode()).hexdigest()

    @property
    def tensors_sha256(self) -> str:
        """Of the photos and of how they are prepared."""
        return hashlib.sha256(f"{self.sha256}\n{self._cache.how}".encode()).hexdigest()

    def record(self, calibrator: str) -> CalibrationRecord:
        """For a manifest."""
        return CalibrationRecord(sha256=self.sha256, count=self.count, calibrator=calibrator)

    def batches(self, size: int | None = None) -> Iterator[NDArray[Any]]:
        """Tensors (N, ...) in the file's layout, one batch in memory at a time.

        size: the file's fixed batch, whose last one is filled up with the first photos; None for any.
        """
        step = size or min(_BATCH, self.count)
        for start in range(0, self.count, step):
            some = [self.photos[i % self.count] for i in range(start, start + step)]
            if size is None:
                some = some[: self.count - start]
            yield np.stack([self._cache.tensor(path, sha256) for path, sha256 in some])


@dataclass(frozen=True)
class PhotoSets:
    """calibration: None where nothing is calibrated. gate: photos that judge. apart: no photo is on both sides.

    failures: photos that could not be read, with the reason.
    """

    calibration: CalibrationPhotos | None
    gate: tuple[Path, ...]
    apart: bool
    failures: tuple[tuple[Path, ImageError], ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        calibration = self.calibration
        return {
            "calibration": None if calibration is None else [str(path) for path, _ in calibration.photos],
            "one_colour": 0 if calibration is None else calibration.one_colour,
            "gate": [str(path) for path in self.gate],
            "apart": self.apart,
        }

    def __str__(self) -> str:
        if self.calibration is None:
            return _photos(len(self.gate), "judge")
        how = "others" if self.apart else "the same, because there are too few, which flatters"
        verifying = f"{len(self.gate)} judge{'s' if len(self.gate) == 1 else ''}"
        return f"{_photos(self.calibration.count, 'calibrate')}, {verifying} ({how})"


def choose_photos(
    found: Sequence[Path],
    cache: TensorCache,
    spec: InputSpec,
    *,
    calibrate: int,
    verify: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PhotoSets:
    """Draw `calibrate` and `verify` photos out of `found`; 0 for none.

    Photos that cannot be read are left out and the next ones take their place. Two files with the same content are
    one photo. Where there are fewer than both sides ask for, those that judge come first, up to half; where a side
    would have fewer than `FEWEST`, both take all of them. progress: photos looked at, of how many at most.
    Raises `ImageError` when no photo is left, or when all that calibrate show one colour.
    """
    order = sorted(found)
    random.Random(seed).shuffle(order)
    wanted = calibrate + verify
    photos: list[tuple[Path, str]] = []
    failures: list[tuple[Path, ImageError]] = []
    flat: dict[str, bool] = {}
    for number, path in enumerate(order):
        if len(photos) == wanted:
            break
        try:
            sha256 = file_sha256(path, ImageError)
            if sha256 in flat:
                continue
            if len(photos) < calibrate:
                flat[sha256] = _is_one_colour(cache.tensor(path, sha256), spec)
            else:
                open_photo(path, spec)
                flat[sha256] = False
            photos.append((path, sha256))
        except ImageError as error:
            failures.append((path, error))
        if progress is not None:
            progress(number + 1, min(len(order), wanted + len(failures)))
    if not photos:
        raise ImageError(f"{_where(found)}: no photo that can be read ({len(failures)} tried): {failures[0][1]}")
    first, second, apart = _divide(len(photos), calibrate, verify)
    calibration = None
    if calibrate:
        chosen = tuple(photos[first])
        calibration = CalibrationPhotos(chosen, sum(flat[sha256] for _, sha256 in chosen), cache)
        if calibration.one_colour == calibration.count:
            raise ImageError(
                f"{_where(found)}: {_photos(calibration.count, 'calibrate')}, of one colour only, from which "
                "nothing can be learnt: give photos of what the model will see"
            )
    return PhotoSets(calibration, tuple(path for path, _ in photos[second]), apart, tuple(failures))


def _divide(count: int, calibrate: int, verify: int) -> tuple[slice, slice, bool]:
    """Which of `count` photos calibrate, which judge, and whether those are others."""
    verifying = min(verify, max(count // 2, count - calibrate))
    calibrating = min(calibrate, count - verifying)
    if calibrating < min(calibrate, FEWEST) or verifying < min(verify, FEWEST):
        return slice(0, calibrate), slice(0, verify), False
    return slice(0, calibrating), slice(calibrating, calibrating + verifying), True


def _is_one_colour(tensor: NDArray[Any], spec: InputSpec) -> bool:
    """Whether every channel has one value only; where the photo is padded, that and the padding's."""
    channels = tensor if spec.layout == "NCHW" else np.moveaxis(tensor, -1, 0)
    values = 2 if spec.resize.mode in ("pad", "fit") else 1
    return all(len(np.unique(channel)) <= values for channel in channels)


def _photos(count: int, do: str) -> str:
    return f"1 photo {do}s" if count == 1 else f"{count} photos {do}"


def _where(found: Sequence[Path]) -> str:
    """The folders that photos come from, for messages."""
    folders = sorted({str(path.parent) for path in found})
    return ", ".join(folders[:3]) + (" and others" if len(folders) > 3 else "")
