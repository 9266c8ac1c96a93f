"""`export_onnx`: from any ONNX classifier to one with its explanation inside, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from ..runtime.checks import check_path, expect
from ..runtime.contract.modelfile import file_sha256
from ..runtime.contract.spec import CamSpec, DetailSpec, InputSpec, LayerSpec, SourceSpec
from ..runtime.errors import ModelFileError, OutputError
from .batch import keep_batch, why_single_images
from .errors import ExportError, LayerError
from .fixed_target import fix_target, fixed_index
from .fused.joining import join_rule
from .fused.plan import plan_fused
from .graph import Graph, load_model, tensor_bytes
from .options import ExportOptions
from .pixels import fold_input, folded_spec, unfolded
from .proof.checks import Judge, prove_file
from .proof.exported_file import ExportedFile, open_exported_file, plain_outputs
from .proof.images import filled_up
from .proof.placement import CHECK
from .proof.results import Proof
from .proof.score_values import doubts_about_scores, probabilities_as_given
from .proof.session import release_memory
from .report import ExportReport, Stopwatch
from .reverse import Differentiated, TargetLayer, differentiate
from .reverse.candidates import Candidate
from .reverse.detail import NONE, detail_asked
from .reverse.differentiate import LayerView, Views
from .reverse.opening import open_model, refuse_randomness
from .reverse.score import Score
from .scores import asked_score, expose_score, output_spec, score_notes
from .sources.assumed import says_pixels, settle
from .sources.fixed_inputs import fix_inputs
from .sources.onnx_input import ImageInput, empty_batch, fix_batch, image_input
from .sources.onnx_outputs import tensor_outputs
from .sources.preprocessing import Preprocessing, preset
from .tail.file import tail_path, write_tail
from .target_layers import Asked, asked_layers
from .unrunnable import runnable_part
from .writing import set_spec, spec_of, staging_folder, tool_versions, write_model

__all__ = ["PlainClassifier", "export_onnx", "export_plain", "open_plain"]


def export_onnx(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: ExportOptions | None = None,
    **changes: Any,
) -> ExportReport:
    """Export the classifier in the ``.onnx`` file `path` with its explanation inside, prove it, and write it.

    The new file has the plain model's outputs (same names, same order), then `cam_activations` and
    `cam_gradients` (N, C, H, W) float32 and `cam_class` (N,) int64; and one more input, `cam_target` (N,)
    int64, in which -1 asks for the top class. A batch that is fixed in the model stays fixed. Of several
    layers the first one's outputs have these names, and those of the others come before `cam_class`:
    `cam_activations_1`, `cam_gradients_1` and so on; one backward pass reaches all of them. With `fused` it has
    `cam_map` (N, H, W) float32, `cam_empty` (N,) bool and `cam_counts` (N, 4) int64 in place of these. With
    `fold_preprocessing` the image input takes pixels; with `fixed_target` there is no `cam_target`.

    Args:
        path: the plain model.
        output: the file to write.
        options: what is asked for.
        changes: fields of `ExportOptions`, which win over `options`.

    Returns:
        What was written, and what was measured.

    Raises:
        ModelFileError: not a readable model.
        LayerError: no such layer, or one that does not lead to the score.
        UnsupportedOperatorError: an operator behind the layer has no derivative.
        ExportError: no image input, no class scores, ...
        ProofError: the file would be wrong; nothing is written.
        OutputError: cannot be written.
        MissingDependencyError: no ONNX Runtime.

    >>> report = export_onnx("mobilenet_v2.onnx", "mobilenet_v2.cam.onnx")     # doctest: +SKIP
    >>> report.spec.layer.name, bool(report.proof)                             # doctest: +SKIP
    ('t168', True)
    """
    expect("export_onnx", "options", options, ExportOptions, None, error=ExportError)
    options = (options or ExportOptions()).but(changes)
    options.refuse("an ONNX file", "opset", "keep_plain")
    path = check_path("export_onnx", path, ModelFileError)
    output = check_path("export_onnx", output, OutputError, "output")
    watch = Stopwatch(options.progress)
    _refuse_overwriting(path, output)
    with watch("load"):
        model = load_model(path)
        if spec_of(model) is not None:
            raise ExportError(f"{path}: is an exported file already: give the plain model that it was made from")
        plain = open_plain(
            model,
            path,
            options,
            SourceSpec(kind="onnx", name=options.name or path.name, sha256=file_sha256(path)),
            layers=options.layer,
            views=options.view if options.view is not None or options.grid is None else _grids(options.grid),
            score=None if options.score is None else str(options.score),
        )
        del model
    return export_plain(plain, output, options, watch)


def _grids(grid: Any) -> Views:
    if isinstance(grid[0], int):
        return LayerView(grid=tuple(grid))
    return [None if cells is None else LayerView(grid=tuple(cells)) for cells in grid]


@dataclass(eq=False)
class PlainClassifier:
    """A classifier as a plain ONNX graph, whatever it was made of, and what its origin says about it.

    Attributes:
        graph: the plain model, opened. image: its input. input: what a file says about that. folded: what the new file
            says of its own input, where preprocessing is folded into the graph.
        plain: the model as it runs, a path or its contents.
        source: where the weights came from.
        layers: the target layers, by names of the graph. views: how they hold their grids. names: what the new file
            calls them, None where that is the name of the value.
        detail: the detail layer, or `NONE`; None where that is still to be chosen. detail_name: what the new file calls
            it.
        score: the class scores, or the output (or value) that holds them; None takes the one that fits.
        labels: those that the file itself names.
        tools: packages that made the model, beside onnx and ONNX Runtime.
        judge: what its origin checks of each layer.
        images: to prove the new file with, as it takes them; None makes some.
        notes: what there is to say to the user.
    """

    graph: Graph
    image: ImageInput
    input: InputSpec
    plain: Path | ModelProto
    source: SourceSpec
    layers: Asked = None
    views: Views = None
    names: Sequence[str | None] | None = None
    detail: Candidate | str | None = None
    detail_name: str | None = None
    score: Score | str | None = None
    labels: Sequence[str] | None = None
    tools: Sequence[str] = ()
    judge: Judge | None = None
    images: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    folded: InputSpec | None = None


def open_plain(
    model: ModelProto, plain: Path | ModelProto, options: ExportOptions, source: SourceSpec, **known: Any
) -> PlainClassifier:
    """Open a plain model, once for the whole export. known: more of what is known about it."""
    if empty_batch(model):
        plain = model  # as it is from the next line on; the file itself runs on no image at all
    inputs = options.inputs or {}
    image = image_input(model, options.input_size, options.channels, inputs)
    if said := fix_inputs(model, inputs, image):
        plain = model  # which takes the image alone, as the exported file does
    tensors_only, labels, left_out = tensor_outputs(model)
    runnable, unrunnable = runnable_part(tensors_only, known.get("score"))
    if runnable is not model:
        model = plain = runnable
    graph, notes = open_model(model)
    if not graph.output_names:
        raise ExportError("the model has no output with class scores: export it again with its scores as an output")
    refuse_randomness(graph)
    if (kept := keep_batch(graph, image.name, known.get("score"))) is not None:
        graph, more = open_model(kept[0])
        notes += [*more, kept[1]]
    preprocessing, assumed = settle(options.preprocessing or preset("torchvision"), image)
    said = [*said, *assumed, *left_out, *unrunnable]
    spec = _input_spec(image, preprocessing)
    folded = None
    if options.fold_preprocessing is not None:
        folded = folded_spec(spec, options.fold_preprocessing)
        _refuse_to_guess(options, image, source)
    images = _images(options.images, folded or spec, image.batch)
    plain_images = images if folded is None or images is None else unfolded(images, folded, spec)
    reason = why_single_images(graph, spec, plain_images, known.get("score"))
    if image.batch is not None:
        notes.append(f"the batch is fixed to {image.batch} in the model, and so it is in the exported file")
    elif reason is not None:
        image = fix_batch(model, image)
        graph, notes = open_model(model)
        notes = [*notes, f"the batch is fixed to 1 in the exported file: {reason}"]
    return PlainClassifier(
        graph, image, spec, plain, source, labels=labels, images=images, notes=[*said, *notes], folded=folded, **known
    )


def _refuse_to_guess(options: ExportOptions, image: ImageInput, source: SourceSpec) -> None:
    """Raise `ExportError` where neither the user nor an ONNX file says what is to be folded into the graph."""
    if source.kind == "onnx" and options.preprocessing is None and not says_pixels(image):
        raise ExportError(
            f"--fold-preprocessing: nobody says how pixels become input '{image.name}', and the file does not either: "
            "give --preset, or --scale, --mean and --std (1, 0 and 1 where the model normalises the image itself)"
        )


def _images(given: Any, spec: InputSpec, batch: int | None) -> np.ndarray | None:
    """The images that the proof is asked to take, as many as a fixed batch needs."""
    return None if given is None else filled_up(np.asarray(given(spec) if callable(given) else given), batch)


def export_plain(plain: PlainClassifier, output: Path, options: ExportOptions, watch: Stopwatch) -> ExportReport:
    """Differentiate a plain classifier, write it, prove it. Raises what `export_onnx` raises."""
    graph, notes = plain.graph, plain.notes
    with watch("differentiate"):
        source_outputs = graph.output_names
        asked = asked_layers(plain.layers)
        detail = plain.detail or detail_asked(options.detail, asked)
        if takes_no_detail := options.fused and options.method not in (None, "cfcam"):
            detail = NONE  # nobody would read it
        # Several layers are explained as they always were, unless a detail layer is asked for.
        rivals = not (options.multi_label or takes_no_detail) and (len(asked) == 1 or detail != NONE)
        batch = plain.image.batch
        score = plain.score if isinstance(plain.score, Score) else asked_score(graph, plain.score, options, batch)
        added = expose_score(graph, score)
        made = differentiate(
            graph,
            plain.layers,
            score,
            view=plain.views,
            detail=detail,
            rivals=rivals,
            classes=options.classes_per_image,
            guarded=options.fused,
        )
        notes += made.notes
        del plain.graph  # its weights are not held through the proof
        if plain.folded is not None:
            fold_input(made.graph, plain.input, plain.folded)
    spec = CamSpec(
        input=plain.folded or plain.input,
        output=output_spec(score, options, options.labels or plain.labels),
        layers=_layer_specs(made, plain.names, plain.detail_name),
        columns=made.columns,
        precision=_precision(made.graph),
        source=plain.source,
        tools=tool_versions(*plain.tools, "onnx", "onnxruntime"),
    )
    notes += score_notes(score, added)
    if options.fused:
        with watch("fuse"):
            planned = plan_fused(
                spec,
                options.fused_form or "static",
                map_size=options.map_size or "input",
                method=options.method,
                settings=options.settings,
                labels=options.cam_labels,
            )
            spec = join_rule(made.graph, spec, planned)
    if options.fixed_target is not None:
        spec = fix_target(made.graph, spec, fixed_index(options.fixed_target, spec.output))
    with staging_folder(output) as folder:
        staged = folder / output.name
        with watch("write"):
            if options.with_tail:
                spec = write_tail(made.graph, spec, folder / tail_path(output).name)
            set_spec(made.graph.model, spec)
            write_model(made.graph.to_model(), staged)
        with watch("prove"):
            file = open_exported_file(staged, graph=made.graph, images=plain.images)
            if plain.folded is not None:
                file.take_plain_images(unfolded(file.images, plain.folded, plain.input))
            del made, graph
            proof = _prove(plain, file, score, source_outputs, folder)
        proof.demand(output)
        notes += _assumed_layouts(spec, proof)
    return ExportReport(output, spec, proof, watch.seconds, notes)


def _prove(plain: PlainClassifier, file: ExportedFile, score: Score, outputs: list[str], folder: Path) -> Proof:
    try:
        expected = plain_outputs(plain.plain, file)
    except ExportError as error:
        name = plain.plain if isinstance(plain.plain, Path) else plain.source.name
        raise ExportError(f"{name}: the model itself does not run on {len(file.images)} images: {error}") from error
    plain.notes += doubts_about_scores(file, score)
    plain.plain = ModelProto()  # nobody needs its weights any more
    release_memory()
    tail = None if file.spec.tail is None else folder / file.spec.tail.file
    proof = prove_file(file, expected.only(outputs), tail=tail, judge=plain.judge)
    proof.checks += probabilities_as_given(file, score, expected)
    return proof


def _refuse_overwriting(path: Path, output: Path) -> None:
    for target in (output, tail_path(output)):
        if target.exists() and path.exists() and os.path.samefile(target, path):
            raise ExportError(f"{target}: is the model itself, give the exported file another name")


def _input_spec(image: ImageInput, preprocessing: Preprocessing) -> InputSpec:
    return preprocessing.input_spec(
        image.name, image.height, image.width, layout=image.layout, dtype=image.dtype, channels=image.channels
    )


def _layer_specs(
    made: Differentiated, names: Sequence[str | None] | None, detail_name: str | None
) -> tuple[LayerSpec, ...]:
    called = names or [None] * len(made.layers)
    first, *others = (_layer_spec(layer, name) for layer, name in zip(made.layers, called, strict=True))
    return (replace(first, detail=_detail_spec(made, detail_name), rivals=made.rivals), *others)


def _layer_spec(made: TargetLayer, name: str | None) -> LayerSpec:
    layer = made.layer
    return LayerSpec(
        name=name or layer.name,
        value=made.value,
        layout=layer.layout,
        channels=layer.channels,
        grid=_fixed_grid(layer),
        pooled=made.pooled,
        prefix_tokens=layer.prefix_tokens,
        activations=made.activations,
        gradients=made.gradients,
        assumed=layer.assumed,
    )


def _detail_spec(made: Differentiated, name: str | None) -> DetailSpec | None:
    if made.detail is None:
        return None
    layer = made.detail.layer
    return DetailSpec(
        name=name or layer.name,
        value=made.detail.value,
        layout=layer.layout,
        channels=layer.channels,
        grid=_fixed_grid(layer),
        prefix_tokens=layer.prefix_tokens,
        why=layer.why,
        activations=made.detail.activations,
    )


def _fixed_grid(layer: Candidate) -> tuple[int, int]:
    height, width = layer.grid
    if height is None or width is None:
        raise LayerError(f"layer '{layer.name}' has a grid that is not fixed, {layer.shape}: give its size with view")
    return height, width


def _assumed_layouts(spec: CamSpec, proof: Proof) -> list[str]:
    """What was assumed about the target layers, and whether the patch test bears it out."""
    tests = [check for check in proof.checks if check.name.endswith(CHECK)]
    options = {"NTC": "--grid says otherwise", "torch": "--layer names another layer"}
    return [
        f"layer '{layer.name}': its axes could not be followed from the image, and are assumed to be {layer.layout}, "
        f"{layer.channels} channels of {layer.grid[0]}x{layer.grid[1]}; patches of the image "
        f"{'cannot tell' if test.note else 'are found where this puts them'}; "
        + options.get(layer.layout, options.get(spec.source.kind, "--layout says otherwise"))
        for layer, test in zip(spec.layers, tests, strict=True)
        if layer.assumed
    ]


def _precision(graph: Graph) -> str:
    """What most of the weights are, unless the graph quantises."""
    if any(node.op_type == "QuantizeLinear" for node in graph.nodes):
        return "int8"
    sizes: dict[int, int] = {TensorProto.FLOAT: 0, TensorProto.FLOAT16: 0}
    for tensor in graph.constants.values():
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += tensor_bytes(tensor)
    return "float16" if sizes[TensorProto.FLOAT16] > sizes[TensorProto.FLOAT] else "float32"
