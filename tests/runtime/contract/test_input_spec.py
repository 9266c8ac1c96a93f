"""What a `CamSpec` says of the image input."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cfcam.runtime.contract.spec import CamSpec, FoldedSpec
from cfcam.runtime.errors import SpecError
from tiny_model import VARIANTS

_SPEC = VARIANTS["logits"].spec


def test_channels_and_their_range():
    said = {"color": "channels", "mean": (0.0,) * 5, "std": (1.0,) * 5, "dtype": "int8", "photo_range": (-10.0, 4095.0)}
    spec = replace(_SPEC, input=replace(_SPEC.input, **said))
    assert spec.input.channels == 5
    assert spec.input.shape(2) == (2, 5, 32, 48)
    assert spec.to_dict()["input"]["photo_range"] == [-10, 4095]
    assert CamSpec.from_json(spec.to_json()) == spec
    assert "photo_range" not in _SPEC.to_dict()["input"]
    for ends in ((1.0, 1.0), (0.0, float("inf"))):
        with pytest.raises(SpecError, match=r"LOW < HIGH|finite"):
            replace(spec, input=replace(spec.input, photo_range=ends))
    with pytest.raises(SpecError, match="mean: expected"):
        replace(spec, input=replace(spec.input, mean=(), std=()))


def test_a_mode_that_decides_for_each_photo_has_no_size():
    fit = replace(_SPEC.input.resize, mode="fit", size=None, crop="none")
    assert replace(_SPEC, input=replace(_SPEC.input, resize=fit)).input.resize.mode == "fit"
    with pytest.raises(SpecError, match="fit"):
        replace(_SPEC, input=replace(_SPEC.input, resize=replace(fit, size=64, crop="center")))


def test_folded_preprocessing():
    count = _SPEC.input.channels
    folded = FoldedSpec(scale=1 / 255, mean=(0.5,) * count, std=(0.25,) * count)
    pixels = replace(_SPEC.input, scale=1.0, mean=(0.0,) * count, std=(1.0,) * count, folded=folded)
    spec = replace(_SPEC, input=pixels)
    assert CamSpec.from_json(spec.to_json()) == spec
    assert spec.input.blank == pytest.approx((127.5,) * count)
    assert spec.input.centred.mean == spec.input.blank
    assert _SPEC.input.blank == (0.0,) * count
    assert _SPEC.input.centred is _SPEC.input
    assert "folded" not in _SPEC.to_dict()["input"]
    for wrong, words in (
        (replace(pixels, scale=0.5), "takes pixels as they are"),
        (replace(pixels, folded=replace(folded, std=(0.0,) * count)), "input.folded: scale and std"),
        (replace(pixels, folded=replace(folded, mean=(0.5,))), "input.folded.mean"),
    ):
        with pytest.raises(SpecError, match=words):
            replace(_SPEC, input=wrong)
