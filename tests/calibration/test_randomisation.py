"""Parameter randomisation: the same as in PyTorch, and what it finds about maps."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from cfcam.calibration.measures import EngineAccess, baselines
from cfcam.calibration.randomisation import (
    Randomisation,
    RandomisedNetworks,
    _export_again,
    randomised,
    stage_layers,
    weight_layers,
)
from cfcam.export.graph import load_model
from cfcam.export.precision.plain_model import plain_model
from cfcam.export.proof.session import Session
from cfcam.export.reverse import differentiate
from cfcam.export.writing import set_spec, write_model
from cfcam.runtime import Explainer
from cfcam.runtime.cam import cam_map
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.contract.spec import CamSpec, InputSpec, LayerSpec, OutputSpec, SourceSpec
from cfcam.runtime.errors import ArrayError, MethodError, ModelFileError
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnx_classifiers import exported, make
from scipy.stats import spearmanr
from shared_data import shared_path


def tensors(model: ModelProto) -> dict[str, NDArray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def written(net: str, path: Path, layer: str | None = None) -> Path:
    model, spec = exported(make(net), layer)
    if net == "keras":
        spec = dataclasses.replace(spec, input=dataclasses.replace(spec.input, layout="NHWC"))
    set_spec(model, spec)
    write_model(model, path)
    return path


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_equals_the_same_weights_in_pytorch(order, tmp_path):
    """Each stage's weights in torch's own operators: activations, autograd's gradients, maps and Spearman."""
    torch = pytest.importorskip("torch")
    path = written("plain", tmp_path / "net.cam.onnx")
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    classes = np.array([0, 3, 4])

    def by_torch(model: ModelProto) -> tuple[NDArray, NDArray]:
        """Activations and gradients (N, C, h, w); the net's weights are called w0, w1, ... in order."""
        w = {name: torch.from_numpy(value.copy()) for name, value in tensors(model).items()}
        x = torch.from_numpy(images)
        for i, stride in enumerate((2, 2, 1)):
            x = torch.relu(torch.nn.functional.conv2d(x, w[f"w{2 * i}"], w[f"w{2 * i + 1}"], stride, 1))
        x = x.detach().requires_grad_()
        logits = torch.nn.functional.linear(x.mean((2, 3)), w["w6"], w["w7"])
        logits[torch.arange(3), torch.from_numpy(classes)].sum().backward()
        assert x.grad is not None
        return x.detach().numpy(), x.grad.numpy()

    plain = plain_model(load_model(path), read_spec(path), fold=False).model
    layers = weight_layers(plain)
    assert [one.tensors for one in layers] == [("w6", "w7"), ("w4", "w5"), ("w2", "w3"), ("w0", "w1")]
    clean = cam_map(*by_torch(plain), "gradcam", size=32)
    with RandomisedNetworks(path, order=order, stages=4, seed=3, threads=1) as networks:
        found = Randomisation(networks.explains("gradcam"), networks.names).similarities(images, classes, clean)
        stages = stage_layers(layers, 4, order)
        for stage, (explainer, (_, drawn)) in enumerate(zip(networks.explainers, stages, strict=True)):
            theirs = by_torch(randomised(plain, drawn, 3))
            ours = explainer.tensors(images, classes.tolist())
            np.testing.assert_allclose(ours.activations, theirs[0], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(ours.gradients, theirs[1], rtol=1e-4, atol=1e-7)
            a, g = (torch.from_numpy(value) for value in theirs)
            heat = torch.relu((g.mean((2, 3), keepdim=True) * a).sum(1, keepdim=True))
            wide = torch.nn.functional.interpolate(heat, (32, 32), mode="bilinear", align_corners=False)[:, 0].numpy()
            for i in range(3):
                expected = spearmanr(clean[i].ravel(), wide[i].ravel())[0] if wide[i].max() > 0 else 0
                assert found[i, stage] == pytest.approx(expected, abs=1e-3)
    assert np.abs(found).max() < 0.95


@pytest.mark.parametrize("net", ["plain", "softmax", "binary", "keras", "tokens", "branch"])
def test_the_plain_network_is_cut_out_and_differentiates_to_the_same_file(net, tmp_path):
    path = written(net, tmp_path / "net.cam.onnx")
    model = load_model(path)
    with Explainer(path, threads=1) as explainer:
        spec = explainer.spec
        cut_out = plain_model(model, spec, fold=False)
        plain = cut_out.model
        assert [i.name for i in plain.graph.input] == ["image"]
        assert [o.name for o in plain.graph.output] == [o.name for o in make(net).graph.output]
        images = np.random.default_rng(0).standard_normal(spec.input.shape(2)).astype(spec.input.dtype)
        before, after = Session(make(net)).run({"image": images}), Session(plain).run({"image": images})
        for name, value in before.items():
            np.testing.assert_allclose(np.asarray(after[name], float), np.asarray(value, float), rtol=1e-5, atol=1e-6)
        _export_again(cut_out, spec, tmp_path / "again.cam.onnx")
        with Explainer(tmp_path / "again.cam.onnx", threads=1) as again:
            old, new = (one.tensors(images, [0, 0]) for one in (explainer, again))
            assert again.spec.layer.pooled == (net != "tokens")
        np.testing.assert_allclose(new.gradients, old.gradients, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(new.activations, old.activations, rtol=1e-5, atol=1e-6)


def test_a_guided_file_stays_guided(guided_path, tmp_path):
    """Detail and rivals are those of the randomised network, not of the trained one."""
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    spec = read_spec(guided_path)
    plain = plain_model(load_model(guided_path), spec, fold=False)
    _export_again(plain, spec, tmp_path / "again.cam.onnx")
    with Explainer(guided_path, threads=1) as explainer, Explainer(tmp_path / "again.cam.onnx", threads=1) as again:
        (old,), (new,) = (one.tensors(images, [0, 1]).layers for one in (explainer, again))
        assert old.detail is not None
        assert old.rivals is not None
        assert new.detail is not None
        assert new.rivals is not None
        np.testing.assert_allclose(new.detail, old.detail, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(new.rivals, old.rivals, rtol=1e-4, atol=1e-7)
        with RandomisedNetworks(guided_path, stages=2, threads=1) as networks:
            maps = [explain(images, np.array([0, 1])) for explain in networks.explains()]
            last = networks.explainers[-1].tensors(images, [0, 1]).layers[0]
            assert last.detail is not None
            assert np.abs(last.detail - old.detail).max() > 0.1
            assert networks.explainers[0].explain(images[0], 0).detail == "early"
        clean = explainer.maps(images, [0, 1])
        assert all(np.abs(one - clean).max() > 0.05 for one in maps)


def test_every_layer_of_a_file_is_differentiated_again(tmp_path):
    made = differentiate(make("plain"), ["last", "middle"])
    _, spec = exported(make("plain"))
    layers = []
    for one, name in zip(made.layers, ("last", "middle"), strict=True):
        height, width = (int(side or 0) for side in one.layer.grid)
        layers.append(
            LayerSpec(
                name=name, value=one.value, channels=one.layer.channels, grid=(height, width), pooled=one.pooled,
                activations=one.activations, gradients=one.gradients,
            )
        )  # fmt: skip
    set_spec(made.model, dataclasses.replace(spec, layers=tuple(layers)))
    path, again = tmp_path / "two.cam.onnx", tmp_path / "again.cam.onnx"
    write_model(made.model, path)
    _export_again(plain_model(load_model(path), read_spec(path), fold=False), read_spec(path), again)
    feeds = {"image": np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32),
             "cam_target": np.array([1, 5])}  # fmt: skip
    before, after = Session(str(path)).run(feeds), Session(str(again)).run(feeds)
    assert set(before) == set(after)
    assert {"cam_gradients", "cam_gradients_1"} <= set(before)
    for name, value in before.items():
        np.testing.assert_allclose(np.asarray(after[name], float), np.asarray(value, float), rtol=1e-5, atol=1e-6)
    with RandomisedNetworks(path, stages=2, threads=1) as networks:
        assert [len(one.spec.layers) for one in networks.explainers] == [2, 2]


def test_draws_keep_mean_and_spread_and_nothing_else_changes():
    plain = make("plain")
    layers = weight_layers(plain)
    assert [one.operator for one in layers] == ["Gemm", "Conv", "Conv", "Conv"]
    assert [len(one.tensors) for one in layers] == [2, 2, 2, 2]
    before, after = tensors(plain), tensors(randomised(plain, layers[:2], seed=1))
    drawn = {name for one in layers[:2] for name in one.tensors}
    for name, old in before.items():
        if name not in drawn:
            np.testing.assert_array_equal(after[name], old)
            continue
        size = old.size
        assert after[name].dtype == old.dtype
        assert size < 20 or np.abs(np.corrcoef(after[name].ravel(), old.ravel())[0, 1]) < 0.5
        assert abs(after[name].mean() - old.mean()) < 5 * old.std() / size**0.5
        assert abs(after[name].std() / old.std() - 1) < 5 / size**0.5
    deeper = tensors(randomised(plain, layers, seed=1))
    for name in drawn:  # a cascade goes on from what the stage before had
        np.testing.assert_array_equal(deeper[name], after[name])
        assert not np.array_equal(tensors(randomised(plain, layers, seed=2))[name], after[name])
    np.testing.assert_array_equal(tensors(plain)[layers[0].tensors[0]], before[layers[0].tensors[0]])


def test_a_dense_layer_of_keras_has_its_bias():
    layers = weight_layers(make("keras"))
    assert [(one.operator, len(one.tensors)) for one in layers] == [("MatMul", 2), ("MatMul", 2), ("Conv", 2)]


def test_stages():
    layers = weight_layers(make("plain"))
    names = [one.name for one in layers]
    cascade = stage_layers(layers, 3)
    assert [name for name, _ in cascade] == [names[0], names[2], names[3]]
    assert [len(drawn) for _, drawn in cascade] == [1, 3, 4]
    assert [drawn for _, drawn in stage_layers(layers, 99, "independent")] == [[one] for one in layers]
    assert [name for name, _ in stage_layers(layers, 1)] == names[:1]
    for stages, order in ((0, "cascading"), (3, "sideways")):
        with pytest.raises(MethodError, match="randomisation: expected at least 1 stage"):
            stage_layers(layers, stages, order)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match="no layer with weights"):
        stage_layers([], 3)


def test_the_measure_by_hand():
    clean = np.zeros((2, 2, 2), np.float32)
    clean[0] = [[0, 0.2], [0.5, 1]]
    turned = np.array([[[1, 0.5], [0.2, 0]], [[1, 0], [0, 0]]], np.float32)
    images = np.zeros((2, 3, 2, 2), np.float32)

    def explain(maps):
        return lambda x, c: maps

    measure = Randomisation([explain(clean), explain(turned), explain(0 * clean)], ["head", "middle", "first"])
    rows = measure.update(images, np.array([0, 0]), clean)
    np.testing.assert_allclose(rows["randomisation"], [0, math.nan], atol=1e-12)  # 1, -1 and a map that was lost, 0
    np.testing.assert_allclose(rows["randomised_head"], [1, math.nan])
    np.testing.assert_allclose(rows["randomised_all"], [0, math.nan])
    assert measure.stages() == pytest.approx({"head": 1, "middle": -1, "first": 0})
    assert measure.compute()["randomised_head"] == pytest.approx(1)
    measure.reset()
    assert math.isnan(measure.stages()["head"])
    assert math.isnan(measure.compute()["randomisation"])
    with pytest.raises(ArrayError, match="1 networks and 2 names"):
        Randomisation([explain(clean)], ["head", "first"])


def test_quantised_files_are_refused(tmp_path):
    model, spec = exported(make("quantised"))
    set_spec(model, dataclasses.replace(spec, precision="int8"))
    write_model(model, tmp_path / "q.cam.onnx")
    with pytest.raises(ModelFileError, match="is quantised"):
        RandomisedNetworks(tmp_path / "q.cam.onnx")


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """MobileNetV1 (160 x 160, map of 5 x 5), exported without its proof."""
    made = differentiate(load_model(shared_path("models/mobilenet_v1_0.5_160.onnx")))
    height, width = (int(side or 0) for side in made.layer.grid)
    score = made.score
    spec = CamSpec(
        input=InputSpec(
            name=made.model.graph.input[0].name, height=160, width=160, scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3
        ),
        output=OutputSpec(name=score.output, score=score.value, classes=score.classes, kind=score.kind, label_offset=1),
        layers=(
            LayerSpec(
                name="last", value=made.value, channels=made.layer.channels, grid=(height, width), pooled=made.pooled
            ),
        ),
        source=SourceSpec(kind="onnx", name="mobilenet", sha256="0" * 64),
    )
    set_spec(made.model, spec)
    path = tmp_path_factory.mktemp("mobilenet") / "v1.cam.onnx"
    write_model(made.model, path)
    return path


def test_what_it_finds_on_a_real_network(mobilenet, summary_line):
    """Grad-CAM's map goes with the head. The published form is blind to it, and the edge detector to everything."""
    folder = shared_path("data/photos")
    labels = json.loads((folder / "labels.json").read_text())
    photos = [folder / name for name, entry in labels.items() if entry["imagenet_idx"] is not None]
    with Explainer(mobilenet, threads=1) as explainer, RandomisedNetworks(mobilenet, stages=3, threads=1) as networks:
        access = EngineAccess(explainer)
        images, _ = access.load(photos)
        classes = access.predict(images).argmax(axis=1)
        found = {}
        for method in ("gradcam", "cfcam", "cfcam-paper"):
            measure = Randomisation(networks.explains(method), networks.names)
            measure.update(images, classes, EngineAccess(explainer, method).explain(images, classes))
            found[method] = measure.compute()
        edges = baselines()["edges"]
        measure = Randomisation([edges] * 3, networks.names)
        measure.update(images, classes, edges(images, classes))
    for method in ("gradcam", "cfcam"):
        assert abs(found[method]["randomised_head"]) < 0.7, method
        assert abs(found[method]["randomised_all"]) < 0.4, method
    assert found["cfcam-paper"]["randomised_head"] > 0.99
    assert measure.compute() == pytest.approx({"randomisation": 1, "randomised_head": 1, "randomised_all": 1})
    figures = ", ".join(f"{name} {row['randomised_head']:.2f}" for name, row in found.items())
    summary_line(f"Spearman with the head drawn anew, MobileNetV1, {len(photos)} photos: {figures}, edges 1.00")
