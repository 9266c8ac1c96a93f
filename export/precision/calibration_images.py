"""Calibration images on their way into a quantiser: kept on disk, read one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.contract.spec import InputSpec
from ..errors import ExportError

__all__ = ["CalibrationImages"]


class CalibrationImages:
    """Ready input tensors, written to `file` as they come, so that they can be read twice and need no memory.

    batches: (N, ...) in the layout and dtype of `spec`. sha256: of the tensors, in their order. step: how many are
    read at a time, which a model with a fixed batch dictates; to fill the last batch the first ones come again.
    Raises `ExportError` for none, or for some of another shape or type.
    """

    def __init__(self, batches: Iterable[NDArray[Any]], spec: InputSpec, file: Path, step: int = 1) -> None:
        self._file, self._shape, self._dtype = file, spec.shape(1), np.dtype(spec.dtype)
        self.step = step
        self.count, digest = 0, hashlib.sha256()
        with file.open("wb") as stream:
            for batch in batches:
                if batch.dtype != self._dtype or batch.shape[1:] != self._shape[1:]:
                    raise ExportError(
                        f"calibration images: expected {self._dtype} {('N', *self._shape[1:])}, got "
                        f"{batch.dtype} {batch.shape}"
                    )
                data = np.ascontiguousarray(batch).tobytes()
                stream.write(data)
                digest.update(data)
                self.count += len(batch)
        if not self.count:
            raise ExportError("INT8 needs calibration images, there are none")
        self.sha256 = digest.hexdigest()

    def __len__(self) -> int:
        """How many batches there are."""
        return -(-self.count // self.step)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """(step, ...), one batch after the other."""
        stored = np.memmap(self._file, self._dtype, "r", shape=(self.count, *self._shape[1:]))
        for start in range(0, self.count, self.step):
            yield np.ascontiguousarray(stored[np.arange(start, start + self.step) % self.count])
