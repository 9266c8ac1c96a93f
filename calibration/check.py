"""`check_file`: anybody's proof of an exported file, on anybody's machine.

With onnx and ONNX Runtime only. What the exporters prove as they write a file is measured again
on the file itself, and with it what can be seen from outside: weights that are stored twice, and
operators that TensorRT refuses.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from ..export.errors import ExportError, LayerError
from ..export.fused.joining import RULE_PREFIX
from ..export.graph import load_model
from ..export.pixels import unfolded, unfolded_spec
from ..export.proof.checks import prove_file
from ..export.proof.exported_file import open_exported_file, plain_outputs
from ..export.proof.images import filled_up
from ..export.proof.score_values import probabilities_as_given
from ..export.report import Stopwatch
from ..export.reverse.opening import open_model
from ..export.reverse.score import Score, both_sides, find_score
from ..export.sources.onnx_input import image_input
from ..export.sources.onnx_outputs import tensor_outputs
from ..export.unrunnable import runnable_part
from ..runtime.contract.modelfile import file_sha256, read_model_info, read_spec
from ..runtime.contract.spec import CamSpec
from ..runtime.errors import EngineError, MissingDependencyError, ModelFileError, SpecError
from .json_values import plain
from .repeated_weights import Repeat, repeated_weights
from .tensorrt_table import tensorrt_refusals

__all__ = ["CheckReport", "CheckRow", "check_file"]

Status = Literal["ok", "failed", "warning"]

_SAME_CONTRACT = "input, scores and layers are as the file says"
#: So many examples are named in a note.
_NAMED = 3


@dataclass(frozen=True)
class CheckRow:
    """One check. It holds when ``value <= limit`` (``>=`` with `at_least`); a warning is not a failure.

    value, limit: None where nothing was measured.
    """

    name: str
    status: Status
    value: float | None = None
    limit: float | None = None
    at_least: bool = False
    note: str = ""


@dataclass
class CheckReport:
    """What was found out about one file. True when no check failed.

    layer: as people call it; of several, all of them with commas between. source: path of the plain model,
    when one was given. seconds: step -> seconds. images: how many the file was run on.
    """

    path: str
    sha256: str
    layer: str
    source: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    images: int = 0
    rows: list[CheckRow] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rows) and not self.failures

    @property
    def failures(self) -> list[CheckRow]:
        return [row for row in self.rows if row.status == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; a figure that is no number is null."""
        rows = plain([asdict(row) for row in self.rows])
        model = {"path": self.path, "sha256": self.sha256, "layer": self.layer}
        return {"ok": bool(self), "model": model, "source": self.source, "checks": rows, "seconds": self.seconds}


