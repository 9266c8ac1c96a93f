"""From what a person calls a class to its index in the model."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from .contract.spec import CamSpec, OutputSpec
from .errors import TargetError
from .shown import shown, shown_value

__all__ = [
    "TOP_CLASS",
    "Target",
    "check_fixed_target",
    "class_feed",
    "class_input",
    "in_first_column",
    "inferences",
    "resolve_columns",
    "resolve_ranked",
    "resolve_target",
    "resolve_targets",
    "top_ranks",
]

#: The value of the model's class input that asks for the top class.
TOP_CLASS = -1

#: None for the top class, a class index, or a label.
Target = SupportsIndex | str | None


def resolve_target(target: Target, output: OutputSpec) -> int:
    """The class that `target` means.

    Args:
        target: None or -1 for the top class, an index from 0, or a string: a label, one of the names of a label that
            lists several ("Boston bull, Boston terrier"), or an index in digits. Case does not matter, unless only case
            tells two labels apart. Of a regression: the name or number of a value with + (larger, also without a sign)
            or - (smaller), the sign alone where there is one value; None is the first value, larger.
        output: The model's classes and labels.

    Returns:
        Its index in the model's own order, or -1 for the top class of a classifier.

    Raises:
        TargetError: The target is out of range, unknown or ambiguous.
    """
    if target is None:
        return 0 if output.values else TOP_CLASS
    if isinstance(target, str):
        return _from_text(target.strip(), output)
    try:
        if not isinstance(target, bool):
            return _in_range(operator.index(target), output)
    except TypeError:
        pass
    raise TargetError(f"target: expected a class index, a label or None, got {shown_value(target)}")


def resolve_targets(targets: Target | Iterable[Target], count: int, output: OutputSpec) -> list[int]:
    """The class that is meant for each image.

    Args:
        targets: One for all images, or a sequence of `count`; see `resolve_target`.
        count: How many images there are.
        output: The model's classes and labels.

    Returns:
        An index per image, -1 for its top class.

    Raises:
        TargetError: A target is out of range, unknown or ambiguous, or there are not `count` of them.
    """
    if isinstance(targets, np.ndarray) and targets.ndim == 0:
        targets = targets.item()
    if isinstance(targets, str) or not isinstance(targets, Iterable):
        return [resolve_target(targets, output)] * count
    each = list(targets)
    if len(each) != count:
        raise TargetError(f"targets: expected one for all images or {count}, one per image, got {len(each)}")
    found = []
    for image, target in enumerate(each):
        try:
            found.append(resolve_target(target, output))
        except TargetError as error:
            raise error if count == 1 else TargetError(f"image {image}: {error}") from error
    return found


def resolve_ranked(target: Target, output: OutputSpec) -> int:
    """The class that `target` means, which may be a rank.

    Args:
        target: What `resolve_target` takes; of a classifier also -2 (or "-2") for the class of the second highest
            score, -3 for the third, and so on.
        output: The model's classes and labels.

    Returns:
        Its index; -1, -2, ... where the order of the scores decides.

    Raises:
        TargetError: The target is out of range, unknown or ambiguous.
    """
    try:
        return resolve_target(target, output)
    except TargetError:
        rank = _rank(target)
        if rank is None or output.values or not -output.classes <= rank < TOP_CLASS:
            raise
        return rank


def resolve_columns(
    targets: Sequence[Target] | Sequence[Sequence[Target]] | NDArray[Any], count: int, output: OutputSpec
) -> NDArray[np.int64]:
    """The classes of each image that are explained together.

    Args:
        targets: K of what `resolve_ranked` takes, the same for all images; or `count` rows of K, one for each image.
        count: How many images there are.
        output: The model's classes and labels.

    Returns:
        Int64 (count, K): an index per target; -1, -2, ... where the order of the scores decides.

    Raises:
        TargetError: A target is out of range, unknown or ambiguous (the message says in which row and column), there
            are more than the model has classes, or none, or rows are too few, too many or of different lengths.
    """
    if isinstance(targets, str) or not isinstance(targets, Sequence | np.ndarray) or not len(targets):
        raise TargetError(f"targets: expected a list of classes, at least one, got {shown_value(targets)}")
    each: Any = targets
    rows = [_is_row(target) for target in each]
    if not any(rows):
        return np.repeat(np.array([_columns(each, output)], np.int64), count, axis=0)
    if not all(rows) or len(each) != count or len({len(row) for row in each}) != 1:
        raise TargetError(
            f"targets: expected a list of classes for all images, or {count} lists of the same length, one for each "
            f"image, got {shown_value(targets)}"
        )
    return np.array([_columns(row, output, f"row {i}, ") for i, row in enumerate(each)], np.int64)


def top_ranks(count: int, output: OutputSpec) -> list[int]:
    """The classes of the `count` highest scores, as `resolve_columns` takes them.

    Args:
        count: From 1 to the number of classes.
        output: The model's classes and labels.

    Returns:
        -1 to -`count`.

    Raises:
        TargetError: There are fewer classes, the count is no such number, or the model is a regression.
    """
    if output.values:
        raise TargetError("the best classes: the values of a regression have no order: name them as targets")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= output.classes:
        raise TargetError(
            f"the best classes: expected a number from 1 to {output.classes}, as many as the model has, got "
            f"{shown_value(count)}"
        )
    return [-1 - rank for rank in range(count)]


def inferences(spec: CamSpec, classes: Sequence[int]) -> int:
    """How many inferences it takes to explain these classes of one batch of images.

    Args:
        spec: Of the file.
        classes: As `resolve_ranked` gives them.

    Returns:
        The number, with the one that finds the order of the scores where the file does not know it.
    """
    ranks, at_once = (1, 1) if spec.columns is None else (spec.columns.ranks, spec.columns.count or len(classes))
    return -(-len(classes) // at_once) + (min(classes) < -ranks)


def class_input(spec: CamSpec, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """What a file's class input takes for one class of each image.

    Args:
        spec: Of the file.
        classes: Int64 (N,).

    Returns:
        The same, or int64 (N, K) with the class in every column of a file that explains several.
    """
    if spec.columns is None:
        return classes
    return np.repeat(classes[:, None], spec.columns.count or 1, axis=1)


def class_feed(spec: CamSpec, classes: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """What an inference is fed with beside the image.

    Args:
        spec: Of the file.
        classes: As `class_input` gives them.

    Returns:
        The classes under the name of their input; nothing for a file with a fixed target.
    """
    return {} if spec.fixed_target is not None else {spec.target: classes}


def check_fixed_target(
    spec: CamSpec, asked: NDArray[np.int64], explained: NDArray[np.int64] | None = None, path: object = "the file"
) -> None:
    """Refuse other classes than the one that a file with a fixed target explains.

    Args:
        spec: Of the file.
        asked: Int64 (N,), -1 for what the file explains.
        explained: The classes that it explained, int64 (N,), or None before it ran: which class is the top one shows
            afterwards only.
        path: Of the file, for the message.

    Raises:
        TargetError: Another class was asked for.
    """
    fixed = spec.fixed_target
    if fixed is None:
        return
    end = "leave the target out, or export the model without --fixed-target for any class"

    def named(index: int) -> str:
        return f"{index} ({spec.output.label(index)})" if spec.output.labels else str(index)

    if fixed.index >= 0:
        others = asked[(asked != fixed.index) & (asked != TOP_CLASS)]
        if len(others):
            raise TargetError(f"{path}: explains class {named(fixed.index)} alone, not {named(int(others[0]))}: {end}")
    elif explained is not None:
        others = np.flatnonzero((asked != explained) & (asked != TOP_CLASS))
        if len(others):
            first, wanted = int(explained[others[0]]), int(asked[others[0]])
            raise TargetError(
                f"{path}: explains the top class of each image alone, here {named(first)}, not {named(wanted)}: {end}"
            )


def in_first_column(spec: CamSpec, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Outputs by name, of a file that explains several classes those of the first: as if it explained one."""
    if spec.columns is None:
        return dict(values)
    return {name: value[:, 0] if name in spec.by_class else value for name, value in values.items()}


