"""Faults that were put into models on purpose, found by name; and the same photos without them, where they are not."""

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import torch
from cfcam.calibration.audit import AuditOptions, audit
from cfcam.export import export_torch, preset
from PIL import Image
from small_photos import make_photos
from torch import Tensor, nn

SIDE = 32


class Reader(nn.Module):
    """Says whether there is more red than blue; `corner`: in the watermark, lower right, and nowhere else.

    The first two channels are the colours, and the mask is a weight, so that the model is plain convolutions.
    """

    def __init__(self, corner: bool) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 2, 4, stride=4, bias=False)
        mask = torch.zeros(1, 1, SIDE // 4, SIDE // 4)
        if corner:
            mask[..., 6:, 6:] = 16.0
        else:
            mask[..., 1:5, 1:5] = 4.0
        self.mask = nn.Parameter(mask)
        with torch.no_grad():
            self.colours.weight.zero_()
            self.colours.weight[0, 0] = self.colours.weight[1, 2] = 1 / 16

    def forward(self, image: Tensor) -> Tensor:
        features = torch.relu(self.colours(image)) * self.mask
        return 12 * features.mean((2, 3))


def photos_of(folder):
    """An object of the class's colour, upper left, and a watermark of the same colour, lower right, on grey."""
    folder.mkdir()
    random = np.random.default_rng(0)
    lines = ["file,x0,y0,x1,y1,target"]
    paths = []
    for number in range(12):
        pixels = random.integers(40, 60, (SIDE, SIDE, 3)).astype(np.uint8)
        target = number % 2
        for place in (slice(4, 20), slice(24, 32)):
            pixels[place, place] = (220, 0, 30) if target == 0 else (30, 0, 220)
        paths.append(folder / f"{number:02}.png")
        Image.fromarray(pixels).save(paths[-1])
        lines.append(f"{paths[-1].name},0.125,0.125,0.625,0.625,{target}")
    (folder.parent / "boxes.csv").write_text("\n".join(lines) + "\n")
    return paths


@pytest.mark.parametrize("corner", [False, True])
def test_a_model_that_reads_the_watermark_is_found_and_one_that_reads_the_object_is_not(tmp_path, corner):
    photos = photos_of(tmp_path / "photos")
    model = tmp_path / "reader.cam.onnx"
    export_torch(Reader(corner).eval(), SIDE, model, preprocessing=preset("tf").override(mode="stretch"))
    found = audit(model, photos, tmp_path / "a", AuditOptions(method="hirescam", boxes=tmp_path / "boxes.csv"))
    counts = {name: (one["count"], one["of"]) for name, one in found["findings"].items()}
    wrong = (12, 12) if corner else (0, 12)
    assert counts["off_object"] == wrong
    assert counts["background"] == wrong
    assert counts["map_does_not_matter"] == (0, 12)  # either map shows what the model reads


def test_eigencam_is_found_blind_to_the_class_and_gradcam_is_not(tiny_path, tmp_path):
    photos = make_photos(tmp_path / "photos", 20)
    for method, expected in (("eigencam", 20), ("gradcam", 0)):
        document = audit(tiny_path("logits"), photos, tmp_path / method, AuditOptions(method=method))
        blind = document["findings"]["class_blind"]
        assert (blind["count"], blind["of"]) == (expected, 20)
