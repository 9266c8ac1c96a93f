"""Which layers are asked for, and what they are called in the file."""

from __future__ import annotations

import pytest
from cfcam.export.errors import LayerError
from cfcam.export.target_layers import asked_layers, for_each_layer, output_names, refuse_repeated


def test_one_layer_several_or_the_default() -> None:
    assert asked_layers(None) == [None]
    assert asked_layers("layer4") == ["layer4"]
    assert asked_layers(("layer4", None)) == ["layer4", None]
    with pytest.raises(LayerError, match="no target layer is named: give at least one, or None for the default"):
        asked_layers([])


def test_an_option_speaks_of_all_layers_or_of_each() -> None:
    def is_grid(given: object) -> bool:
        return isinstance(given, tuple)

    assert for_each_layer(None, 2, "grids", is_grid) == [None, None]
    assert for_each_layer((7, 7), 2, "grids", is_grid) == [(7, 7), (7, 7)]
    assert for_each_layer([(7, 7), None], 2, "grids", is_grid) == [(7, 7), None]
    with pytest.raises(LayerError, match="1 grids for 2 layers: give one for each, None where nothing is to say"):
        for_each_layer([(7, 7)], 2, "grids", is_grid)


def test_the_first_layers_outputs_have_no_number() -> None:
    assert output_names(0) == ("cam_activations", "cam_gradients")
    assert output_names(2, "a", "g") == ("a_2", "g_2")


@pytest.mark.parametrize(
    ("asked", "values", "words"),
    [
        (["x", "x"], ["v", "v"], "layer 'x' is named twice: name each layer once"),
        ([None, None], ["v", "v"], "layer the default layer is named twice"),
        (["x", "y", None], ["v", "w", "v"], "layers 'x' and the default layer are the same value, 'v'"),
    ],
)
def test_no_value_twice(asked: list[str | None], values: list[str], words: str) -> None:
    with pytest.raises(LayerError, match=words):
        refuse_repeated(asked, values)
    refuse_repeated(asked, [str(place) for place in range(len(asked))])
