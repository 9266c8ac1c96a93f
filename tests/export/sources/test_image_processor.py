"""Image processors of transformers: our preprocessing is theirs on photos, or they are refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.sources.image_processor import read_processor
from cfcam.runtime.photos.images import open_image
from cfcam.runtime.photos.preprocess import prepare
from image_processors import PROCESSORS, SQUARE, processor, transformers
from PIL import Image
from shared_data import shared_path


@pytest.mark.parametrize("case", PROCESSORS)
def test_our_preprocessing_is_the_processors_on_photos(case: str) -> None:
    name, settings = PROCESSORS[case]
    theirs = processor(name, **settings)
    read = read_processor(theirs)
    spec = read.preprocessing.input_spec("image", *read.size)
    assert read.notes == ()
    worst = 0.0
    for path in sorted(shared_path("data/photos").glob("*.jpg")):
        photo = open_image(path)
        expected = theirs(images=photo, return_tensors="np")["pixel_values"][0]
        found = prepare(photo, spec).tensor
        assert found.shape == expected.shape
        worst = max(worst, float(np.abs(found - expected).max()) / float(np.abs(expected).max()))
    assert worst < 1e-6  # rounding of float32; Pillow resizes both


def test_timm_settings_in_the_format_of_transformers() -> None:
    pytest.importorskip("timm")
    config = {
        "input_size": [3, 64, 64],
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "mean": [0.5] * 3,
        "std": [0.4] * 3,
    }
    for mode in ("center", "squash"):
        theirs = transformers.TimmWrapperImageProcessor(pretrained_cfg={**config, "crop_mode": mode})
        read = read_processor(theirs)
        assert (read.size, read.preprocessing.input_spec("x", 64, 64).resize.size) == ((64, 64), 71)
    with pytest.raises(ExportError, match="crop mode 'border' on 64x64 cannot be followed: give --preset"):
        read_processor(transformers.TimmWrapperImageProcessor(pretrained_cfg={**config, "crop_mode": "border"}))


def test_what_cannot_be_followed_exactly_is_said() -> None:
    read = read_processor(processor("ViTImageProcessor", do_resize=False), (32, 48))
    assert (read.size, read.preprocessing.mode) == ((32, 48), "stretch")
    assert "expects photos of the right size: others are stretched to 32x48" in read.notes[0]
    read = read_processor(processor("BitImageProcessor", size={"shortest_edge": 64}, do_center_crop=False))
    assert (read.size, read.preprocessing.mode, read.preprocessing.crop) == ((64, 64), "shorter", "center")
    assert "the middle 64x64 is taken" in read.notes[0]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("MobileViTImageProcessor", {}, "crops 256x256 out of photos whose shorter side is 224, and fills the rest"),
        ("ViTImageProcessor", {"resample": 4}, "resample 4 is no filter of ours"),
        ("ViTImageProcessor", {"do_resize": False}, "does not resize and names no size"),
        ("ViTImageProcessor", {"size": {"max_height": 64, "max_width": 64}}, "cannot be followed"),
        (
            "PerceiverImageProcessor",
            {"size": SQUARE, "crop_size": {"height": 50, "width": 50}},
            "does more than its settings say, on a test photo",
        ),
    ],
)
def test_processors_that_cannot_be_read_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        read_processor(processor(name, **settings))
    assert "give --preset" in str(caught.value)


def test_a_processor_with_code_of_its_own_is_found_out() -> None:
    honest = processor("ViTImageProcessor", size=SQUARE)

    class Sharpening:
        """The settings of the honest one, and a little more contrast."""

        def __getattr__(self, name: str) -> Any:
            return getattr(honest, name)

        def __call__(self, **given: Any) -> Any:
            return {"pixel_values": honest(**given)["pixel_values"] * 1.1}

    with pytest.raises(ExportError, match=r"Sharpening: does more than its settings say, .* differs by"):
        read_processor(Sharpening())


def test_processors_of_older_versions_are_understood() -> None:
    """Older versions hold sizes as dictionaries and have no backends."""
    honest = processor("ViTImageProcessor", size=SQUARE)
    settings = {n: getattr(honest, n) for n in ("resample", "image_mean", "image_std", "do_resize", "do_rescale")}

    class Old(SimpleNamespace):
        def __call__(self, images: Image.Image, return_tensors: str) -> Any:
            return honest(images=images, return_tensors=return_tensors)

    old = Old(**settings, size=dict(SQUARE), do_normalize=True, rescale_factor=1 / 255)
    assert read_processor(old).size == (64, 64)