def _is_row(target: object) -> bool:
    return isinstance(target, Sequence | np.ndarray) and not isinstance(target, str) and np.ndim(target) > 0


def _columns(targets: Sequence[Target] | NDArray[Any], output: OutputSpec, row: str = "") -> list[int]:
    """`resolve_ranked` of each; row: where they stand, for messages."""
    if not len(targets):
        raise TargetError("targets: expected at least one class of each image")
    if len(targets) > output.classes:
        raise TargetError(
            f"targets: {len(targets)} classes of an image, and the model has {output.classes}: ask for at most as many"
        )
    found = []
    for column, target in enumerate(targets):
        try:
            found.append(resolve_ranked(target, output))
        except TargetError as error:
            raise TargetError(f"target in {row}column {column}: {error}") from error
    return found


def _rank(target: Target) -> int | None:
    """The number that `target` is, or is written as; None where it is none."""
    if isinstance(target, bool) or target is None:
        return None
    try:
        return int(target) if isinstance(target, str) else operator.index(target)
    except (TypeError, ValueError):
        return None


def _in_range(index: int, output: OutputSpec) -> int:
    if index == TOP_CLASS and output.values:
        return 0  # no value of a regression is the top one
    if index == TOP_CLASS or 0 <= index < output.classes:
        return index
    raise TargetError(
        f"target {shown_value(index)} is out of range: the model has {output.classes} classes, 0 to "
        f"{output.classes - 1} (leave the target out for the top class)"
    )


