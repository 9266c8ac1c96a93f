"""Rows of `what_works.py` about who made a file: PyTorch, quantisers, and operators that nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from cfcam.export import export_torch
from cfcam.export.report import ExportReport
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from torch import nn
from what_works_rows import CLASSES, ROWS, Net, Row, behind, onnx_row, trunk

__all__: list[str] = []


# -- operators


def unknown(front: bool) -> Callable[[Net], str]:
    def head(net: Net) -> str:
        trunk(net)
        odd = net("Foo", "logits", out="odd", domain="com.example")
        return odd if front else "logits"

    return head


onnx_row("Operators", "opset 11", trunk, opset=11)
onnx_row("Operators", "an unknown operator off the way to the scores", unknown(False))
onnx_row(
    "Operators",
    "an unknown operator that the scores depend on",
    unknown(True),
    refused="which ONNX Runtime does not know",
)
onnx_row("Operators", "random numbers", behind(("Bernoulli", {})), refused="the model draws random numbers")

# -- quantisers


class _Photos(CalibrationDataReader):
    def __init__(self) -> None:
        self._images = iter(np.random.default_rng(0).standard_normal((8, 1, 3, 32, 32)).astype(np.float32))

    def get_next(self) -> Any:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def static(form: QuantFormat) -> Callable[[Path], Path]:
    def change(path: Path) -> Path:
        quantize_static(str(path), str(path.with_name("int8.onnx")), _Photos(), quant_format=form)
        return path.with_name("int8.onnx")

    return change


def dynamic(path: Path) -> Path:
    quantize_dynamic(str(path), str(path.with_name("int8.onnx")))
    return path.with_name("int8.onnx")


def optimised(level: str) -> Callable[[Path], Path]:
    def change(path: Path) -> Path:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(path.with_name("optimised.onnx"))
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return path.with_name("optimised.onnx")

    return change


onnx_row("Quantisers", "`quantize_static` of ONNX Runtime, QDQ", trunk, change=static(QuantFormat.QDQ))
INTEGERS = "an integer-only quantised operator has no gradient"
onnx_row(
    "Quantisers",
    "`quantize_static` of ONNX Runtime, QOperator",
    trunk,
    change=static(QuantFormat.QOperator),
    refused=INTEGERS,
)
onnx_row("Quantisers", "`quantize_dynamic` of ONNX Runtime", trunk, change=dynamic, refused=INTEGERS)
onnx_row("Operators", "optimised by ONNX Runtime, extended", trunk, change=optimised("ORT_ENABLE_EXTENDED"))
onnx_row(
    "Operators",
    "optimised by ONNX Runtime, all",
    trunk,
    change=optimised("ORT_ENABLE_ALL"),
    refused="optimised this model for the memory layout of one processor",
)

# -- PyTorch


class Module(nn.Module):
    """The network of the other rows."""

    def __init__(self, head: Callable[[torch.Tensor], Any] = lambda scores: scores) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.fc, self.head = nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Linear(16, CLASSES), head

    def forward(self, image: torch.Tensor) -> Any:
        return self.head(self.fc(self.relu(self.conv(image)).mean((2, 3))))


class Recurrent(nn.Module):
    """A recurrence over the columns of the grid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn, self.fc = nn.Conv2d(3, 8, 4, 4), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        columns = torch.relu(self.conv(image)).mean(2).transpose(1, 2)
        return self.fc(self.rnn(columns)[0][:, -1])


def two_heads() -> nn.Module:
    return Module(lambda scores: {"age": scores[:, :1], "emotion": scores})


def torch_row(
    what: str, make: Callable[[], nn.Module], *, refused: str = "", layer: str | None = None, asked: str | None = None
) -> None:
    def run(folder: Path) -> ExportReport:
        return export_torch(make(), 32, folder / "net.cam.onnx", layer=layer, score=asked)

    ROWS.append(Row("PyTorch", what, run, refused))


torch_row("a module", Module)
torch_row("bfloat16 weights", lambda: Module().bfloat16())
torch_row("`DataParallel`", lambda: nn.DataParallel(Module()))
torch_row("a dict of outputs, with `--score emotion`", two_heads, asked="emotion")
torch_row(
    "scores without a batch: `reshape(-1)`", lambda: Module(lambda y: y.reshape(-1)), refused="not one row per image"
)
torch_row(
    "a recurrence behind the grid, from `conv`",
    Recurrent,
    refused="a recurrence between the layer and the score",
    layer="conv",
)
