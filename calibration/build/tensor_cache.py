"""Photos as the model takes them, prepared once and kept by what is in them.

A key is made of the photo's bytes and of everything that decides how it is prepared, so that another name or folder
finds what is there, and another preprocessing does not. What is kept are tensors, not ranges: ranges belong to one
graph and one calibrator, while several configurations of one model share its tensors, and so do the
attempts of a search. Decoding and scaling a photo of 12 megapixels takes some 150 ms, reading its tensor 1 ms.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.contract.spec import InputSpec
from ...runtime.photos.preprocess import prepare
from ..caches import Cache

__all__ = ["LIMIT", "TensorCache"]

#: Bytes that are kept; what was used longest ago goes first.
LIMIT = 2 * 2**30

# What another version of the decoder or of this file might do otherwise.
_FORMAT = 1


class TensorCache:
    """Tensors of photos for one input. folder: shared by all inputs. limit: bytes that are kept.

    how: a hash of all that decides how a photo is prepared.
    """

    def __init__(self, folder: Path, spec: InputSpec, limit: int = LIMIT) -> None:
        import PIL

        how = json.dumps([_FORMAT, PIL.__version__, dataclasses.asdict(spec)], sort_keys=True)
        self.how = hashlib.sha256(how.encode()).hexdigest()[:16]
        self.cache, self._spec = Cache(folder, limit), spec

    def tensor(self, path: Path, sha256: str) -> NDArray[Any]:
        """The photo at `path`, in the file's own layout and dtype, without a batch axis.

        sha256: of its bytes. Raises `ImageError`.
        """
        name = f"{self.how}/{sha256}.npy"
        kept = self.cache.read(name)
        if kept is not None:
            with contextlib.suppress(ValueError, EOFError):  # damaged: made anew
                found = np.load(io.BytesIO(kept), allow_pickle=False)
                if found.shape == self._spec.shape(1)[1:] and found.dtype == np.dtype(self._spec.dtype):
                    return found
        made = prepare(path, self._spec).tensor
        stream = io.BytesIO()
        np.save(stream, made)
        self.cache.write(name, stream.getvalue())
        return made
