"""`CamSpec`: the contract between the exporter, the runtime and everything else.

The exporter writes one `CamSpec` as JSON into the ONNX file's metadata (key
`METADATA_KEY`); the runtime reads it back and needs nothing else to explain an image.

Rules of the format:

1. ``schema`` is ``MAJOR.MINOR``. A newer *major* is refused, a newer *minor* is read.
2. Sections and keys that this version does not know are kept, and written back.
3. Every number that concerns pixels is in the units of ``x = (p * scale - mean) / std``
   with ``p`` from 0 to 255: the 8-bit value, or that share of another photo's range.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ..checks import expect
from ..errors import SpecError
from ..json_reader import parse_json
from .records import Format, dump

__all__ = [
    "INT8_IN_HALF",
    "METADATA_KEY",
    "SAME_SHAPE",
    "SCHEMA",
    "CamSpec",
    "DetailSpec",
    "InputSpec",
    "LayerSpec",
    "MethodSpec",
    "OutputSpec",
    "ResizeSpec",
    "SourceSpec",
    "TailSpec",
]

#: Key of the ONNX ``metadata_props`` entry that holds the JSON.
METADATA_KEY = "cfcam.spec"

#: `CamSpec.precision` of a graph with QuantizeLinear / DequantizeLinear pairs whose other values are float16.
INT8_IN_HALF = "int8+float16"

#: Schema that this version writes.
SCHEMA = "1.3"

#: Pixels along one side of an input, and of the photo that is scaled for it: more is a number that went wrong, and
#: would take all memory.
_LARGEST_SIDE = 32_768
_MOST_PIXELS = 2**26
#: Classes, channels and cells of a grid.
_MOST = 2**24

_FORMAT = Format("CamSpec", SpecError, SCHEMA, "upgrade cfcam, or export the model again with this version")


#: By how much the aspect ratios of photo and input may differ before resize mode ``fit`` pads.
SAME_SHAPE = 1.25


@dataclass(frozen=True, kw_only=True)
class ResizeSpec:
    """How a photo becomes the model's input rectangle.

    mode: ``shorter`` scales the photo so that its shorter side is `size` and keeps the
    aspect ratio; ``stretch`` scales straight to the input's height and width, or to a
    square of `size` from which the input is cropped; ``pad`` scales so that the whole photo
    fits and fills the rest with the mean colour; ``fit`` decides for each photo: it stretches one
    whose aspect ratio is at most `SAME_SHAPE` times the input's, or the other way round, and pads
    any other (schema 1.3).
    size: the shorter side in pixels before cropping (``shorter``, and ``stretch`` with a crop).
    interpolation: filter of the resize, always with antialiasing when it shrinks.
    crop: ``center`` cuts the input rectangle out of the middle; ``none`` needs a mode
    that gives the input's size by itself. corner: where the rectangle starts when what is cut
    off is odd: ``nearest`` rounds half to even as torchvision does, ``down`` as transformers does.
    """

    mode: Literal["shorter", "stretch", "pad", "fit"] = "shorter"
    size: int | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    crop: Literal["center", "none"] = "center"
    corner: Literal["nearest", "down"] = "nearest"

    def validate(self, height: int, width: int) -> None:
        if self.size is not None and self.size > _LARGEST_SIDE:
            raise SpecError(f"CamSpec input.resize.size: expected at most {_LARGEST_SIDE} pixels, got {self.size}")
        if self.mode == "shorter":
            if self.size is None or self.size < 1:
                raise SpecError("CamSpec input.resize.size: mode 'shorter' needs a shorter side of at least 1 pixel")
            if self.crop != "center":
                raise SpecError("CamSpec input.resize.crop: mode 'shorter' keeps the aspect ratio and needs 'center'")
            if self.size < max(height, width):
                raise SpecError(
                    f"CamSpec input.resize.size: the shorter side is {self.size}, smaller than the "
                    f"{height}x{width} (height x width) that is cropped from it"
                )
        elif self.mode == "stretch" and self.size is not None and self.size < max(height, width):
            raise SpecError(
                f"CamSpec input.resize.size: the photo is stretched to {self.size}x{self.size}, smaller than the "
                f"{height}x{width} (height x width) that is cropped from it"
            )
        elif self.mode == "fit" and self.size is not None:
            raise SpecError("CamSpec input.resize.size: mode 'fit' goes straight to the input's size")
        if self.size is not None and self.crop != "center":
            raise SpecError(f"CamSpec input.resize.size: needs crop 'center', got '{self.crop}'")


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The image input: x = (p * scale - mean) / std, p in 0..255, per channel of `color`.

    color: ``rgb``, ``bgr``; ``gray``, Pillow's luma; or ``channels``, the photo's own in their order, as many as there
    are means (schema 1.3). mean and std have one number per channel, in that order, in the units of ``p * scale``.
    dtype: for integers x is rounded, and cut where the type ends (schema 1.3).
    photo_range: the values (low, high) that p = 0 and p = 255 stand for in photos of more than 8 bits and of
    floating-point numbers; None is 0 to 65535, or 0 to 1 (schema 1.3).
    """

    name: str
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    height: int
    width: int
    dtype: Literal["float32", "float16", "uint8", "int8"] = "float32"
    color: Literal["rgb", "bgr", "gray", "channels"] = "rgb"
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: ResizeSpec = field(default_factory=lambda: ResizeSpec(mode="stretch", crop="none"))
    photo_range: tuple[float, float] | None = None

    @property
    def channels(self) -> int:
        return {"rgb": 3, "bgr": 3, "gray": 1, "channels": len(self.mean)}[self.color]

    def shape(self, batch: int) -> tuple[int, int, int, int]:
        """Shape of the input tensor for `batch` images, in the model's own layout."""
        if self.layout == "NCHW":
            return (batch, self.channels, self.height, self.width)
        return (batch, self.height, self.width, self.channels)

    def validate(self) -> None:
        if min(self.height, self.width) < 1:
            raise SpecError(f"CamSpec input: height and width must be positive, got {self.height}x{self.width}")
        if max(self.height, self.width) > _LARGEST_SIDE or self.height * self.width > _MOST_PIXELS:
            raise SpecError(
                f"CamSpec input: expected at most {_LARGEST_SIDE} pixels along a side and {_MOST_PIXELS} in all, got "
                f"{self.height}x{self.width}"
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != self.channels or not values:
                raise SpecError(
                    f"CamSpec input.{name}: expected {self.channels} numbers for color "
                    f"'{self.color}', got {len(values)}"
                )
        if any(v == 0 for v in self.std) or self.scale == 0:
            raise SpecError("CamSpec input: scale and std must not be zero")
        if not all(math.isfinite(v) for v in (self.scale, *self.mean, *self.std)):
            raise SpecError("CamSpec input: scale, mean and std must be finite")
        low, high = self.photo_range or (0.0, 1.0)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SpecError(f"CamSpec input.photo_range: expected two finite numbers LOW < HIGH, got {low:g}, {high:g}")
        self.resize.validate(self.height, self.width)


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """The class scores.

    name: the model output that is shown to people. kind: what that output holds.
    score: the value that was differentiated (the logit, before any final softmax).
    binary: logits that get a sigmoid each. A model with one logit z has two, (-z, z): class 0 is that the thing is
    not there. (In files of schema 1.2 and before it had one, and its only class had index 0.) A multi-label
    model that ends in logits has several.
    regression: values that are no probabilities, and then the same negated: of K values, "class" k is what
    makes value k larger, K + k what makes it smaller. unit: of the values, for people.
    label_offset: how far the model's index is ahead of the usual one (1 where index 0 is
    "background"); `labels`, when present, are in the model's own order; of a regression they end in + and -.
    partial: the output is not the softmax (sigmoid) of the score alone: behind it probabilities were rounded, chosen,
    joined or averaged.
    """

    name: str
    kind: Literal["logits", "softmax", "sigmoid", "binary", "regression"] = "logits"
    score: str
    classes: int
    labels: tuple[str, ...] | None = None
    label_offset: int = 0
    unit: str | None = None
    partial: bool = False

    def validate(self) -> None:
        if self.classes < 1:
            raise SpecError(f"CamSpec output.classes: expected at least 1, got {self.classes}")
        if self.classes > _MOST or abs(self.label_offset) > _MOST:
            raise SpecError(
                f"CamSpec output: expected classes and label_offset of at most {_MOST}, got {self.classes} and "
                f"{self.label_offset}"
            )
        if self.labels is not None and len(self.labels) != self.classes:
            raise SpecError(f"CamSpec output.labels: {len(self.labels)} labels for {self.classes} classes")
        if self.kind == "regression" and self.classes % 2:
            raise SpecError(f"CamSpec output.classes: a regression has two for each value, got {self.classes}")

    @property
    def values(self) -> int:
        """How many values a regression gives; 0 for classes."""
        return self.classes // 2 if self.kind == "regression" else 0

    def label(self, index: int) -> str:
        """The label of class `index` (0-based, the model's own order), or its number.

        Of a regression it says which value, and + (larger) or - (smaller); a single value needs no name.
        """
        if self.labels is not None:
            return self.labels[index]
        if not self.values:
            return str(index)
        return f"{index % self.values if self.values > 1 else ''}{'+' if index < self.values else '-'}"


@dataclass(frozen=True, kw_only=True)
class DetailSpec:
    """The detail layer: a finer value whose activations sharpen the map; no gradient is taken there.

    name, value, layout, channels, grid, prefix_tokens: as in `LayerSpec`. why: the reason why it was chosen.
    activations: name of the output, (N, C, H, W).
    """

    name: str
    value: str
    layout: Literal["NCHW", "NHWC", "NTC"] = "NCHW"
    channels: int
    grid: tuple[int, int]
    prefix_tokens: int = 0
    why: str = ""
    activations: str = "cam_detail"

    def as_layer(self) -> LayerSpec:
        """The same value as a target layer would be described."""
        return LayerSpec(
            name=self.name,
            value=self.value,
            layout=self.layout,
            channels=self.channels,
            grid=self.grid,
            prefix_tokens=self.prefix_tokens,
            activations=self.activations,
        )


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One target layer.

    name: what the user calls it (``layer4.2``, ``_swish:1``). value: the name of that
    value in the graph. layout: how the model itself holds it; what leaves the file is
    always (N, C, H, W). grid: its (H, W). pooled: True when this is the value that enters
    the last global pooling, so that its gradient is constant over the grid.
    activations, gradients: names of the outputs. prefix_tokens: class and register tokens
    that were set aside (token layouts only). assumed: the layout could not be followed from the
    image when the file was made, and is what the value's shape looks like. detail: the detail layer.
    rivals: name of the output that holds the gradient of the logsumexp of the other classes' logits,
    (N, C, 1, 1). Both since schema 1.3, of the first layer at most, and None where there is none.
    """

    name: str
    value: str
    layout: Literal["NCHW", "NHWC", "NTC"] = "NCHW"
    channels: int
    grid: tuple[int, int]
    pooled: bool = False
    prefix_tokens: int = 0
    activations: str = "cam_activations"
    gradients: str = "cam_gradients"
    detail: DetailSpec | None = None
    rivals: str | None = None
    assumed: bool = False

    def validate(self) -> None:
        if self.channels < 1 or min(self.grid) < 1:
            raise SpecError(f"CamSpec layer '{self.name}': channels and grid must be positive")
        if self.channels > _MOST or self.grid[0] * self.grid[1] > _MOST:
            raise SpecError(
                f"CamSpec layer '{self.name}': expected at most {_MOST} channels and cells, got {self.channels} and "
                f"{self.grid[0]}x{self.grid[1]}"
            )
        if self.prefix_tokens < 0:
            raise SpecError(f"CamSpec layer '{self.name}': prefix_tokens: expected 0 or more, got {self.prefix_tokens}")
        if self.detail is not None:
            self.detail.as_layer().validate()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the exporter added for this layer."""
        detail = () if self.detail is None else (self.detail.activations,)
        return (self.activations, self.gradients, *detail, *(() if self.rivals is None else (self.rivals,)))


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """The method that the file asks for, and its settings (empty: the defaults)."""

    name: str = "cfcam"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """Where the weights came from.

    kind: ``torch`` or ``onnx``. name: what the user called it. sha256: of the ``.onnx``
    file, or of names, shapes and bytes of the state dict in sorted order.
    """

    kind: Literal["torch", "onnx"]
    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TailSpec:
    """A file beside this one that computes the scores from the target layer's activations.

    file: its name. sha256: of its bytes. inputs: what it takes, first the activations (N, C, H, W) as this
    file gives them; the image input too where the tail needs more of the network. score: its
    output, the logits (N, classes).
    """

    file: str
    sha256: str
    inputs: tuple[str, ...]
    score: str

    def validate(self) -> None:
        if not self.file or "/" in self.file or "\\" in self.file or self.file in (".", "..") or "\0" in self.file:
            raise SpecError(f"CamSpec tail.file: expected the name of a file beside this one, got '{self.file}'")
        if not self.inputs or not all(self.inputs) or len(set(self.inputs)) < len(self.inputs) or not self.score:
            raise SpecError(
                f"CamSpec tail: expected the names of its inputs, each once, and of its score, got {list(self.inputs)} "
                f"and '{self.score}'"
            )


@dataclass(frozen=True, kw_only=True)
class CamSpec:
    """Everything that a program must know to explain images with an exported file.

    Attributes:
        schema: ``MAJOR.MINOR`` of the format.
        input: The image input.
        output: The class scores.
        layers: Target layers, at least one; the first is *the* layer wherever only one is used.
        target: Name of the class input, int64 (N,); -1 asks for the top class.
        chosen: Name of the output that says which class was explained.
        method: The method that the file asks for.
        fusion: How the maps of several layers become one (schema 1.2).
        precision: Of the arithmetic: ``float32``, ``float16``, ``int8``, or `INT8_IN_HALF`.
        source: Where the weights came from.
        tail: The file that runs the tail alone, where one was written (schema 1.1).
        tools: Versions of what made the file, by name.
        extra: Unknown sections, kept as they were read.

    >>> spec = CamSpec.from_json(text)                                  # doctest: +SKIP
    >>> spec.layer.name, spec.layer.grid                                # doctest: +SKIP
    ('_swish:1', (7, 7))
    """

    schema: str = SCHEMA
    input: InputSpec
    output: OutputSpec
    layers: tuple[LayerSpec, ...]
    target: str = "cam_target"
    chosen: str = "cam_class"
    method: MethodSpec = field(default_factory=MethodSpec)
    fusion: Literal["gate", "product", "mean", "max", "guided"] = "gate"
    precision: str = "float32"
    source: SourceSpec
    tail: TailSpec | None = None
    tools: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _FORMAT.check_schema(self.schema)
        _FORMAT.check_types(self)
        if not self.layers:
            raise SpecError("CamSpec layers: expected at least one target layer")
        self.input.validate()
        self.output.validate()
        for layer in self.layers:
            layer.validate()
        if self.tail is not None:
            self.tail.validate()
        for what in ("name", "activations", "gradients"):
            names = [getattr(layer, what) for layer in self.layers]
            if len(set(names)) < len(names):
                raise SpecError(f"CamSpec layers: two of them have the same {what}: {', '.join(map(repr, names))}")
        self._check_names()

    def _check_names(self) -> None:
        """No value without a name, and no output that is said to be two things."""
        values = [value for layer in self.layers for value in (layer.name, layer.value)]
        outputs = [self.output.name, *self.added_outputs]
        for name in (self.input.name, self.target, self.output.score, self.method.name, *values, *outputs):
            if not name:
                raise SpecError("CamSpec: an input, an output, a layer or the method has an empty name")
        if self.input.name == self.target:
            raise SpecError(f"CamSpec target: '{self.target}' is the image input too")
        twice = next((name for name in outputs if outputs.count(name) > 1), None)
        if twice is not None:
            raise SpecError(f"CamSpec: the output '{twice}' is named twice, as two different things")

    @property
    def layer(self) -> LayerSpec:
        """The first target layer."""
        return self.layers[0]

    @property
    def added_outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the exporter added to the model's own: the class, then each layer's."""
        return (self.chosen, *(name for layer in self.layers for name in layer.outputs))

    def with_layer(self, name: str) -> CamSpec:
        """A copy with one of its target layers only.

        Args:
            name: Of the layer.

        Returns:
            The copy, with the tail if it is that layer's.

        Raises:
            SpecError: The file has no such target layer.
        """
        expect("with_layer", "name", name, str, error=SpecError)
        for index, layer in enumerate(self.layers):
            if layer.name == name:
                return replace(self, layers=(layer,), tail=self.tail if index == 0 else None)
        raise SpecError(f"the file has no target layer '{name}': it has {', '.join(la.name for la in self.layers)}")

    def with_method(self, name: str, settings: dict[str, Any]) -> CamSpec:
        """A copy that asks for another method.

        Args:
            name: Of the method.
            settings: What differs from its defaults.

        Returns:
            The copy.

        Raises:
            SpecError: An argument is of the wrong kind.
        """
        expect("with_method", "name", name, str, error=SpecError)
        expect("with_method", "settings", settings, Mapping, error=SpecError)
        return replace(self, method=MethodSpec(name=name, settings=dict(settings)))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values. ``layer`` is the first layer, ``more_layers`` the others."""
        data = dump(self)
        extra = data.pop("extra")
        layers = data.pop("layers")
        for layer in layers:  # older versions know no such keys
            for key in ("detail", "rivals"):
                if layer[key] is None:
                    del layer[key]
        first, *others = layers
        data["layer"] = first
        if others:
            data["more_layers"] = others
        else:
            del data["fusion"]  # there is nothing to fuse, and older versions know no such key
        if self.input.photo_range is None:
            del data["input"]["photo_range"]
        if self.tail is None:
            del data["tail"]
        return {**extra, **data}

    def to_json(self) -> str:
        """What is written into the file.

        Returns:
            One line of JSON.
        """
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_dict(cls, data: Any) -> CamSpec:
        """Read what `to_dict` wrote.

        Args:
            data: Plain JSON values.

        Returns:
            The spec, validated.

        Raises:
            SpecError: A key is missing or wrong, which the message names, or the schema is too new.
        """
        if not isinstance(data, dict):
            raise SpecError(f"CamSpec: expected a JSON object, got {type(data).__name__}")
        _FORMAT.check_schema(data.get("schema"))
        data = dict(data)
        if "layer" not in data:
            raise SpecError("CamSpec layer: missing")
        more = data.pop("more_layers", [])
        if not isinstance(more, list):
            raise SpecError("CamSpec more_layers: expected a list")
        data["layers"] = [data.pop("layer"), *more]
        known = {f.name for f in fields(cls)}
        extra = {k: data.pop(k) for k in list(data) if k not in known or k == "extra"}
        return _FORMAT.load(cls, {**data, "extra": extra})

    @classmethod
    def from_json(cls, text: str) -> CamSpec:
        """Read what `to_json` wrote.

        Args:
            text: JSON.

        Returns:
            The spec, validated.

        Raises:
            SpecError: The text is not JSON, a key is missing or wrong, or the schema is too new.
        """
        return cls.from_dict(parse_json(text, "CamSpec", SpecError))
