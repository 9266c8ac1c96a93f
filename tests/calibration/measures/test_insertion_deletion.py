from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import other_packages
import pytest
from cfcam.calibration.measures import InsertionDeletion, fill_images, insertion_deletion
from cfcam.runtime.errors import ArrayError
from scipy.ndimage import gaussian_filter


def share_of_ones(images):
    """Class 1 is the share of pixels that are 1."""
    p = (images == 1).mean(axis=(1, 2, 3))
    return np.stack([1 - p, p], axis=1)


def test_by_hand():
    """Four pixels, two of them bright; the map finds one first, then a dark one, then the other."""
    image = np.array([1.0, 0, 1, 0]).reshape(1, 1, 2, 2)
    heat = np.array([0.9, 0.8, 0.7, 0.1]).reshape(1, 2, 2)
    curves = insertion_deletion(share_of_ones, image, [1], heat, fill="mean", steps=4)
    np.testing.assert_allclose(curves.fractions, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curves.insertion[0], [0, 0.25, 0.25, 0.5, 0.5])
    np.testing.assert_allclose(curves.deletion[0], [0.5, 0.25, 0.25, 0, 0])
    found = InsertionDeletion(share_of_ones, fill="mean", steps=4).update(image, [1], heat)
    assert found["insertion"][0] == pytest.approx((0.125 + 0.25 + 0.375 + 0.5) / 4)
    assert found["deletion"][0] == pytest.approx((0.375 + 0.25 + 0.125 + 0) / 4)
    assert found["insertion_deletion"][0] == pytest.approx(found["insertion"][0] - found["deletion"][0])


def test_a_good_order_beats_a_bad_one(toy, photos, classes):
    maps = toy.explain(photos, classes)
    measure = InsertionDeletion(toy.predict)
    for fill in ("blur", "mean"):
        good = InsertionDeletion(toy.predict, fill=fill).update(photos, classes, maps)["insertion_deletion"]
        bad = InsertionDeletion(toy.predict, fill=fill).update(photos, classes, 1 - maps)["insertion_deletion"]
        assert (good > 0).all()
        np.testing.assert_allclose(good, -bad, atol=0.05)
    order_only = measure.update(photos, classes, maps**3)
    np.testing.assert_allclose(order_only["insertion"], measure.update(photos, classes, maps)["insertion"])


def test_batches_and_steps_do_not_change_what_is_measured(toy, photos, classes):
    maps = toy.explain(photos, classes)
    toy.batches.clear()
    small = insertion_deletion(toy.predict, photos, classes, maps, batch=7, steps=10)
    assert max(toy.batches) == 7
    assert sum(toy.batches) == 6 * (11 + 9)  # both curves share their ends
    large = insertion_deletion(toy.predict, photos, classes, maps, batch=1000, steps=10)
    np.testing.assert_array_equal(small.insertion, large.insertion)
    single = [insertion_deletion(toy.predict, photos[i : i + 1], classes[i : i + 1], maps[i : i + 1], steps=10).deletion
              for i in range(6)]  # fmt: skip
    np.testing.assert_array_equal(large.deletion, np.concatenate(single))


def test_maps_of_one_image_share_its_ends(toy, photos):
    maps = np.random.default_rng(2).random((4, 16, 16)).astype(np.float32)
    wanted = np.array([0, 1, 2, 0])
    toy.batches.clear()
    shared = insertion_deletion(toy.predict, photos[:1], wanted, maps, steps=8, batch=5)
    assert sum(toy.batches) == 2 + 4 * 2 * 7
    assert max(toy.batches) == 5
    apart = insertion_deletion(toy.predict, np.repeat(photos[:1], 4, axis=0), wanted, maps, steps=8)
    np.testing.assert_array_equal(shared.insertion, apart.insertion)
    np.testing.assert_array_equal(shared.deletion, apart.deletion)
    with pytest.raises(ArrayError, match="a map of 16 x 16 for each of 2 images, or any number of one"):
        insertion_deletion(toy.predict, photos[:2], wanted, maps)


def test_fills():
    images = np.random.default_rng(0).normal(size=(2, 3, 40, 48)).astype(np.float32)
    np.testing.assert_allclose(fill_images(images, "mean")[1, 2], images[1, 2].mean(), rtol=1e-4)
    expected = gaussian_filter(images.astype(np.float64), 40 * 10 / 224, mode="reflect", axes=(2, 3))
    np.testing.assert_allclose(fill_images(images, "blur"), expected, atol=1e-5)


@pytest.fixture(scope="module")
def torch_net():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 4), torch.nn.Softmax(-1),
    ).eval()  # fmt: skip
    net[4].weight.data *= 20
    return net


@pytest.mark.parametrize("fill", ["blur", "mean"])
def test_equals_torch_cam(torch_net, photos, classes, toy, fill):
    package = other_packages.torchcam()
    import torch

    maps = toy.explain(photos, classes)

    class Given:
        model = torch_net
        _hooks_off = nullcontext

        def __call__(self, class_idx, scores):
            return [torch.from_numpy(maps)]

        def fuse_cams(self, cams):
            return cams[0]

    under = torch.from_numpy(np.ascontiguousarray(fill_images(photos, fill)))
    theirs = package.metrics.DeletionInsertionMetric(Given(), steps=16, baseline=under)
    theirs.update(torch.from_numpy(photos), classes.tolist())

    def predict(images):
        return torch_net(torch.from_numpy(images)).detach().numpy()

    ours = InsertionDeletion(predict, fill=fill, steps=16)
    ours.update(photos, classes, maps)
    assert ours.compute()["insertion"] == pytest.approx(theirs.summary()["insertion_auc"], abs=1e-5)
    assert ours.compute()["deletion"] == pytest.approx(theirs.summary()["deletion_auc"], abs=1e-5)
    assert abs(ours.compute()["insertion_deletion"]) > 1e-3


def test_deletion_equals_quantus_pixel_flipping():
    """On images of one channel and mean zero, and maps without ties.

    Quantus flips channels apart, takes the mean of what is left at every step, and leaves the order of
    ties open.
    """
    quantus = other_packages.quantus()
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), torch.nn.Softmax(-1)).eval()
    rng = np.random.default_rng(3)
    images, maps = rng.normal(size=(3, 1, 8, 8)).astype(np.float32), rng.random((3, 8, 8)).astype(np.float32)
    images -= images.mean(axis=(1, 2, 3), keepdims=True)
    flipping = quantus.PixelFlipping(features_in_step=4, perturb_baseline=0.0, disable_warnings=True, normalise=False)
    theirs = flipping(
        model=net, x_batch=images, y_batch=np.arange(3), a_batch=maps[:, None], channel_first=True, softmax=True
    )
    ours = insertion_deletion(
        lambda x: net(torch.from_numpy(x)).detach().numpy(), images, np.arange(3), maps, fill="mean", steps=16
    )
    np.testing.assert_allclose(ours.deletion[:, 1:], np.array(theirs), atol=1e-5)


def test_refused(toy, photos, classes):
    maps = toy.explain(photos, classes)
    for steps in (0, 257):
        with pytest.raises(ArrayError, match="steps: expected 1 to 256"):
            insertion_deletion(toy.predict, photos, classes, maps, steps=steps)
    with pytest.raises(ArrayError, match="fill: expected one of 'blur', 'mean'"):
        fill_images(photos, "black")  # pyright: ignore[reportArgumentType]
