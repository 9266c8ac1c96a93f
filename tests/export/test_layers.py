"""`list_layers`: one form of list for ONNX files and PyTorch modules."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import onnx
import pytest
from cfcam.export import ExportError, LayerError, UnsupportedOperatorError
from cfcam.export.layers import list_layers
from cfcam.export.reverse import LayerView, differentiate
from cfcam.runtime.errors import ModelFileError
from layered_nets import chain, conv_net
from onnx import TensorProto, helper


def test_onnx_candidates_say_everything():
    found = list_layers(conv_net())
    assert (found.kind, found.score, found.output, found.classes) == ("onnx", "scores", "probabilities", 7)
    assert found.exported is None
    assert [layer.name for layer in found.layers] == ["r1", "r2"], "c1 and c2 only feed an activation"
    first, last = found.layers
    assert first.aliases == ("first_relu",)
    assert (first.operator, first.shape, first.layout, first.channels) == ("Relu", ("N", 4, 12, 16), "NCHW", 4)
    assert (first.grid, first.depth, first.prefix_tokens) == ((12, 16), 1, 0)
    assert last.grid == (6, 8)
    assert last.depth == 3
    assert found.default is last
    assert "GlobalAveragePool 'pool'" in last.why
    assert not first.why
    assert not first.refused


@pytest.mark.parametrize("layer", ["r1", "second_act", "c2"])
def test_every_name_is_one_that_the_exporter_takes(layer):
    """Aliases too, and values that the list leaves out."""
    assert differentiate(conv_net(), layer).layer.channels in (4, 5)


def test_layers_in_front_of_an_operator_without_a_rule_say_so():
    model = conv_net(middle="Bernoulli")
    refused = {layer.name: layer.refused for layer in list_layers(model).layers}
    assert "Bernoulli" in refused["r1"]
    assert "no derivative rule" in refused["r1"]
    assert not refused["r2"], "what lies behind it can be explained"


def test_an_exported_file_names_the_layer_as_people_do(tiny_path):
    found = list_layers(tiny_path("softmax-and-logits"))
    assert found.exported == "relu"
    assert found.output == "probabilities"
    assert [layer.name for layer in found.layers] == ["relu"]
    assert found.default is not None
    assert found.default.channels == 8


def test_plain_json_values():
    import json

    document = json.loads(json.dumps(list_layers(conv_net()).to_dict()))
    assert document["default"] == "r2"
    assert document["layers"][0]["shape"] == ["N", 4, 12, 16]
    assert set(document["layers"][0]) == {
        field.name for field in dataclasses.fields(type(list_layers(conv_net()).layers[0]))
    }


def test_what_is_no_classifier(tmp_path):
    model = conv_net()
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("r2", TensorProto.FLOAT, ["N", 5, 6, 8]))
    with pytest.raises(ExportError, match="scores"):
        list_layers(model)
    with pytest.raises(ExportError, match="no value 'nothing'"):
        list_layers(conv_net(), score="nothing")
    with pytest.raises(ModelFileError, match="no such file"):
        list_layers(tmp_path / "none.onnx")


@pytest.mark.parametrize("form", ["Relu c -> a", "QuantizeLinear c s z -> c1; DequantizeLinear c1 s z -> a"])
@pytest.mark.parametrize(("stride", "grid"), [((6, 1), (1, 8)), ((1, 8), (6, 1))])
def test_one_row_or_column_is_a_grid(stride, grid, form):
    """By default, by name, and as tokens whose grid is given."""
    rows, columns = stride
    made = chain(
        f"Conv image w1 -> b; MaxPool b -> c kernel_shape={rows},{columns} strides={rows},{columns}; {form};"
        "Reshape a three -> q; Transpose q -> t perm=0,2,1; ReduceMean t middle -> f keepdims=0; MatMul f m -> scores"
    )
    for name in (None, "a", "t"):
        layer = differentiate(made, name).layer
        assert (layer.channels, layer.grid, layer.assumed) == (4, grid, False)
    assert differentiate(made, "t", view=LayerView(grid=grid)).layer.grid == grid
    with pytest.raises(LayerError, match=r"has (8|6) tokens"):
        differentiate(made, "t", view=LayerView(grid=(3, 3)))
    with pytest.raises(LayerError, match=f"layer 'a' has a grid of {grid[0]}x{grid[1]}, not 2x3"):
        differentiate(made, "a", view=LayerView(grid=(2, 3)))


def test_integers_throughout_are_the_reason_why_no_layer_is_there():
    made = chain("QLinearConv image s z w1 s z s z -> a; Flatten a -> f; MatMul f m -> scores")
    with pytest.raises(UnsupportedOperatorError, match="integer-only quantised operator has no gradient; quantise"):
        differentiate(made)


def test_a_form_that_its_rule_refuses_is_said_by_the_list_too():
    """Mod has a rule, but not for a divisor that depends on the layer: the list says what the export would say."""
    made = chain(
        "Conv image w1 -> a; Relu a -> e; Softplus e -> d; Mod e d -> y fmod=1; Relu y -> e2;"
        "GlobalAveragePool e2 -> p; Flatten p -> f; MatMul f m -> scores"
    )
    found = {layer.name: layer.refused for layer in list_layers(made).layers}
    assert "its divisor depends on the layer" in found["e"]
    assert found["e2"] == ""
    with pytest.raises(UnsupportedOperatorError, match="the nearest layer behind it that works is 'e2'"):
        differentiate(made, "e")


def test_onnx_files_need_no_pytorch(tmp_path):
    onnx.save(conv_net(), str(tmp_path / "net.onnx"))
    code = """
