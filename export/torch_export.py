"""`export_torch`: the traced route from end to end."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import fx, nn

from ..runtime.contract.spec import CamSpec, LayerSpec, OutputSpec, SourceSpec
from ..runtime.errors import ArrayError
from .axes.layout import Layout
from .errors import ExportError, LayerError, ProofError
from .graph.fast_forms import fast_forms
from .hashing import state_dict_sha256
from .metadata import set_spec, tool_versions, write_model
from .proof.checks import open_subject, tail_file_agrees
from .proof.results import Proof
from .proof.session import release_memory
from .report import ExportReport, Stopwatch
from .sources.labels import check_labels
from .sources.preprocessing import Preprocessing, preset
from .staging import staging_folder
from .tail.file import tail_path, write_tail
from .target_layers import Asked, asked_layers, output_names, refuse_repeated
from .torch_by_onnx import ByOnnx, export_by_onnx
from .traced.candidates import Score, Value, find_score, resolve_value
from .traced.capture import Captured, capture
from .traced.constants import fold_constants
from .traced.convert import DEFAULT_OPSET, joint_to_onnx, plain_to_onnx
from .traced.differentiate import differentiate
from .traced.eager import in_float64
from .traced.fold import fold_batch_norms
from .traced.lean import simplify
from .traced.prove import Subject, prove
from .traced.seed import plant_seed

__all__ = ["export_torch"]

_TARGET, _CLASS = "cam_target", "cam_class"


def export_torch(
    module: nn.Module,
    example: torch.Tensor | int | Sequence[int],
    output: str | os.PathLike[str],
    *,
    layer: Asked = None,
    grid: tuple[int, int] | Sequence[tuple[int, int] | None] | None = None,
    score: int | None = None,
    multi_label: bool = False,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] | None = None,
    label_offset: int = 0,
    name: str | None = None,
    opset: int = DEFAULT_OPSET,
    images: torch.Tensor | None = None,
    keep_plain: str | os.PathLike[str] | None = None,
    with_tail: bool = False,
    route: Literal["traced", "onnx"] = "traced",
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export `module` with its explanation inside, prove the file, and write it to `output`.

    The file has the plain model's outputs (same names, same order), then `cam_activations`
    and `cam_gradients` (N, C, H, W) and `cam_class` (N,) int64; and one more input,
    `cam_target` (N,) int64, in which -1 asks for the top class. The batch is dynamic. Of several
    layers the first one's outputs have these names, and those of the others come before `cam_class`:
    `cam_activations_1`, `cam_gradients_1` and so on; one backward pass reaches all of them.

    module: a classifier of one image batch (N, C, H, W) float32; it is run in eval mode and
        left as it was. It may return a tensor, or a tuple, list or dict of tensors.
    example: the input's shape: a tensor (N, C, H, W), the side of a square, or (H, W).
    layer: the target layer (module path, ``path:call``, or traced value); None takes the
        value that enters the last spatial pooling or flatten (of a class-token transformer
        the value that enters its last block). A sequence names several, each once, in any order.
        grid: (H, W) of token layers whose place in the image cannot be followed; most can. Of several
        layers, one for each, None where there is nothing to say.
    score: which of the module's outputs holds the class scores; None takes the first (N, K).
    multi_label: the classes are independent, so that each logit gets a sigmoid of its own
        (a model that ends in a sigmoid says so by itself).
    preprocessing: how a photo becomes the input; None is the preset ``torchvision``.
    labels: one per class, in the model's order. label_offset: see `OutputSpec`.
    name: what the file calls its source; None takes the module's class.
    opset: ONNX opset to write. images: preprocessed images (N, C, H, W) to prove the file
        with; None makes some. keep_plain: also write the plain export there. with_tail: write
        the part behind the (first) layer as a file of its own, ``X.tail.onnx``.
    route: ``traced`` differentiates the program that PyTorch traces, ``onnx`` PyTorch's plain ONNX
        export, as `export_onnx` does; there a layer may be named by its ONNX value too.
    progress: told the name of each pass as it starts.

    Raises `ExportError` (cannot be captured or converted), `LayerError` (no such layer),
    `ProofError` (the file would be wrong; nothing is written), `OutputError` (cannot be
    written), `MissingDependencyError` (no ONNX Runtime).
    """
    output = Path(output)
    watch = Stopwatch(progress)
    shape = _example(example)
    with watch("capture"):
        captured = capture(module, shape)
    with watch("layer"):
        scores = find_score(captured, score, multi_label)
        asked = asked_layers(layer)
        found = _values(captured, scores, asked, grid, exact=route == "traced")
    check_labels(labels, scores.classes)
    source = SourceSpec(kind="torch", name=name or type(module).__name__, sha256=state_dict_sha256(module.state_dict()))
    if route == "onnx":
        with watch("convert"):
            plain = plain_to_onnx(captured, opset)
            if keep_plain is not None:
                write_model(plain, keep_plain)
        report = export_by_onnx(
            ByOnnx(module, captured, plain, found, asked),
            output,
            images,
            score=plain.graph.output[scores.position].name,
            multi_label=multi_label,
            preprocessing=preprocessing,
            labels=labels,
            label_offset=label_offset,
            source=source,
            with_tail=with_tail,
            progress=progress,
        )
        plain_path = None if keep_plain is None else Path(keep_plain)
        return replace(report, seconds={**watch.seconds, **report.seconds}, plain_path=plain_path)
    values = [value for value in found if value is not None]
    added = [name for index in range(len(values)) for name in output_names(index)] + [_CLASS]
    with watch("differentiate"):
        joint = joint_graph(captured.graph, {value.node: value.layout for value in values}, scores.node)
    kept = None if keep_plain is None else Path(keep_plain)
    with staging_folder(output) as folder, staging_folder(kept) if kept else TemporaryDirectory(dir=folder) as beside:
        with watch("convert"):
            plain = plain_to_onnx(captured, opset)
            image_name = plain.graph.input[0].name
            plain_names = [entry.name for entry in plain.graph.output]
            _refuse_taken_names([_TARGET, *added], [image_name, *plain_names])
            # What is not at work waits in a file: five copies of the weights are not needed at once.
            plain_file = Path(beside) / (kept.name if kept else "plain.onnx")
            write_model(plain, plain_file)
            del plain
            release_memory()
            model = joint_to_onnx(joint, [image_name, _TARGET], [*plain_names, *added], opset)
            fast_forms(model, plain_names)
            del joint
        spec = CamSpec(
            input=(preprocessing or preset("torchvision")).input_spec(image_name, *shape.shape[2:]),
            output=_output_spec(plain_names, scores, labels, label_offset),
            layers=tuple(_layer_spec(value, *output_names(index)) for index, value in enumerate(values)),
            source=source,
            tools=tool_versions("torch", "onnx", "onnxscript", "onnxruntime"),
        )
        staged = folder / output.name
        with watch("write"):
            if with_tail:
                spec = write_tail(model, spec, folder / tail_path(output).name)
            set_spec(model, spec)
            write_model(model, staged)
            del model
            release_memory()
        with watch("prove"):
            make64 = partial(_joint_in_float64, captured, values, scores)
            subject = Subject(module, captured, tuple(values), scores, make64, str(staged), str(plain_file))
            proof = prove(subject, images)
            _demand(proof, output)
            if spec.tail is not None:
                tail_subject = open_subject(staged, images=None if images is None else images.numpy())
                proof.checks += tail_file_agrees(tail_subject, folder / spec.tail.file)
                _demand(proof, output)
    return ExportReport(output, spec, proof, watch.seconds, _warnings(scores, labels), kept)


