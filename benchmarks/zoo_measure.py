"""One architecture of the zoo: built, calibrated, exported by each route, and judged.

The judge is the exporter's own proof (`cfcam.export.proof.results`), on photos; what is added here is
that the network is worth the trouble (`assert_spread`), that the two routes agree, what
TensorRT's parser says, and what an explained inference costs.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from cfcam.export import ExportError, ExportReport, export_onnx, export_torch
from cfcam.export.proof.results import image_errors
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt.build import parse_onnx
from cfcam.runtime.errors import CfcamError, MissingDependencyError
from numpy.typing import NDArray
from zoo_networks import Network

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from calibrated import assert_spread, calibrate, photo_batch

__all__ = ["ROUTES", "Layer", "Route", "measure_network", "one_line"]

ROUTES = ("traced", "onnx")

# Photos that calibrate, and those among them that prove (a number that no layer has would be
# too many; the proof's own images take care of merged sizes).
_CALIBRATED_ON, _PROVED_ON = 8, 5

# Two correct programs differ by flipped ReLU masks: a few in a thousand in most images, percents
# in the worst. A wrong one differs by its own size.
_AGREE_MEDIAN, _AGREE_WORST = 1e-2, 1e-1

_FLOAT64 = ("gradient in float64 against autograd", "gradient in float64 against differences")
_FLOAT32 = "gradient in float32, share of the allowed error (median image)"


@dataclass
class Route:
    """What came of one route for one layer. error: one sentence, None when the file was written.

    float64: error of the gradient in float64, as a share of its maximum. share: of the error
    that float32 is allowed, median image. tensorrt: "parsed", or the parser's words.
    ratio, spread, control: explained / plain time, and plain / plain.
    """

    error: str | None = None
    seconds: float | None = None
    float64: float | None = None
    share: float | None = None
    tensorrt: str | None = None
    ratio: float | None = None
    spread: float | None = None
    control: float | None = None


@dataclass
class Layer:
    """One row: a network's last or middle layer.

    shape: (C, H, W). routes: by name. agreement: relative difference between the gradients of
    the two routes, median image.
    """

    network: str
    family: str
    position: str
    layer: str
    shape: tuple[int, ...] | None = None
    routes: dict[str, Route] = field(default_factory=dict)
    agreement: float | None = None
    error: str | None = None

    @property
    def errors(self) -> list[str]:
        """Everything that went wrong, each with its route in front."""
        found = [] if self.error is None else [self.error]
        return found + [f"{name} route: {route.error}" for name, route in self.routes.items() if route.error]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layer:
        routes = {name: Route(**route) for name, route in values["routes"].items()}
        return cls(**{**values, "routes": routes})


def measure_network(
    network: Network,
    folder: Path,
    *,
    routes: Sequence[str] = ROUTES,
    positions: Sequence[str] = ("last", "middle"),
    parse: bool = True,
    rounds: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Layer]:
    """Export `network` in each of `positions` by each of `routes`; files go to `folder`.

    parse: ask TensorRT's parser. rounds: of the timing, 0 for none.
    Whatever fails is told in the row that it belongs to.
    """
    rows = [
        Layer(network.name, network.family, position, (network.last if position == "last" else network.middle) or "")
        for position in positions
    ]
    try:
        progress("calibrate")
        images = photo_batch(_CALIBRATED_ON, network.size)
        torch.manual_seed(0)
        module = network.finish(calibrate(network.build(), images)).eval()
    except Exception as error:
        for row in rows:
            row.error = f"cannot be built: {one_line(error)}"
        return rows
    for row in rows:
        progress(f"{row.position}: traced")
        _measure_layer(row, module, network, folder, images, routes, parse, rounds, progress)
    return rows


def _measure_layer(
    row: Layer,
    module: torch.nn.Module,
    network: Network,
    folder: Path,
    images: torch.Tensor,
    routes: Sequence[str],
    parse: bool,
    rounds: int,
    progress: Callable[[str], None],
) -> None:
    proving = images[:_PROVED_ON]
    plain = folder / f"{network.name}.plain.onnx"
    paths: dict[str, Path] = {}
    value = None
    for name in routes:
        progress(f"{row.position}: {name}")
        path = folder / f"{network.name}.{row.position}.{name}.cam.onnx"
        route = row.routes[name] = Route()
        started = time.perf_counter()
        try:
            if name == "traced":
                report = export_torch(
                    module, network.size, path, layer=row.layer or None, images=proving, keep_plain=plain
                )
            else:
                layer = None if row.position == "last" and network.last is None else value
                report = _export_onnx(plain, path, layer, paths.get("traced"), proving)
        except Exception as error:
            route.error = one_line(error)
            continue
        route.seconds = time.perf_counter() - started
        paths[name] = path
        spec = report.spec.layer
        if name == "traced" or row.shape is None:
            row.layer, row.shape, value = spec.name, (spec.channels, *spec.grid), spec.value
        _read_proof(route, report)
        try:
            _demand_spread(path, images)
        except AssertionError as error:
            row.error = f"the calibrated network proves nothing: {one_line(error)}"
        if parse:
            progress(f"{row.position}: {name}, TensorRT")
            _parse(route, path)
        if rounds and plain.exists():
            progress(f"{row.position}: {name}, timing")
            _time(route, plain, path, rounds)
    if set(paths) == set(ROUTES):
        _compare_routes(row, paths, images)


def _export_onnx(plain: Path, path: Path, layer: str | None, traced: Path | None, images: torch.Tensor) -> ExportReport:
    """The plain export, differentiated as a graph. layer: the value's name in the trace; None takes the default."""
    if not plain.exists():
        raise ExportError("there is no plain export to start from, because the traced route failed")
    if layer is not None and traced is not None:
        activations = _run(traced, images, np.full(len(images), -1))["cam_activations"]
        layer = name_in_file(plain, layer, images, activations)
    return export_onnx(plain, path, layer=layer, images=images.numpy())


