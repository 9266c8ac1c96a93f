"""Certified top-k: by hand, against attacks inside the radius, and with attacks that succeed outside it."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import pytest
from certified_nets import NETS, Attack, explained, image
from cfcam.calibration.certified import CertifiedTopK
from cfcam.export.graph import load_model
from cfcam.export.reverse import differentiate
from cfcam.export.writing import set_spec, write_model
from cfcam.runtime import Explainer
from cfcam.runtime.contract.spec import CamSpec, InputSpec, LayerSpec, OutputSpec, SourceSpec
from cfcam.runtime.errors import ArrayError, MethodError, TargetError
from cfcam.runtime.methods import get_method
from onnx import helper, numpy_helper
from shared_data import shared_path


@pytest.fixture
def toy(tmp_path):
    """A convolution, 2 x - 1, and a ReLU on an image of 2 x 2, their mean times 3: the map is 3 / 4 ReLU(2 x - 1)."""

    def make(layout: Literal["NCHW", "NHWC"] = "NCHW", **changes):
        constants = {
            "w": np.array([[[[2]]]], np.float32),
            "b": np.array([-1], np.float32),
            "m": np.array([[3]], np.float32),
        }
        nodes = [
            helper.make_node("Conv", ["image", "w", "b"], ["c"]),
            helper.make_node("Relu", ["c"], ["a"]),
            helper.make_node("GlobalAveragePool", ["a"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "m"], ["logit"]),
        ]
        if layout == "NHWC":
            nodes.insert(0, helper.make_node("Transpose", ["photo"], ["image"], perm=[0, 3, 1, 2]))
        name, shape = ("image", ["N", 1, 2, 2]) if layout == "NCHW" else ("photo", ["N", 2, 2, 1])
        graph = helper.make_graph(nodes, "toy", [helper.make_tensor_value_info(name, 1, shape)],
                                  [helper.make_tensor_value_info("logit", 1, ["N", 1])],
                                  [numpy_helper.from_array(v, n) for n, v in constants.items()])  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        made = differentiate(model, "a")
        source = {"scale": 1 / 255, "mean": (0.5,), "std": (0.25,), **changes}
        spec = CamSpec(
            input=InputSpec(name=name, layout=layout, height=2, width=2, color="gray", **source),
            output=OutputSpec(name="logit", score="logit", classes=1, kind="binary"),
            layers=(LayerSpec(name="a", value=made.value, channels=1, grid=(2, 2), pooled=True),),
            source=SourceSpec(kind="onnx", name="toy", sha256="0" * 64),
        )
        set_spec(made.model, spec)
        write_model(made.model, tmp_path / f"{layout}.cam.onnx")
        return Explainer(tmp_path / f"{layout}.cam.onnx", threads=1)

    return make


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("arithmetic", ["float32", "real"])
def test_by_hand(toy, layout, arithmetic):
    """Two cells 2 apart meet when each moves by 1; the last of them all must stay above 1/2, where its ReLU is 0."""
    photo = np.array([[[5, 3], [1, 0.75]]], np.float32)
    with toy(layout) as explainer:
        for k, expected in ((1, 1.0), (2, 1.0), (3, 0.125)):
            found = CertifiedTopK(explainer, k=k, arithmetic=arithmetic, precision=1e-4).certify(photo, 0)
            assert expected * 0.9998 < found.radius <= expected
            assert found.grey_levels == pytest.approx(found.radius * 0.25 * 255)
            assert found.cells.tolist() == [[0, 0], [0, 1], [1, 0]][:k]
            assert found.reason is None
        measure = CertifiedTopK(explainer, k=3)
        assert measure.certify(photo, 0).gap == pytest.approx((1 - 0.5) / 9)
        two = CertifiedTopK(explainer, k=1).certify(np.array([[[5, 0], [0, 0]]], np.float32), 0)
        assert two.radius == pytest.approx(2.5, rel=0.02)  # alone on the map: both move by (5 - 0) / 2


def test_no_top_k(toy):
    with toy() as explainer:
        third = CertifiedTopK(explainer, k=3)
        found = third.update(
            np.array([[[[5, 3], [0, 0]]], [[[5, 3], [1, 1]]], [[[5, 3], [1, 0]]]], np.float32), [0, 0, 0]
        )
        assert np.isnan(found["certified_radius"]).tolist() == [True, True, False]
        reasons = [third.certify(np.array([[[5, 3], rest]]), 0).reason for rest in ([0, 0], [1, 1])]
        assert reasons == [
            "the map's cell number 3 is not above zero",
            "the map's cell number 3 is tied with the next one",
        ]
        near = np.array([[[5, 3], [1, np.nextafter(np.float32(1), np.float32(0))]]])
        assert third.certify(near, 0).reason == "rounding alone makes the bounds wider than the gap"
        assert third.certify(near, 0).radius == 0


def test_update_compute_reset(toy):
    photos = np.array([[[[5, 3], [1, 0]]], [[[5, 4], [1, 0]]]], np.float32)
    with toy() as explainer:
        measure = CertifiedTopK(explainer, k=1)
        assert measure.columns == {"certified_radius": "higher", "certified_grey_levels": "higher"}
        rows = measure.update(photos, np.array([0, 0]))["certified_radius"]
        np.testing.assert_allclose(rows, [1, 0.5], rtol=0.02)
        assert measure.compute()["certified_radius"] == rows.mean()
        assert len(measure.values("certified_grey_levels")) == 2
        measure.reset()
        assert math.isnan(measure.compute()["certified_radius"])
        with pytest.raises(TargetError):
            measure.update(photos, [0, 1])
        with pytest.raises(ArrayError):
            measure.certify(np.full((1, 2, 2), np.nan, np.float32), 0)


@pytest.mark.parametrize("net", NETS)
def test_no_attack_succeeds_inside_the_radius_and_one_does_far_outside(net, tmp_path, summary_line):
    """Grad-CAM: nothing inside changes the top cells; at which radius it breaks says how loose the bounds are."""
    ratios = []
    with explained(net, tmp_path) as explainer:
        measure = CertifiedTopK(explainer, k=5)
        for seed in range(3):
            x = image(seed)
            found = measure.certify(x, seed)
            if not found.radius > 0:
                continue
            tensors = explainer.tensors(x[None], [seed])
            attack = Attack(net, tensors.gradients[0].mean(axis=(1, 2)))
            heat = get_method("gradcam").run(tensors.activations[0], tensors.gradients[0], None).map
            np.testing.assert_allclose(heat.ravel(), np.maximum(attack.scores(x[None])[0], 0), atol=1e-5)
            top = {tuple(cell) for cell in found.cells.tolist()}
            assert top == {divmod(int(i), heat.shape[1]) for i in np.argsort(-heat, axis=None)[:5]}
            for share in (1, 0.9, 0.5):
                assert attack.margin(x, share * found.radius, 5) > 0
            broken = next(
                (f for f in (1.5, 2, 3, 5, 8, 12, 20, 40, 80) if attack.margin(x, f * found.radius, 5) < 0), 0
            )
            assert broken, "the attack never succeeds: it proves nothing"
            ratios.append(broken)
    assert ratios
    summary_line(f"certified top-5, {net}: attacks succeed at {min(ratios):g} to {max(ratios):g} times the radius")


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam"])
def test_random_images_inside_keep_the_top(method, tmp_path):
    """By the engine and the method themselves, over the whole ball."""
    random = np.random.default_rng(0)
    with explained("mobile", tmp_path) as explainer:
        measure = CertifiedTopK(explainer, method, k=3)
        checked = 0
        for seed in range(4):
            x = image(seed)
            found = measure.certify(x, 2)
            if not found.radius > 0:
                continue
            checked += 1
            noise = found.radius * np.sign(random.standard_normal((300, *x.shape))) * 0.999999
            tensors = explainer.tensors((x + noise).astype(np.float32), [2] * 300)
            rule = get_method(method)
            for a, g in zip(tensors.activations, tensors.gradients, strict=True):
                heat = rule.run(a, g, None).map
                top = np.argsort(-heat, axis=None)[:3]
                assert {divmod(int(i), heat.shape[1]) for i in top} == {tuple(c) for c in found.cells.tolist()}
        assert checked


def test_the_map_bounds_hold_the_map(tmp_path):
    """At a radius far beyond the certified one."""
    from cfcam.calibration.certified.topk import _weights

    with explained("swish", tmp_path) as explainer:
        x = image(0)
        gradients = explainer.tensors(x[None], [1]).gradients[0]
        low, high = CertifiedTopK(explainer).map_bounds(x[None], _weights(gradients, "gradcam"), 0.2)
        noise = 0.2 * np.random.default_rng(0).uniform(-1, 1, (200, *x.shape))
        maps = np.einsum("c,nchw->nhw", gradients.mean(axis=(1, 2), dtype=np.float64),
                         explainer.tensors((x + noise).astype(np.float32), [1] * 200).activations)  # fmt: skip
        assert (low <= maps).all()
        assert (maps <= high).all()


def test_refused(tmp_path):
    with explained("plain", tmp_path) as explainer:
        with pytest.raises(MethodError, match="'cfcam' groups channels by their activations"):
            CertifiedTopK(explainer, "cfcam")
        with pytest.raises(MethodError, match=r"weights of 'gradcam\+\+' depend on the activations"):
            CertifiedTopK(explainer, "gradcam++")
        for k in (0, 64):
            with pytest.raises(MethodError, match=f"k: expected 1 to 63 of the grid's 64 cells, got {k}"):
                CertifiedTopK(explainer, k=k)
        with pytest.raises(MethodError, match="precision"):
            CertifiedTopK(explainer, precision=0)
        plain = explainer.spec
        explainer.spec = dataclasses.replace(
            plain, layers=(plain.layer, dataclasses.replace(plain.layer, name="b", activations="a", gradients="g"))
        )
        with pytest.raises(MethodError, match="has 2 target layers"):
            CertifiedTopK(explainer)
        explainer.spec = dataclasses.replace(plain, precision="float16")
        with pytest.raises(MethodError, match="the file computes in float16"):
            CertifiedTopK(explainer)


@pytest.mark.parametrize("variant", ["fixed-batch", "float16", "nhwc", "softmax"])
def test_every_kind_of_file(tiny_path, variant):
    """The same network, held in other ways, gets the same certificate."""
    random = np.random.default_rng(0)
    image = random.normal(0, 1, (3, 32, 48)).astype(np.float16)
    found = []
    for name in ("logits", variant):
        with Explainer(tiny_path(name), threads=1) as explainer:
            found.append(CertifiedTopK(explainer, k=4).certify(image, 1))
    assert found[0].radius > 1e-4
    assert found[1].radius == pytest.approx(found[0].radius, rel=0.02)
    np.testing.assert_array_equal(found[0].cells, found[1].cells)


def test_a_gradient_that_depends_on_the_image_is_refused(tmp_path):
    with explained("mobile", tmp_path, "clip5") as explainer, pytest.raises(MethodError, match="depends on the image"):
        CertifiedTopK(explainer)


def test_a_deep_network_gets_nothing_and_says_why(tmp_path):
    """MobileNetV1: bounds of 27 layers are as wide as rounding alone makes them. A fact of intervals, not a wish."""
    made = differentiate(load_model(shared_path("models/mobilenet_v1_0.5_160.onnx")))
    source = made.model.graph.input[0].name
    height, width = (int(side or 0) for side in made.layer.grid)
    spec = CamSpec(
        input=InputSpec(name=source, height=160, width=160, scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3),
        output=OutputSpec(
            name=made.score.output, score=made.score.value, classes=made.score.classes, kind=made.score.kind
        ),
        layers=(
            LayerSpec(name="last", value=made.value, channels=made.layer.channels, grid=(height, width), pooled=True),
        ),
        source=SourceSpec(kind="onnx", name="mobilenet", sha256="0" * 64),
    )
    set_spec(made.model, spec)
    write_model(made.model, tmp_path / "v1.cam.onnx")
    with Explainer(tmp_path / "v1.cam.onnx", threads=1) as explainer:
        x = np.random.default_rng(0).uniform(-1, 1, (3, 160, 160)).astype(np.float32)
        for arithmetic in ("float32", "real"):
            found = CertifiedTopK(explainer, k=1, arithmetic=arithmetic).certify(x, 200)
            assert found.radius == 0
            assert found.reason == "rounding alone makes the bounds wider than the gap"
