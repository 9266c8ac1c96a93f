"""Pass 2: layers are values, with every name that people know them by."""

from __future__ import annotations

import pytest
import torch
from cfcam.export.errors import ExportError, LayerError
from cfcam.export.traced.candidates import candidates, find_score, resolve_value
from cfcam.export.traced.capture import Captured, capture
from cfcam.export.traced.float64 import values_of
from small_nets import ConvNet, HeadConv, TwoOutputs, seeded
from torch import nn

EXAMPLE = torch.zeros(1, 3, 40, 40)


@pytest.fixture(scope="module")
def captured() -> Captured:
    return capture(seeded(ConvNet()), EXAMPLE)


def test_the_default_enters_the_last_pooling_after_its_non_linearity(captured: Captured) -> None:
    value = resolve_value(captured, find_score(captured), None)
    assert value.name == "act:2"
    assert value.operator == "relu"
    assert value.shape == (16, 6, 6)
    assert value.pooled


def test_a_call_index_names_one_call_of_a_module(captured: Captured) -> None:
    score = find_score(captured)
    shapes = [resolve_value(captured, score, f"act:{i}").shape for i in range(3)]
    assert shapes == [(8, 20, 20), (12, 11, 11), (16, 6, 6)]


def test_a_traced_value_and_a_module_path_are_two_names_of_one_layer(captured: Captured) -> None:
    score = find_score(captured)
    by_path = resolve_value(captured, score, "conv2")
    assert resolve_value(captured, score, by_path.node.name).node is by_path.node
    assert resolve_value(captured, score, "conv2:0").node is by_path.node
    assert not by_path.pooled


def test_an_ambiguous_path_lists_its_calls(captured: Captured) -> None:
    with pytest.raises(LayerError, match="'act' is called 3 times: choose one of act:0, act:1, act:2"):
        resolve_value(captured, find_score(captured), "act")


def test_a_wrong_name_is_answered_with_the_nearest_and_the_candidates(captured: Captured) -> None:
    with pytest.raises(LayerError, match=r"no layer 'conv9'; did you mean .*'conv[123]'.*conv3 16x") as caught:
        resolve_value(captured, find_score(captured), "conv9")
    assert "\n" not in str(caught.value)


def test_a_layer_without_a_grid_says_its_shape(captured: Captured) -> None:
    with pytest.raises(LayerError, match=r"layer 'fc' has shape \(N, 10\)"):
        resolve_value(captured, find_score(captured), "fc")


def test_values_that_do_not_reach_the_score_are_no_candidates() -> None:
    class Aside(ConvNet):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            features = self.features(image)
            return self.fc(features.mean((2, 3))), self.pool(features)

    captured = capture(seeded(Aside()), EXAMPLE)
    score = find_score(captured)
    assert all("pool:1" not in value.names for value in candidates(captured, score))
    with pytest.raises(LayerError, match="'pool:1' does not reach the score"):
        resolve_value(captured, score, "pool:1")


def test_the_score_is_the_logit_before_the_final_softmax() -> None:
    captured = capture(seeded(HeadConv()), EXAMPLE)
    score = find_score(captured)
    assert (score.kind, score.classes) == ("softmax", 10)
    assert score.node is not score.output
    image = torch.randn(2, 3, 40, 40)
    logits, shown = values_of(captured.graph, image, score.node, score.output)
    torch.testing.assert_close(torch.softmax(logits.flatten(1), 1), shown)


def test_the_first_output_of_shape_n_by_classes_is_the_score_and_another_can_be_chosen() -> None:
    captured = capture(seeded(TwoOutputs()), EXAMPLE)
    assert find_score(captured).position == 1
    assert find_score(captured, 1).position == 1
    with pytest.raises(ExportError, match=r"no output looks like class scores.*0: \(N, 16, "):
        find_score(captured, 0)
    with pytest.raises(ExportError, match="the model has 2 outputs"):
        find_score(captured, 7)


def test_a_segmentation_model_is_told_what_cfcam_explains() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with pytest.raises(ExportError, match=r"0: \(N, 4, 40, 40\).*wrap the module"):
        find_score(capture(net, EXAMPLE))


def test_flattened_heads_take_the_value_before_the_flatten() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(5),
        nn.Flatten(),
        nn.Linear(150, 7),
    )
    captured = capture(seeded(net), EXAMPLE)
    value = resolve_value(captured, find_score(captured), None)
    # The adaptive pooling finds a 5x5 grid and changes nothing; the pooled map is the layer.
    assert value.name == "2"
    assert not value.pooled