import sys
sys.modules["torch"] = None
from cfcam.export.layers import list_layers
print(list_layers(sys.argv[1]).default.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "net.onnx")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "r2\n"), done.stderr


class TestTorch:
    """A PyTorch module gives the same form."""

    @pytest.fixture
    def found(self):
        pytest.importorskip("torch")
        from small_nets import ConvNet, seeded

        return list_layers(seeded(ConvNet()), (40, 56))

    def test_names_of_modules_and_values(self, found):
        layers = {layer.name: layer for layer in found.layers}
        assert found.kind == "torch"
        assert found.classes == 10
        assert set(layers) == {"act:0", "pool", "act:1", "act:2"}, "what only feeds an activation is left out"
        assert layers["pool"].shape == ("N", 8, 11, 15)
        assert layers["pool"].grid == (11, 15)
        assert layers["pool"].operator == "max_pool2d"
        assert layers["act:1"].aliases, "the traced value can be named too"
        depths = [layer.depth for layer in found.layers]
        assert depths == sorted(depths)

    def test_default_and_why(self, found):
        assert found.default.name == "act:2"
        assert found.default.why == "enters the last global pooling"
        assert [layer.why for layer in found.layers if not layer.default] == [""] * 3

    def test_tokens(self):
        pytest.importorskip("torch")
        from torch import nn

        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.patch = nn.Conv2d(3, 12, 8, stride=8)
                self.block = nn.Linear(12, 12)
                self.norm = nn.LayerNorm(12)
                self.head = nn.Linear(12, 5)

            def forward(self, x):
                tokens = self.patch(x).flatten(2).transpose(1, 2)
                return self.head(self.norm(tokens + self.block(tokens)).mean(1))

        found = list_layers(Tokens(), (32, 48))
        assert found.default is not None
        assert found.default.name == "norm"
        assert (found.default.layout, found.default.shape, found.default.grid) == ("NTC", ("N", 24, 12), (4, 6))

    def test_a_module_without_a_pooling(self):
        pytest.importorskip("torch")
        from torch import nn

        class OneCell(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 5, 3)

            def forward(self, x):
                return self.conv(x).relu().select(3, 0).select(2, 0)

        found = list_layers(OneCell(), 16)
        assert [layer.name for layer in found.layers] == ["relu"]
        assert "select" in found.layers[0].why
