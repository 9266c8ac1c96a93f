from __future__ import annotations

import importlib
from contextlib import nullcontext

import numpy as np
import other_packages
import pytest
from cfcam.calibration.measures import (
    Adcc,
    Confidence,
    adcc,
    average_drop,
    average_increase,
    coherency,
    complexity,
    mask_images,
)
from cfcam.runtime.errors import ArrayError, TargetError


def test_drop_and_increase_by_hand():
    np.testing.assert_allclose(average_drop([0.8, 0.5, 0.2, 0], [0.2, 0.9, 0.2, 0.1]), [0.75, 0, 0, 0])
    np.testing.assert_array_equal(average_increase([0.8, 0.5, 0.2], [0.2, 0.9, 0.2]), [0, 1, 0])


def test_masking_multiplies():
    images = np.full((1, 3, 2, 2), -2.0)
    np.testing.assert_array_equal(mask_images(images, np.array([[[0, 0.5], [1, 1]]]))[0, 1], [[0, -1], [-2, -2]])


def test_the_toy_by_hand(toy, photos, classes):
    """Keeping one quadrant of equal brightness everywhere changes no share, a map of the class's own channel does."""
    images = np.ones((1, 3, 4, 4)) * np.array([1.0, 2.0, 1.0])[None, :, None, None]
    quadrant = np.zeros((1, 4, 4))
    quadrant[0, :2, :2] = 1
    measure = Confidence(toy.predict)
    assert measure.update(images, [1], quadrant)["average_drop"][0] == pytest.approx(0, abs=1e-6)
    images[0, 1, :2, :2] = 0  # now class 1 is outside the quadrant: 0.6 of the image, nothing of the mask
    assert measure.update(images, [1], quadrant)["average_drop"][0] == pytest.approx(1, abs=1e-6)
    assert measure.compute()["average_drop"] == pytest.approx(0.5)
    own = Confidence(toy.predict)
    own.update(photos, classes, toy.explain(photos, classes))
    assert own.compute() == {"average_drop": 0, "average_increase": 1}


def test_coherency_complexity_and_adcc_by_hand():
    first, second = np.array([[[1.0, 0.0, 0.5]]]), np.array([[[0.0, 1.0, 0.5]]])
    assert coherency(first, first)[0] == pytest.approx(1)
    assert coherency(first, second)[0] == pytest.approx(0)
    assert coherency(first, np.zeros((1, 1, 3)))[0] == 0  # a map that vanishes does not cohere
    assert complexity(first)[0] == 0.5
    assert adcc([0.5], [1.0], [0.5])[0] == pytest.approx(3 / (1 + 2 + 2))
    np.testing.assert_array_equal(adcc([1, 0, 0], [1, 0, 1], [0, 0, 1]), [0, 0, 0])


def test_adcc_object(toy, photos, classes):
    maps = toy.explain(photos, classes)
    measure, confidence = Adcc(toy.predict, toy.explain, batch=4), Confidence(toy.predict)
    found, alone = measure.update(photos, classes, maps), confidence.update(photos, classes, maps)
    np.testing.assert_array_equal(found["average_drop"], alone["average_drop"])
    np.testing.assert_allclose(found["complexity"], maps.mean(axis=(1, 2)))
    # The toy's map of an image times its map is the map squared.
    expected = [(np.corrcoef(m.ravel(), (m**2).ravel())[0, 1] + 1) / 2 for m in maps]
    np.testing.assert_allclose(found["coherency"], expected, rtol=1e-5)
    assert max(toy.batches) <= 6
    uniform = Adcc(toy.predict, lambda images, _: np.ones((len(images), 16, 16)))
    assert uniform.update(photos, classes, np.ones((6, 16, 16)))["adcc"].tolist() == [0] * 6


@pytest.fixture(scope="module")
def torch_net():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 4), torch.nn.Softmax(-1),
    ).eval()  # fmt: skip
    net[4].weight.data *= 20
    return net


def predictor(net):
    import torch

    return lambda images: net(torch.from_numpy(images)).detach().numpy()


def test_equals_pytorch_grad_cam(torch_net, photos, classes, toy):
    name = other_packages.pytorch_grad_cam().__name__
    arcc, cam_mult_image = (importlib.import_module(f"{name}.metrics.{part}") for part in ("arcc", "cam_mult_image"))
    import torch

    maps = toy.explain(photos, classes)
    targets = [lambda scores, c=int(c): scores[c] for c in classes]
    given = torch.from_numpy(photos), maps, targets, torch_net
    predict = predictor(torch_net)
    before = predict(photos)[np.arange(6), classes]
    found = Confidence(predict).update(photos, classes, maps)
    # Theirs is the absolute drop.
    np.testing.assert_allclose(found["average_drop"] * before, cam_mult_image.DropInConfidence()(*given), atol=1e-6)
    np.testing.assert_allclose(found["average_increase"], cam_mult_image.IncreaseInConfidence()(*given))
    assert 0 < found["average_increase"].mean() < 1
    np.testing.assert_allclose(complexity(maps), arcc.Complexity()(maps), rtol=1e-6)
    second = toy.explain(mask_images(photos, maps), classes)
    np.testing.assert_allclose(coherency(maps, second), (arcc.batch_pearson_coherency(second, maps) + 1) / 2, rtol=1e-5)


def test_equals_torch_cam(torch_net, photos, classes, toy):
    package = other_packages.torchcam()
    import torch

    maps = toy.explain(photos, classes)

    class Given:
        """What torch-cam's metrics need of an extractor."""

        model = torch_net
        _hooks_off = nullcontext

        def __call__(self, class_idx, scores):
            return [torch.from_numpy(maps)]

        def fuse_cams(self, cams):
            return cams[0]

    measure = package.metrics.ClassificationMetric(Given())
    measure.update(torch.from_numpy(photos), classes.tolist())
    ours = Confidence(predictor(torch_net))
    ours.update(photos, classes, maps)
    theirs = measure.summary()
    assert ours.compute()["average_drop"] == pytest.approx(theirs["avg_drop"], abs=1e-5)
    assert ours.compute()["average_increase"] == pytest.approx(theirs["conf_increase"])


def test_refused(toy, photos, classes):
    maps = toy.explain(photos, classes)
    with pytest.raises(ArrayError, match=r"maps: expected shape \(6, 16, 16\)"):
        Confidence(toy.predict).update(photos, classes, maps[:, :8])
    with pytest.raises(TargetError, match="expected 0 to 2, got 0 to 3"):
        Confidence(toy.predict).update(photos, classes + (classes == 2), maps)
