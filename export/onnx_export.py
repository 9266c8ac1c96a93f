"""`export_onnx`: from any ONNX classifier to one with its explanation inside, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from ..runtime.contract.modelfile import file_sha256
from ..runtime.contract.spec import METADATA_KEY, CamSpec, InputSpec, LayerSpec, OutputSpec, SourceSpec
from .errors import ExportError, LayerError, ProofError
from .graph import load_model, tensor_bytes, value_info
from .metadata import set_spec, tool_versions, write_model
from .proof.checks import Subject, open_subject, plain_outputs, prove_file, tail_file_agrees
from .proof.results import Proof
from .proof.session import release_memory
from .report import ExportReport, Stopwatch
from .reverse import Differentiated, LayerView, TargetLayer, differentiate
from .reverse.opening import open_model
from .reverse.score import Score
from .sources.labels import check_labels
from .sources.onnx_input import ImageInput, image_input
from .sources.preprocessing import Preprocessing, preset
from .staging import staging_folder
from .tail.file import tail_path, write_tail
from .target_layers import Asked

__all__ = ["export_onnx"]


def export_onnx(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    layer: Asked = None,
    score: str | None = None,
    view: LayerView | Sequence[LayerView | None] | None = None,
    multi_label: bool = False,
    input_size: tuple[int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] | None = None,
    label_offset: int = 0,
    source: SourceSpec | None = None,
    layer_name: str | Sequence[str | None] | None = None,
    tools: dict[str, str] | None = None,
    images: NDArray[Any] | None = None,
    with_tail: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export the classifier in the ``.onnx`` file `path` with its explanation inside, prove it, and write it.

    The new file has the plain model's outputs (same names, same order), then `cam_activations` and
    `cam_gradients` (N, C, H, W) and `cam_class` (N,) int64; and one more input, `cam_target` (N,)
    int64, in which -1 asks for the top class. A batch that is fixed in the model stays fixed. Of several
    layers the first one's outputs have these names, and those of the others come before `cam_class`:
    `cam_activations_1`, `cam_gradients_1` and so on; one backward pass reaches all of them.

    layer: the target layer, by the name of its value or of the node that makes it; None takes
        the value that enters the last spatial pooling or flatten. A sequence names several, each once, in
        any order. view: how the layer's value is to be read, where that is not to be seen; of several
        layers, one for each.
    score: the output that holds the class scores; None takes the first (N, classes). A value
        inside the model can be named too, and becomes one more output.
    multi_label: the classes are independent, each logit gets a sigmoid of its own.
    input_size: (height, width), for a model that leaves them open.
    preprocessing: how a photo becomes the input; None is the preset ``torchvision``.
    labels: one per class, in the model's order. label_offset: see `OutputSpec`.
    source: where the weights came from; None is the file itself. layer_name: what the new file calls the
        layer, or each of several; None takes the name of its value. tools: versions of what made the model,
        and this file.
    images: preprocessed images (N, ...) in the input's layout and dtype to prove the file with; None
        makes some. with_tail: write the part behind the (first) layer as a file of its own, see `tail_path`.
    progress: told the name of each pass as it starts.

    Raises `ModelFileError` (not a readable model), `LayerError`, `UnsupportedOperatorError`,
    `ExportError` (no image input, no class scores, ...), `ProofError` (the file would be wrong;
    nothing is written), `OutputError` (cannot be written), `MissingDependencyError` (no ONNX Runtime).

    >>> report = export_onnx("mobilenet_v2.onnx", "mobilenet_v2.cam.onnx")     # doctest: +SKIP
    >>> report.spec.layer.name, bool(report.proof)                             # doctest: +SKIP
    ('t168', True)
    """
    path, output = Path(path), Path(output)
    watch = Stopwatch(progress)
    _refuse_overwriting(path, output)
    with watch("load"):
        model = load_model(path)
        _refuse_exported(path, model)
        image = image_input(model, input_size)
        made_output = None if score is None else _expose(model, score)
    with watch("differentiate"):
        made = differentiate(model, layer, score, view=view)
        source_outputs = [entry.name for entry in model.graph.output if entry.name != made_output]
        del model
    spec = CamSpec(
        input=_input_spec(image, preprocessing or preset("torchvision")),
        output=_output_spec(made.score, multi_label, labels, label_offset),
        layers=_layer_specs(made, layer_name),
        precision=_precision(made.model),
        source=source or SourceSpec(kind="onnx", name=path.name, sha256=file_sha256(path)),
        tools=tools or tool_versions("onnx", "onnxruntime"),
    )
    notes = _notes(made, image, made_output)
    with staging_folder(output) as folder:
        staged = folder / output.name
        with watch("write"):
            if with_tail:
                spec = write_tail(made.model, spec, folder / tail_path(output).name)
            set_spec(made.model, spec)
            write_model(made.model, staged)
        with watch("prove"):
            subject = open_subject(staged, model=made.model, images=images)
            del made
            release_memory()
            proof = _prove(path, subject, source_outputs, folder)
        if not proof:
            failed = "; ".join(f"{c.name}: {c.value:.3g}, limit {c.limit:.3g}" for c in proof.failures)
            raise ProofError(f"{output}: not written, the exported graph failed its proof ({failed})")
    return ExportReport(output, spec, proof, watch.seconds, notes)


