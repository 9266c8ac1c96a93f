"""Several files that belong together, written beside their final place and moved there when all is well."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..runtime.errors import OutputError

__all__ = ["staging_folder"]


@contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Yield an empty folder beside `output`; when the block succeeds, move its files to where `output` is.

    The file that has the name of `output` is moved last, so that what it refers to is there before it is.
    The folder is removed in any case. Raises `OutputError`.
    """
    folder: Path | None = None
    try:
        if output.is_dir():
            raise OutputError(f"{output}: is a folder, a file name was expected")
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".part", dir=output.parent))
        yield folder
        for file in sorted(folder.iterdir(), key=lambda file: file.name == output.name):
            os.replace(file, output.with_name(file.name))
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror or error})") from error
    except OutputError as error:
        if folder is None:
            raise
        raise OutputError(str(error).replace(str(folder), str(output.parent))) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
