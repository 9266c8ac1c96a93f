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
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ..checks import expect
from ..errors import SpecError
from ..json_reader import parse_json
from .columns_spec import ColumnsSpec
from .fixed_spec import FixedTargetSpec
from .fused_spec import FusedSpec
from .input_spec import SAME_SHAPE, FoldedSpec, InputSpec, ResizeSpec
from .layer_spec import DetailSpec, LayerSpec
from .output_spec import OutputSpec
from .records import Format, dump

__all__ = [
    "INT8_IN_HALF",
    "METADATA_KEY",
    "SAME_SHAPE",
    "SCHEMA",
    "CamSpec",
    "ColumnsSpec",
    "DetailSpec",
    "FixedTargetSpec",
    "FoldedSpec",
    "FusedSpec",
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
SCHEMA = "1.4"

_FORMAT = Format("CamSpec", SpecError, SCHEMA, "upgrade cfcam, or export the model again with this version")


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
        target: Name of the class input, int64 (N,), or (N, K) with `columns`; -1 asks for the top class. With
            `fixed_target` a constant inside the graph.
        chosen: Name of the output that says which class was explained.
        columns: Where several classes of each image are explained in one inference: how many (schema 1.4).
        fixed_target: The one class that the file explains, where it takes no class (schema 1.4); None for a file with a
            class input.
        method: The method that the file asks for.
        fusion: How the maps of several layers become one (schema 1.2).
        precision: Of the arithmetic: ``float32``, ``float16``, ``int8``, or `INT8_IN_HALF`.
        source: Where the weights came from.
        tail: The file that runs the tail alone, where one was written (schema 1.1).
        fused: What the file says of its finished maps, where the method is part of the graph (schema 1.4); None for a
            file that gives out activations and gradients.
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
    columns: ColumnsSpec | None = None
    fixed_target: FixedTargetSpec | None = None
    method: MethodSpec = field(default_factory=MethodSpec)
    fusion: Literal["gate", "product", "mean", "max", "guided"] = "gate"
    precision: str = "float32"
    source: SourceSpec
    tail: TailSpec | None = None
    fused: FusedSpec | None = None
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
        if self.columns is not None:
            self.columns.validate(self.output.classes)
        if self.fixed_target is not None:
            self.fixed_target.validate(self.output.classes)
            if self.columns is not None:
                raise SpecError("CamSpec fixed_target: a file with `columns` is told the classes of each image")
        if self.fused is not None:
            self.fused.validate()
            if len(self.layers) > 1:
                raise SpecError(f"CamSpec fused: a fused file has one target layer, got {len(self.layers)}")
        for what in ("name", "activations", "gradients"):
            names = [getattr(layer, what) for layer in self.layers]
            if len(set(names)) < len(names):
                raise SpecError(f"CamSpec layers: two of them have the same {what}: {', '.join(map(repr, names))}")
        self._check_names()

    def _check_names(self) -> None:
        """No value without a name, and no output that is said to be two things."""
        values = [value for layer in self.layers for value in (layer.name, layer.value)]
        inner = () if self.fused is None else self.inner_values
        outputs = [self.output.name, *self.added_outputs, *inner]
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
        """Names of the outputs that the exporter added to the model's own: the class, then each layer's, or the map."""
        return (self.chosen, *(self.inner_values if self.fused is None else self.fused.outputs))

    @property
    def inner_values(self) -> tuple[str, ...]:
        """Names of what maps are made of: activations, gradients and so on; outputs unless the file is fused."""
        return tuple(name for layer in self.layers for name in layer.outputs)

    @property
    def by_class(self) -> frozenset[str]:
        """Names of the values that depend on the class: with `columns`, their second axis is that of the classes."""
        found = {self.chosen, *(n for layer in self.layers for n in (layer.gradients, layer.rivals) if n)}
        return frozenset(found if self.fused is None else {*found, *self.fused.by_class})

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what the file takes: the image, and the class unless that is part of the graph."""
        return (self.input.name,) if self.fixed_target is not None else (self.input.name, self.target)

    @property
    def two_stage(self) -> CamSpec:
        """The spec of the same file without its finished maps, as if what they are made of were given out, and with a
        class input."""
        return replace(self, fused=None, fixed_target=None)

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
        if self.input.folded is None:
            del data["input"]["folded"]
        for key in ("tail", "columns", "fixed_target", "fused"):
            if data[key] is None:
                del data[key]
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
