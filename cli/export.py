"""``cfcam export``: a classifier in, a file with its gradients inside out."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from .console import DONE, DONE_IN_PART, file_size, note, print_rows, quiet_stdout, say, stderr
from .options import MaxPixels, fixed_inputs, json_object
from .sources import photo_batch, report_failures

if TYPE_CHECKING:
    from ..export.report import ExportReport
    from ..export.sources.preprocessing import Preprocessing
    from ..runtime.contract.spec import CamSpec, InputSpec, OutputSpec

__all__ = ["BUILT_IN_LABELS", "export", "export_model", "print_report", "read_label_option"]

#: Label lists that come with the package, by the name that ``--labels`` takes.
BUILT_IN_LABELS = {"imagenet": "imagenet1k.txt"}

_DEFAULT_SIZE = (224, 224)
#: So many photos the proof takes.
_PROVED_WITH = 5

_Given = TypeVar("_Given")


class Layout(str, Enum):
    """Typer takes a repeatable choice in this form only."""

    NCHW = "NCHW"
    NHWC = "NHWC"
    NTC = "NTC"


def export(
    output: Annotated[str, typer.Option("--output", "-o", metavar="X.cam.onnx", help="The file to write.")],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="PKG.MODULE:FACTORY", help="Function or class that makes the PyTorch model."),
    ] = None,
    onnx: Annotated[
        str | None,
        typer.Option(
            "--onnx", metavar="MODEL.onnx", help="A plain ONNX classifier, instead of --model: no PyTorch needed."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE|DIR",
            help="State dict or checkpoint, tensors only, of any name; for transformers:CLASS the model's folder.",
        ),
    ] = None,
    kwargs: Annotated[
        str | None,
        typer.Option("--kwargs", metavar="JSON", help="Keyword arguments for the factory, as a JSON object."),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="Target layer: layer4.1, act:1 (second call); of an ONNX file a value or node. See `cfcam layers`. "
            "Repeatable: the first is the main one.",
        ),
    ] = None,
    detail: Annotated[
        str | None,
        typer.Option(
            "--detail",
            metavar="NAME|auto|none",
            help="Finer layer whose activations sharpen the map (default: auto, with several --layer none).",
        ),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            "--score", metavar="OUTPUT", help="Output with the scores: its name; with --model its key or position."
        ),
    ] = None,
    score_kind: Annotated[
        Literal["logits", "softmax", "sigmoid", "log-softmax", "regression"] | None,
        typer.Option("--score-kind", help="What that output holds, where it is not seen or is to be seen otherwise."),
    ] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", metavar="TEXT", help="Unit of the values, with --score-kind regression.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="FILE.npy",
            help="A stored embedding: explain how similar the model's output is to it.",
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid", metavar="HxW", help="How a layer of tokens is laid out over the image. Repeatable, as --layer is."
        ),
    ] = None,
    prefix_tokens: Annotated[
        list[int] | None,
        typer.Option(
            "--prefix-tokens", metavar="K", min=0, help="Class and register tokens in front (--onnx). Repeatable."
        ),
    ] = None,
    layout: Annotated[
        list[Layout] | None,
        typer.Option("--layout", help="How the layer's value is held, if that is not to be seen (--onnx). Repeatable."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="FILE", help="Class names: text or JSON file, or 'imagenet'.")
    ] = None,
    label_offset: Annotated[
        int, typer.Option("--label-offset", metavar="K", min=0, help="Classes in front of those that have labels.")
    ] = 0,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="The classes are independent: each logit gets a sigmoid of its own.")
    ] = False,
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input-size", metavar="N|HxW", help="Input height and width in pixels; what the model says, else 224."
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option("--channels", metavar="N", min=1, help="Channels of the image; what the model says, else 3."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=VALUE|FILE.npy",
            help="Fix an input beside the image; its value is kept in the file. Repeatable.",
        ),
    ] = None,
    preset: Annotated[
        Literal["torchvision", "tf", "lite"] | None,
        typer.Option(
            "--preset",
            help="Preprocessing that the options below change; torchvision, or what a transformers folder says.",
        ),
    ] = None,
    scale: Annotated[
        str | None, typer.Option("--scale", metavar="S", help="x = (p * S - mean) / std, p in 0..255; 1/255 is fine.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="R,G,B", help="In the units of p * scale; one per channel, or one for all."),
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="R,G,B", help="As --mean.")] = None,
    color: Annotated[
        Literal["rgb", "bgr", "gray", "channels"] | None,
        typer.Option("--color", help="Channels that the model takes; 'channels': the photo's own, in their order."),
    ] = None,
    photo_range: Annotated[
        str | None,
        typer.Option(
            "--photo-range", metavar="LOW:HIGH", help="Black and full brightness of photos of more than 8 bits."
        ),
    ] = None,
    resize: Annotated[
        str | None, typer.Option("--resize", metavar="shorter:N|stretch|pad|fit", help="How the photo is scaled.")
    ] = None,
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "lanczos"] | None,
        typer.Option("--interpolation", help="Filter of the scaling."),
    ] = None,
    crop: Annotated[
        Literal["center", "none"] | None, typer.Option("--crop", help="What happens to the rest after scaling.")
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            metavar="PHOTOS",
            help="Photos to prove the file with (the first 5): folder, file or pattern; otherwise random images. "
            "Repeatable.",
        ),
    ] = None,
    classes_per_image: Annotated[
        str | None,
        typer.Option(
            "--classes-per-image",
            metavar="K|free",
            help="Explain several classes of each image in one inference: K, or as many as it is asked for.",
        ),
    ] = None,
    with_tail: Annotated[
        bool,
        typer.Option("--with-tail", help="Also write X.tail.onnx: from the (first) layer's activations to the scores."),
    ] = False,
    fused: Annotated[
        bool,
        typer.Option(
            "--fused", help="Make the method part of the graph: the file gives out finished maps, in any language."
        ),
    ] = False,
    map_size: Annotated[
        Literal["input", "detail"] | None,
        typer.Option(
            "--map-size", help="Of a fused file's maps: as large as the input (default), or as the finest layer."
        ),
    ] = None,
    fused_form: Annotated[
        Literal["static", "cpu"] | None,
        typer.Option(
            "--fused-form",
            help="Of a fused file: for every runtime (static, default), or faster in ONNX Runtime on CPUs (cpu).",
        ),
    ] = None,
    cam_labels: Annotated[
        bool, typer.Option("--cam-labels", help="Of a fused file: also give out the cluster of each channel.")
    ] = False,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", metavar="NAME", help="Method of a fused file: cfcam (default), gradcam, hirescam or layercam."
        ),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option("--settings", metavar="JSON", help="Settings of a fused file's method, as a JSON object."),
    ] = None,
    fold_preprocessing: Annotated[
        Literal["float", "uint8", "uint8-nhwc"] | None,
        typer.Option(
            "--fold-preprocessing",
            help="Make scale, mean and std part of the graph: the file takes pixels 0 to 255, as float32 or uint8 "
            "NCHW, or as uint8 NHWC. Resizing and cropping stay outside.",
        ),
    ] = None,
    fixed_target: Annotated[
        str | None,
        typer.Option(
            "--fixed-target",
            metavar="top|CLASS",
            help="Explain the top class, or one class by index or label, alone: the file has no class input, and int32 "
            "in place of int64 and bool, and (N, 1) in place of (N,).",
        ),
    ] = None,
    opset: Annotated[
        int | None, typer.Option("--opset", metavar="N", help="ONNX operator set, with --model; default 18.")
    ] = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Export a classifier with its gradients inside."""
    from ..export.sources.preprocessing import parse_input_size, parse_numbers, parse_resize
    from ..export.sources.preprocessing import preset as named_preset
    from ..runtime.errors import OutputError
    from ..runtime.photos.levels import parse_photo_range

    _one_source(
        model,
        onnx,
        only_model={"--weights": weights, "--kwargs": kwargs, "--opset": opset},
        only_onnx={"--prefix-tokens": prefix_tokens or None, "--layout": layout or None},
    )
    if Path(output).is_dir() or output.endswith("/"):
        raise OutputError(f"{output}: is a folder, give a file name such as {Path(output) / 'model.cam.onnx'}")
    changes = {
        "scale": None if scale is None else parse_numbers(scale, "--scale", 1)[0],
        "mean": None if mean is None else parse_numbers(mean, "--mean"),
        "std": None if std is None else parse_numbers(std, "--std"),
        "color": color,
        "interpolation": interpolation,
        "crop": crop,
        "photo_range": None if photo_range is None else parse_photo_range(photo_range),
        **({} if resize is None else parse_resize(resize)),
    }

    def prepared(size: tuple[int, int] | None, own: Preprocessing | None = None) -> Preprocessing:
        return _checked((own or named_preset(preset or "torchvision")).override(**changes), size)

    options: dict[str, Any] = {
        "layer": layer or None,
        "detail": detail,
        "labels": read_label_option(labels, label_offset),
        "label_offset": label_offset,
        "multi_label": multi_label,
        "score_kind": score_kind,
        "unit": unit,
        "reference": None if reference is None else _stored_vector(reference),
        "with_tail": with_tail,
        "classes_per_image": _classes_per_image(classes_per_image),
        "fused": fused,
        "map_size": map_size,
        "fused_form": fused_form,
        "cam_labels": cam_labels,
        "method": method,
        "settings": json_object(settings, "--settings"),
        "fold_preprocessing": fold_preprocessing,
        "fixed_target": fixed_target,
        "images": _photos(images) if images else None,
        "channels": channels,
        "inputs": fixed_inputs(inputs or []),
    }
    size = None if input_size is None else parse_input_size(input_size)
    count = len(layer or [""])
    cells = _for_each([parse_input_size(text, "--grid") for text in grid or []], count, "--grid")
    if onnx is not None:
        from ..export import export_onnx
        from ..export.reverse import LayerView

        stated = preset is not None or any(value is not None for value in changes.values())
        options |= {"preprocessing": prepared(size) if stated else None, "score": score, "input_size": size}
        tokens = _for_each(prefix_tokens or [], count, "--prefix-tokens")
        views = zip(_for_each([one.value for one in layout or []], count, "--layout"), cells, tokens, strict=True)
        options["view"] = [LayerView(*view) for view in views]
        report = _announced(export_onnx, onnx, output, **options)
    else:
        assert model is not None
        options |= {"grid": cells, "score": score, "opset": opset}
        own = model.startswith("transformers:") and preset is None
        report = _from_torch(model, weights, json_object(kwargs, "--kwargs"), size, output, own, prepared, options)
    print_report(report)
    raise typer.Exit(DONE if report.proof else DONE_IN_PART)


