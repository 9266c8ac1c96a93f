"""The rows on disk: Parquet parts that are there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ...runtime.errors import OutputError
from ...runtime.files import write_bytes
from .errors import AuditError
from .row import COLUMNS, EARLIER, SCHEMA, Row, arrow, arrow_schema

try:
    import fcntl
except ImportError:  # Windows: two audits into one folder are then the user's to avoid
    fcntl = None

__all__ = ["iter_rows", "locked", "read_parts", "write_part"]

_NAME = re.compile(r"part-(\d{6})-([0-9a-f]{16})\.parquet")


def write_part(folder: Path, rows: Sequence[Row]) -> Path:
    """Write a part: one more file, whose name has its number and the hash of its bytes.

    Args:
        folder: Of the parts.
        rows: At least one; they are sorted by image and hash.

    Returns:
        The file.

    Raises:
        OutputError: It cannot be written; the disk is full, say. What was there before is untouched.
    """
    pa = arrow()
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: (row["image"], row["sha256"])), schema=arrow_schema())
    data = io.BytesIO()
    pa.parquet.write_table(table, data, compression="zstd")
    numbers = [int(match[1]) for match in map(_NAME.fullmatch, _names(folder)) if match]
    digest = hashlib.sha256(data.getvalue()).hexdigest()[:16]
    path = folder / f"part-{max(numbers, default=0) + 1:06}-{digest}.parquet"
    write_bytes(path, data.getvalue())
    return path


def read_parts(folder: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """All rows of all parts, in the order of the parts. For more rows than memory holds, see `iter_rows`.

    Args:
        folder: Of the parts; it may not be there yet.
        columns: Names of those that are read; None for all.

    Returns:
        The rows.

    Raises:
        AuditError: A part was changed or is of another version, or a photo is there twice.
    """
    return [row for part in reversed(list(_parts(folder, columns))) for row in part]


def iter_rows(folder: Path, columns: Sequence[str] | None = None, only: Collection[str] | None = None) -> Iterator[Row]:
    """The rows of `read_parts`, the last part first, with one part in memory at a time.

    Args:
        folder: Of the parts; it may not be there yet.
        columns: Names of those that are read; None for all.
        only: Images whose rows are wanted; None for all.

    Yields:
        The rows.

    Raises:
        AuditError: A part was changed or is of another version, or a photo is there twice.
    """
    for part in _parts(folder, columns, only):
        yield from part


def _parts(folder: Path, columns: Sequence[str] | None, only: Collection[str] | None = None) -> Iterator[list[Row]]:
    """The last part first: an error is of no account when a later part has the photo once more."""
    names = None if columns is None else list(dict.fromkeys(("image", "error", *columns)))
    seen: set[str] = set()
    for name in reversed(_names(folder)):
        if name.startswith(".") or not name.endswith(".parquet"):
            continue  # what a killed run left unfinished
        rows = []
        for row in _read_part(folder / name, names, only):
            if row["image"] not in seen:
                seen.add(row["image"])
                rows.append(row)
            elif not row["error"]:
                raise AuditError(
                    f"{folder}: holds '{row['image']}' twice: remove one of its parts and run the audit again"
                )
        yield rows


def _read_part(path: Path, columns: list[str] | None, only: Collection[str] | None) -> list[Row]:
    pa = arrow()
    match = _NAME.fullmatch(path.name)
    remedy = "remove it and run the audit again, which measures its photos anew"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AuditError(f"{path}: cannot be read ({error.strerror or error})") from error
    if match is None or hashlib.sha256(data).hexdigest()[:16] != match[2]:
        raise AuditError(f"{path}: is not what its name says: it was changed or renamed; {remedy}")
    with pa.parquet.ParquetFile(io.BytesIO(data)) as file:
        version = (file.schema_arrow.metadata or {}).get(b"cfcam.schema", b"").decode(errors="replace")
        if version != SCHEMA and version not in EARLIER:
            raise AuditError(f"{path}: holds rows of '{version}', expected '{SCHEMA}'; {remedy}")
        lacking = [name for name in columns or COLUMNS if name in EARLIER.get(version, ())]
        table = file.read(None if columns is None else [name for name in columns if name not in lacking])
    if only is not None:
        table = table.filter(pa.compute.is_in(table["image"], pa.array(sorted(only), pa.string())))
    rows = table.to_pylist()
    return [dict.fromkeys(lacking) | row for row in rows] if lacking else rows


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AuditError(f"{folder}: is no folder that can be read ({error.strerror or error})") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other audits out of `folder`, which is made, for as long as the block runs.

    Args:
        folder: Of the audit.

    Raises:
        AuditError: Another audit is writing there.
        OutputError: The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    try:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AuditError(
                    f"{folder}: another audit is writing there: wait for it, or choose another folder"
                ) from error
            except OSError:  # not every network disk has locks
                pass
        yield
    finally:
        os.close(file)
