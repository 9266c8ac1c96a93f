"""The images that a user names, and those among them that fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..runtime.errors import ArrayError, EngineError, ImageError
from ..runtime.shown import shown_message
from .console import note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from ..runtime.contract.spec import InputSpec

__all__ = ["failure", "find_each", "find_some", "photo_batch", "report_failures", "taken_alone"]

_Result = TypeVar("_Result")


def find_each(sources: Sequence[str]) -> tuple[list[Path], list[dict[str, str]]]:
    """Files, folders and patterns as paths, every file once; and a `failure` for each that has no image."""
    from ..runtime.photos.images import find_images, real_path

    paths: dict[str, Path] = {}
    failures: list[dict[str, str]] = []
    for source in sources:
        try:
            for path in find_images([source]):
                paths.setdefault(real_path(path), path)
        except ImageError as error:
            failures.append(failure(source, error))
    return list(paths.values()), failures


def find_some(sources: Sequence[str]) -> tuple[list[Path], list[dict[str, str]]]:
    """As `find_each`, for what is nothing without an image. Raises `ImageError` when there is none at all."""
    paths, failures = find_each(sources)
    if not paths:
        raise ImageError("; ".join(entry["error"] for entry in failures) or "no images")
    return paths, failures


def taken_alone(
    paths: Sequence[Path],
    work: Callable[[Path], _Result],
    errors: list[dict[str, str]],
    advance: Callable[[], Any] = lambda: None,
) -> Iterator[tuple[Path, _Result]]:
    """What `work` makes of each image; a `failure` is added to `errors` for one that fails. advance: told each."""
    for path in paths:
        try:
            result = work(path)
        except (ImageError, ArrayError, EngineError) as error:
            errors.append(failure(path, error))
        else:
            yield path, result
        advance()


def photo_batch(
    sources: Sequence[str] | None, limit: int, spec: InputSpec, command: str
) -> tuple[NDArray[np.floating] | None, list[str], list[dict[str, str]]]:
    """The first `limit` photos as a batch for the input `spec`, their paths, and a `failure` for each that failed.

    Without sources the batch is None. Raises `ImageError` for fewer than two photos; command: who needs them.
    """
    import numpy as np

    from ..runtime.photos.preprocess import prepare

    if not sources:
        return None, [], []
    found, errors = find_each(sources)
    each = taken_alone(found, lambda path: prepare(path, spec).tensor, errors)
    photos = list(itertools.islice(each, limit))
    if len(photos) < 2:
        report_failures(errors)
        raise ImageError(
            f"{command} needs at least two photos that can be read, found {len(photos)} in {', '.join(sources)}"
        )
    return np.stack([tensor for _, tensor in photos]), [str(path) for path, _ in photos], errors


def failure(source: str | Path, error: Exception) -> dict[str, str]:
    """An entry of ``errors`` in a JSON document."""
    return {"image": str(source), "error": " ".join(str(error).split())}


def report_failures(entries: Iterable[Mapping[str, Any]], console: Console | None = None) -> None:
    """Say them on stderr; console: a running progress display to print above."""
    for entry in entries:
        named = shown_message(entry["image"]) in entry["error"]  # which is clean already
        note(f"cfcam: error: {entry['error'] if named else entry['image'] + ': ' + entry['error']}", console)