def _from_text(text: str, output: OutputSpec) -> int:
    if output.values and (side := _side(text, output)) is not None:
        return side
    names = _names(output)
    for matches in (
        [i for i, label in enumerate(output.labels or ()) if label == text],
        [i for i, label in enumerate(output.labels or ()) if label.lower() == text.lower()],
        sorted(set(names.get(text.lower(), ()))),
    ):
        if len(matches) > 1:
            listed = ", ".join(map(str, matches))
            raise TargetError(f"label '{text}' is ambiguous: classes {listed} have it; give the class index")
        if matches:
            return matches[0]
    try:
        return _in_range(int(text), output)
    except TargetError:
        raise
    except ValueError:
        pass
    if not output.labels:
        raise TargetError(
            f"target '{shown(text)}': the model file has no labels: give a class index, 0 to {output.classes - 1}"
        )
    # A text that long is nobody's slip of the keyboard, and slow to compare.
    near = difflib.get_close_matches(text.lower(), names, n=3, cutoff=0.5) if len(text) <= 200 else []
    hint = ", ".join(f"'{shown(output.label(i))}' ({i})" for i in dict.fromkeys(names[name][0] for name in near))
    raise TargetError(
        f"no class is called '{shown(text)}'" + (f"; nearest: {hint}" if hint else "; give a class index")
    )


def _side(text: str, output: OutputSpec) -> int | None:
    """What makes a value of a regression larger or smaller: "age-", "0-", "-" of a single one; None for neither."""
    name, sign = (text[:-1], text[-1]) if text[-1:] in ("+", "-") else (text, "+")
    called = {output.label(index)[:-1].lower(): index for index in range(output.values)}
    index = called.get(name.lower())
    if index is None and name.isdecimal() and int(name) < output.values:
        index = int(name)
    if index is None and not name and output.values == 1:
        index = 0
    return None if index is None else index + (output.values if sign == "-" else 0)


def _names(output: OutputSpec) -> dict[str, list[int]]:
    """Lower-case label, and each of its comma-separated names, -> classes."""
    names: dict[str, list[int]] = {}
    for index, label in enumerate(output.labels or ()):
        for name in dict.fromkeys([label.lower(), *(part.strip().lower() for part in label.split(","))]):
            names.setdefault(name, []).append(index)
    return names