def _classes_per_image(text: str | None) -> Any:
    """What ``--classes-per-image`` says. Raises a usage error."""
    if text is None or text == "free":
        return text
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise typer.BadParameter(f"--classes-per-image: expected a number from 1, or 'free', got '{text}'")
    return int(text)


def _photos(sources: list[str]) -> Callable[[InputSpec], Any]:
    """What gives the proof its images, once the model's input is known; a photo that cannot be read is reported."""

    def prepared(spec: InputSpec) -> Any:
        batch, _, errors = photo_batch(sources, _PROVED_WITH, spec, "the proof")
        report_failures(errors)
        return batch

    return prepared


def _one_source(model: str | None, onnx: str | None, only_model: dict[str, Any], only_onnx: dict[str, Any]) -> None:
    """Raises a usage error unless one model is given, with options that go with its kind."""
    if (model is None) == (onnx is None):
        raise typer.BadParameter("give one of --model (PyTorch) and --onnx (an ONNX file)")
    for kind, options in (("--onnx", only_model), ("--model", only_onnx)):
        given = [name for name, value in options.items() if value is not None]
        if given and (kind == "--onnx") == (onnx is not None):
            raise typer.BadParameter(f"{', '.join(given)}: not with {kind}")


def _stored_vector(path: str) -> Any:
    """The array in a .npy file. Raises `ExportError`."""
    import numpy as np

    from ..export import ExportError

    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: --reference needs a .npy file with one vector ({error})") from error
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "fiu":
        raise ExportError(f"{path}: --reference needs a .npy file with one vector of numbers")
    return stored


