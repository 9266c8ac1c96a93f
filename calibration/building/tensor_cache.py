"""Photos as the model takes them, prepared once and kept by what is in them.

A key is made of the photo's bytes and of everything that decides how it is prepared, so that another name or folder
finds what is there, and another preprocessing does not. What is kept are tensors, not ranges: ranges belong to one
graph and one calibrator, while several configurations of one model share its tensors, and so do the
attempts of a search. Decoding and scaling a photo of 12 megapixels takes some 150 ms, reading its tensor 1 ms.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import ImageError, ModelFileError
from ...runtime.files import atomic_path
from ...runtime.images import open_image
from ...runtime.modelfile import file_sha256
from ...runtime.preprocess import prepare
from ...runtime.spec import InputSpec

__all__ = ["LIMIT", "TensorCache"]

#: Bytes that are kept; what was used longest ago goes first.
LIMIT = 2 * 2**30

# What another version of the decoder or of this file might do otherwise.
_FORMAT = 1


class TensorCache:
    """Tensors of photos for one input. folder: shared by all inputs; made when the first tensor is kept."""

    def __init__(self, folder: Path, spec: InputSpec) -> None:
        import PIL

        how = json.dumps([_FORMAT, PIL.__version__, dataclasses.asdict(spec)], sort_keys=True)
        self._folder, self._spec = folder, spec
        self._how = hashlib.sha256(how.encode()).hexdigest()[:16]

    def photo_sha256(self, path: Path) -> str:
        """Raises `ImageError` for a file that cannot be read."""
        try:
            return file_sha256(path)
        except ModelFileError as error:
            raise ImageError(str(error)) from error

    def tensor(self, path: Path, sha256: str) -> NDArray[Any]:
        """The photo at `path`, in the file's own layout and dtype, without a batch axis.

        sha256: of its bytes. Raises `ImageError`, and `OutputError` where the folder cannot be written.
        """
        place = self._folder / self._how / f"{sha256}.npy"
        shape = self._spec.shape(1)[1:]
        try:
            found = np.load(place, allow_pickle=False)
            if found.shape == shape and found.dtype == np.dtype(self._spec.dtype):
                os.utime(place)
                return found
        except (OSError, ValueError):  # not there, or damaged: made anew
            pass
        made = prepare(open_image(path), self._spec).tensor
        with atomic_path(place) as temporary, temporary.open("wb") as stream:
            np.save(stream, made)
        return made

    def trim(self, limit: int = LIMIT) -> None:
        """Remove tensors, the one that was used longest ago first, until `limit` bytes are left."""
        kept = []
        for path in self._folder.glob("*/*.npy"):
            try:
                kept.append((path.stat().st_mtime_ns, path.stat().st_size, path))
            except OSError:  # another build removed it
                continue
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= limit:
                break
            path.unlink(missing_ok=True)
            total -= size
