"""The finished map of a fused file, against the host's rule in numpy on what the file makes it of.

The two-stage view of the file gives out both, so that they are of the same run and all that can differ is rounding.

1. The map in a batch, for the top classes and for others, and of each image alone: the median image within 1e-5, every
   image within 2e-3. The rule decides by comparing similarities of channels with thresholds. Where the host itself
   finds such a comparison nearer than `_CLOSE`, either decision is right, and the image may differ; not more than
   half of them may.
2. Whether a map is empty, whether it is guided, and counts of channels are the host's, with the same exception for the
   counts.
3. A class that does not exist gets an empty map, and leaves the maps of other classes in its row alone.
4. Where several classes of each image are explained at once, each of their maps, as in 1 and 2.
5. The file as it is written, which gives out the map alone, against its view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import normalise
from ...runtime.contract.spec import CamSpec
from ...runtime.inference import LayerTensors
from ...runtime.methods import CamResult, get_method, make_settings
from ...runtime.methods.cfcam.closeness import closest_decision
from ...runtime.methods.cfcam.method import CfcamSettings
from ...runtime.methods.layer_fusion import run_rule
from ...runtime.targets import TOP_CLASS, class_input, in_first_column
from .exported_file import Answer, ExportedFile
from .results import Check, image_errors, relative_error
from .session import Session

__all__ = ["finished_map"]

Array = NDArray[Any]

_MEDIAN, _WORST = 1e-5, 2e-3
#: So many classes of each image at once.
_COLUMNS = 4
#: A comparison nearer than that is decided by rounding.
_CLOSE = 3e-7


@dataclass(frozen=True, eq=False)
class _Compared:
    """Some images against the host: largest difference of each map (N,), whether counts, and emptiness and guidance,
    are equal, and which images rounding may decide."""

    differences: NDArray[np.float64]
    counts: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    close: NDArray[np.bool_]


def finished_map(file: ExportedFile) -> list[Check]:
    """All that is to be known of the finished map; nothing of a file without one."""
    spec = file.fused
    if spec is None or spec.fused is None:
        return []
    found = [
        *_against_host("finished map in a batch, against the host's", _compared(spec, [file.top, file.other])),
        *_alone(file, spec),
        _no_such_class(file, spec),
        *_columns(file, spec),
        *_as_written(file, spec),
    ]
    return found


def _alone(file: ExportedFile, spec: CamSpec) -> list[Check]:
    if file.batch is not None:
        return []
    answers = [file.explain(file.images[i : i + 1], file.other_classes[i : i + 1]) for i in range(len(file.images))]
    return _against_host("finished map of an image alone, against the host's", _compared(spec, answers))


def _against_host(name: str, found: _Compared) -> list[Check]:
    clear = found.differences[~found.close]
    worst = float(clear.max(initial=0))
    wrong = int((~found.counts & ~found.close).sum())
    checks = [
        Check(f"{name} (median image)", float(np.median(found.differences)), _MEDIAN),
        Check(f"{name} (worst image)", worst, _WORST, note=_note(found)),
    ]
    if wrong or not found.empty.all():
        checks.append(Check(f"{name}: images with other counts", wrong, 0))
        checks.append(
            Check(f"{name}: images that are empty or guided for one of them alone", int((~found.empty).sum()), 0)
        )
    return checks


def _note(found: _Compared) -> str:
    other = int((found.close & (found.differences > _WORST)).sum())
    return f"{other} of {len(found.close)} where rounding decides a cluster" if other else ""


def _compared(spec: CamSpec, answers: list[Answer]) -> _Compared:
    fused = spec.fused
    assert fused is not None
    method = get_method(spec.method.name)
    settings = make_settings(method, spec.method.settings)
    rows: list[tuple[float, bool, bool, bool]] = []
    for answer in answers:
        tensors = (LayerTensors(answer.activations, answer.gradients, answer.detail, answer.rivals),)
        for i, heat in enumerate(answer.finished[fused.map]):
            host = run_rule(method, settings, spec.layers, tensors, i, spec.fusion)
            expected = _host_map(host, fused.size)
            difference = float(np.abs(np.asarray(heat, np.float64) - expected).max())
            counts = None if fused.counts is None else answer.finished[fused.counts][i]
            same = counts is None or host.grouping is None or list(counts) == _counts(host)
            close = False
            if isinstance(settings, CfcamSettings) and (difference > _MEDIAN or not same):
                close = closest_decision(answer.activations[i], settings) <= _CLOSE
            empty = bool(answer.finished[fused.empty][i]) == (not expected.any())
            if fused.guided is not None and host.form is not None:
                empty = empty and bool(answer.finished[fused.guided][i]) == host.form.guided
            rows.append((difference, same, empty, close))
    differences, counts, empty, close = (np.array(column) for column in zip(*rows, strict=True))
    return _Compared(differences, counts, empty, close)


def _host_map(result: CamResult, size: tuple[int, int]) -> NDArray[np.float32]:
    return np.zeros(size, np.float32) if result.empty else normalise(result.map, size)


def _counts(result: CamResult) -> list[int]:
    assert result.grouping is not None
    counts = result.grouping.counts()
    return [counts[name] for name in ("clusters", "clustered", "noise", "dead")]


def _no_such_class(file: ExportedFile, spec: CamSpec) -> Check:
    """Classes that do not exist: behind the last one, and below those numbers that ask for the top class or a rank."""
    fused, count = spec.fused, len(file.images)
    assert fused is not None
    wrong = 0
    for index in _missing(spec):
        found = file.explain(file.images, np.full(count, index)).finished
        blank = ~found[fused.map].any(axis=(1, 2)) & found[fused.empty].astype(bool)
        wrong += int((~blank).sum())
    return Check("images with a map for a class that does not exist", wrong, 0)


def _missing(spec: CamSpec) -> tuple[int, int]:
    """The numbers next to those that ask for a class."""
    return spec.output.classes, -2 if spec.columns is None else -1 - spec.columns.ranks


def _columns(file: ExportedFile, spec: CamSpec) -> list[Check]:
    """Several classes of each image at once; of the last column also as a class that does not exist."""
    fused, columns = spec.fused, spec.columns
    if fused is None or columns is None:
        return []
    classes = spec.output.classes
    count = columns.count or min(classes, _COLUMNS)
    asked = (file.top.classes[:, None] + np.arange(len(file.images))[:, None] + np.arange(count)) % classes
    usual = file.answers(file.images, asked)
    checks = _against_host("finished maps of several classes, against the host's", _compared(spec, usual[:_COLUMNS]))
    if count > 1:
        asked[:, -1] = _missing(spec)[0]
        *others, last = file.answers(file.images, asked)
        maps = [(one.finished[fused.map], two.finished[fused.map]) for one, two in zip(others, usual, strict=False)]
        moved = max(float(np.abs(one - two).max()) for one, two in maps)
        left = int((last.classes >= 0).sum()) + int(last.finished[fused.map].any())
        checks += [
            Check("finished maps beside a class that does not exist", moved, _MEDIAN),
            Check("columns with a map for a class that does not exist", left, 0),
        ]
    return checks


def _as_written(file: ExportedFile, spec: CamSpec) -> list[Check]:
    """The file itself, in which values may be computed in other groups than in the view: the scores, and the map."""
    fused, name = spec.fused, spec.output.name
    assert fused is not None
    session = Session(str(file.path))
    target = TOP_CLASS if spec.fixed_target is None else spec.fixed_target.index
    asked = class_input(spec, np.full(len(file.images), target, np.int64))
    feeds = {spec.input.name: file.images, spec.target: asked}
    found = in_first_column(spec, session.run_in_batches(feeds, file.batch or len(file.images)))
    heat, seen = np.asarray(found[fused.map]), file.as_asked(target).finished[fused.map]
    scores = relative_error(np.asarray(found[name]), file.top.outputs[name])
    limit = _WORST if file.coarse or file.coarse_before else _MEDIAN
    moved = float(np.median(image_errors(heat, seen)))
    return [
        Check("scores of the file against those of its two-stage view", scores, limit),
        Check("finished map of the file against its two-stage view's (median image)", moved, _WORST),
    ]
