"""What a `CamSpec` says of target and detail layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cfcam.runtime.contract.spec import CamSpec, DetailSpec
from cfcam.runtime.errors import SpecError
from tiny_model import VARIANTS

_SPEC = VARIANTS["logits"].spec
_DETAIL = DetailSpec(name="early", value="e", layout="NHWC", channels=9, grid=(16, 24), why="said so")


def test_detail_and_rivals_are_written_where_there_are_some():
    layer = replace(_SPEC.layer, detail=_DETAIL, rivals="cam_rivals")
    spec = replace(_SPEC, layers=(layer,))
    assert CamSpec.from_json(spec.to_json()) == spec
    assert layer.outputs == ("cam_activations", "cam_gradients", "cam_detail", "cam_rivals")
    assert spec.added_outputs == ("cam_class", *layer.outputs)
    assert not {"detail", "rivals"} & set(_SPEC.to_dict()["layer"])  # older versions know no such keys
    assert _SPEC.layer.outputs == ("cam_activations", "cam_gradients")


def test_a_detail_layer_reads_as_a_layer_does():
    as_layer = _DETAIL.as_layer()
    for name in ("name", "value", "layout", "channels", "grid", "prefix_tokens", "activations"):
        assert getattr(as_layer, name) == getattr(_DETAIL, name)


@pytest.mark.parametrize(
    "wrong", [{"channels": 0}, {"grid": (0, 3)}, {"grid": (1 << 20, 1 << 20)}, {"prefix_tokens": -1}]
)
def test_impossible_sizes_are_refused(wrong):
    for layer in (replace(_SPEC.layer, **wrong), replace(_SPEC.layer, detail=replace(_DETAIL, **wrong))):
        with pytest.raises(SpecError, match="CamSpec layer"):
            replace(_SPEC, layers=(layer,))
