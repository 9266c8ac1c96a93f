"""Where a candidate parts from its reference: every value of both, and the nodes at which the error jumps.

In INT8 everything differs a little, and an error made once stays in everything behind it. So nodes are ranked by how
much larger the relative error of what they make is than that of what they read. Polygraphy marks the values as outputs
and runs both graphs.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...runtime.contract.manifest import Manifest
from ...runtime.contract.modelfile import read_spec
from ...runtime.engines.onnxruntime.words import log_severity
from ...runtime.errors import EngineError, ImageError, MissingDependencyError, ModelFileError
from ...runtime.files import scratch_folder
from ...runtime.photos.preprocess import prepare
from ...runtime.targets import TOP_CLASS, class_input
from .value_matching import HANDS_ON, computed_values, match_values

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto

    from ...runtime.contract.spec import CamSpec

    Values = dict[str, NDArray[Any]]
    Run = Callable[[Values], Values]

__all__ = ["Jump", "LayerwiseReport", "compare_layerwise"]

_REBUILT = (
    "this is not {} itself but an engine that was built from its graph with these values as outputs: fewer nodes are "
    "fused there, so its values may differ"
)

#: Photos that are looked at: all values of a network at once are some hundred MB.
_PHOTOS = 4

#: What infinity and NaN count as.
_LOST = 1e6

#: Relative errors below this one are as good as none: a jump from nothing to nearly nothing says nothing.
_FLOOR = 0.01


@dataclass(frozen=True)
class Jump:
    """One node of the candidate.

    node, operator: its name and kind. value: what it makes, by the reference's name. before, after: relative error
    (L2, mean of the photos) of the worst value that it reads, and of what it makes, as far as the nodes that read that
    do not forget it. jump: after / before, where errors under 1 % count as 1 %.
    """

    node: str
    operator: str
    value: str
    before: float
    after: float

    @property
    def jump(self) -> float:
        return max(self.after, _FLOOR) / max(self.before, _FLOOR)


@dataclass(frozen=True)
class LayerwiseReport:
    """Where two graphs part.

    candidate, reference: what ran. compared, values: values of the candidate that were compared, and all that it
    computes from its inputs. jumps: of every compared node, the largest first. photos: how many. note: what to know of
    the comparison, or "".
    """

    candidate: str
    reference: str
    compared: int
    values: int
    jumps: tuple[Jump, ...]
    photos: int
    note: str = ""

    def to_dict(self, most: int = 50) -> dict[str, Any]:
        """For JSON, with the first `most` jumps."""
        jumps = [{**asdict(one), "jump": one.jump} for one in self.jumps[:most]]
        return {**asdict(self), "jumps": jumps}


def compare_layerwise(
    candidate: str | os.PathLike[str], reference: str | os.PathLike[str], photos: Sequence[str | os.PathLike[str]]
) -> LayerwiseReport:
    """Compare all values of two files that can be matched, on the first four photos and the reference's top classes.

    Args:
        candidate: An explained ONNX file in another precision; ONNX Runtime runs both on the CPU, node by node. Or a
            TensorRT engine with its manifest and the graph that it was built from beside it: that graph then runs on
            the CPU, and again in an engine that is built from it on this GPU, with its values as outputs.
        reference: The float32 file.
        photos: Paths.

    Returns:
        The nodes at which they part.

    Raises:
        MissingDependencyError: Polygraphy or onnx is not installed.
        ModelFileError: The graph of an engine is missing.
        EngineError: Nothing can be compared, or TensorRT cannot build or run.
    """
    try:
        import onnx
        import polygraphy  # noqa: F401 - looked for before any work
    except ImportError as error:
        raise MissingDependencyError(f"--layerwise needs {error.name}: install cfcam[build]") from error
    manifest = Manifest.read(candidate)
    package = manifest.backend.name if manifest is not None and manifest.is_engine else None
    graph = Path(candidate) if package is None else _graph_of(Path(candidate), manifest)
    spec, model, base = read_spec(graph), onnx.load(graph), onnx.load(reference if package is None else graph)
    contract = {spec.chosen, *(name for layer in spec.layers for name in layer.outputs)}
    computed = computed_values(model.graph)
    # An engine has its graph's own names, numbered ones too.
    same = match_values(model.graph, base.graph, contract if package is None else computed)
    fetched = [name for name in computed if name in same]
    if not fetched:
        raise EngineError(f"{candidate} and {reference}: no value of the one could be found in the other")
    wanted = _on_cpu(base, sorted({spec.chosen, *(same[name] for name in fetched)}))
    tensors = list(itertools.islice(_tensors(spec, photos), _PHOTOS))
    errors: dict[str, list[float]] = {}
    ready = contextlib.nullcontext(_on_cpu(model, fetched)) if package is None else _rebuilt(model, fetched, package)
    with ready as run:
        for tensor in tensors:
            feed = {spec.input.name: tensor, spec.target: class_input(spec, np.array([TOP_CLASS], np.int64))}
            right = wanted(feed)
            found = run({**feed, spec.target: right[spec.chosen]})
            for name in fetched:
                if (error := _relative_error(found[name], right[same[name]])) is not None:
                    errors.setdefault(name, []).append(error)
    mean = {name: float(np.mean(some)) for name, some in errors.items()}
    return LayerwiseReport(
        candidate=str(candidate),
        reference=str(reference if package is None else graph),
        compared=len(mean),
        values=len(computed),
        jumps=tuple(sorted(_jumps(model.graph, mean, same), key=lambda one: -one.jump)),
        photos=len(tensors),
        note="" if package is None else _REBUILT.format(Path(candidate).name),
    )


def _graph_of(engine: Path, manifest: Manifest | None) -> Path:
    name = manifest.graph.file if manifest is not None and manifest.graph is not None else ""
    path = engine.with_name(name or engine.name)
    if path == engine or not path.is_file():
        raise ModelFileError(f"{engine}: the graph that it was built from ({name}) is not beside it: copy it there")
    return path


def _tensors(spec: CamSpec, photos: Sequence[str | os.PathLike[str]]) -> Iterator[NDArray[Any]]:
    """Of the photos that can be read, in the model's layout."""
    for photo in photos:
        with contextlib.suppress(ImageError):
            yield prepare(photo, spec.input).tensor[None]