def _for_each(given: list[_Given], count: int, option: str) -> list[_Given | None]:
    """What an option says about each of `count` layers: given once, it holds for all of them."""
    if len(given) not in (0, 1, count):
        raise typer.BadParameter(
            f"{option}: given {len(given)} times for {count} layers; give it once for all of them, or once for each "
            "--layer, in the same order"
        )
    return [*given] if len(given) == count else [given[0] if given else None] * count


def _from_torch(
    model: str,
    weights: str | None,
    kwargs: dict[str, Any] | None,
    size: tuple[int, int] | None,
    output: str,
    brings_its_own: bool,
    prepared: Callable[..., Preprocessing],
    options: dict[str, Any],
) -> ExportReport:
    """Load the model, with its own size, preprocessing and labels where it brings some, and export it.

    brings_its_own: whether its own preprocessing comes before the preset. prepared: size, and the model's own
    preprocessing where it has some -> the preprocessing that the options ask for, checked.
    """
    from ..export.sources.factory import load

    # What cannot work fails before the model is loaded.
    preprocessing = None if brings_its_own else prepared(size or _DEFAULT_SIZE)
    with quiet_stdout():
        loaded = load(model, kwargs, weights, processor=brings_its_own)
    for doubt in loaded.notes:
        note(f"cfcam: warning: {doubt}")
    size = size or loaded.size or _DEFAULT_SIZE
    if preprocessing is None:
        preprocessing = prepared(size, loaded.preprocessing)
    options["labels"] = options["labels"] or loaded.labels
    options["multi_label"] = options["multi_label"] or loaded.multi_label
    return export_model(loaded.module, size, output, preprocessing=preprocessing, name=model, **options)


