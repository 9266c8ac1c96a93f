"""The work of ``cfcam explain``: photos and classes, some at a time, so that one that fails takes no other with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..runtime.errors import ArrayError, EngineError, ImageError
from .sources import failure, taken_alone

if TYPE_CHECKING:
    from ..runtime.explainer import Explainer
    from ..runtime.explanation import Explanation
    from ..runtime.photos.preprocess import Prepared

__all__ = ["Step", "explained_in_steps"]

#: How many results one inference was to give, those that it gave, and a `failure` for each of the others.
Step = tuple[int, "list[tuple[Explanation, Path, int]]", "list[dict[str, str]]"]

_One = TypeVar("_One")


def explained_in_steps(
    explainer: Explainer,
    images: Sequence[Path],
    targets: Sequence[int],
    how: dict[str, Any],
    batch: int,
    *,
    by_image: bool = False,
) -> Iterator[Step]:
    """Explain `images` for `targets`, at most `batch` at a time; every photo is prepared once.

    how: further arguments of `Explainer.explain_batch`. by_image: an image's classes are explained together, and come
    together or not at all; so it is wherever the file does so in one inference.
    """
    by_image = by_image or (explainer.spec.columns is not None and len(targets) > 1)

    def run(work: list[tuple[Path, Prepared, int]]) -> list[tuple[Explanation, Path, int]]:
        _, photos, classes = zip(*work, strict=True)
        explanations = explainer.explain_batch(photos, classes, **how)
        return [(found, path, target) for found, (path, _, target) in zip(explanations, work, strict=True)]

    def run_whole(photos: list[tuple[Path, Prepared]]) -> list[tuple[Explanation, Path, int]]:
        every = explainer.explain_classes([photo for _, photo in photos], targets, **how)
        named = zip(photos, every, strict=True)
        return [(one, path, cls) for (path, _), found in named for one, cls in zip(found, targets, strict=True)]

    together = max(1, batch if by_image else batch // len(targets))
    for start in range(0, len(images), together):
        unreadable: list[dict[str, str]] = []
        photos = list(taken_alone(images[start : start + together], explainer.prepare, unreadable))
        yield len(unreadable) * len(targets), [], unreadable
        if by_image:
            done, failed = _apart(run_whole, photos)
            yield len(photos) * len(targets), done, failed
            continue
        every = [(path, photo, target) for path, photo in photos for target in targets]
        for first in range(0, len(every), batch):
            work = every[first : first + batch]
            done, failed = _apart(run, work)
            yield len(work), done, failed


def _apart(
    run: Callable[[list[_One]], list[tuple[Explanation, Path, int]]], work: list[_One]
) -> tuple[list[tuple[Explanation, Path, int]], list[dict[str, str]]]:
    """What `run` makes of all of `work`; where that fails, of each alone, with a `failure` for those that fail."""
    if not work:
        return [], []
    try:
        return run(work), []
    except (ImageError, ArrayError, EngineError):
        pass
    done, failed = [], []
    for one in work:
        try:
            done += run([one])
        except (ImageError, ArrayError, EngineError) as error:
            failed.append(failure(one[0], error))  # type: ignore[index] - the path comes first
    return done, failed
