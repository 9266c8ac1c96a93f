"""The two files that are compared: opened, checked to belong together, and asked for maps."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import normalise
from ...runtime.contract.spec import CamSpec
from ...runtime.errors import MethodError
from ...runtime.explainer import Explainer
from ...runtime.finished import from_file
from ...runtime.inference import Tensors
from ...runtime.methods import CamResult, Method
from ...runtime.methods.cfcam.method import CfcamSettings, group_channels
from ...runtime.methods.layer_fusion import form_of, fuse_layers, fused_grid, run_on_layers
from ...runtime.methods.numerics.scaling import safe_float32
from .heat import Heat
from .thresholds import Role, VerifyError

__all__ = ["FUSED", "ComparedFile", "LayerMap", "Place", "open_files"]

#: Name of the map of all layers together.
FUSED = "fused"

Source = str | os.PathLike[str] | Explainer


@dataclass(frozen=True)
class Place:
    """A map that is compared: a layer's, or the fused one. grid: (h, w), the detail's where that guides it."""

    name: str
    role: Role
    grid: tuple[int, int]


@dataclass(frozen=True, eq=False)
class LayerMap:
    """heat: at the input's size. empty: why there is none, or None. labels: of channels, None for the fused map."""

    heat: Heat
    empty: str | None
    labels: NDArray[np.int64] | None


class ComparedFile:
    """A file, and the rule that is run on what it computes: the same for both files. A fused file has run it itself."""

    def __init__(self, explainer: Explainer, method: Method, settings: Any) -> None:
        self.explainer = explainer
        self.spec: CamSpec = explainer.spec
        self.method, self.settings = method, settings
        layers = self.spec.layers
        self.form = form_of(method, settings, layers, self.spec.fusion)
        grids = [one.grid for one in layers]
        if self.form is not None and self.form.grid is not None:
            grids[0] = self.form.grid
        pairs = zip(layers, grids, strict=True)
        self.places = tuple(Place(one.name, "last" if one.pooled else "middle", grid) for one, grid in pairs)
        if len(layers) > 1:
            self.places += (Place(FUSED, "fused", fused_grid(grids)),)

    @property
    def has_contrast(self) -> bool:
        """Whether the rivals' gradient has a part in the maps."""
        return self.form is not None and self.form.contrast > 0

    @property
    def takes_contrast_off(self) -> bool:
        """Whether there are maps at contrast 0: the contrast of a fused file is a constant of its graph."""
        return self.spec.fused is None or not self.has_contrast

    def maps(self, raw: Tensors, row: int, *, groups: bool = False, contrast: bool = True) -> list[LayerMap]:
        """A map for every place of image `row`.

        groups: with the labels of channels, whatever the method; a fused file does not tell them. contrast: False for
        maps at contrast 0, where the file `takes_contrast_off`.
        """
        if raw.finished is not None:
            return [self._map(from_file(raw.finished, row, self.form, int(raw.classes[row])), None)]
        settings = self.settings if contrast or not self.has_contrast else replace(self.settings, contrast=0.0)
        results = run_on_layers(self.method, settings, self.spec.layers, raw.layers, row, self.spec.fusion)
        maps = [
            self._map(result, _labels(result, layer.activations[row]) if groups else None)
            for result, layer in zip(results, raw.layers, strict=True)
        ]
        if len(results) > 1:
            names = [layer.name for layer in self.spec.layers]
            maps.append(self._map(fuse_layers(results, self.method.fusion or self.spec.fusion, names), None))
        return maps

    def _map(self, result: CamResult, labels: NDArray[np.int64] | None) -> LayerMap:
        size = (self.spec.input.height, self.spec.input.width)
        values = np.zeros(size, np.float32) if result.empty else normalise(result.map, size)
        heat = Heat(values)
        return LayerMap(heat, result.empty or ("the map is zero everywhere" if heat.empty else None), labels)


def _labels(result: CamResult, activations: NDArray[np.float32]) -> NDArray[np.int64]:
    """cfcam's own grouping, made here for methods that have none."""
    if result.grouping is not None:
        return result.grouping.labels
    return group_channels(safe_float32(activations)[0], CfcamSettings()).labels


