"""An exported file opened for its proof: in ONNX Runtime, and its tail in float64."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from ...runtime.contract.spec import CamSpec
from ...runtime.engines.onnxruntime.workarounds import session_workarounds
from ...runtime.errors import ArrayError, ModelFileError, SpecError
from ...runtime.targets import class_input, in_first_column
from ..fixed_target import free_target, with_target_input
from ..fused.joining import two_stage_view, with_inner_values
from ..graph import Graph, attribute, load_model, value_info
from ..tail.cutting import Tail, cut_tail, open_exported
from ..writing import spec_of
from .contract import contradictions
from .float64 import Evaluator
from .images import filled_up, structured_images
from .results import relative_error
from .session import Session, release_memory
from .yardstick import Yardstick

__all__ = [
    "COARSE_GRADIENT",
    "Answer",
    "Exact",
    "ExportedFile",
    "PlainOutputs",
    "coarse_values",
    "open_exported_file",
    "plain_outputs",
]

Array = NDArray[Any]

#: Relative error that float16 or quantised values alone may make.
COARSE_GRADIENT = 2e-2

_FEWEST_IMAGES = 5
#: The exact tail takes so many images at once, where the batch is free: enough to have a batch, few for the memory.
_AT_ONCE = 2
#: Relative rounding of the types that are coarser than float32.
_ROUNDING: dict[int | None, float] = {TensorProto.FLOAT16: 2.0**-11, TensorProto.BFLOAT16: 2.0**-8}
#: Binary digits of a float16.
_HALF_DIGITS = 11


@dataclass(frozen=True, eq=False)
class Answer:
    """What the file gives for N images: outputs by name, activations and gradients (N, C, H, W), classes (N,), and
    the detail's activations (N, C, H, W) and the rivals' gradient (N, C, 1, 1) where there are some. finished: outputs
    of a fused file by name, the map and what is known about it."""

    outputs: dict[str, Array]
    activations: Array
    gradients: Array
    classes: NDArray[np.int64]
    detail: Array | None = None
    rivals: Array | None = None
    finished: dict[str, Array] = field(default_factory=dict)


class ExportedFile:
    """An exported file, opened for its proof: in ONNX Runtime, and its tail in float64.

    It is proved layer by layer: everything below is about `spec.layer`. further: the same file, with each of its
    other layers in that place (the spec's order is changed).
    graph: its contents, until `release`.
    images: the batch (N, ...) that it is proved with, in the layout and dtype of its input. batch: the fixed
    batch size of the file, or None. quantised, half: such values lie behind the layer. coarse: either of them.
    coarse_before: float16 or quantised values lie before the layer. score_rounding: relative error that the type of
    the values behind the logits makes. has_quantisers: values are quantised, before the layer or behind it.
    written: the spec of a fused file, or of one with a fixed target; None of others. Such a file is run as its
    two-stage view, in which what the map is made of is given out as well, and which is told the class; `spec` and
    `graph` are the view's.
    plain_images: the same images as the plain model takes them, which are others where preprocessing was folded in.
    """

    def __init__(
        self,
        path: Path,
        spec: CamSpec,
        graph: Graph,
        tail: Tail,
        probe: Session | None,
        images: Array,
        batch: int | None,
        first: ExportedFile | None = None,
    ) -> None:
        self.path, self.spec = path, spec
        self.graph: Graph | None = graph
        self.tail, self.images, self.batch = tail, images, batch
        self.further: list[ExportedFile] = []
        self.coarse_before, self.has_quantisers, self.score_rounding = False, False, 0.0
        self._probe, self._first = probe, first
        kinds = {node.op_type for node in tail.model.graph.node}
        self.quantised = "QuantizeLinear" in kinds
        self.half = _in_half(tail.model)
        self.coarse = self.quantised or self.half
        self.written: CamSpec | None = None
        self.plain_images = images
        self._view: ModelProto | None = None

    def see_two_stages(self, written: CamSpec) -> None:
        """Run the file as its two-stage view from now on, which is what `graph` is. written: what the file says."""
        assert self.graph is not None
        self.written, self._view = written, self.graph.to_model()

    def take_plain_images(self, images: Array) -> None:
        """Say what the plain model takes in place of `images`."""
        for file in (self, *self.further):
            file.plain_images = images

    @property
    def fused(self) -> CamSpec | None:
        """What a fused file says; None of others."""
        return None if self.written is None or self.written.fused is None else self.written

    @property
    def is_further(self) -> bool:
        """Whether this is about another layer than the first one of the file."""
        return self._first is not None

    @cached_property
    def session(self) -> Session:
        """The file in ONNX Runtime, opened when it is first needed."""
        return self._opened() if self._first is None else self._first.session

    def _opened(self, *, optimise: bool = True) -> Session:
        if self._view is None:
            return Session(str(self.path), optimise=optimise)
        return Session(self._view, optimise=optimise, entries=session_workarounds(self.path))

    def release(self) -> None:
        """Give back the memory of session and graph, once the file has given its answers.

        The session is opened again if it is needed.
        """
        _ = self.top, self.plain_names
        for file in (self, *self.further):
            file.graph = None
            file.__dict__.pop("session", None)
        release_memory()

    def explain(self, images: Array, targets: Sequence[int] | Array) -> Answer:
        """Run the file on images (N, ...) for targets (N,), in batches of the size that it takes."""
        return self._answer(self.session, images, np.asarray(targets, np.int64))

    def _answer(self, session: Session, images: Array, targets: Array) -> Answer:
        feeds = {self.spec.input.name: images, self.spec.target: class_input(self.spec, targets)}
        found = session.run_in_batches(feeds, self.batch or len(images))
        return self._answer_of(in_first_column(self.written or self.spec, found))

    def _answer_of(self, found: dict[str, Array]) -> Answer:
        spec = self.spec
        return Answer(
            {n: v for n, v in found.items() if n in self.plain_names},
            found[spec.layer.activations],
            found[spec.layer.gradients],
            found[spec.chosen].reshape(-1).astype(np.int64),
            None if spec.layer.detail is None else found[spec.layer.detail.activations],
            None if spec.layer.rivals is None else found[spec.layer.rivals],
            {name: found[name][:, 0] if found[name].shape[1:] == (1,) else found[name] for name in self._finished},
        )

    def columns(self, images: Array, targets: Array) -> tuple[Array, NDArray[np.int64]]:
        """Gradients (N, K, C, H, W) and classes (N, K) for targets (N, K), of a file with such a class input."""
        spec = self.spec
        found = self.session.run_in_batches({spec.input.name: images, spec.target: targets}, self.batch or len(images))
        return found[spec.layer.gradients], found[spec.chosen].astype(np.int64)

    def answers(self, images: Array, targets: Array) -> list[Answer]:
        """`explain` for each column of targets (N, K), of one run of a file with such a class input."""
        spec, by_class = self.spec, (self.written or self.spec).by_class
        found = self.session.run_in_batches({spec.input.name: images, spec.target: targets}, self.batch or len(images))
        return [
            self._answer_of({name: value[:, k] if name in by_class else value for name, value in found.items()})
            for k in range(targets.shape[1])
        ]

    @property
    def _finished(self) -> tuple[str, ...]:
        """Outputs of a fused file that no two-stage file has."""
        return () if self.written is None or self.written.fused is None else self.written.fused.outputs

    def activations(self, images: Array, together: int) -> Array:
        """The layer's activations (N, C, H, W) of images (N, ...); `together`: how many at once, in a free batch."""
        size = self.batch or together
        filled = filled_up(images, self.batch)
        feeds = {self.spec.input.name: filled, self.spec.target: class_input(self.spec, np.full(len(filled), -1))}
        return self.session.run_in_batches(feeds, size)[self.spec.layer.activations][: len(images)]

    @cached_property
    def plain_names(self) -> list[str]:
        """Outputs of the plain model."""
        added = (*self.spec.added_outputs, *self._finished)
        return [name for name in self.session.outputs if name not in added]

    @cached_property
    def top(self) -> Answer:
        """The file's answer for all images when no class is asked for."""
        return self.explain(self.images, [-1] * len(self.images))

    def as_asked(self, target: int) -> Answer:
        """The file's answer for all images when one class is asked for, -1 for the top one."""
        return self.top if target < 0 else self.explain(self.images, [target] * len(self.images))

    @cached_property
    def other(self) -> Answer:
        """The file's answer for all images when other classes are asked for, see `other_classes`."""
        return self.explain(self.images, self.other_classes)

    @cached_property
    def node_by_node(self) -> Answer:
        """As `top`, without ONNX Runtime's optimisations: no kernel takes several quantised nodes at once."""
        session = self._opened(optimise=False)
        return self._answer(session, self.images, np.full(len(self.images), -1))

    @cached_property
    def quantised_scores(self) -> float:
        """Relative error of the scores that the kernels for quantised values make by themselves; 0 without any."""
        if not self.has_quantisers:
            return 0.0
        name = self.spec.output.name
        return relative_error(self.node_by_node.outputs[name], self.top.outputs[name])

    @cached_property
    def exact(self) -> Exact:
        """The tail in float64, at the layer's values for all images."""
        return self.exact_at(slice(None))

    def exact_at(self, part: slice) -> Exact:
        """The tail in float64, at the layer's values for some of the images."""
        return Exact(self.tail, self.spec, Evaluator(self.tail.model), self._state(part))

    def _state(self, part: slice) -> list[dict[str, Array]]:
        """What the tail needs for some of the images, in batches."""
        images, activations = self.images[part], self.top.activations[part]
        size = self.batch or _AT_ONCE
        found = []
        for i in range(0, len(images), size):
            known: dict[str, Array] = {}
            if self._probe is not None:
                some = images[i : i + size]
                feeds = {
                    self.spec.input.name: some,
                    self.spec.target: class_input(self.spec, np.full(len(some), -1, np.int64)),
                }
                known = {n: v for n, v in self._probe.run(feeds).items() if n in self.tail.needed}
            value = self.tail.layer_value(activations[i : i + size], known)
            found.append({**{n: known[n] for n in self.tail.others}, self.tail.layer: value})
        return found

    @property
    def other_classes(self) -> NDArray[np.int64]:
        """For each image a class that is not the top one, and not its neighbours' either; of a single class, that."""
        classes = self.spec.output.classes
        return (self.top.classes + 1 + np.arange(len(self.images)) % max(classes - 1, 1)) % classes

    @cached_property
    def yardstick(self) -> Yardstick:
        """What rounding alone does to the gradients of the top classes.

        Of a quantised tail among float16 values, what float16's last bits do, all through the tail: they move
        activations over rounding boundaries, each by a whole step of the quantisation.
        """
        mixed = self.quantised and self.half
        evaluator = Evaluator(self.tail.model, np.float32, digits=_HALF_DIGITS if mixed else None)
        rough, classes = self.exact.with_evaluator(evaluator), self.top.classes
        last_bit = 2.0**-_HALF_DIGITS if mixed else 2.0**-23

        def run(turn: int) -> Array:
            generator = np.random.default_rng(turn)
            size = last_bit if turn else 0.0

            def jitter(value: Array, _place: int) -> Array:
                return (value * (1 + size * generator.standard_normal(value.shape))).astype(value.dtype)

            return rough.gradient(classes, jitter)

        return Yardstick(self.exact.gradient(classes), run, COARSE_GRADIENT if self.coarse else 1e-5)


def _in_half(model: ModelProto) -> bool:
    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return (
        model.graph.input[0].type.tensor_type.elem_type in half
        or any(tensor.data_type in half for tensor in model.graph.initializer)
        or any(node.op_type == "Cast" and attribute(node, "to") in half for node in model.graph.node)
    )


class Exact:
    """The tail at the layer's values of some images, kept as batches."""

    def __init__(self, tail: Tail, spec: CamSpec, evaluator: Evaluator, state: list[dict[str, Array]]) -> None:
        self.tail, self.spec, self.evaluator, self.state = tail, spec, evaluator, state

    def with_evaluator(self, evaluator: Evaluator) -> Exact:
        return Exact(self.tail, self.spec, evaluator, self.state)

    def scores(self, change: Callable[[Array, int], Array] | None = None) -> Array:
        """(N, classes); change: what to make of a batch of the layer's value, given its first image's place."""
        scores = self._run(self.tail.score, change)
        return scores.reshape(len(scores), -1)

    def gradient(self, classes: Array, change: Callable[[Array, int], Array] | None = None) -> Array:
        """(N, C, H, W): the file's own backward pass."""
        return self._run(self.spec.layer.gradients, change, classes)

    def _run(self, name: str, change: Callable[[Array, int], Array] | None, classes: Array | None = None) -> Array:
        found, place = [], 0
        for batch in self.state:
            value = batch[self.tail.layer].astype(self.evaluator.dtype)
            feeds = {**batch, self.tail.layer: value if change is None else change(value, place)}
            if classes is not None:
                feeds[self.spec.target] = class_input(self.spec, classes[place : place + len(value)])
            place += len(value)
            given = self.evaluator.run(feeds, [name])
            found.append(in_first_column(self.spec, given)[name])
        return np.concatenate(found)


def open_exported_file(
    path: str | os.PathLike[str],
    *,
    model: ModelProto | None = None,
    graph: Graph | None = None,
    images: Array | None = None,
) -> ExportedFile:
    """Open the exported file at `path`.

    Args:
        path: the file. model, graph: its contents, where they are at hand.
        images: (N, ...) preprocessed, in the input's layout and dtype; None makes some, whose number equals no
            size in the graph, so that a batch that was taken for another axis cannot pass unnoticed.

    Raises:
        ModelFileError: not an exported file.
        SpecError: what it says about itself is not what its graph is.
        LayerError: its layer is not found.
        ArrayError: images that do not fit.
        MissingDependencyError: no ONNX Runtime.
    """
    source = graph.model if graph is not None else load_model(path) if model is None else model
    said = spec_of(source)
    if said is None:
        raise ModelFileError(f"{path}: was made without cfcam export: run 'cfcam export --onnx {path}' first")
    spec = said.two_stage
    if graph is None:
        source = source if said.fixed_target is None else with_target_input(source, said)
        graph = open_exported(source if said.fused is None else with_inner_values(source, spec))
    else:
        graph = graph if said.fixed_target is None else free_target(graph, said)
        graph = graph if said.fused is None else two_stage_view(graph, spec)
    if found := contradictions(graph, spec):
        raise SpecError(f"{path}: its CamSpec contradicts its graph: {found[0]}: export the model again")
    tail = cut_tail(graph, spec, gradients=True)
    probe = open_probe(graph, tail)
    first = (graph.shape(spec.input.name) or (None,))[0]
    batch = first if isinstance(first, int) else None
    if images is None:
        sizes = {d for _, shape in graph.types.values() for d in shape or () if isinstance(d, int)}
        count = next(n for n in range(_FEWEST_IMAGES, 4096) if n not in sizes)
        images = structured_images(spec.input, count if batch is None else batch * -(-_FEWEST_IMAGES // batch))
    wanted = spec.input.shape(len(images))
    if images.shape != wanted or images.dtype != spec.input.dtype or len(images) % (batch or 1) or not len(images):
        raise ArrayError(
            f"images: expected {spec.input.dtype} {spec.input.shape(batch or 0)} (N, ...)"
            f"{f' or whole multiples of {batch}' if batch else ''}, got {images.dtype} {images.shape}"
        )
    file = ExportedFile(Path(path), spec, graph, tail, probe, images, batch)
    if said.fused is not None or said.fixed_target is not None:
        file.see_two_stages(said)
    file.coarse_before = coarse_values(graph, graph.ancestors([tail.layer]))
    file.has_quantisers = any(node.op_type == "QuantizeLinear" for node in graph.nodes)
    behind = graph.ancestors([spec.output.name]) - graph.ancestors([tail.score])
    file.score_rounding = max((_ROUNDING.get(graph.elem_type(name), 0.0) for name in behind), default=0.0)
    for layer in spec.layers[1:]:
        turned = replace(spec, layers=(layer, *(other for other in spec.layers if other is not layer)), tail=None)
        tail = cut_tail(graph, turned, gradients=True)
        file.further.append(ExportedFile(Path(path), turned, graph, tail, open_probe(graph, tail), images, batch, file))
        for name in ("coarse_before", "has_quantisers", "score_rounding"):
            setattr(file.further[-1], name, getattr(file, name))
    return file


def coarse_values(graph: Graph, names: Iterable[str]) -> bool:
    """Whether values among these are float16 or quantised."""
    makers = [graph.producers[name].op_type for name in names if name in graph.producers]
    return any("Quantize" in maker or maker.startswith("QLinear") for maker in makers) or any(
        graph.elem_type(name) in _ROUNDING for name in names
    )


def open_probe(graph: Graph, tail: Tail, *, optimise: bool = True) -> Session | None:
    """A session of the whole file that also gives out what the tail needs besides its input, if it needs anything."""
    if not tail.needed:
        return None
    names = {output.name for output in graph.outputs}
    probed = graph.copy()
    probed.outputs = [*graph.outputs, *(value_info(graph, n) for n in tail.needed if n not in names)]
    return Session(probed.to_model(), optimise=optimise)


def plain_outputs(plain: str | os.PathLike[str] | ModelProto, file: ExportedFile) -> PlainOutputs:
    """The outputs of the plain model (a path or its contents) for the images of `file`.

    Best asked for before the file is run: then two networks are never in memory at once.
    Raises `ExportError` for a model that does not run.
    """
    feeds, size = {file.spec.input.name: file.plain_images}, file.batch or len(file.images)
    source = plain if isinstance(plain, ModelProto) else os.fspath(plain)
    found = PlainOutputs(Session(source).run_in_batches(feeds, size))
    if file.has_quantisers:
        release_memory()
        found.node_by_node = Session(source, optimise=False).run_in_batches(feeds, size)
    return found


class PlainOutputs(dict[str, Array]):
    """Outputs of a plain model by name; node_by_node: the same without optimisations, where values are quantised."""

    node_by_node: dict[str, Array] | None = None

    def only(self, names: Iterable[str]) -> PlainOutputs:
        """Those of these names, as far as there are any."""
        chosen = PlainOutputs({name: self[name] for name in names if name in self})
        chosen.node_by_node = self.node_by_node
        return chosen