def _jumps(graph: GraphProto, errors: Mapping[str, float], same: Mapping[str, str]) -> Iterator[Jump]:
    """One for every compared value."""
    behind: dict[str, list[float]] = {}
    for node in reversed(graph.node):
        made = [errors[name] for name in node.output if name in errors]
        if node.op_type in HANDS_ON and not made:
            made = behind.get(node.output[0], [])
        for name in node.input:
            behind.setdefault(name, []).extend(made)
    known: dict[str, float] = {}  # a value that was not compared has the error of what it is made of
    for node in graph.node:
        before = max((known.get(name, 0.0) for name in node.input), default=0.0)
        known.update((name, errors.get(name, before)) for name in node.output)
        for name in (one for one in node.output if one in errors):
            # What all readers forget is no error: a range from 0 on, for a value of which a ReLU reads no more.
            after = min(errors[name], max(behind.get(name) or [errors[name]]))
            yield Jump(node.name or f"node_of_{name}", node.op_type, same[name], before, after)


def _relative_error(found: NDArray[Any], wanted: NDArray[Any]) -> float | None:
    """L2, of the reference's; None where it is nothing, not of real numbers, or of another shape."""
    scale = float(np.linalg.norm(wanted.astype(np.float64)))
    if found.shape != wanted.shape or found.dtype.kind != "f" or wanted.dtype.kind != "f" or scale == 0:
        return None
    with np.errstate(invalid="ignore"):
        error = float(np.linalg.norm(found.astype(np.float64) - wanted.astype(np.float64))) / scale
    return float(min(np.nan_to_num(error, nan=_LOST), _LOST))


def _on_cpu(model: ModelProto, outputs: Sequence[str]) -> Run:
    """`model` with those outputs in ONNX Runtime, which leaves its nodes as they are."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = log_severity()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session: Any = onnxruntime.InferenceSession(_marked(model, outputs), options, providers=["CPUExecutionProvider"])
    return lambda feed: dict(zip(outputs, session.run(list(outputs), feed), strict=True))


@contextlib.contextmanager
def _rebuilt(model: ModelProto, outputs: Sequence[str], package: str) -> Iterator[Run]:
    """`model` with those outputs in an engine of this GPU."""
    from ...runtime.engines.tensorrt.build import build_engine
    from ...runtime.engines.tensorrt.packages import load_package

    with scratch_folder() as folder:
        path = Path(folder) / "marked.onnx"
        path.write_bytes(_marked(model, outputs))
        plan = build_engine(path, batch=(1, 1, 1), package=package)
    with load_package(package).polygraphy() as (loaders, _), loaders.TrtRunner(loaders.EngineFromBytes(plan)) as runner:
        # The runner's own buffers are written again by the next photo.
        yield lambda feed: {name: np.array(value) for name, value in runner.infer(feed).items()}


def _marked(model: ModelProto, outputs: Sequence[str]) -> bytes:
    from polygraphy.backend.onnx import ModifyOutputs

    return ModifyOutputs(model, outputs=list(outputs), copy=True)().SerializeToString()
