"""The second route for PyTorch models, and the tail file of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from cfcam.export import LayerError, ProofError, export_torch
from cfcam.export.proof.results import image_errors
from cfcam.export.report import ExportReport
from small_nets import ConvNet, HeadConv, TwoOutputs, seeded

pytestmark = pytest.mark.slow

ROUTES = ("traced", "onnx")


def run(path: Path, count: int = 4) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    values = np.random.default_rng(0).standard_normal((count, *image.shape[1:])).astype(np.float32)
    found = session.run(None, {image.name: values, "cam_target": np.array([-1, 0, 1, 2])[:count]})
    return dict(zip([o.name for o in session.get_outputs()], map(np.asarray, found), strict=True))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportReport]:
    folder = tmp_path_factory.mktemp("routes")
    return {
        route: export_torch(
            seeded(ConvNet()), 40, folder / f"{route}.cam.onnx", layer="act:1", route=route, with_tail=True,
            name="small_nets:ConvNet", keep_plain=folder / f"{route}.plain.onnx",
        )
        for route in ROUTES
    }  # fmt: skip


def test_both_routes_agree(both: dict[str, ExportReport]) -> None:
    traced, onnx = (run(both[route].path) for route in ROUTES)
    assert list(traced) == list(onnx)
    np.testing.assert_array_equal(traced["cam_class"], onnx["cam_class"])
    for name in ("cam_activations", "cam_gradients"):
        assert image_errors(onnx[name], traced[name]).max() < 1e-5


def test_both_say_the_same_about_the_file(both: dict[str, ExportReport]) -> None:
    specs = [both[route].spec.to_dict() for route in ROUTES]
    for spec in specs:
        spec["layer"].pop("value")
        spec["output"].pop("score")
        assert spec.pop("tail")["inputs"] == ["cam_activations"]
    assert specs[0] == specs[1]
    assert specs[0]["layer"]["name"] == "act:1"
    assert specs[0]["source"]["kind"] == "torch"
    for report in both.values():
        assert report.plain_path is not None
        assert report.plain_path.exists()


@pytest.mark.parametrize("route", ROUTES)
def test_the_tail_file_of_either_route(both: dict[str, ExportReport], route: str) -> None:
    report = both[route]
    tail = report.spec.tail
    assert tail is not None
    assert tail.inputs == ("cam_activations",)
    assert any(check.name == "scores of the tail's own file" and check.ok for check in report.proof.checks)
    found = run(report.path)
    session = ort.InferenceSession(str(report.path.with_name(tail.file)), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"cam_activations": found["cam_activations"]})
    np.testing.assert_allclose(np.asarray(scores), found[report.spec.output.name], atol=1e-5)


def test_other_outputs_and_a_softmax(tmp_path: Path) -> None:
    report = export_torch(seeded(TwoOutputs()), 40, tmp_path / "a.cam.onnx", route="onnx")
    assert [v.shape[1:] for v in list(run(report.path).values())[:2]] == [(16, 6, 6), (10,)]
    report = export_torch(seeded(HeadConv()), (40, 48), tmp_path / "b.cam.onnx", route="onnx", score=0)
    assert report.spec.output.kind == "softmax"


def test_a_layer_can_be_named_as_in_the_onnx_graph(both: dict[str, ExportReport], tmp_path: Path) -> None:
    import onnx

    plain = both["onnx"].plain_path
    assert plain is not None
    name = next(node.output[0] for node in onnx.load(plain).graph.node if node.op_type == "Relu")
    report = export_torch(seeded(ConvNet()), 40, tmp_path / "a.cam.onnx", route="onnx", layer=name)
    assert report.spec.layer.channels == 8
    with pytest.raises(LayerError, match="nothing_like_it"):
        export_torch(seeded(ConvNet()), 40, tmp_path / "b.cam.onnx", route="onnx", layer="nothing_like_it")


def test_an_export_that_is_not_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cfcam.export import torch_export

    true = torch_export.plain_to_onnx

    def broken(*arguments: Any) -> Any:
        model = true(*arguments)
        weight = next(t for t in model.graph.initializer if len(t.dims) == 2)
        weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * np.float32(1.01)).tobytes()
        return model

    monkeypatch.setattr(torch_export, "plain_to_onnx", broken)
    with pytest.raises(ProofError, match="PyTorch's own export is not the model"):
        export_torch(seeded(ConvNet()), 40, tmp_path / "a.cam.onnx", route="onnx")
    assert not list(tmp_path.iterdir())