def name_in_file(plain: Path, name: str, images: torch.Tensor, activations: NDArray[Any]) -> str:
    """What the traced value `name` is called in the plain export.

    The converter keeps most names; where it merged the operator with the next one (a batch norm
    into its convolution), the value is known by what it holds.
    """
    model = onnx.load(plain)
    made = {output for node in model.graph.node for output in node.output}
    if name in made:
        return name
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in sorted(made - known) if value)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.type == "tensor(float)"]
    values = session.run(names, {session.get_inputs()[0].name: images.numpy()})
    for candidate, value in zip(names, map(np.asarray, values), strict=True):
        if value.ndim == 4 and value.shape != activations.shape:
            value = np.moveaxis(value, -1, 1)  # channels last
        cells = math.prod(activations.shape[2:])
        if value.ndim == 3 and value.shape[::2] == activations.shape[:2] and value.shape[1] >= cells:
            value = np.moveaxis(value[:, -cells:], 2, 1).reshape(activations.shape)  # tokens, behind others
        if value.shape == activations.shape and image_errors(value, activations).max() < 1e-4:
            return candidate
    raise ExportError(f"the plain export has no value equal to '{name}': the converter merged it with others")


def _read_proof(route: Route, report: ExportReport) -> None:
    found = {check.name: check.value for check in report.proof.checks}
    route.float64 = next((found[name] for name in _FLOAT64 if name in found), None)
    route.share = found.get(_FLOAT32)


def _run(path: Path, images: torch.Tensor, targets: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image, target = (value.name for value in session.get_inputs())
    values = session.run(None, {image: images.numpy(), target: targets})
    return {output.name: np.asarray(value) for output, value in zip(session.get_outputs(), values, strict=True)}


def _demand_spread(path: Path, images: torch.Tensor) -> None:
    """Fail where outputs, activations or gradients hardly differ: anything would pass there."""
    targets = np.arange(len(images), dtype=np.int64) * 2 % read_spec(path).output.classes
    found = _run(path, images, targets)
    logits = next(v for v in found.values() if v.ndim == 2)
    assert_spread(logits, found["cam_activations"], found["cam_gradients"])


def _compare_routes(row: Layer, paths: dict[str, Path], images: torch.Tensor) -> None:
    targets = np.arange(len(images), dtype=np.int64) % read_spec(paths[ROUTES[0]]).output.classes
    one, other = (_run(paths[name], images, targets)["cam_gradients"] for name in ROUTES)
    if one.shape != other.shape:
        row.error = f"the routes give gradients of different shapes, {one.shape} and {other.shape}"
        return
    errors = image_errors(other, one)
    row.agreement = float(np.median(errors))
    if row.agreement > _AGREE_MEDIAN or errors.max() > _AGREE_WORST:
        row.error = f"the routes disagree by {row.agreement:.1g} of the gradient, {errors.max():.1g} in the worst image"


def _parse(route: Route, path: Path) -> None:
    try:
        found = parse_onnx(path)
    except MissingDependencyError:
        return  # not installed here: the column says so
    route.tensorrt = "parsed" if found else "refused"
    if not found:
        route.error = f"TensorRT refuses the file ({found})"


def _time(route: Route, plain: Path, path: Path, rounds: int) -> None:
    from overhead import measure

    found = measure(plain, path, 1, rounds)
    route.ratio, route.spread, route.control = found.ratio, found.ratio_spread, found.control


def one_line(error: BaseException) -> str:
    """The first line of what `error` says, with its type when it is not one of ours."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, CfcamError) else f"{type(error).__name__}: {text}"
