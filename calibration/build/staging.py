"""Products come into being in a folder of their own, and go to their place together when all of them are done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...runtime.contract.manifest import SUFFIX
from ...runtime.errors import OutputError
from ...runtime.files import scratch_folder

__all__ = ["check_folder", "publish", "staging_in"]


@contextmanager
def staging_in(folder: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder inside `folder`, called ``.name.*.part``; it is removed at the end.

    Raises `OutputError` for what cannot be written, a full disk among others. Errors of any kind that name a file in
    it leave with the file's final place instead.
    """
    stage = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder, name) as stage:
            yield stage
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    except Exception as error:
        error.args = tuple(
            part.replace(str(stage), str(folder)) if isinstance(part, str) else part for part in error.args
        )
        raise


def publish(stage: Path, folder: Path) -> list[Path]:
    """Move the files in `stage` into `folder`, manifests last: a product without one does not look finished.

    Manifests of earlier products of the same names go first, so that at no moment one describes another's product;
    what has no manifest any more, as a graph whose engines are built here, does not keep an old one either.
    """
    files = [file for file in stage.iterdir() if file.is_file()]
    files.sort(key=lambda file: (file.name.endswith(SUFFIX), file.name))
    for file in files:
        if not file.name.endswith(SUFFIX):
            (folder / f"{file.name}{SUFFIX}").unlink(missing_ok=True)
    for file in files:
        os.replace(file, folder / file.name)
    return [folder / file.name for file in files]


def check_folder(folder: Path) -> None:
    """Raise `OutputError` unless files can be written in `folder`; it is made if it is missing."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, the folder for the products was expected")
    with staging_in(folder, "check"):
        pass