def check_file(
    path: str | os.PathLike[str],
    images: NDArray[np.floating] | None = None,
    *,
    source: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> CheckReport:
    """Measure everything about the exported file at `path`.

    images: (N, ...) preprocessed, in the layout and dtype of the file's input; None makes random ones with structure.
    source: the plain model, whose outputs and probabilities must be the file's. progress: told the name of each step.
    What is compared and with which limits: `export.proof.checks`.

    Raises `ModelFileError` (not an exported file, or another source), `ArrayError` (images that do not fit),
    `ExportError` (ONNX Runtime refuses the file, or an operator of its tail cannot be evaluated),
    `MissingDependencyError` (no ONNX Runtime).
    """
    path = os.fspath(path)
    spec = read_spec(path)
    watch = Stopwatch(progress)
    layers = ", ".join(layer.name for layer in spec.layers)
    report = CheckReport(path, file_sha256(path), layers, None if source is None else os.fspath(source), watch.seconds)
    with watch("open"):
        model = load_model(path)
        try:
            file = open_exported_file(path, model=model, images=_filled_up(images, path, spec))
        except SpecError as error:
            report.rows.append(CheckRow(_SAME_CONTRACT, "failed", note=str(error)))
            return report
        except LayerError as error:
            report.rows.append(CheckRow("the layer is a value that leads to the scores", "failed", note=str(error)))
            return report
    report.rows.append(CheckRow(_SAME_CONTRACT, "ok"))
    report.images = len(file.images)
    plain, probabilities, origin = None, [], None
    if source is not None:
        with watch("source"):
            _refuse_other_input(source, spec)
            origin = load_model(source)
            if spec.input.folded is not None:
                image = image_input(origin, (spec.input.height, spec.input.width), spec.input.channels)
                file.take_plain_images(unfolded(file.images, spec.input, unfolded_spec(spec.input, image)))
            plain = plain_outputs(source, file)
            score = _score_in(origin, spec)
            probabilities = [] if score is None else probabilities_as_given(file, score, plain)
    tail, tail_rows = _tail_file(path, spec)
    report.rows += [
        CheckRow(one.name, "ok" if one.ok else "failed", one.value, one.limit, one.at_least, one.note)
        for one in [*prove_file(file, plain, tail=tail, watch=watch).checks, *probabilities]
    ]
    report.rows += tail_rows
    with watch("weights"):
        report.rows += _weights_rows(model, spec, origin)
    with watch("TensorRT"):
        report.rows += _tensorrt_rows(path, model)
    return report


def _filled_up(images: NDArray[Any] | None, path: str, spec: CamSpec) -> NDArray[Any] | None:
    """As many images as a file with a fixed batch takes: the last one is repeated."""
    shapes = (value.shape for value in read_model_info(path).inputs if value.name == spec.input.name)
    declared = next(shapes, None)
    if images is None or not declared or not isinstance(declared[0], int):
        return images
    return filled_up(images, declared[0])


def _tail_file(path: str, spec: CamSpec) -> tuple[Path | None, list[CheckRow]]:
    """The file of the tail that the `CamSpec` names, which lies beside the file itself; else what is wrong with it."""
    if spec.tail is None:
        return None, []
    tail = Path(path).with_name(Path(spec.tail.file).name)
    name = f"tail's own file '{tail.name}'"
    if not tail.is_file():
        return None, [CheckRow(name, "warning", note="is not there: methods that run the tail need it")]
    if file_sha256(tail) != spec.tail.sha256:
        return None, [CheckRow(name, "failed", note="is another file than the one that was exported with this")]
    return tail, []


def _refuse_other_input(source: str | os.PathLike[str], spec: CamSpec) -> None:
    names = [value.name for value in read_model_info(source).inputs]
    if names != [spec.input.name]:
        raise ModelFileError(
            f"{os.fspath(source)}: takes {', '.join(map(repr, names))}, the exported file takes '{spec.input.name}': "
            "it is not the model that the file was made of"
        )


def _score_in(source: onnx.ModelProto, spec: CamSpec) -> Score | None:
    """The plain model's output that the file's scores were found behind; None where none is seen to lead there."""
    graph, _ = open_model(runnable_part(tensor_outputs(source)[0], None)[0])
    for name in graph.output_names:
        probed = graph.copy()
        try:
            found = both_sides(probed, find_score(probed, name))
        except ExportError:
            continue  # an output without classes
        if (found.output, found.value) == (spec.output.name, spec.output.score):
            return found
    return None


def _weights_rows(model: onnx.ModelProto, spec: CamSpec, source: onnx.ModelProto | None) -> list[CheckRow]:
    plain = [output.name for output in model.graph.output if output.name not in spec.added_outputs]
    found = [one for one in repeated_weights(model, plain, source) if not _of_rule(one)]
    # Without the plain model nobody knows whether a copy among its own weights was there before.
    ours = [repeat for repeat in found if repeat.added or source is not None]
    theirs = [repeat for repeat in found if not (repeat.added or source is not None)]
    name = "weights above 1 KB that are stored twice"
    rows = [CheckRow(name, "failed" if ours else "ok", len(ours), 0, note=_some(ours))]
    if theirs:
        name = "weights above 1 KB that the plain model itself stores twice"
        rows.append(CheckRow(name, "warning", len(theirs), 0, note=f"{_some(theirs)}; --source tells whose they are"))
    return rows


def _of_rule(repeat: Repeat) -> bool:
    """Whether it is within a fused rule, whose blurs and resizings of the two axes are small and much alike."""
    return repeat.name.startswith(RULE_PREFIX) and repeat.other.startswith(RULE_PREFIX)


def _tensorrt_rows(path: str, model: onnx.ModelProto) -> list[CheckRow]:
    refused = tensorrt_refusals(model)
    status: Status = "warning" if refused else "ok"
    rows = [CheckRow("operators that TensorRT refuses (table)", status, len(refused), 0, note=_some(refused))]
    from ..runtime.engines.tensorrt.build import parse_onnx

    try:
        result = parse_onnx(path)
    except MissingDependencyError:
        return rows  # nobody to ask
    except (EngineError, ModelFileError) as error:
        return [*rows, CheckRow("TensorRT's own parser", "warning", note=f"could not be asked: {error}")]
    return [*rows, CheckRow("TensorRT's own parser", "ok" if result else "warning", note=str(result))]


def _some(items: list[Any]) -> str:
    rest = len(items) - _NAMED
    return "; ".join(map(str, items[:_NAMED])) + (f"; and {rest} more" if rest > 0 else "")
