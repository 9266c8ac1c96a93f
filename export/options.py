"""`ExportOptions`: what is asked of an export, for both kinds of source."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ..runtime.checks import expect
from ..runtime.shown import shown_value
from .errors import ExportError
from .fused.plan import MOST_CLUSTERED, Form, MapSize
from .pixels import FOLDED_INPUTS, FoldedInput
from .reverse import ClassesPerImage
from .reverse.score import ScoreKind
from .sources.labels import MOST_BEFORE, check_texts
from .sources.preprocessing import Preprocessing
from .target_layers import Asked

__all__ = ["DEFAULT_OPSET", "ExportOptions"]

#: The lowest opset that PyTorch's converter writes; every runtime since 2023 reads it.
DEFAULT_OPSET = 18

_LARGEST_SIDE = 32_768


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportOptions:
    """What `export_torch` and `export_onnx` are asked for. Every field can be given to them as a keyword too.

    Attributes:
        layer: the target layer; None takes the value that enters the last spatial pooling or flatten (of a
            class-token transformer the value that enters its last block). Of a module: a module path,
            ``path:call`` where it is called several times, or the name of a value. Of an ONNX file: the name
            of a value, or of the node that makes it. A sequence names several, each once, in any order.
        grid: (H, W) of layers of tokens whose place in the image cannot be followed; most can. Of several
            layers one for each, None where there is nothing to say.
        detail: the detail layer, a finer value whose activations sharpen the map: its name (as `layer`), ``auto`` to
            look for one, or ``none``. None is ``auto`` for a single layer, and ``none`` for several.
        view: how the layer's value is to be read, a `LayerView`; of several layers one for each (ONNX files).
        score: what holds the class scores: the position of a module's output, or the name of a file's output (or
            of a value inside it, which becomes one more output); None takes the one called "logits", or the first
            (N, classes) that no other output is computed from, and a single number per image only if there is no other.
        score_kind: what that output holds, where it cannot be seen or is to be seen otherwise: ``logits``, ``softmax``,
            ``sigmoid``, ``log-softmax``, or ``regression`` for values that are no scores of classes. unit: of a
            regression's values.
        reference: a stored embedding (D,); the cosine of the output's angle to it is explained.
        multi_label: the classes are independent, so that each logit gets a sigmoid of its own (a model
            that ends in a sigmoid says so by itself).
        classes_per_image: how many classes of each image one inference explains: a number K, ``free`` for as many as it
            is asked for, whose class input is (N, K), or None for one, whose class input is (N,).
        input_size: (height, width) of an ONNX file that leaves them open.
        channels: of the image; None takes what the model says, or three.
        inputs: values of further inputs by name, for one image, which are kept in the file. Arrays with a first axis
            of 1 are repeated for every image.
        preprocessing: how a photo becomes the input; None is the preset ``torchvision``.
        labels: one per class, in the model's order. label_offset: see `OutputSpec`.
        name: what the new file calls its source; None takes the module's class, or the file's name.
        opset: ONNX opset of a module's export; None takes 18.
        images: preprocessed images (N, ...) in the new file's layout and dtype to prove it with; an array, a
            tensor, or a function that makes them for an `InputSpec`. None makes some.
        keep_plain: also write a module's plain export there.
        with_tail: write the part behind the (first) layer as a file of its own, ``X.tail.onnx``.
        fused: make the method part of the graph, so that the file gives out finished maps.
        map_size: of a fused file's maps, ``input`` (None too) for the size of the model's input, or ``detail`` for the
            finest grid that they have.
        fused_form: of a fused file: ``static`` (None too), of operators that every runtime has, or ``cpu``, faster on
            CPUs, with sizes from the data.
        cam_labels: of a fused file: the cluster of each channel becomes an output.
        method: of a fused file, one of `FUSED_METHODS`; None is ``cfcam``.
        settings: of that method, what differs from its defaults.
        fold_preprocessing: make scale, mean and std part of the graph, whose input then takes pixels 0 to 255:
            ``float`` for float32 (N, C, H, W), ``uint8`` for that in bytes, ``uint8-nhwc`` for (N, H, W, C), as cameras
            and decoders give them. Resizing and cropping stay outside. None leaves the input as it is.
        fixed_target: the one class that the file explains, by index or label, or ``top`` for the top class of each
            image: the file then has no class input, and what the exporter adds is float32 or int32. None for a file
            that is told the class.
        progress: told the name of each pass as it starts.
    """

    layer: Asked = None
    grid: tuple[int, int] | Sequence[tuple[int, int] | None] | None = None
    detail: str | None = None
    view: Any = None
    score: str | int | None = None
    score_kind: ScoreKind | None = None
    unit: str | None = None
    reference: Any = None
    multi_label: bool = False
    classes_per_image: ClassesPerImage = None
    input_size: tuple[int, int] | None = None
    channels: int | None = None
    inputs: Mapping[str, Any] | None = None
    preprocessing: Preprocessing | None = None
    labels: Sequence[str] | None = None
    label_offset: int = 0
    name: str | None = None
    opset: int | None = None
    images: Any = None
    keep_plain: str | os.PathLike[str] | None = None
    with_tail: bool = False
    fused: bool = False
    map_size: MapSize | None = None
    fused_form: Form | None = None
    cam_labels: bool = False
    method: str | None = None
    settings: Mapping[str, Any] | None = None
    fold_preprocessing: FoldedInput | None = None
    fixed_target: str | int | None = None
    progress: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        kinds: dict[str, tuple[Any, ...]] = {
            "layer": (str, Sequence, None),
            "grid": (Sequence, None),
            "score": (str, int, None),
            "score_kind": (str, None),
            "unit": (str, None),
            "multi_label": (bool,),
            "classes_per_image": (int, str, None),
            "input_size": (Sequence, None),
            "preprocessing": (Preprocessing, None),
            "labels": (Sequence, None),
            "label_offset": (int,),
            "name": (str, None),
            "opset": (int, None),
            "keep_plain": (str, os.PathLike, None),
            "with_tail": (bool,),
            "fused": (bool,),
            "map_size": (str, None),
            "fused_form": (str, None),
            "cam_labels": (bool,),
            "method": (str, None),
            "settings": (Mapping, None),
            "fold_preprocessing": (str, None),
            "fixed_target": (str, int, None),
            "progress": (Callable, None),
        }
        for name, allowed in kinds.items():
            expect("export", name, getattr(self, name), *allowed, error=ExportError)
        if self.layer is not None and not isinstance(self.layer, str):
            for one in self.layer:
                expect("export", "layer", one, str, None, error=ExportError)
        count = self.classes_per_image
        if count is not None and count != "free" and (type(count) is not int or count < 1):
            raise ExportError(
                f"export: classes_per_image: expected 'free', or a number from 1, got {shown_value(count)}"
            )
        self._check_fused()
        if self.fold_preprocessing not in (None, *FOLDED_INPUTS):
            raise ExportError(
                f"export: fold_preprocessing: expected {', '.join(FOLDED_INPUTS)}, got "
                f"{shown_value(self.fold_preprocessing)}"
            )
        if self.fixed_target is not None and self.classes_per_image is not None:
            raise ExportError(
                "export: fixed_target: a file with several classes per image is told which: leave --classes-per-image "
                "or --fixed-target out"
            )
        self._check_sizes()
        check_texts(self.labels)

    def _check_fused(self) -> None:
        names = ("map_size", "fused_form", "method", "settings")
        given = [name for name in names if getattr(self, name) is not None]
        given += ["cam_labels"] if self.cam_labels else []
        if given and not self.fused:
            raise ExportError(
                f"export: {', '.join(given)}: for fused files alone, whose maps the graph makes: add --fused "
                "(fused=True in Python), or leave it out: the host takes any method and settings"
            )
        if self.map_size not in (None, "input", "detail"):
            raise ExportError(f"export: map_size: expected input or detail, got {shown_value(self.map_size)}")
        if self.cam_labels and self.method not in (None, "cfcam"):
            raise ExportError(
                f"export: cam_labels: '{self.method}' has no clusters: leave --cam-labels out, or fuse cfcam"
            )
        if self.fused_form not in (None, *MOST_CLUSTERED):
            raise ExportError(
                f"export: fused_form: expected {' or '.join(MOST_CLUSTERED)}, got {shown_value(self.fused_form)}"
            )
        if self.fused and self.with_tail:
            raise ExportError(
                "export: with_tail: a fused file runs its own method alone, which needs no tail: leave --with-tail or "
                "--fused out"
            )

    def _check_sizes(self) -> None:
        pairs = self.grid or ()
        every = [("grid", pair) for pair in ([pairs] if _is_pair(pairs) else pairs) if pair is not None]
        for name, pair in [*every, *([] if self.input_size is None else [("input_size", self.input_size)])]:
            if not _is_pair(pair) or min(pair) < 1 or max(pair) > _LARGEST_SIDE:
                raise ExportError(
                    f"export: {name}: expected (height, width) of 1 to {_LARGEST_SIDE}, got {shown_value(pair)}"
                )
        if not 0 <= self.label_offset <= MOST_BEFORE:
            raise ExportError(f"label offset: expected 0 to {MOST_BEFORE}, got {shown_value(self.label_offset)}")

    def but(self, changes: Mapping[str, Any]) -> ExportOptions:
        """These options with some of them changed. Raises `ExportError` for a name that is none."""
        known = [field.name for field in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise ExportError(f"no such option: {', '.join(unknown)}; the options are {', '.join(known)}")
        return replace(self, **changes)

    def refuse(self, source: str, *names: str) -> None:
        """Raise `ExportError` where an option is given that means nothing for this kind of source."""
        given = [name for name in names if getattr(self, name) is not None]
        if given:
            raise ExportError(f"{', '.join(given)}: not for {source}")


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(type(side) is int for side in value)
