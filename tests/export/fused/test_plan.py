"""What can be fused, and why not."""

from dataclasses import replace

import pytest
from cfcam.export.errors import ExportError
from cfcam.export.fused.plan import plan_fused, stated_settings
from cfcam.runtime.contract.spec import CamSpec, InputSpec, LayerSpec, OutputSpec, SourceSpec

LAYER = LayerSpec(name="l", value="l", channels=6000, grid=(7, 7), pooled=True)
SPEC = CamSpec(
    input=InputSpec(name="x", height=224, width=224, scale=1.0, mean=(0.0,), std=(1.0,), color="gray"),
    output=OutputSpec(name="y", score="y", classes=3),
    layers=(LAYER,),
    source=SourceSpec(kind="onnx", name="m", sha256="0"),
)


def test_defaults_are_the_hosts():
    plan = plan_fused(SPEC)
    assert (plan.form, plan.method, plan.size, plan.clustered) == ("static", "cfcam", (224, 224), 512)
    assert stated_settings(plan)["last"] is True
    assert stated_settings(plan)["contrast"] == 0.3
    assert plan_fused(SPEC, map_size="detail").size == (7, 7)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"method": "scorecam"}, "runs the model again"),
        ({}, {"method": "eigencam"}, "not written for graphs"),
        ({}, {"settings": {"clustering": "random"}}, "control"),
        ({}, {"settings": {"most_clustered": None}, "form": "static"}, "can do 3840.*cpu, or export"),
        ({"channels": 9000}, {"settings": {"most_clustered": None}, "form": "cpu"}, "can do 8192.*512.*, or export"),
        ({"channels": 4}, {"settings": {"min_samples": 5}}, "noise"),
        ({"grid": (300, 300)}, {}, "--map-size detail"),
    ],
)
def test_what_cannot_be_fused_is_refused_in_a_sentence(change, options, words):
    spec = replace(SPEC, layers=(replace(LAYER, **change),))
    with pytest.raises(ExportError, match=words):
        plan_fused(spec, **options)


def test_several_layers_are_refused():
    more = replace(LAYER, name="k", value="k", activations="cam_activations_1", gradients="cam_gradients_1")
    with pytest.raises(ExportError, match="2 target layers"):
        plan_fused(replace(SPEC, layers=(LAYER, more)))
