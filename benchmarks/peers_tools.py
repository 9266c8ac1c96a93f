"""The tools that `peers.py` compares: from a ready tensor to one map, each as its own documentation says.

Every tool is a function of (name of the network, folder with its files) that gives a call without arguments. Tools by
PyTorch take the network that was exported, in eval mode. `NotFor` says why a tool has no row for a network.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

__all__ = ["NETWORKS", "SLOW", "TOOLS", "Call", "NotFor", "image_of"]

Call = Callable[[], object]

NETWORKS = ("resnet50", "efficientnet_lite0", "mobilenet_v2", "vit_tiny")
#: The module whose output the tools by PyTorch explain: cfcam's target layer, or in EfficientNet-Lite0 the module
#: before its activation, which is one module for all layers, so that a hook cannot tell them apart.
_LAYERS = {
    "resnet50": "layer4",
    "efficientnet_lite0": "_bn1",
    "mobilenet_v2": "features",
    "vit_tiny": "blocks.10",
}


class NotFor(Exception):
    """A tool that does not take a network, and why."""


def image_of(size: int = 224, count: int = 1) -> np.ndarray:
    """Noise, float32 (count, 3, size, size)."""
    return np.random.default_rng(0).standard_normal((count, 3, size, size), dtype=np.float32)


def _session(path: Path) -> Any:
    import onnxruntime

    if not path.exists():
        raise NotFor("the export refuses it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def plain(network: str, folder: Path) -> Call:
    opened = _session(folder / f"{network}.onnx")
    feed = {opened.get_inputs()[0].name: image_of()}
    return lambda: opened.run(None, feed)


def two_stage(network: str, folder: Path) -> Call:
    from cfcam.runtime import Explainer

    explainer = Explainer(folder / f"{network}.cam.onnx", threads=1)
    prepared = explainer.prepare(image_of()[0])
    return lambda: explainer.explain(prepared)


def integers(network: str, folder: Path) -> Call:
    """The INT8 product, as `cfcam build` makes it for CPUs."""
    from cfcam.runtime import Explainer

    path = folder / f"{network}.int8.cam.onnx"
    if not path.exists():
        raise NotFor("no integer kernels for its operators")
    explainer = Explainer(path, threads=1)
    prepared = explainer.prepare(image_of()[0])
    return lambda: explainer.explain(prepared)


def _fused(form: str) -> Callable[[str, Path], Call]:
    def opened(network: str, folder: Path) -> Call:
        session = _session(folder / f"{network}.{form}.cam.onnx")
        feed = {session.get_inputs()[0].name: image_of(), "cam_target": np.array([-1])}
        return lambda: session.run(None, feed)

    return opened


def _module(network: str) -> tuple[Any, Any, Any]:
    """The network by PyTorch with random weights, the module that is explained, and the image.

    It is built without anything of cfcam, whose exporter would add to the memory and the start of the others.
    """
    import torch
    from torchvision_compat import import_torchvision

    torch.set_num_threads(1)
    models = import_torchvision().models
    if network == "efficientnet_lite0":
        module = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    elif network == "vit_tiny":
        module = importlib.import_module("timm").create_model("vit_tiny_patch16_224", pretrained=False)
    else:
        module = getattr(models, network)(weights=None)
    module.eval()
    return module, module.get_submodule(_LAYERS[network]), torch.from_numpy(image_of())


def forward(network: str, folder: Path) -> Call:
    import torch

    module, _, image = _module(network)

    def run() -> object:
        with torch.no_grad():
            return module(image)

    return run


def _grad_cam(method: str) -> Callable[[str, Path], Call]:
    def opened(network: str, folder: Path) -> Call:
        module, layer, image = _module(network)
        package = importlib.import_module("pytorch_grad_cam")
        as_grid = _grid_of_tokens if network == "vit_tiny" else None
        cam = getattr(package, method)(model=module, target_layers=[layer], reshape_transform=as_grid)
        if hasattr(cam, "batch_size"):
            cam.batch_size = 16
        return lambda: cam(input_tensor=image, targets=None)

    return opened


def _grid_of_tokens(tokens: Any) -> Any:
    """(N, 1 + 196, C) as (N, C, 14, 14), as pytorch-grad-cam's documentation has it."""
    return tokens[:, 1:].reshape(len(tokens), 14, 14, -1).permute(0, 3, 1, 2)


def _torch_cam(method: str) -> Callable[[str, Path], Call]:
    def opened(network: str, folder: Path) -> Call:
        if network == "vit_tiny":
            raise NotFor("takes no tokens")
        import torch

        module, layer, image = _module(network)
        cam = getattr(importlib.import_module("torchcam.methods"), method)(module, target_layer=layer)

        def run() -> object:
            scores = module(image)
            (found,) = cam(scores.argmax(dim=1).tolist(), scores)
            return torch.nn.functional.interpolate(found[:, None], (224, 224), mode="bilinear")

        return run

    return opened


def captum(network: str, folder: Path) -> Call:
    if network == "vit_tiny":
        raise NotFor("takes no tokens")
    module, layer, image = _module(network)
    attr = importlib.import_module("captum.attr")
    cam = attr.LayerGradCam(module, layer)

    def run() -> object:
        target = module(image).argmax(dim=1)
        found = cam.attribute(image, target=target, relu_attributions=True)
        return attr.LayerAttribution.interpolate(found, (224, 224), interpolate_mode="bilinear")

    return run


def occlusion(network: str, folder: Path) -> Call:
    """Squares of 32 pixels every 16 pixels, 196 inferences."""
    module, _, image = _module(network)
    attribution = importlib.import_module("captum.attr").Occlusion(module)

    def run() -> object:
        target = module(image).argmax(dim=1)
        return attribution.attribute(image, (3, 32, 32), strides=(3, 16, 16), target=target, perturbations_per_eval=16)

    return run


#: Label -> the tool. Plain inference is what all are compared with.
TOOLS: dict[str, Callable[[str, Path], Call]] = {
    "plain ONNX Runtime, no map": plain,
    "cfcam, two-stage": two_stage,
    "cfcam, two-stage, INT8": integers,
    "cfcam, fused": _fused("cpu"),
    "cfcam, fused, static": _fused("static"),
    "PyTorch, no map": forward,
    "pytorch-grad-cam GradCAM": _grad_cam("GradCAM"),
    "pytorch-grad-cam EigenCAM": _grad_cam("EigenCAM"),
    "pytorch-grad-cam ScoreCAM": _grad_cam("ScoreCAM"),
    "torch-cam GradCAM": _torch_cam("GradCAM"),
    "torch-cam LayerCAM": _torch_cam("LayerCAM"),
    "torch-cam ScoreCAM": _torch_cam("ScoreCAM"),
    "Captum LayerGradCam": captum,
    "Captum Occlusion": occlusion,
}
#: Tools with an inference per channel or per square, which run once and not in rounds.
SLOW = ("pytorch-grad-cam ScoreCAM", "torch-cam ScoreCAM", "Captum Occlusion")
