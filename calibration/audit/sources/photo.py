"""A photo of an audit, whatever holds it, and what a source of photos can be asked."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ....runtime.contract.modelfile import file_sha256
from ....runtime.errors import ImageError, one_line
from ....runtime.files import write_bytes
from ....runtime.photos.images import opened_file

if TYPE_CHECKING:
    from ....runtime.photos.images import ImageLike

__all__ = ["Files", "Photo", "Source"]


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo. It can be pickled, and nothing of a file is read before it is asked for.

    Attributes:
        name: Of its row, different from all others of the audit. What is behind its last ``/`` is its file name for
            boxes, masks and metadata.
        content: A file; the address of one, as fsspec opens it; the bytes of one; or upright pixels, uint8 (H, W) or
            (H, W, 3), RGB.
        about: What its source knows about it, for slices.
        error: Why there is no content.
    """

    name: str
    content: Path | str | bytes | NDArray[np.uint8] = b""
    about: Mapping[str, str] | None = None
    error: str | None = None

    @classmethod
    def of_file(cls, path: Path) -> Photo:
        """A file, called by its path."""
        return cls(str(path), path)

    def sha256(self) -> str:
        """Hash of the file's bytes; of pixels, of their shape and values.

        Returns:
            64 hexadecimal digits.

        Raises:
            ImageError: There is no such content.
        """
        if self.error is not None:
            raise ImageError(f"{self.name}: {self.error}")
        if isinstance(self.content, Path):
            return file_sha256(self.content, ImageError)
        if isinstance(self.content, np.ndarray):
            digest = hashlib.sha256(f"{self.content.shape} ".encode())
            digest.update(self.content.tobytes())
            return digest.hexdigest()
        return hashlib.sha256(self._bytes()).hexdigest()

    @contextlib.contextmanager
    def opened(self, max_pixels: int | None = None) -> Iterator[ImageLike]:
        """What `Explainer.prepare` takes, for as long as the block runs.

        Args:
            max_pixels: Bytes with more are refused; None for the usual limit. (Files are the explainer's to refuse.)

        Yields:
            A path, an image or an array.

        Raises:
            ImageError: There is no content, or its bytes are no photo.
        """
        if self.error is not None:
            raise ImageError(f"{self.name}: {self.error}")
        if isinstance(self.content, Path | np.ndarray):
            yield self.content
            return
        data = io.BytesIO(self._bytes())
        try:
            with opened_file(data, max_pixels) as image:
                yield image
        except ImageError as error:  # which calls it "image"
            raise ImageError(f"{self.name}: {str(error).removeprefix('image: ')}") from error

    def as_file(self, place: Path) -> Path:
        """The photo as a file: its own, or a copy without loss of what something else holds.

        Args:
            place: Where a copy goes.

        Returns:
            The file; of content that is missing, a path at which there is none.

        Raises:
            ImageError: An address cannot be read.
            OutputError: It cannot be written.
        """
        if isinstance(self.content, Path):
            return self.content
        if self.error is None:
            if isinstance(self.content, np.ndarray):
                from PIL import Image

                data = io.BytesIO()
                Image.fromarray(self.content).save(data, "PNG", compress_level=1)
                write_bytes(place, data.getvalue())
            else:
                write_bytes(place, self._bytes())
        return place

    def _bytes(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        try:
            import fsspec

            with fsspec.open(self.content, "rb") as file:
                return file.read()  # type: ignore[union-attr] - of one file, fsspec opens one
        except ImportError as error:
            raise ImageError(f"{self.name}: cannot be read ({error}): install cfcam[fleet]") from error
        except Exception as error:  # every kind of address has errors of its own
            raise ImageError(f"{self.name}: cannot be read ({one_line(error)})") from error


class Source(Protocol):
    """Where photos come from. It can be pickled, and holds names at most, never all contents."""

    @property
    def remarks(self) -> Sequence[str]:
        """Sentences about what is missing or damaged, known after `names`."""
        ...

    def names(self) -> Sequence[str]:
        """The names of all photos, each once.

        Raises:
            CfcamError: The source cannot be read, or holds no photo.
        """
        ...

    def photos(self, names: Collection[str]) -> Iterator[Photo]:
        """The photos of these names, in the source's own order. Raises `CfcamError`."""
        ...


@dataclass(frozen=True)
class Files:
    """Photos that are files.

    Attributes:
        paths: Each once.
    """

    paths: Sequence[Path]
    remarks: Sequence[str] = ()

    def names(self) -> Sequence[str]:
        """Their paths."""
        return [str(path) for path in self.paths]

    def photos(self, names: Collection[str]) -> Iterator[Photo]:
        """Those of these names."""
        wanted = set(names)
        return (Photo.of_file(path) for path in self.paths if str(path) in wanted)
