"""Where the results of many images and targets are written, without two of them colliding."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import OutputError
from ..runtime.photos.images import IMAGE_SUFFIXES, real_path

if TYPE_CHECKING:
    from ..runtime.explanation import Explanation

__all__ = ["Outputs", "check_writable", "make_folder", "plan_outputs", "unique_names"]

_WRITABLE = (".png", ".jpg", ".jpeg", ".npy")
#: Suffixes that mean "one file" to the person who typed them, although cfcam does not write them.
_OTHER_FILES = frozenset({*IMAGE_SUFFIXES, ".npz", ".json", ".csv", ".pdf", ".svg", ".txt", ".onnx"} - set(_WRITABLE))

#: Bytes of a name, so that there is room for what is added to it.
_LONGEST = 180


@dataclass(frozen=True)
class Outputs:
    """The file of each result.

    file: the one file, or None. folder: the folder, or None. names: image -> name without
    suffix. by_class: True when a target was asked for, so that the class belongs to the name. together: all results of
    an image are in one picture.
    """

    file: Path | None = None
    folder: Path | None = None
    suffix: str = ".png"
    names: dict[Path, str] = field(default_factory=dict)
    by_class: bool = False
    together: bool = False

    def path(self, image: Path, target: int) -> Path | None:
        """Where the result for `image` and `target` (-1: the top class, -2: the next) goes; None: nowhere."""
        if self.folder is None:
            return self.file
        rank = "top" if target == -1 else f"top{-target}" if target < 0 else str(target)
        label = f".{rank}" if self.by_class and not self.together else ""
        return self.folder / f"{self.names[image]}{label}{self.suffix}"

    def save_together(self, results: Sequence[tuple[Explanation, Path, int]]) -> None:
        """Write the picture of every image, if its results are `together`: all of them, one image after the other.

        Raises `ArrayError`, `OutputError`.
        """
        if not self.together:
            return
        from ..runtime.panel import save_side_by_side

        for image, some in groupby(results, key=lambda result: result[1]):
            place = self.path(image, -1)
            if place is not None:
                save_side_by_side([explanation for explanation, _, _ in some], place)


def check_writable(file: str | None) -> None:
    """Raise `OutputError` where `file` cannot be written, before minutes are spent on what would go there.

    Folders that are missing are no hindrance: they are made with the file. None: nothing will be written.
    """
    if file is None:
        return
    path = Path(file)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{file}: cannot be written there")


def plan_outputs(
    output: str | None,
    images: Sequence[Path],
    targets: Sequence[int],
    *,
    by_class: bool,
    suffix: str,
    together: bool = False,
) -> Outputs:
    """Decide where the results of every image and target go, and make the folder.

    output: what the user gave; a name that ends in .png, .jpg or .npy is one file, anything
    else a folder (which gets files with `suffix`). together: all results of an image are one picture, which is also
    what a picture is for that is named for several classes of one image.
    Raises `OutputError` when one file would get several results, the folder cannot be made, or
    an output would replace one of the images.
    """
    if output is None:
        return Outputs(together=together)
    path = Path(output)
    ending = path.suffix.lower()
    folder_meant = path.is_dir() or output.endswith(("/", os.sep))
    if not folder_meant and ending in _OTHER_FILES:
        raise OutputError(f"{path}: cannot write '{ending}': give a .png, .jpg or .npy file, or a folder")
    if not folder_meant and ending in _WRITABLE:
        count = len(images) * len(targets)
        together = together or (len(images) == 1 and count > 1 and ending != ".npy")
        if len(images) > 1 or (count > 1 and not together):
            raise OutputError(f"{path}: is one file, but there are {count} results: give a folder to -o")
        plan = Outputs(file=path, together=together)
    else:
        make_folder(path)
        if not os.access(path, os.W_OK | os.X_OK):
            raise OutputError(f"{path}: folder cannot be written")
        plan = Outputs(folder=path, suffix=suffix, names=unique_names(images), by_class=by_class, together=together)
    if plan.together:
        _check_together(ending if plan.file else suffix, len(targets))
    inputs = {real_path(image) for image in images}
    for image in images:
        for target in targets:
            place = plan.path(image, target)
            if place is not None and real_path(place) in inputs:
                raise OutputError(f"{place}: would replace one of the images: give another file or folder to -o")
    return plan


def _check_together(suffix: str, count: int) -> None:
    from ..runtime.panel import MOST_MAPS

    if suffix == ".npy":
        raise OutputError("--side-by-side: draws a picture, and .npy is none: leave it out, or take png or jpg")
    if count > MOST_MAPS:
        raise OutputError(f"side by side: {count} maps of a photo, at most {MOST_MAPS}: give a folder to -o")


def make_folder(path: Path) -> None:
    """Make the folder, and those that it lies in, where they are missing. Raises `OutputError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: folder cannot be made ({error.strerror or error})") from error


def unique_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A file name without suffix for each of `paths`, all different, also where case does not count.

    The stem where it is the only one of its kind; with the folders below the common one
    where it is not (``a/dog.jpg``, ``b/dog.jpg``: ``a_dog``, ``b_dog``); then with the suffix
    (``dog_jpg``); and at last with a number.
    """
    names = {path: os.fsdecode(os.fsencode(path.stem)[:_LONGEST]) for path in paths}
    for longer in (_with_folders, _with_suffix):
        count = Counter(name.casefold() for name in names.values())
        clashing = [path for path, name in names.items() if count[name.casefold()] > 1]
        common = _common_folder(clashing)
        for path in clashing:
            names[path] = longer(path, names[path], common)
    taken = {name.casefold() for name in names.values()}
    seen: set[str] = set()
    for path, name in names.items():
        number, candidate = 2, name
        while candidate.casefold() in seen or (candidate != name and candidate.casefold() in taken):
            candidate, number = f"{name}-{number}", number + 1
        seen.add(candidate.casefold())
        names[path] = candidate
    return names


def _common_folder(paths: Sequence[Path]) -> str:
    folders = [os.path.abspath(path.parent) for path in paths]
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # different drives
        return ""


def _with_folders(path: Path, name: str, common: str) -> str:
    folder = os.path.abspath(path.parent)
    between = os.path.relpath(folder, common) if common else folder
    parts = [part for part in Path(between).parts if part not in (".", os.sep)]
    return "_".join([*parts, name])


def _with_suffix(path: Path, name: str, common: str) -> str:
    return f"{name}_{path.suffix[1:]}" if path.suffix else name
