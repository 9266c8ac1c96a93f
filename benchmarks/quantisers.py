"""Two quantisers for one way: `onnxruntime.quantization`, which cfcam uses, and NVIDIA's ModelOpt.

ModelOpt takes the place of ONNX Runtime's `quantize_static` inside `lower`; all else is the same: plain model,
calibration images, first convolution float, no pairs around the score and behind a pooled layer, bias correction, the
gradient of what comes out, and the gate on photos that did not calibrate. ModelOpt pins a version of onnx of its own,
so it may live in another environment, whose interpreter `--modelopt` names.

    python -m venv modelopt && modelopt/bin/pip install 'nvidia-modelopt[onnx]'
    python benchmarks/quantisers.py --modelopt modelopt/bin/python --images photos/*.jpg -- net.last.cam.onnx ...

Prints a Markdown table; with --engines it also says what TensorRT for RTX makes of each graph.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from cfcam.calibration.repeated_weights import repeated_weights
from cfcam.calibration.verify import VerifyReport, verify
from cfcam.export.precision import Plan, lower
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt.build import build_engine
from cfcam.runtime.errors import CfcamError
from cfcam.runtime.photos.preprocess import prepare
from numpy.typing import NDArray
from onnxruntime.quantization import quantize_static

WORKER = Path(__file__).with_name("quantisers_modelopt.py")
SYMMETRIC = Plan(precision="int8", symmetric=True)
ASYMMETRIC = Plan(precision="int8")
UNCORRECTED_ENTROPY = replace(SYMMETRIC, calibrator="entropy", correct_bias=False)
#: Calibrator -> what ModelOpt calls it.
METHODS = {"minmax": "max", "entropy": "entropy"}


@dataclass(frozen=True)
class Contender:
    """quantiser: "onnxruntime", "outputs" (the same, with pairs on outputs and other operators too), "modelopt"."""

    name: str
    plan: Plan
    quantiser: str = "onnxruntime"


CONTENDERS = [
    Contender("ONNX Runtime, int8 min-max", SYMMETRIC),
    Contender("ModelOpt, int8 min-max", SYMMETRIC, "modelopt"),
    Contender("ONNX Runtime, int8 min-max, pairs on outputs too", SYMMETRIC, "outputs"),
    Contender("ONNX Runtime, int8 min-max, biases as they are", replace(SYMMETRIC, correct_bias=False)),
    Contender("ModelOpt, int8 min-max, biases as they are", replace(SYMMETRIC, correct_bias=False), "modelopt"),
    Contender("ONNX Runtime, int8 entropy", replace(SYMMETRIC, calibrator="entropy")),
    Contender("ModelOpt, int8 entropy", replace(SYMMETRIC, calibrator="entropy"), "modelopt"),
    Contender("ONNX Runtime, int8 entropy, biases as they are", UNCORRECTED_ENTROPY),
    Contender("ModelOpt, int8 entropy, biases as they are", UNCORRECTED_ENTROPY, "modelopt"),
    Contender("ONNX Runtime, uint8 min-max", ASYMMETRIC),
]


class ModelOpt:
    """Stands in for `quantize_static`. kept: folder with what was quantised before, since that takes a while."""

    def __init__(self, python: str, kept: Path, key: str) -> None:
        self._python, self._kept, self._key = python, kept, key

    def __call__(self, plain: str, output: str, reader: Any, **options: Any) -> None:
        method = METHODS[options["calibrate_method"].name.lower()]
        kept = self._kept / f"{self._key}.{method}.onnx"
        if not kept.exists():
            images = self._kept / "images.npy"
            reader.set_range(0, len(reader))
            np.save(images, np.concatenate([next(iter(one.values())) for one in iter(reader.get_next, None)]))
            command = [self._python, str(WORKER), plain, str(images), method, str(kept), *options["nodes_to_exclude"]]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"ModelOpt: {done.stderr.strip()[-600:]}")
        shutil.copyfile(kept, output)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="X.cam.onnx")
    parser.add_argument("--images", required=True, nargs="+", help="photos: every second calibrates, the others judge")
    parser.add_argument("--modelopt", default=sys.executable, metavar="PYTHON", help="interpreter that has ModelOpt")
    parser.add_argument("--engines", action="store_true", help="build each graph with TensorRT for RTX, for 8.6")
    parser.add_argument("--only", default="", help="contenders whose names contain this")
    options = parser.parse_args()
    if subprocess.run([options.modelopt, "-c", "import modelopt.onnx.quantization"], capture_output=True).returncode:
        print(
            f"{options.modelopt} has no nvidia-modelopt[onnx]: install it, or name with --modelopt the interpreter of "
            "an environment that has it",
            file=sys.stderr,
        )
        return 2
    photos = sorted(Path(one) for one in options.images)
    calibrate, judge = photos[::2], photos[1::2]
    print(f"{len(calibrate)} photos calibrate, {len(judge)} judge\n")
    print("| network | quantiser | top-1 | Spearman | IoU | moved peaks | size | twice | engine |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            spec = read_spec(model).input
            images = np.stack([prepare(photo, spec).tensor for photo in calibrate])
            for contender in CONTENDERS:
                if options.only in contender.name:
                    print(_row(model, contender, images, judge, Path(folder), options), flush=True)
    return 0


def _row(
    model: Path,
    contender: Contender,
    images: NDArray[Any],
    judge: Sequence[Path],
    folder: Path,
    options: argparse.Namespace,
) -> str:
    made = folder / "made.cam.onnx"
    start = f"| {model.name.removesuffix('.cam.onnx')} | {contender.name} |"
    quantisers = {
        "onnxruntime": quantize_static,
        "outputs": _on_outputs_too,
        "modelopt": ModelOpt(options.modelopt, folder, model.name),
    }
    try:
        with patch("onnxruntime.quantization.quantize_static", quantisers[contender.quantiser]):
            lower(model, made, contender.plan, [images])
        report = verify(made, model, judge, pictures=0)
    except CfcamError as error:
        return f"{start} {error} |"
    size = made.stat().st_size / model.stat().st_size
    twice = len(repeated_weights(onnx.load(made), [read_spec(made).output.name]))
    engine = _engine(made) if options.engines else ""
    return f"{start} {_figures(report)} | {size:.2f} | {twice} | {engine} |"


def _on_outputs_too(*files: Any, extra_options: dict[str, Any], **options: Any) -> None:
    """ONNX Runtime's quantiser, with pairs on all sides of all that it knows, as it puts them by itself."""
    extra_options = {k: v for k, v in extra_options.items() if k != "OpTypesToExcludeOutputQuantization"}
    quantize_static(*files, extra_options=extra_options, **{**options, "op_types_to_quantize": None})


def _figures(report: VerifyReport) -> str:
    place = report.to_dict(photos=False)["layers"][0]["measures"]
    top1 = report.top1
    return (
        f"{top1.agreeing}/{top1.count} | {place['spearman']['score']:.3f} | {place['iou']['score']:.3f} | "
        f"{100 * place['moved']['candidate']:.0f} %"
    )


def _engine(made: Path) -> str:
    try:
        return f"{len(build_engine(made, compute_capability='8.6', package='tensorrt_rtx')) / 2**20:.1f} MiB"
    except CfcamError as error:
        return " ".join(str(error).split())[:160]


if __name__ == "__main__":
    sys.exit(main())