def _prove(path: Path, subject: Subject, outputs: list[str], folder: Path) -> Proof:
    try:
        plain = plain_outputs(path, subject)
    except ExportError as error:
        raise ExportError(f"{path}: the model itself does not run on {len(subject.images)} images: {error}") from error
    release_memory()
    proof = prove_file(subject, {name: plain[name] for name in outputs})
    if subject.spec.tail is not None:
        proof.checks += tail_file_agrees(subject, folder / subject.spec.tail.file)
    return proof


def _refuse_overwriting(path: Path, output: Path) -> None:
    for target in (output, tail_path(output)):
        if target.exists() and path.exists() and os.path.samefile(target, path):
            raise ExportError(f"{target}: is the model itself, give the exported file another name")


def _refuse_exported(path: Path, model: ModelProto) -> None:
    if any(entry.key == METADATA_KEY for entry in model.metadata_props):
        raise ExportError(f"{path}: is an exported file already: give the plain model that it was made from")


def _expose(model: ModelProto, score: str) -> str | None:
    """Make an inner value that is named as the score an output; its name, or None when nothing was to do."""
    if score in {entry.name for entry in model.graph.output}:
        return None
    graph, _ = open_model(model)
    if score not in graph.producers:
        return None  # there is no such value, which is said later
    model.graph.output.append(value_info(graph, score))
    return score


def _input_spec(image: ImageInput, preprocessing: Preprocessing) -> InputSpec:
    spec = preprocessing.input_spec(image.name, image.height, image.width, layout=image.layout, dtype=image.dtype)
    if image.channels == 3:
        return spec
    if len({*spec.mean}) > 1 or len({*spec.std}) > 1:
        raise ExportError(f"input '{image.name}' has one channel: give one number for mean and std, not one per colour")
    return replace(spec, color="gray", mean=spec.mean[:1], std=spec.std[:1])


def _output_spec(score: Score, multi_label: bool, labels: Sequence[str] | None, label_offset: int) -> OutputSpec:
    check_labels(labels, score.classes)
    kind: Literal["logits", "softmax", "sigmoid", "binary"] = score.kind
    if multi_label and kind == "softmax":
        raise ExportError(f"multi-label: output '{score.output}' is a softmax, its classes exclude each other")
    if multi_label and kind == "logits":
        kind = "binary"
    return OutputSpec(
        name=score.output,
        kind=kind,
        score=score.value,
        classes=score.classes,
        labels=None if labels is None else tuple(labels),
        label_offset=label_offset,
    )


def _layer_specs(made: Differentiated, name: str | Sequence[str | None] | None) -> tuple[LayerSpec, ...]:
    names = [name] * len(made.layers) if name is None or isinstance(name, str) else name
    return tuple(_layer_spec(one, called) for one, called in zip(made.layers, names, strict=True))


def _layer_spec(made: TargetLayer, name: str | None) -> LayerSpec:
    layer = made.layer
    height, width = layer.grid
    if height is None or width is None:
        raise LayerError(f"layer '{layer.name}' has a grid that is not fixed, {layer.shape}: give its size with view")
    return LayerSpec(
        name=name or layer.name,
        value=made.value,
        layout=layer.layout,
        channels=layer.channels,
        grid=(height, width),
        pooled=made.pooled,
        prefix_tokens=layer.prefix_tokens,
        activations=made.activations,
        gradients=made.gradients,
    )


def _precision(model: ModelProto) -> str:
    """What most of the weights are, unless the graph quantises."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    sizes: dict[int, int] = {TensorProto.FLOAT: 0, TensorProto.FLOAT16: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += tensor_bytes(tensor)
    return "float16" if sizes[TensorProto.FLOAT16] > sizes[TensorProto.FLOAT] else "float32"


def _notes(made: Differentiated, image: ImageInput, made_output: str | None) -> list[str]:
    found = list(made.notes)
    if made.score.kind in ("softmax", "sigmoid"):
        found.append(
            f"output '{made.score.output}' is a {made.score.kind}: the gradient is that of the logit before it"
        )
    if image.batch is not None:
        found.append(f"the batch is fixed to {image.batch} in the model, and so it is in the exported file")
    if made_output is not None:
        found.append(f"'{made_output}' is not an output of the model: it was added as one")
    return found
