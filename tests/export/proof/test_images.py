"""Random images with structure, without PyTorch."""

import numpy as np
import pytest
from cfcam.export.proof.images import structured_images, structured_noise
from cfcam.runtime.contract.spec import InputSpec
from cfcam.runtime.photos.preprocess import prepare
from PIL import Image


def test_structure_at_all_scales():
    noise = structured_noise(3, 2, 40, 56)
    assert noise.shape == (3, 2, 40, 56)
    assert noise.std(axis=(1, 2, 3)) == pytest.approx(1)
    coarse = noise.reshape(3, 2, 4, 10, 4, 14).mean(axis=(3, 5))
    assert coarse.std() > 0.3, "white noise would have 1 / sqrt(140) = 0.08"
    assert np.abs(np.diff(noise, axis=3)).mean() > 0.2, "single pixels differ too"
    assert not np.allclose(noise[0], noise[1])
    assert np.array_equal(noise, structured_noise(3, 2, 40, 56)), "seeded"
    assert not np.array_equal(noise, structured_noise(3, 2, 40, 56, seed=1))


def test_enlarging_is_pytorchs_bilinear():
    torch = pytest.importorskip("torch")
    from cfcam.export.proof.images import _enlarge

    small = np.random.RandomState(0).randn(5, 5)
    for height, width in ((17, 30), (3, 5)):
        found = _enlarge(height, 5) @ small @ _enlarge(width, 5).T
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(small)[None, None], size=(height, width), mode="bilinear", align_corners=False
        )
        assert found == pytest.approx(expected[0, 0].numpy())


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(name="x", height=20, width=30, scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
        InputSpec(name="x", height=20, width=30, scale=1, mean=(0, 0, 0), std=(1, 1, 1), layout="NHWC", color="bgr"),
        InputSpec(name="x", height=9, width=8, scale=1, mean=(127,), std=(128,), color="gray", dtype="float16"),
    ],
)
def test_values_lie_where_a_photo_would_put_them(spec):
    images = structured_images(spec, 4)
    assert images.shape == spec.shape(4)
    assert images.dtype == spec.dtype
    ends = [prepare(Image.new("RGB", (8, 8), colour), spec).tensor for colour in ("black", "white")]
    assert (images >= ends[0] - 1e-3).all()
    assert (images <= ends[1] + 1e-3).all()
    span = float((ends[1] - ends[0]).max())
    assert 0.1 < images.astype(float).std() / span < 0.4
