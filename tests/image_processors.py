"""Image processors of transformers, one for every rule that those of image classifiers follow."""

from __future__ import annotations

from typing import Any

import pytest
from torchvision_compat import import_torchvision

import_torchvision()
transformers: Any = pytest.importorskip("transformers")

__all__ = ["PROCESSORS", "SIZE", "SQUARE", "processor", "transformers"]

SIZE = 64
SQUARE = {"height": SIZE, "width": SIZE}


def processor(name: str, **settings: Any) -> Any:
    """The Pillow form of an image processor, which transformers 5 gives a name of its own."""
    return getattr(transformers, f"{name}Pil")(**settings)


# Every rule that image classifiers' processors follow, at sizes whose crops leave odd rests.
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("ViTImageProcessor", {"size": SQUARE}),
    "int size": ("ViTImageProcessor", {"size": SIZE, "resample": 3}),
    "stretch then crop": ("DeiTImageProcessor", {"size": {"height": 73, "width": 73}, "crop_size": SQUARE}),
    "not square": ("BeitImageProcessor", {"size": {"height": 48, "width": 80}}),
    "shorter side": ("BitImageProcessor", {"size": {"shortest_edge": 73}, "crop_size": SQUARE}),
    "crop of two sides": (
        "BitImageProcessor",
        {"size": {"shortest_edge": 90}, "crop_size": {"height": 48, "width": 80}},
    ),
    "crop share": ("ConvNextImageProcessor", {"size": {"shortest_edge": SIZE}, "crop_pct": 0.8}),
    "crop share, large": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "crop share and crop": ("PoolFormerImageProcessor", {"size": {"shortest_edge": SIZE}, "crop_size": SQUARE}),
    "LeViT": ("LevitImageProcessor", {"size": {"shortest_edge": SIZE}, "crop_size": SQUARE}),
    "BGR": ("MobileViTImageProcessor", {"size": {"shortest_edge": 72}, "crop_size": SQUARE}),
    "EfficientNet": (
        "EfficientNetImageProcessor",
        {"size": SQUARE, "resample": 0, "image_std": [0.479, 0.473, 0.474], "rescale_offset": True},
    ),
    "scale to -1..1": ("ViTImageProcessor", {"size": SQUARE, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3}),
    "no rescale": ("ViTImageProcessor", {"size": SQUARE, "do_rescale": False, "image_mean": [127.0] * 3}),
    "no normalisation": ("ViTImageProcessor", {"size": SQUARE, "do_normalize": False, "resample": 1}),
}
