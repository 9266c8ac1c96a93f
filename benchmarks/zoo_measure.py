"""One architecture of the zoo: built, calibrated, exported, and judged.

The judge is the exporter's own proof (`cfcam.export.proof`), on photos; what is added here is that the network is worth
the trouble (`assert_spread`), what TensorRT's parser says, and what an explained inference costs.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from cfcam.export import ExportReport, export_torch
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt.build import parse_onnx
from cfcam.runtime.errors import CfcamError, MissingDependencyError
from numpy.typing import NDArray
from zoo_networks import Network

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from calibrated import assert_spread, calibrate, photo_batch

__all__ = ["Layer", "measure_network", "one_line"]

# Photos that calibrate, and those among them that prove (a number that no layer has would be
# too many; the proof's own images take care of merged sizes).
_CALIBRATED_ON, _PROVED_ON = 8, 5

#: Column -> the check of the proof whose figure it shows.
_FIGURES = {
    "float64": "gradient in float64 against autograd",
    "share": "gradient in float32, share of the allowed error (median image)",
    "differences": "gradient in float64 against differences",
}


@dataclass
class Layer:
    """One row: a network's last or middle layer.

    shape: (C, H, W). error: one sentence, None when the file was written and nothing is wrong with it. seconds: of the
    export. float64: error of the method's gradient in float64 against autograd, as a share of its largest value. share:
    of the error that float32 is allowed, median image. differences: relative error of the file's gradient in float64
    against differences of its scores. tensorrt: "parsed" or "refused". ratio, spread, control: explained / plain time,
    and plain / plain.
    """

    network: str
    family: str
    position: str
    layer: str
    shape: tuple[int, ...] | None = None
    error: str | None = None
    seconds: float | None = None
    float64: float | None = None
    share: float | None = None
    differences: float | None = None
    tensorrt: str | None = None
    ratio: float | None = None
    spread: float | None = None
    control: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layer:
        return cls(**values)


def measure_network(
    network: Network,
    folder: Path,
    *,
    positions: Sequence[str] = ("last", "middle"),
    parse: bool = True,
    rounds: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Layer]:
    """Export `network` in each of `positions`; files go to `folder`.

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
        try:
            _measure_layer(row, module, network.size, folder, images, parse, rounds, progress)
        except Exception as error:
            row.error = one_line(error)
    return rows


def _measure_layer(
    row: Layer,
    module: torch.nn.Module,
    size: int,
    folder: Path,
    images: torch.Tensor,
    parse: bool,
    rounds: int,
    progress: Callable[[str], None],
) -> None:
    progress(f"{row.position}: export")
    plain = folder / f"{row.network}.plain.onnx" if rounds else None
    path = folder / f"{row.network}.{row.position}.cam.onnx"
    started = time.perf_counter()
    report = export_torch(
        module, size, path, layer=row.layer or None, images=images[:_PROVED_ON].numpy(), keep_plain=plain
    )
    row.seconds = time.perf_counter() - started
    spec = report.spec.layer
    row.layer, row.shape = spec.name, (spec.channels, *spec.grid)
    _read_proof(row, report)
    try:
        _demand_spread(path, images)
    except AssertionError as error:
        row.error = f"the calibrated network proves nothing: {one_line(error)}"
    if parse:
        progress(f"{row.position}: TensorRT")
        _parse(row, path)
    if plain is not None:
        progress(f"{row.position}: timing")
        _time(row, plain, path, rounds)


def _read_proof(row: Layer, report: ExportReport) -> None:
    found = {check.name: check.value for check in report.proof.checks}
    for column, check in _FIGURES.items():
        setattr(row, column, found[check])


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


def _parse(row: Layer, path: Path) -> None:
    try:
        found = parse_onnx(path)
    except MissingDependencyError:
        return  # not installed here: the column says so
    row.tensorrt = "parsed" if found else "refused"
    if not found:
        row.error = f"TensorRT refuses the file ({found})"


def _time(row: Layer, plain: Path, path: Path, rounds: int) -> None:
    from overhead import measure

    found = measure(plain, path, 1, rounds)
    row.ratio, row.spread, row.control = found.ratio, found.ratio_spread, found.control


def one_line(error: BaseException) -> str:
    """The first line of what `error` says, with its type when it is not one of ours."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, CfcamError) else f"{type(error).__name__}: {text}"
