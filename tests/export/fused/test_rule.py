"""The rule as a graph, against scikit-learn's DBSCAN and the rule in numpy."""

import dataclasses
import functools
from typing import Any

import numpy as np
import onnx
import pytest
from cfcam.export.fused.plan import FusedPlan
from cfcam.export.fused.rule import rule_graph
from cfcam.export.proof.session import Session
from cfcam.runtime.cam import normalise
from cfcam.runtime.methods import get_method
from cfcam.runtime.methods.cfcam.method import CfcamSettings
from exact_sets import KINDS, exact_rows, wrong_labels

SIZE = (40, 32)


def plan(a, settings, method="cfcam", detail=None, rivals=False, form: Any = "static"):
    return FusedPlan(
        form=form, method=method, settings=settings, channels=a.shape[1], grid=a.shape[2:], detail=detail,
        rivals=rivals, map_size="input", size=SIZE, labels=settings is not None,
    )  # fmt: skip


def run(a, g, settings, method="cfcam", detail=None, rivals=None, form="static", classes=None) -> dict[str, Any]:
    more = {"cam_detail": detail, "cam_rivals": rivals}
    one = plan(a, settings, method, None if detail is None else detail.shape[1:], rivals is not None, form)
    feeds = {"cam_activations": a, "cam_gradients": g, **{k: v for k, v in more.items() if v is not None}}
    return session_of(one, classes).run(feeds)


@functools.cache
def session_of(one, classes):
    return Session(rule_graph(one, classes).to_model(), threads=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "form"), [(8, "cpu"), (8, "static"), (33, "cpu"), (200, "cpu"), (200, "static")])
def test_exact_sets_have_the_labels_of_scikit_learn(kind, count, form):
    random = np.random.default_rng(count)
    settings = CfcamSettings(last=True, feature_sigma=0, most_clustered=96)
    sets = np.stack([exact_rows(kind, count, random) for _ in range(4)])
    a = sets.reshape(4, count, 4, 4)
    g = np.broadcast_to(random.standard_normal((4, count, 1, 1)), a.shape).astype(np.float32)
    found = run(a, g, settings, form=form)
    for i, rows in enumerate(sets):
        have = found["cam_labels"][i]
        assert wrong_labels(have, rows, settings) == 0
        host = get_method("cfcam").run(a[i], g[i], settings)
        np.testing.assert_allclose(found["cam_map"][i], normalise(host.map, SIZE), atol=1e-5)
        assert bool(found["cam_empty"][i]) == bool(host.empty)
        assert host.grouping is not None
        counts = host.grouping.counts()
        assert [counts[k] for k in ("clusters", "clustered", "noise", "dead")] == found["cam_counts"][i].tolist()
        if i > 1:
            continue
        alone = run(a[i : i + 1], g[i : i + 1], settings, form=form)
        np.testing.assert_array_equal(alone["cam_map"][0], found["cam_map"][i])
        np.testing.assert_array_equal(alone["cam_labels"][0], have)


