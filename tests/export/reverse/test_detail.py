"""The detail layer: which value it is, and that it leaves the file as the network computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cfcam.export import ExportReport, export_onnx, export_torch
from cfcam.export.errors import LayerError
from cfcam.runtime.contract.spec import CamSpec
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn


class Residual(nn.Module):
    """Convolutions of which the second halves the grid; `early` has twice the grid, `sum` too but is signed."""

    def __init__(self, curve: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.curve = curve()
        self.widen = nn.Conv2d(12, 24, 1)
        self.early = curve()
        self.narrow = nn.Conv2d(24, 12, 1)
        self.sum = nn.Identity()
        self.down = nn.Conv2d(12, 20, 3, stride=2, padding=1)
        self.last = curve()
        self.head = nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.curve(self.stem(x))
        x = self.sum(x + self.narrow(self.early(self.widen(x))))
        return self.head(self.last(self.down(x)).mean((2, 3)))


def run(path, images, targets) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: images.numpy(), "cam_target": np.array(targets)}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def held_by(net, name, images):
    kept = {}
    hook = dict(net.named_modules())[name].register_forward_hook(lambda *call: kept.update(value=call[2].detach()))
    net(images)
    hook.remove()
    return kept["value"].numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The network with ReLUs, and ``plain.onnx`` beside it."""
    folder = tmp_path_factory.mktemp("residual")
    return export_torch(Residual().eval(), 32, folder / "a.cam.onnx", keep_plain=folder / "plain.onnx")


@pytest.mark.parametrize("curve", [nn.ReLU, nn.GELU, nn.Hardswish])
def test_it_is_the_deepest_activated_value_at_twice_the_grid(tmp_path, exported, curve):
    net = Residual(curve).eval()
    report = exported if curve is nn.ReLU else export_torch(net, 32, tmp_path / "net.cam.onnx")
    detail = report.spec.layer.detail
    assert detail is not None
    assert (detail.name, detail.channels, detail.grid) == ("early", 24, (16, 16))
    assert "deepest activated value" in detail.why
    images = torch.rand(2, 3, 32, 32)
    found = run(report.path, images, [-1, -1])[detail.activations]
    np.testing.assert_allclose(found, held_by(net, "early", images), atol=1e-5)
    assert CamSpec.from_json(report.spec.to_json()) == report.spec


class Squeezed(nn.Module):
    """An activated value behind a gate of its channels, and channels last in between."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.gate = nn.Conv2d(16, 16, 1)
        self.gated = nn.Identity()
        self.down = nn.Conv2d(16, 20, 2, stride=2)
        self.head = nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.silu(self.stem(x))
        x = self.gated(x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True))))
        return self.head(torch.relu(self.down(x)).mean((2, 3)))


def test_a_gate_of_channels_keeps_a_value_activated(tmp_path):
    net = Squeezed().eval()
    report = export_torch(net, 32, tmp_path / "net.cam.onnx")
    assert report.spec.layer.detail is not None
    images = torch.rand(2, 3, 32, 32)
    found = run(tmp_path / "net.cam.onnx", images, [-1, -1])["cam_detail"]
    np.testing.assert_allclose(found, held_by(net, "gated", images), atol=1e-5)


class Flat(nn.Module):
    """One grid from the first layer to the last, as in a plain vision transformer."""

    def __init__(self, stride: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, stride, stride=stride)
        self.first = nn.ReLU()
        self.mix = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.ReLU()
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.mix(self.first(self.stem(x)))).mean((2, 3)))


def test_where_nothing_is_finer_there_is_none_and_the_report_says_so(tmp_path):
    report = export_torch(Flat().eval(), 32, tmp_path / "net.cam.onnx")
    assert report.spec.layer.detail is None
    assert any("no detail layer" in note for note in report.warnings)
    assert "detail" not in report.spec.to_dict()["layer"]


def test_it_can_be_named_and_left_out(tmp_path):
    path = tmp_path / "net.cam.onnx"
    named = export_torch(Residual().eval(), 32, path, detail="curve").spec.layer.detail
    assert named is not None
    assert (named.name, named.channels) == ("curve", 12)
    assert export_torch(Residual().eval(), 32, path, detail="none").spec.layer.detail is None


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ("last", "is the target layer itself"),
        ("head", "a target layer has shape"),
        ("nowhere", "nowhere"),
    ],
)
def test_what_cannot_be_a_detail_layer_is_refused(tmp_path, detail, words):
    with pytest.raises(LayerError, match=words):
        export_torch(Residual().eval(), 32, tmp_path / "net.cam.onnx", detail=detail)


class Branches(nn.Module):
    """Two ways to the score, one of them finer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.ReLU())
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.fine(x).mean((2, 3)), self.coarse(x).mean((2, 3))], 1))


def test_it_must_be_finer_and_lead_to_the_layer(tmp_path):
    with pytest.raises(LayerError, match=r"'fine.*' does not lead to the target layer 'coarse"):
        export_torch(Branches().eval(), 32, tmp_path / "net.cam.onnx", layer="coarse", detail="fine")
    with pytest.raises(
        LayerError, match=r"'curve.*' has a grid of 16x16, which is not finer than the target layer's 16x16"
    ):
        export_torch(Residual().eval(), 32, tmp_path / "net.cam.onnx", layer="early", detail="curve")


def test_an_onnx_file_gets_the_same_one(tmp_path, exported):
    report = export_onnx(exported.path.with_name("plain.onnx"), tmp_path / "b.cam.onnx")
    assert report.spec.layer.detail is not None
    images = torch.rand(2, 3, 32, 32)
    one, other = (run(path, images, [3, -1]) for path in (exported.path, report.path))
    for name in ("cam_detail", "cam_rivals", "cam_gradients"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)


def test_several_layers_have_none_unless_it_is_asked_for(tmp_path):
    path = tmp_path / "net.cam.onnx"
    spec = export_torch(Residual().eval(), 32, path, layer=["last", "early"]).spec
    assert spec.layer.detail is None
    assert spec.layer.rivals is None
    spec = export_torch(Residual().eval(), 32, path, layer=["last", "curve"], detail="auto").spec
    assert spec.layer.detail is not None
    assert spec.layers[1].detail is None


class Photos(CalibrationDataReader):
    def __init__(self) -> None:
        self._images = iter(torch.rand(8, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).numpy())

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        image = next(self._images, None)
        return None if image is None else {"x": image}


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8], ids=["uint8", "int8"])
def test_a_quantiser_that_took_the_relu_away_activates_a_value_too(tmp_path, exported, kind):
    """ONNX Runtime's quantiser leaves out a ReLU whose quantiser cuts off what is below zero."""
    whole, path, spec = exported.path.with_name("plain.onnx"), tmp_path / "quantised.onnx", exported.spec
    quantize_static(whole, path, Photos(), quant_format=QuantFormat.QDQ, activation_type=kind)
    nodes = onnx.load(path).graph.node
    assert not any(node.op_type == "Relu" for node in nodes)
    detail = export_onnx(path, tmp_path / "b.cam.onnx").spec.layer.detail
    assert spec.layer.detail is not None
    assert detail is not None
    assert (detail.channels, detail.grid) == (24, (16, 16)) == (spec.layer.detail.channels, spec.layer.detail.grid)
    # The deeper value of that grid is a signed sum, whose range begins below zero.
    assert any(node.op_type == "Add" for node in nodes)
