"""How cfcam's cost grows: the method over channels and maps, `explain` over batch, classes and image size."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cfcam.runtime import Explainer, cam_map
from cfcam.runtime.bench.sampling import sample
from peers_tools import image_of

__all__ = ["SIZES", "measure"]

CHANNELS = (64, 256, 512, 1024, 2048)
MAPS = (7, 14, 28, 56)
BATCHES = (1, 4, 16, 32)
CLASSES = (1, 2, 5, 16)
SIZES = (224, 320, 448, 640)
NETWORK = "mobilenet_v2"


def measure(folder: Path, rounds: int, sizes: Sequence[int]) -> dict[str, Any]:
    """Milliseconds of CPU time: the method alone, and `explain` of `NETWORK`."""
    return {
        "channels": {str(c): _method(c, 7, rounds) for c in CHANNELS},
        "maps": {str(side): _method(256, side, rounds) for side in MAPS},
        **_explained(folder, rounds),
        "sizes": {str(size): _sized(folder, size, rounds) for size in sizes},
    }


def _milliseconds(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    for run in runs.values():
        run()
    return {k: float(np.min(v)) for k, v in sample(runs, rounds=rounds, clock=time.process_time_ns).items()}


def _method(channels: int, side: int, rounds: int) -> float:
    """The default method on one layer: sparse blobs, of which each channel holds one, and gradients without order."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    places = random.uniform(0, 1, (channels, 2, 1, 1))
    activations = np.exp(-(((y - places[:, 0]) ** 2 + (x - places[:, 1]) ** 2) * 20)).astype(np.float32)
    gradients = random.standard_normal((channels, 1, 1)).astype(np.float32) + np.zeros_like(activations)
    run = {"": lambda: cam_map(activations, gradients, settings={"last": True}, size=224)}
    return _milliseconds(run, rounds)[""]


def _explained(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Per image of a batch, and for several classes of an image."""
    path = folder / f"{NETWORK}.classes.cam.onnx"
    _export(path, 224)
    with Explainer(path, threads=1) as explainer:
        batches, classes = {}, {}
        for count in BATCHES:
            images = list(image_of(count=count))
            run = {"": lambda images=images: explainer.explain_batch(images)}
            batches[str(count)] = _milliseconds(run, max(3, rounds // count))[""] / count
        prepared = explainer.prepare(image_of()[0])
        for count in CLASSES:
            run = {"": lambda count=count: explainer.explain_top(prepared, count)}
            classes[str(count)] = _milliseconds(run, rounds)[""]
    return {"batch": batches, "classes": classes}


def _sized(folder: Path, size: int, rounds: int) -> dict[str, float]:
    from explain_cost import session

    path = folder / (f"{NETWORK}.cam.onnx" if size == 224 else f"{NETWORK}.{size}.cam.onnx")
    _export(path, size)
    opened = session(_plain_of(path))
    feed = {opened.get_inputs()[0].name: image_of(size)}
    with Explainer(path, threads=1) as explainer:
        prepared = explainer.prepare(image_of(size)[0])
        runs = {"plain": lambda: opened.run(None, feed), "explain": lambda: explainer.explain(prepared)}
        return _milliseconds(runs, rounds)


def _plain_of(path: Path) -> Path:
    return path.with_name(path.name.replace(".cam.onnx", ".onnx"))


def _export(path: Path, size: int) -> None:
    """The network at an input of `size` x `size`, where its files are not there yet."""
    from cfcam.export import export_torch, preset
    from overhead import build

    if not path.exists() or not _plain_of(path).exists():
        options = {"preprocessing": preset("torchvision").override(mode="stretch"), "keep_plain": _plain_of(path)}
        classes = "free" if "classes" in path.name else None
        export_torch(build(NETWORK), size, path, classes_per_image=classes, **options)