def _demand(proof: Proof, output: Path) -> None:
    """Raise `ProofError` unless everything holds."""
    if not proof:
        failed = "; ".join(f"{c.name}: {c.value:.3g}, limit {c.limit:.3g}" for c in proof.failures)
        raise ProofError(f"{output}: not written, the exported graph failed its proof ({failed})")


def _values(
    captured: Captured,
    score: Score,
    asked: Sequence[str | None],
    grid: tuple[int, int] | Sequence[tuple[int, int] | None] | None,
    *,
    exact: bool,
) -> list[Value | None]:
    """The values that the layers are. Not exact: None for what may be a name of the ONNX graph."""
    grids: list[Any] = [grid] * len(asked) if grid is None or isinstance(grid[0], int) else list(grid)
    if len(grids) != len(asked):
        raise LayerError(f"{len(grids)} grids for {len(asked)} layers: give one for each, None where nothing is to say")
    found: list[Value | None] = []
    for name, cells in zip(asked, grids, strict=True):
        try:
            found.append(resolve_value(captured, score, name, cells))
        except LayerError:
            if exact or name is None:
                raise
            found.append(None)
    known = [(name, value.node.name) for name, value in zip(asked, found, strict=True) if value is not None]
    refuse_repeated([name for name, _ in known], [node for _, node in known])
    return found


