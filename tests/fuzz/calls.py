"""The public functions, called with what they are not made for."""

from __future__ import annotations

import functools
import importlib
import random
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cfcam import calibration, export, runtime
from cfcam.export.options import ExportOptions
from PIL import Image
from tiny_model import WITH_TAIL, build

from .common import refused_cleanly

__all__ = ["call"]


class _Unwilling:
    """Says nothing about itself, and does nothing that it is asked."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no")


def _closed() -> Image.Image:
    image = Image.new("RGB", (8, 8))
    image.close()
    return image


_WRONG: list[Callable[[], Any]] = [
    *(lambda value=value: value for value in (None, True, 0, 3, -1, 10**9, 10**20, 10**400, 2.5, 1j, np.int64(3))),
    *(lambda value=value: value for value in (float("nan"), float("inf"), "", "x", "\udcff", "a\0b", "y" * 5000)),
    *(lambda value=value: value for value in (b"bytes", (), (1,), (1, 2), ("a", "b"), (10**9, 10**9), int, len)),
    *(lambda value=value: value for value in (Path("x"), Path("/"), "/", "\x1b[2J", "top", "cfcam", "scorecam")),
    lambda: [],
    lambda: [None],
    lambda: [[1, 2], [3]],
    lambda: {},
    lambda: {"a": 1},
    lambda: {3: object()},
    lambda: {"copies": 10**9},
    lambda: set(),
    object,
    _Unwilling,
    lambda: lambda *_: None,
    lambda: iter([1]),
    _closed,
    lambda: Image.new("F", (3, 3)),
    lambda: np.zeros(()),
    lambda: np.zeros((0, 3, 32, 48), np.float32),
    lambda: np.zeros((1, 3, 32, 48)),
    lambda: np.zeros((1, 3, 32, 48), np.float32),
    lambda: np.full((1, 3, 32, 48), np.nan, np.float32),
    lambda: np.zeros((3, 32, 48), np.complex64),
    lambda: np.array(["a", None], object),
    lambda: np.array("text"),
    lambda: np.zeros((4, 4), np.uint8),
    lambda: np.zeros((4, 4, 0), np.uint8),
    lambda: np.zeros((8, 4, 4), np.float32),
    lambda: np.broadcast_to(np.float32(0), (10**6, 3, 32, 48))[:0],
    lambda: np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    lambda: np.ma.masked_all((3, 3)),
]


@functools.cache
def _model() -> Path:
    folder = Path(tempfile.mkdtemp())
    build(WITH_TAIL["tail"], folder / "x.cam.onnx", folder / "x.tail.onnx")
    return folder / "x.cam.onnx"


@functools.cache
def _calls() -> list[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Name, function, and arguments that are right."""
    model = str(_model())
    explainer = runtime.Explainer(model)
    engine = runtime.open_engine(model)
    photo = Image.new("RGB", (60, 50), "red")
    found = explainer.explain(photo)
    tensors = np.zeros((1, 3, 32, 48), np.float32)
    layer = np.random.default_rng(0).random((8, 4, 4), np.float32)
    spec = runtime.read_spec(model)
    part = calibration.LayerSample(name="x", activations=layer, gradients=layer)
    scale = {"scale": 1 / 255, "mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0), "ratio": 0.9, "shorter": 300}
    parts = {name: getattr(spec, name) for name in ("input", "output", "layers", "source")}
    frame = {"photo": (60, 50), "resized": (60, 50), "offset": (0, 0), "input": (48, 32)}
    shapes = {"layer": None, "grid": None, "score": None, "input_size": (32, 32), "labels": ["a"], "label_offset": 0}
    asked = {"image": photo, "target": 1, "method": None, "settings": None, "smooth": None, "progress": None}
    asked["sess"] = None
    batch = {**asked, "images": [photo], "targets": [1]}
    del batch["image"], batch["target"]
    opened = {"provider": None, "allow_fallback": None, "threads": None, "options": None, "manifest": None}
    explain = {"engine": None, "probe_batch": 4, "layer": None, "fusion": None, "max_pixels": None}
    importlib.import_module("cfcam.export.onnx_export")
    return [
        ("Explainer", _opening, {"path": model, **opened, **explain}),
        ("explain", explainer.explain, asked),
        ("explain_batch", explainer.explain_batch, batch),
        ("maps", explainer.maps, {"images": tensors, "targets": None, "method": "gradcam", "settings": None}),
        ("tensors", explainer.tensors, {"images": tensors, "targets": [1]}),
        ("probabilities", explainer.probabilities, {"images": tensors}),
        ("prepare", explainer.prepare, {"image": photo}),
        ("resolve_method", explainer.resolve_method, {"method": "cfcam", "settings": {}}),
        ("warm_up", explainer.warm_up, {"n": 1, "batch": 1}),
        ("to_image", found.to_image, {"max_side": 10}),
        ("overlay", found.overlay, {"max_side": 10}),
        ("save", found.save, {"path": str(_model().with_name("why.npy"))}),
        ("cam_map", runtime.cam_map, {"activations": layer, "gradients": layer, "method": "gradcam", "size": 4}),
        ("open_image", runtime.open_image, {"source": photo, "max_pixels": None}),
        ("find_images", runtime.find_images, {"sources": ["x.jpg"]}),
        ("file_sha256", runtime.file_sha256, {"path": model}),
        ("read_spec", runtime.read_spec, {"path": model}),
        ("read_model_info", runtime.read_model_info, {"path": model}),
        ("open_engine", _engine, {"path": model, **opened}),
        ("infer", engine.infer, {"inputs": {"image": tensors, "cam_target": np.array([0])}, "outputs": None}),
        ("method_names", runtime.method_names, {"kind": "rule"}),
        ("register_rule", runtime.register_rule, {"name": "x", "settings": None}),
        ("EngineOptions", runtime.EngineOptions, {"provider": "cpu", "threads": 1, "session": {}, "device_id": 0}),
        ("EngineOptions.from_dict", runtime.EngineOptions.from_dict, {"data": {}}),
        ("Smoothing", runtime.Smoothing, {"copies": 1, "noise": 0.1, "seed": 0}),
        ("Frame", runtime.Frame, frame),
        ("Frame.fit", runtime.Frame.fit, {"photo": (60, 50), "spec": spec.input}),
        ("place", found.frame.place, {"map": found.map, "max_side": 10}),
        ("view_size", found.frame.view_size, {"max_side": 10}),
        ("CamSpec", runtime.CamSpec, {**parts, "schema": "1.0", "tools": {}}),
        ("CamSpec.from_dict", runtime.CamSpec.from_dict, {"data": spec.to_dict()}),
        ("CamSpec.from_json", runtime.CamSpec.from_json, {"text": spec.to_json()}),
        ("with_layer", spec.with_layer, {"name": "relu"}),
        ("with_method", spec.with_method, {"name": "cfcam", "settings": {}}),
        ("Manifest.read", runtime.Manifest.read, {"product": model}),
        ("Manifest.from_dict", runtime.Manifest.from_dict, {"data": {}}),
        ("preset", export.preset, {"name": "lite"}),
        ("Preprocessing", export.Preprocessing, {**scale, "mode": "shorter", "crop": "center"}),
        (
            "ExportOptions",
            ExportOptions,
            {**shapes, "name": None, "opset": 18, "with_tail": False},
        ),
        ("export_onnx", export.export_onnx, {"path": "x.onnx", "output": "y.onnx", "options": None, **shapes}),
        ("measure_part", calibration.measure_part, {"sample": part, "settings": None, "random_groupings": 1}),
        ("measure_parts", calibration.measure_parts, {"samples": [part], "settings": None}),
        ("pearson", calibration.pearson, {"map_a": layer, "map_b": layer}),
        ("class_sensitivity", calibration.class_sensitivity, {"map_a": layer, "map_b": layer}),
    ]


def _opening(**arguments: Any) -> None:
    with runtime.Explainer(**arguments):
        pass


def _engine(**arguments: Any) -> None:
    with runtime.open_engine(**arguments):
        pass


def call(chance: random.Random, folder: Path) -> None:
    """One or two arguments are wrong: there is an answer or a sentence, and never somebody else's error."""
    name, function, right = chance.choice(_calls())
    arguments = dict(right)
    for key in chance.sample(sorted(right), min(len(right), chance.choice([1, 1, 2]))):
        arguments[key] = chance.choice(_WRONG)()
    with warnings.catch_warnings(), refused_cleanly():
        warnings.simplefilter("ignore")
        try:
            function(**arguments)
        except runtime.CfcamError:
            raise
        except Exception as error:
            raise AssertionError(f"{name}({', '.join(sorted(arguments))}): {type(error).__name__}: {error}") from error
