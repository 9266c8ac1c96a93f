"""A Parquet table with a row per photo: where it is or its bytes, and what is known about it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....runtime.errors import one_line
from ....runtime.shown import shown, utf8
from ..errors import AuditError
from ..row import arrow
from .photo import Photo

__all__ = ["Manifest"]

#: Columns that say what a row's photo is.
_PATH, _BYTES = "path", "bytes"
#: Rows that are in memory at a time; their photos may be there too.
_ROWS = 64


@dataclass(frozen=True)
class Manifest:
    """The photos of a Parquet table with the column ``path``, ``bytes``, or both.

    With paths alone a photo is a file, relative to the table's folder, or an address (``://``) that fsspec opens; it is
    called so. With bytes a photo is called ``TABLE#PATH``, or ``TABLE#NUMBER`` of its row, from 0. A column ``image``
    of such pairs, as Hugging Face writes them, will do. Each other column makes slices.

    Attributes:
        path: Of the table.
    """

    path: Path
    remarks: Sequence[str] = ()

    def names(self) -> Sequence[str]:
        """What the rows' photos are called. Raises `AuditError`."""
        found: dict[str, None] = {}
        with self._opened() as (file, columns):
            # To be named, a row needs its bytes in no case but that it might have none, which `photos` says.
            for name, _ in self._named(file, [columns[_PATH]] if _PATH in columns else [], columns):
                if name in found:
                    raise AuditError(f"{self.path}: names {shown(name)} twice: leave one of the two rows out")
                found[name] = None
        if not found:
            raise AuditError(f"{self.path}: has no rows: nothing to audit")
        return list(found)

    def photos(self, names: Collection[str]) -> Iterator[Photo]:
        """Files, addresses, or the bytes of files."""
        left = set(names)
        with self._opened() as (file, columns):
            about = [name for name in file.schema_arrow.names if name not in (_PATH, _BYTES, "image")]
            for name, row in self._named(file, [*columns.values(), *about], columns):
                if name not in left:
                    continue
                left.remove(name)
                known = {column: _text(row[column]) for column in about if not isinstance(row[column], bytes)}
                yield self._photo(name, row, columns, known)
                if not left:
                    return

    def _photo(self, name: str, row: dict[str, Any], columns: dict[str, str], about: dict[str, str]) -> Photo:
        if _BYTES not in columns:
            return Photo(name, name if "://" in name else Path(name), about or None)
        data = _value(row, columns[_BYTES])
        if data is None:
            return Photo(name, about=about or None, error="the manifest has no bytes of it")
        return Photo(name, data, about or None)

    def _named(self, file: Any, wanted: Sequence[str], columns: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        with self._reading():
            batches = file.iter_batches(_ROWS, columns=list(dict.fromkeys(wanted)))
        while True:
            with self._reading():
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist() or [{}] * batch.num_rows
            if batch is None:
                return
            for row in rows:
                yield self._name(row, number, columns), row
                number += 1

    def _name(self, row: dict[str, Any], number: int, columns: dict[str, str]) -> str:
        path = _value(row, columns[_PATH]) if _PATH in columns else None
        if path is not None and (not path or path != utf8(path) or "\0" in path):
            raise AuditError(f"{self.path}: row {number}: its path is no name of a file: {shown(path)}")
        if _BYTES in columns:
            return f"{self.path}#{number if path is None else path}"
        if path is None:
            raise AuditError(f"{self.path}: row {number}: names no photo: fill its path in, or leave it out")
        return path if "://" in path else str(self.path.parent / path)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, dict[str, str]]]:
        """The file, and of `_PATH` and `_BYTES` those that it has, by their columns."""
        pa = arrow()
        with self._reading():
            file = pa.parquet.ParquetFile(self.path)
        with file:
            yield file, self._columns(pa, file.schema_arrow)

    def _columns(self, pa: Any, schema: Any) -> dict[str, str]:
        fields = {name: (name, schema.field(name).type) for name in (_PATH, _BYTES) if name in schema.names}
        if not fields and "image" in schema.names and pa.types.is_struct(schema.field("image").type):
            kind = schema.field("image").type
            inner = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
            fields = {name: (f"image.{name}", inner[name]) for name in (_PATH, _BYTES) if name in inner}
        if not fields:
            names = ", ".join(map(shown, schema.names)) or "none"
            raise AuditError(
                f"{self.path}: has no column '{_PATH}' and none '{_BYTES}', which say what the photos are: its columns "
                f"are {names}"
            )
        for name, (column, kind) in fields.items():
            text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
            data = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
            if not (text if name == _PATH else data):
                expected = "text" if name == _PATH else "bytes"
                raise AuditError(f"{self.path}: the column '{column}' holds {kind}, expected {expected}")
        return {name: column for name, (column, _) in fields.items()}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise AuditError(f"{self.path}: there is no such file: give the path of a Parquet table") from error
        except (OSError, ValueError, arrow().ArrowException) as error:
            raise AuditError(
                f"{self.path}: cannot be read as a Parquet table ({one_line(error)}): it is none, or damaged; write it "
                "again"
            ) from error


def _value(row: dict[str, Any], column: str) -> Any:
    first, _, inner = column.partition(".")
    value = row[first]
    return (value or {}).get(inner) if inner else value


def _text(value: Any) -> str:
    return "" if value is None else str(utf8(str(value)))