def likely(random, images, channels, grid):
    """Channels as networks have them: mixtures of a few patterns, of very different sizes, some of them dead."""
    patterns = random.gamma(0.5, size=(images, 12, *grid))
    shares = random.dirichlet(np.full(12, 0.05), size=channels)
    a = np.einsum("kj,njhw->nkhw", shares, patterns) * random.gamma(0.6, size=(images, channels, 1, 1))
    a[:, ::5] = 0
    return a.astype(np.float32)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"last": False},
        {"last": False, "sign_split": False, "size_exponent": 0.5},
        {"size_exponent": -0.5, "shrinkage": 0.8},
        {"sigma": 1.0, "map_sigma": 0.7},
        {"most_clustered": 64, "neighbour": 5, "min_samples": 4},
        {"contrast": 0.0, "gate_offset": 0.3},
        {"guided": False},
    ],
)
@pytest.mark.parametrize("form", ["static", "cpu"])
def test_every_setting_does_what_it_does_on_the_host(changes, form):
    random = np.random.default_rng(0)
    a, detail = likely(random, 3, 150, (7, 6)), random.gamma(0.5, size=(3, 20, 14, 12)).astype(np.float32)
    settings = CfcamSettings(**{"last": True, **changes})
    shape = (3, 150, 1, 1) if settings.last else a.shape
    g = np.broadcast_to(random.standard_normal(shape), a.shape).astype(np.float32)
    rivals = random.standard_normal((3, 150, 1, 1)).astype(np.float32) if settings.contrast else None
    used = detail if settings.guided else None
    found = run(a, g, settings, detail=used, rivals=rivals, form=form)
    for i in range(3):
        more = {} if rivals is None else {"rivals": rivals[i]}
        host = get_method("cfcam").run(a[i], g[i], settings, detail=detail[i], **more)
        assert host.grouping is not None
        np.testing.assert_array_equal(found["cam_labels"][i], host.grouping.labels)
        np.testing.assert_allclose(found["cam_map"][i], normalise(host.map, SIZE), atol=1e-5)
        assert not found["cam_empty"][i]


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("cfcam", {}),
        ("cfcam", {"last": False, "size_exponent": 0.5}),
        ("gradcam", {}),
        ("hirescam", {}),
        ("layercam", {}),
    ],
)
@pytest.mark.parametrize(("form", "classes"), [("static", 3), ("static", "K"), ("cpu", 3), ("cpu", "K")])
def test_several_classes_have_the_maps_of_each_alone(method, changes, form, classes):
    random = np.random.default_rng(3)
    a, g = likely(random, 2, 60, (7, 6)), random.standard_normal((2, 3, 60, 7, 6)).astype(np.float32) + 0.5
    rivals = random.standard_normal((2, 3, 60, 1, 1)).astype(np.float32)
    g[0, 1], rivals[0, 1] = 0, 0  # of one class nothing, which must not show in the others
    settings, more = None, {}
    if method == "cfcam":
        settings = CfcamSettings(**{"last": True, **changes})
        more = {"detail": random.gamma(0.5, size=(2, 8, 14, 12)).astype(np.float32), "rivals": rivals}

    def of(rows, columns, classes=None):
        some = {name: value[rows, columns] if name == "rivals" else value[rows] for name, value in more.items()}
        return run(a[rows], g[rows, columns], settings, method, form=form, classes=classes, **some)

    every = slice(None)
    found, last = of(every, every, classes), of(slice(1, 2), every, classes)
    assert found["cam_map"].shape == (2, 3, *SIZE)
    for name, value in last.items():
        np.testing.assert_allclose(found[name][1:], value, rtol=0, atol=0 if form == "cpu" else 3e-7)
    for k in range(3):
        one = of(every, k)
        assert one["cam_empty"].tolist() == [k == 1, False]
        for name, value in found.items():
            column = value[:, k] if name in ("cam_map", "cam_empty", "cam_guided") else value
            np.testing.assert_allclose(column, one[name], atol=2e-6)


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam"])
def test_methods_without_clusters(method):
    random = np.random.default_rng(1)
    a = likely(random, 3, 24, (7, 6))
    g = random.standard_normal(a.shape).astype(np.float32)
    found = run(a, g, None, method)
    assert set(found) == {"cam_map", "cam_empty"}
    for i in range(3):
        host = get_method(method).run(a[i], g[i], None)
        np.testing.assert_allclose(found["cam_map"][i], normalise(host.map, SIZE), atol=1e-5)


@pytest.mark.parametrize("what", ["nan", "infinity", "dead", "no gradient", "negative"])
@pytest.mark.parametrize("form", ["static", "cpu"])
def test_an_image_without_a_map_is_empty_and_leaves_the_others_alone(what, form):
    random = np.random.default_rng(2)
    a = likely(random, 3, 40, (7, 6))
    g = np.broadcast_to(random.standard_normal((3, 40, 1, 1)), a.shape).astype(np.float32)
    settings = CfcamSettings(last=True)
    whole = run(a, g, settings, form=form)
    a[1, 3, 2, 2] = {"nan": np.nan, "infinity": np.inf}.get(what, a[1, 3, 2, 2])
    a[1] *= what != "dead"
    g[1] = {"no gradient": np.zeros_like(g[1]), "negative": -np.abs(g[1])}.get(what, g[1])
    found = run(a, g, settings, form=form)
    assert found["cam_empty"].tolist() == [False, True, False]
    assert not found["cam_map"][1].any()
    np.testing.assert_array_equal(found["cam_map"][[0, 2]], whole["cam_map"][[0, 2]])


def test_operators_are_standard_and_none_that_tensorrt_refuses():
    a = np.zeros((1, 600, 7, 7), np.float32)
    one = dataclasses.replace(plan(a, CfcamSettings(last=True), detail=(20, 14, 14), rivals=True), size=(224, 224))
    model = rule_graph(one).to_model()
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 9
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    bodies = [a.g.node for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    nodes = [*model.graph.node, *(node for body in bodies for node in body)]
    assert not {node.op_type for node in nodes} & {"Compress", "NonZero", "Unique"}
    scatters = [node for node in nodes if node.op_type.startswith("Scatter")]
    assert all(a.name != "reduction" for node in scatters for a in node.attribute)
