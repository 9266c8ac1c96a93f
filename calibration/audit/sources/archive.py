"""Photos in a tar archive, as WebDataset keeps them."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ....runtime.errors import one_line
from ....runtime.photos.images import IMAGE_SUFFIXES
from ..errors import AuditError
from .photo import Photo

__all__ = ["ARCHIVE_SUFFIXES", "Archive"]

#: Names that are taken for archives.
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
#: A member with more bytes is no photo that anybody explains.
_MOST_BYTES = 2**29


@dataclass(frozen=True)
class Archive:
    """The photos of a tar archive, called ``FILE#MEMBER``; members that have no photo's name are left out.

    Attributes:
        path: Of the archive; its compression does not matter.
    """

    path: Path
    remarks: Sequence[str] = ()

    def names(self) -> Sequence[str]:
        """Names by the members' own. Raises `AuditError`."""
        found = dict.fromkeys(f"{self.path}#{member.name}" for _, member in self._members())
        if not found:
            raise AuditError(f"{self.path}: holds no photos: its members have none of the names that photos have")
        return list(found)

    def photos(self, names: Collection[str]) -> Iterator[Photo]:
        """Members as the bytes of files."""
        left = set(names)
        for archive, member in self._members():
            name = f"{self.path}#{member.name}"
            if name not in left:
                continue
            left.remove(name)
            if member.size > _MOST_BYTES:
                yield Photo(name, error=f"has {member.size} bytes, more than any photo")
                continue
            with self._reading():
                file = archive.extractfile(member)
                data = b"" if file is None else file.read()
            yield Photo(name, data)
            if not left:
                return

    def _members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        with self._reading():
            archive = tarfile.open(self.path, "r:*")  # noqa: SIM115 - closed below
        with archive:
            while True:
                with self._reading():
                    member = archive.next()
                if member is None:
                    return
                archive.members = []  # type: ignore[attr-defined] - which would keep every header
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES:
                    yield archive, member

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise AuditError(f"{self.path}: there is no such file: give the path of an archive") from error
        except (OSError, tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise AuditError(
                f"{self.path}: cannot be read as a tar archive ({one_line(error)}): "
                "it is none, or cut off; copy it again"
            ) from error