@contextmanager
def open_files(
    candidate: Source,
    reference: Source,
    *,
    method: str | None,
    settings: Any,
    layer: str | None,
    provider: str | None,
    allow_fallback: bool,
    threads: int | None,
) -> Iterator[tuple[ComparedFile, ComparedFile]]:
    """(candidate, reference), both with the same method and settings; closes what it has opened.

    The reference runs on the CPU, the candidate on `provider`, or where that is None as its manifest says. Raises
    `VerifyError` when the two do not belong together.
    """
    with ExitStack() as stack:

        def opened(source: Source, **options: Any) -> Explainer:
            if isinstance(source, Explainer):
                return source
            return stack.enter_context(Explainer(source, layer=layer, threads=threads, **options))

        base = opened(reference, provider="cpu")
        other = opened(candidate, provider=provider, allow_fallback=allow_fallback or None)
        _check_pair(other, base, method)
        # What is a constant of one file's graph is what the other file is to do.
        leading = other if base.spec.fused is None and other.spec.fused is not None else base
        chosen, options = leading.resolve_method(method, settings)
        if chosen.kind != "rule":
            raise MethodError(
                f"method '{chosen.name}' runs the model again and again: compare the files by a method that "
                "works from one inference, with --method cfcam for instance"
            )
        pair = ComparedFile(other, chosen, options), ComparedFile(base, chosen, options)
        _check_forms(*pair)
        yield pair


def _check_pair(candidate: Explainer, reference: Explainer, method: str | None) -> None:
    a, b = candidate.spec, reference.spec
    for one in (candidate, reference):
        if one.spec.fixed_target is not None:
            raise VerifyError(
                f"{one.path}: has a fixed target, and files are compared by other classes too: give the file that is "
                "exported without --fixed-target"
            )
    if b.precision != "float32":
        raise VerifyError(f"{reference.path}: is {b.precision} itself: verify against the float32 file")
    differences = [
        ("classes", a.output.classes, b.output.classes),
        ("input size (height x width)", _size(a), _size(b)),
        ("target layers", _layers(a), _layers(b)),
    ]
    if a.output.labels is not None and b.output.labels is not None and a.output.classes == b.output.classes:
        pairs = zip(a.output.labels, b.output.labels, strict=True)
        first = next(((i, x, y) for i, (x, y) in enumerate(pairs) if x != y), None)
        if first is not None:
            differences.append((f"label of class {first[0]}", first[1], first[2]))
    fused = [one.fused is not None for one in (a, b)]
    if all(fused):
        differences.append(("method of the graph", _resolved(candidate), _resolved(reference)))
    elif method is None and not any(fused):
        differences.append(("method", _method(a), _method(b)))
    if len(a.layers) > 1:
        differences.append(("fusion", a.fusion, b.fusion))
    for what, value, expected in differences:
        if value != expected:
            hint = " (give --method to compare both by one)" if what == "method" else ""
            raise VerifyError(
                f"{candidate.path} and {reference.path} do not belong together: {what}: {value} and {expected}{hint}"
            )


def _check_forms(candidate: ComparedFile, reference: ComparedFile) -> None:
    """Raise `VerifyError` where the two make maps of two forms: their difference would be the form's."""
    if candidate.form != reference.form:
        plain = json.dumps({"guided": False, "contrast": 0})
        raise VerifyError(
            f"{candidate.explainer.path} and {reference.explainer.path} do not belong together: maps of the one are "
            f"{candidate.form}, of the other {reference.form}; make the candidate again from that file, or compare "
            f"what both have with --settings '{plain}'"
        )


def _size(spec: CamSpec) -> str:
    return f"{spec.input.height} x {spec.input.width}"


def _layers(spec: CamSpec) -> str:
    return ", ".join(f"{one.name} ({one.channels} x {one.grid[0]} x {one.grid[1]})" for one in spec.layers)


def _resolved(explainer: Explainer) -> str:
    """The method of a fused file with all its settings."""
    chosen, settings = explainer.resolve_method()
    return f"{chosen.name} {settings or ''}".strip()


def _method(spec: CamSpec) -> str:
    return f"{spec.method.name} {spec.method.settings or ''}".strip()
