"""One inference for many questions."""

import threading

import numpy as np
import pytest
from cfcam.calibration.evaluate import SharedEngine, make_rows
from cfcam.calibration.measures import gradient_noise
from cfcam.runtime.explainer import Explainer


@pytest.fixture
def counted(explainer, monkeypatch):
    """The explainer, and how many images its two ways to the engine were asked for."""
    asked = {"tensors": 0, "probabilities": 0}
    for name in asked:
        real = getattr(explainer, name)

        def spy(images, *rest, real=real, name=name):
            asked[name] += len(images)
            return real(images, *rest)

        monkeypatch.setattr(explainer, name, spy)
    return explainer, asked


def test_an_image_is_asked_once_for_each_class(counted, coloured):
    explainer, asked = counted
    engine = SharedEngine(explainer, batch=2)
    images, _ = engine.load(coloured[0][:3])
    first = engine.arrays(images, np.array([-1, -1, -1]))
    assert asked == {"tensors": 3, "probabilities": 0}
    again = engine.arrays(images[::-1], first.classes[::-1])
    assert asked["tensors"] == 3, "the top class has a number, and is known by it too"
    np.testing.assert_array_equal(again.layers[0].gradients[::-1], first.layers[0].gradients)
    other = engine.arrays(images[:1], np.array([5]))
    assert asked["tensors"] == 4
    assert not np.any(other.layers[0].gradients)
    engine.forget()
    engine.arrays(images[:1], np.array([5]))
    assert asked["tensors"] == 5


def test_predictions_ask_for_nothing_else(counted, coloured):
    explainer, asked = counted
    engine = SharedEngine(explainer)
    images, _ = engine.load(coloured[0][:3])
    p = engine.predict(images)
    assert asked == {"tensors": 0, "probabilities": 3}
    np.testing.assert_allclose(p, engine.arrays(images, np.array([0, 1, 2])).probabilities, atol=1e-6)


def test_several_at_once_give_the_same(counted, coloured):
    explainer, asked = counted
    one, several = SharedEngine(explainer), SharedEngine(explainer, workers=3, batch=2)
    images, _ = one.load(coloured[0][:7])
    classes = np.arange(7) % 6
    np.testing.assert_allclose(several.predict(images), one.predict(images), atol=1e-6)
    first, second = several.arrays(images, classes), one.arrays(images, classes)
    np.testing.assert_array_equal(first.classes, classes)
    np.testing.assert_allclose(first.layers[0].gradients, second.layers[0].gradients, atol=1e-6)
    np.testing.assert_allclose(first.layers[0].activations, second.layers[0].activations, atol=1e-6)
    assert asked == {"tensors": 14, "probabilities": 14}


def test_little_room_is_enough(explainer, coloured):
    small, large = SharedEngine(explainer, keep=1), SharedEngine(explainer)
    images, _ = large.load(coloured[0][:4])
    one, other = (engine.arrays(images, np.array([0, 1, 2, 3])) for engine in (small, large))
    np.testing.assert_array_equal(one.layers[0].gradients, other.layers[0].gradients)
    assert len(small._kept) == 1


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory):
    """A file with two target layers on different grids."""
    onnx = pytest.importorskip("onnx", reason="exporting needs onnx")
    import onnx_classifiers
    from cfcam.export.onnx_export import export_onnx
    from cfcam.export.sources.preprocessing import preset

    folder = tmp_path_factory.mktemp("two")
    onnx.save(onnx_classifiers.plain(), str(folder / "net.onnx"))
    export_onnx(
        folder / "net.onnx", folder / "x.cam.onnx", layer=["last", "early"], preprocessing=preset("torchvision")
    )
    return folder / "x.cam.onnx"


def test_rules_on_several_layers_share_too_and_equal_the_explainer(two_layers, monkeypatch):
    with Explainer(two_layers, threads=1) as explainer:
        asked = []
        real = explainer.tensors
        monkeypatch.setattr(explainer, "tensors", lambda x, *rest: (asked.append(len(x)), real(x, *rest))[1])
        engine = SharedEngine(explainer)
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
        classes = np.array([0, 1])
        rows = make_rows(engine, ["cfcam", "gradcam"], ["class_blind"])
        found = {one.name: one.explain(images, classes) for one in rows}
        assert asked == [2], "both rules and the baseline cost one inference"
        assert found["class_blind"].shape == (2, 32, 32)
        for one in rows[:2]:
            np.testing.assert_allclose(found[one.name], explainer.maps(images, [0, 1], one.name), atol=1e-6)
        shared = engine.arrays(images, classes)
        assert [layer.activations.shape[1:] for layer in shared.layers] == [(16, 8, 8), (8, 16, 16)]
        for one in rows[:2]:
            assert one.rule is not None
            assert np.isfinite(gradient_noise(one.rule, shared.layers)).all()


def test_its_threads_end_with_it(explainer, coloured):
    before = set(threading.enumerate())
    with SharedEngine(explainer, batch=1, workers=2) as engine:
        images, _ = engine.load(coloured[0][:4])
        engine.predict(images)
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before
