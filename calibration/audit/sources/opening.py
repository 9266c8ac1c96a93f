"""From what somebody names to sources of photos, and several sources as one."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ....runtime.shown import shown, utf8
from ..errors import AuditError
from .archive import ARCHIVE_SUFFIXES, Archive
from .manifest import Manifest
from .photo import Photo, Source
from .recording import Recording
from .video import VIDEO_SUFFIXES, Video

__all__ = ["Joined", "open_sources"]


def open_sources(texts: Sequence[str], every: int | None = None) -> tuple[list[Source], list[str]]:
    """Sources that are no photos themselves, by the endings of their names.

    Args:
        texts: Files, patterns and folders.
        every: Only every n-th frame of videos and recordings; None for all.

    Returns:
        A source for each video, Parquet table, MCAP recording and tar archive, and the texts that name none.

    Raises:
        AuditError: A pattern has no file, or `every` was given and nothing has frames.
    """
    sources: list[Source] = []
    others = []
    for text in texts:
        if _source(Path(text), 1) is None:
            others.append(text)
        elif Path(text).exists() or not glob.has_magic(text):
            sources += [source for source in [_source(Path(text), every or 1)] if source]
        else:
            paths = sorted(glob.glob(text, recursive=True))
            if not paths:
                raise AuditError(f"{shown(text)}: no file has a name like this: check the pattern")
            sources += [source for path in paths if (source := _source(Path(path), every or 1))]
    if every is not None and not any(isinstance(source, Video | Recording) for source in sources):
        raise AuditError("every n-th frame was asked for, and no video and no recording was given: leave --every out")
    return sources, others


def _source(path: Path, every: int) -> Source | None:
    name = path.name.lower()
    if path.is_dir():
        return None
    if name.endswith(ARCHIVE_SUFFIXES):
        return Archive(path)
    if name.endswith((".parquet", ".pq")):
        return Manifest(path)
    if name.endswith(".mcap"):
        return Recording(path, every)
    return Video(path, every) if path.suffix.lower() in VIDEO_SUFFIXES else None


class Joined:
    """Several sources, one behind the other.

    Args:
        sources: Whose names differ.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._owned: list[frozenset[str]] = []

    @property
    def remarks(self) -> Sequence[str]:
        """Those of all."""
        return [remark for source in self._sources for remark in source.remarks]

    def names(self) -> Sequence[str]:
        """Those of all. Raises `AuditError` where a name comes twice, or is not UTF-8."""
        self._owned = []
        found: dict[str, None] = {}
        for source in self._sources:
            names = source.names()
            for name in names:
                if name in found:
                    raise AuditError(f"{shown(name)}: is named twice: name each photo once")
                if name != utf8(name):
                    raise AuditError(f"{shown(name)}: its name is not UTF-8, which a table of rows needs: rename it")
                found[name] = None
            self._owned.append(frozenset(names))
        return list(found)

    def shares(self, names: Collection[str]) -> Iterator[tuple[Source, frozenset[str]]]:
        """The sources that have some of these names, and which; known after `names`."""
        wanted = frozenset(names)
        for source, owned in zip(self._sources, self._owned, strict=True):
            if wanted & owned:
                yield source, wanted & owned

    def photos(self, names: Collection[str]) -> Iterator[Photo]:
        """Those of these names; known after `names`."""
        for source, share in self.shares(names):
            yield from source.photos(share)
