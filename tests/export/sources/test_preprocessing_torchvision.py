"""The runtime's preprocessing against torchvision's own transforms, which models are trained with."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.contract.spec import InputSpec, ResizeSpec
from cfcam.runtime.photos.images import find_images, open_image
from cfcam.runtime.photos.preprocess import prepare
from PIL import Image
from shared_data import shared_path
from torchvision_compat import import_torchvision

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _transform(resize: int, crop: int, interpolation: str):
    import_torchvision()
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(resize, interpolation=transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(_MEAN, _STD),
        ]
    )


def _spec(resize: int, crop: int, interpolation: str) -> InputSpec:
    rule = ResizeSpec(mode="shorter", size=resize, interpolation=interpolation)  # type: ignore[arg-type]
    return InputSpec(name="x", height=crop, width=crop, scale=1 / 255, mean=_MEAN, std=_STD, resize=rule)


def _difference_in_levels(photo: Image.Image, resize: int, crop: int, interpolation: str) -> float:
    ours = prepare(photo, _spec(resize, crop, interpolation)).tensor
    theirs = np.asarray(_transform(resize, crop, interpolation)(photo))
    assert ours.shape == theirs.shape
    return float((np.abs(ours - theirs) * np.array(_STD)[:, None, None]).max() * 255)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_photos_give_the_same_pixels(interpolation):
    photos = find_images([shared_path("data/photos")])
    assert len(photos) >= 10
    for path in photos:
        assert _difference_in_levels(open_image(path), 256, 224, interpolation) < 1e-3, path


@pytest.mark.parametrize("size", [(1, 1), (2, 301), (301, 2), (97, 98), (255, 257), (333, 500), (1000, 33), (224, 224)])
@pytest.mark.parametrize(("resize", "crop"), [(40, 33), (41, 32), (256, 224), (232, 224), (33, 33)])
def test_rounding_of_sides_and_offsets(size, resize, crop):
    width, height = size
    photo = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))
    assert _difference_in_levels(photo, resize, crop, "bilinear") < 1e-3