def joint_graph(graph: fx.GraphModule, layers: Mapping[fx.Node, Layout], score: fx.Node) -> fx.GraphModule:
    """Passes 3 to 6: fold, differentiate, seed, lean. layers: node -> how it holds its grid.

    Returns a graph ``(image, target) -> (*outputs, activations, gradients, ..., chosen)``.
    """
    folded, nodes = fold_batch_norms(graph, list(layers))
    fold_constants(folded)
    logits = next(n for n in folded.graph.nodes if n.name == score.name)
    joint = simplify(differentiate(folded, dict(zip(nodes, layers.values(), strict=True)), logits))
    return simplify(plant_seed(joint))


def _joint_in_float64(captured: Captured, values: Sequence[Value], score: Score) -> fx.GraphModule:
    graph, (logits, *nodes) = in_float64(captured.graph, score.node, *(value.node for value in values))
    return joint_graph(graph, {node: v.layout for node, v in zip(nodes, values, strict=True)}, logits)


def _example(example: torch.Tensor | int | Sequence[int]) -> torch.Tensor:
    if isinstance(example, torch.Tensor):
        if example.dim() != 4 or example.dtype != torch.float32:
            raise ArrayError(
                f"example: expected a float32 tensor (N, C, H, W), got {example.dtype} {tuple(example.shape)}"
            )
        return example
    height, width = (example, example) if isinstance(example, int) else tuple(example)
    return torch.empty(1, 3, height, width)


def _refuse_taken_names(ours: list[str], names: list[str]) -> None:
    for name in ours:
        if name in names:
            raise ExportError(f"the model already has an input or output called '{name}'; it may be an exported one")


def _output_spec(names: list[str], score: Score, labels: Sequence[str] | None, label_offset: int) -> OutputSpec:
    kind: Any = score.kind
    return OutputSpec(
        name=names[score.position],
        kind=kind,
        score=names[score.position] if score.node is score.output else score.node.name,
        classes=score.classes,
        labels=None if labels is None else tuple(labels),
        label_offset=label_offset,
    )


def _layer_spec(value: Value, activations: str, gradients: str) -> LayerSpec:
    channels, height, width = value.shape
    return LayerSpec(
        name=value.name,
        value=value.node.name,
        layout=value.layout.kind,
        channels=channels,
        grid=(height, width),
        pooled=value.pooled,
        prefix_tokens=value.layout.prefix,
        activations=activations,
        gradients=gradients,
    )


def _warnings(score: Score, labels: Sequence[str] | None) -> list[str]:
    found = []
    if score.kind in ("softmax", "sigmoid"):
        found.append(f"the model ends in {score.kind}: the gradient is that of the logit before it")
    return found
