"""Files that the command line needs: two photos and the ImageNet class names."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

__all__ = ["data_file"]


def data_file(name: str) -> AbstractContextManager[Path]:
    """A context that gives the path of the file `name`, also when the package is inside a zip file."""
    return as_file(files(__name__) / name)