def _checked(preprocessing: Preprocessing, size: tuple[int, int] | None) -> Preprocessing:
    """`preprocessing`, if it can be had at `size`; what looks wrong about it is said. Raises `ExportError`."""
    if size is not None:
        preprocessing.input_spec("image", *size)
    for doubt in preprocessing.doubts():
        note(f"cfcam: warning: {doubt}")
    return preprocessing


def export_model(module: Any, size: tuple[int, int], output: str | Path, **options: Any) -> ExportReport:
    """`export_torch` with a spinner that names the pass it is at."""
    from ..export import export_torch

    return _announced(export_torch, module, size, output, **options)


def _announced(function: Callable[..., ExportReport], *arguments: Any, **options: Any) -> ExportReport:
    """Call an exporter with a spinner that names the pass it is at."""
    with quiet_stdout(), stderr().status("exporting") as status:
        return function(*arguments, progress=lambda name: status.update(f"exporting: {name}"), **options)


def read_label_option(labels: str | None, offset: int = 0) -> tuple[str, ...] | None:
    """The labels that ``--labels`` asks for: a file, or a built-in list. Raises `ExportError`."""
    from ..export.sources.labels import read_labels

    if labels is None:
        return None
    if labels in BUILT_IN_LABELS and not Path(labels).exists():
        from .data import data_file

        with data_file(BUILT_IN_LABELS[labels]) as path:
            return read_labels(path, offset)
    return read_labels(labels, offset)


def _detail(spec: CamSpec) -> str:
    detail = spec.layer.detail
    if detail is None:
        return ""
    return f", detail {detail.name} ({detail.channels} channels, {detail.grid[0]}x{detail.grid[1]})"


def _count(output: OutputSpec) -> str:
    values = f"{output.values} value{'s' * (output.values > 1)}"
    return values if output.values else f"{output.classes} classes"


def print_report(report: ExportReport) -> None:
    """The proof and what was written, on stdout."""
    rows = [
        (
            check.name,
            f"{check.value:.3g}",
            f"{'>=' if check.at_least else '<='} {check.limit:.3g}",
            "ok" if check.ok else "FAILED",
            check.note,
        )
        for check in report.proof.checks
    ]
    print_rows(("check", "value", "limit", "", ""), rows, right=("value", "limit"))
    spec = report.spec
    size = file_size(Path(report.path).stat().st_size)
    layers = ", ".join(f"{la.name} ({la.channels} channels, {la.grid[0]}x{la.grid[1]})" for la in spec.layers)
    say(
        f"{report.path}: {size}, layer{'s' if len(spec.layers) > 1 else ''} {layers}{_detail(spec)}, "
        f"{_count(spec.output)}, "
        f"{sum(report.seconds.values()):.1f} s"
    )
    if spec.tail is not None:
        tail = Path(report.path).with_name(spec.tail.file)
        say(f"{tail}: {file_size(tail.stat().st_size)}, {', '.join(spec.tail.inputs)} -> {spec.tail.score}")
    for warning in report.warnings:
        note(f"cfcam: note: {warning}")
