"""The judge that a PyTorch model brings: it passes right files and catches every way to be wrong that we thought of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from cfcam.export import LayerError, ProofError, export_torch, torch_export
from cfcam.export.axes.layout import NCHW
from cfcam.export.proof import against_pytorch
from cfcam.export.proof.against_pytorch import PyTorchJudge
from cfcam.export.proof.checks import prove_file
from cfcam.export.proof.exported_file import open_exported_file, plain_outputs
from cfcam.export.reverse import registry
from cfcam.export.reverse.registry import Context, Gradients
from cfcam.export.writing import set_spec, spec_of
from mutations import MUTATIONS, Mutation, rewired
from onnx import ModelProto
from small_nets import ConvNet, seeded
from tail_gradients import captured_nodes

SIZE = 40
LAYER = "act:1"  # a convolution and a ReLU lie behind it: its gradient depends on the image

METHOD = "gradient in float64 against autograd"
FILE = "gradient of the file in float64 against autograd"
ACTIVATIONS = "activations in float32, share of the allowed error"


Failures = Callable[[ModelProto], tuple[set[str], set[str]]]


class Exported(NamedTuple):
    """A right file, its plain model, and what judges both."""

    file: Path
    plain: Path
    judge: PyTorchJudge
    notes: list[str]


class NormalisesOverItsBatch(torch.nn.Module):
    """A batch norm that keeps no statistics: right for a single image, which it normalises over its own cells."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = torch.nn.Conv2d(3, 8, 3, 2), torch.nn.BatchNorm2d(8, track_running_stats=False)
        self.second, self.head = torch.nn.Conv2d(8, 12, 3, 2), torch.nn.Linear(12, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.second(torch.relu(self.norm(self.first(image)))))
        return self.head(features.mean((2, 3)))


def test_a_module_that_is_right_for_single_images_is_judged_image_by_image(tmp_path: Path) -> None:
    report = export_torch(seeded(NormalisesOverItsBatch()), SIZE, tmp_path / "x.cam.onnx")
    assert any("depends on the other images of its batch" in note for note in report.warnings)
    assert METHOD in {check.name for check in report.proof.checks}
    shape = onnx.load(report.path).graph.input[0].type.tensor_type.shape
    assert shape.dim[0].dim_value == 1


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("judged")
    net = seeded(ConvNet())
    export_torch(net, SIZE, folder / "x.cam.onnx", layer=LAYER, keep_plain=folder / "plain.onnx")
    captured, score, layer = captured_nodes(net, torch.zeros(1, 3, SIZE, SIZE), LAYER)
    notes: list[str] = []
    judge = PyTorchJudge(net, captured, {LAYER: (NCHW, layer)}, score, notes)
    return Exported(folder / "x.cam.onnx", folder / "plain.onnx", judge, notes)


@pytest.fixture(scope="module")
def differentiated_once() -> Callable[..., Any]:
    """What the passes make of the captured part does not depend on the file."""
    true, known = against_pytorch._differentiated, []

    def once(*arguments: Any) -> Any:
        known[:] = known or [true(*arguments)]
        return known[0]

    return once


@pytest.fixture
def failures(
    exported: Exported, differentiated_once: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[ModelProto], tuple[set[str], set[str]]]:
    """Names of the failed checks of the whole proof of a file, and of those that the judge alone makes."""

    def failed(model: ModelProto) -> tuple[set[str], set[str]]:
        monkeypatch.setattr(against_pytorch, "_differentiated", differentiated_once)
        path = tmp_path / "spoilt.cam.onnx"
        onnx.save(model, path)
        file = open_exported_file(path)
        proof = prove_file(file, plain_outputs(exported.plain, file), judge=exported.judge)
        return {check.name for check in proof.failures}, {check.name for check in exported.judge(file) if not check.ok}

    return failed


def test_a_right_file_passes_with_room_to_spare(exported: Exported) -> None:
    file = open_exported_file(exported.file)
    figures = {check.name: check for check in exported.judge(file)}
    assert all(check.ok for check in figures.values())
    assert figures[METHOD].value < 1e-12
    assert (figures[METHOD].limit, figures[f"{FILE} (median image)"].limit) == (1e-8, 1e-6)
    assert figures[f"{FILE} (median image)"].value < 5e-7
    assert figures["gradient in float64 against the module's own autograd"].value < 1e-8
    assert exported.notes == []


# What autograd need not be asked about: other checks are about it.
NOT_THE_JUDGES = {"always_the_top_class", "another_class_is_reported", "outputs_scaled"}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_wrong_files_fail(mutation: Mutation, exported: Exported, failures: Failures) -> None:
    model = onnx.load(exported.file)
    mutation(model, open_exported_file(exported.file))
    onnx.checker.check_model(model)
    every, judged = failures(model)
    assert every
    if mutation.__name__ not in NOT_THE_JUDGES:
        about = {ACTIVATIONS} if mutation.__name__ == "activations_swapped" else {f"{FILE} (median image)"}
        assert about <= judged


def test_activations_that_are_no_value_of_the_graph_are_caught(exported: Exported, failures: Failures) -> None:
    model = onnx.load(exported.file)
    rewired(model, "cam_activations", ("Neg", ["it"], {}))
    with pytest.raises(LayerError, match="does not show a value"):
        failures(model)


def test_another_layer_is_caught(failures: Failures, tmp_path: Path) -> None:
    """A file that is right in itself, but about the value before the non-linearity."""
    export_torch(seeded(ConvNet()), SIZE, tmp_path / "x.cam.onnx", layer="bn2")
    model = onnx.load(tmp_path / "x.cam.onnx")
    spec = spec_of(model)
    assert spec is not None
    set_spec(model, replace(spec, layers=(replace(spec.layer, name=LAYER),)))
    every, judged = failures(model)
    assert every == judged
    assert {ACTIVATIONS, f"{FILE} (median image)"} <= judged


def test_another_module_than_the_captured_one_is_caught(exported: Exported) -> None:
    judge = copy.copy(exported.judge)
    judge._module = seeded(ConvNet(), seed=9)
    found = judge(open_exported_file(exported.file))
    assert {check.name for check in found if not check.ok} == {"output 'linear' against eager PyTorch"}


def test_a_rule_that_is_off_by_a_millionth_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relu = registry._RULES["", "Relu"]

    def wrong(context: Context) -> Gradients:
        found = relu.derive(context)[0]
        slope = found() if callable(found) else found
        assert slope is not None
        return {0: slope * context.e.constant(np.full((1,) * slope.rank, 1 + 1e-6, slope.dtype))}

    monkeypatch.setitem(registry._RULES, ("", "Relu"), replace(relu, derive=wrong))
    with pytest.raises(ProofError, match=METHOD):
        export_torch(seeded(ConvNet()), SIZE, tmp_path / "x.cam.onnx", layer=LAYER)
    assert not list(tmp_path.iterdir())


def test_a_converter_whose_weights_are_off_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = torch_export.plain_to_onnx

    def broken(*arguments: Any) -> Any:
        model = true(*arguments)
        weight = next(t for t in model.graph.initializer if len(t.dims) == 2)
        weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * np.float32(1.01)).tobytes()
        return model

    monkeypatch.setattr(torch_export, "plain_to_onnx", broken)
    with pytest.raises(ProofError, match="output 'linear' against eager PyTorch"):
        export_torch(seeded(ConvNet()), SIZE, tmp_path / "x.cam.onnx")
    assert not list(tmp_path.iterdir())
