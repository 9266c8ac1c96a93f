"""The rows on disk: Parquet parts that are there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...runtime.errors import OutputError
from ...runtime.files import write_bytes
from .errors import AuditError
from .row import SCHEMA, Row, arrow, arrow_schema

try:
    import fcntl
except ImportError:  # Windows: two audits into one folder are then the user's to avoid
    fcntl = None

__all__ = ["locked", "read_parts", "write_part"]

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


def read_parts(folder: Path) -> list[Row]:
    """All rows of all parts, in the order of the parts.

    Args:
        folder: Of the parts; it may not be there yet.

    Returns:
        The rows.

    Raises:
        AuditError: A part was changed or is of another version, or a photo is there twice.
    """
    pa = arrow()
    rows: list[Row] = []
    for name in _names(folder):
        if name.startswith(".") or not name.endswith(".parquet"):
            continue  # what a killed run left unfinished
        match, path = _NAME.fullmatch(name), folder / name
        remedy = "remove it and run the audit again, which measures its photos anew"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise AuditError(f"{path}: cannot be read ({error.strerror or error})") from error
        if match is None or hashlib.sha256(data).hexdigest()[:16] != match[2]:
            raise AuditError(f"{path}: is not what its name says: it was changed or renamed; {remedy}")
        table = pa.parquet.read_table(io.BytesIO(data))
        version = (table.schema.metadata or {}).get(b"cfcam.schema", b"").decode(errors="replace")
        if version != SCHEMA:
            raise AuditError(f"{path}: holds rows of '{version}', expected '{SCHEMA}'; {remedy}")
        rows += table.to_pylist()
    images = [row["image"] for row in rows]
    if len(set(images)) < len(images):
        twice = next(image for image in images if images.count(image) > 1)
        raise AuditError(f"{folder}: holds '{twice}' twice: remove one of its parts and run the audit again")
    return rows


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
