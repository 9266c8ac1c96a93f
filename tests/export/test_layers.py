"""`list_layers`: one form of list for ONNX files and PyTorch modules."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from cfcam.export import ExportError, LayerError, UnsupportedOperatorError
from cfcam.export.layers import list_layers
from cfcam.export.reverse import LayerView, differentiate
from cfcam.runtime.errors import ModelFileError
from onnx import TensorProto, helper, numpy_helper


def conv_net(*, tail: str = "GlobalAveragePool", middle: str = "Relu") -> onnx.ModelProto:
    """Conv, Relu, Conv, `middle`, `tail`, Flatten, Gemm, Softmax on 12x16 images."""
    random = np.random.RandomState(0)
    features = 5 if tail == "GlobalAveragePool" else 5 * 6 * 8
    constants = {
        "w1": random.randn(4, 3, 3, 3),
        "w2": random.randn(5, 4, 3, 3),
        "matrix": random.randn(7, features),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="first_relu"),
        node("Conv", ["r1", "w2"], ["c2"], name="second", pads=[1, 1, 1, 1], strides=[2, 2]),
        node(middle, ["c2"], ["r2"], name="second_act"),
    ]
    pooled = "r2"
    if tail == "GlobalAveragePool":
        nodes.append(node(tail, ["r2"], ["p"], name="pool"))
        pooled = "p"
    nodes += [
        node("Flatten", [pooled], ["f"], name="flat"),
        node("Gemm", ["f", "matrix"], ["scores"], transB=1),
        node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 12, 16])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def chain(text: str, stated: dict[str, list] | None = None) -> onnx.ModelProto:
    """A network on 12x16 images, written as "Operator inputs -> output attribute=1,2; ...".

    stated: shapes that no inference knows. Inverse, which has no rule, is ONNX Runtime's own.
    """
    random = np.random.RandomState(0)
    weights = {
        "w1": (4, 3, 3, 3),
        "w2": (4, 3, 3, 3),
        "whole": (4, 4, 6, 8),
        "m": (4, 7),
        "flat": (576, 4),
        "mean": (1,),
    }
    integers = {
        "two": [-1, 4], "three": [0, 4, -1], "last": [-1], "middle": [1], "inner": [1, 2], "grid": [2, 3],
        "zeros": [0, 0], "ones": [1, 1], "none": 0,
    }  # fmt: skip
    constants = {name: random.randn(*shape).astype(np.float32) for name, shape in weights.items()}
    constants |= {name: np.array(values, np.int64) for name, values in integers.items()}
    constants |= {"s": np.array(0.05, np.float32), "z": np.array(0, np.int8)}
    nodes, read = [], set()
    for step in filter(None, map(str.strip, text.split(";"))):
        left, right = (side.split() for side in step.split("->"))
        attributes: dict[str, Any] = {}
        for word in right[1:]:
            name, _, value = word.partition("=")
            attributes[name] = [int(v) for v in value.split(",")] if "," in value else int(value)
        if left[-1] in ("w1", "w2"):
            attributes = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
        domain = "com.microsoft" if left[0] == "Inverse" else ""
        nodes.append(helper.make_node(left[0], left[1:], right[:1], domain=domain, **attributes))
        read |= {*left[1:]}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 12, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in read],
        value_info=[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (stated or {}).items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


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


def test_flatten_is_an_end_too():
    default = list_layers(conv_net(tail="Flatten")).default
    assert default is not None
    assert default.name == "r2"
    assert "flatten" in default.why


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


def test_where_no_pooling_ends_the_grid_its_last_value_is_the_default():
    """Scores that are read off one cell: no pooling and no flatten of a grid."""
    model = conv_net()
    pool = next(node for node in model.graph.node if node.name == "pool")
    pool.CopyFrom(helper.make_node("Slice", ["r2", "begin", "end", "axes"], ["p"]))
    for name, values in {"begin": [0, 0], "end": [1, 1], "axes": [2, 3]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    found = list_layers(model)
    assert [layer.name for layer in found.layers] == ["r1", "r2"]
    assert found.default is not None
    assert (found.default.name, found.default.why) == ("r2", "the last value with a grid; enters Slice 'Slice_p'")


def test_no_default_is_no_error():
    """Two branches that meet as scores only: no value with a grid is passed by both."""
    made = chain(
        "Conv image w1 -> a; GlobalAveragePool a -> ap; Flatten ap -> af; MatMul af m -> as;"
        "Conv image w2 -> b; GlobalAveragePool b -> bp; Flatten bp -> bf; MatMul bf m -> bs; Add as bs -> scores"
    )
    found = list_layers(made)
    assert [layer.name for layer in found.layers] == ["a", "b"]
    assert found.default is None
    assert found.to_dict()["default"] is None
    with pytest.raises(LayerError, match=r"no value with a grid is passed .* name a layer; candidates: a \(N, 4, "):
        differentiate(made)
    for name in ("a", "b"):
        assert differentiate(made, name).layer.name == name


@pytest.mark.parametrize("start", ["", "Sub image mean -> image2; Relu image2 -> image3; "])
def test_a_network_without_a_grid_says_so(start):
    """A perceptron on the flattened image: the image itself, normalised or not, is no layer."""
    source = "image3" if start else "image"
    made = chain(f"{start}Flatten {source} -> f; MatMul f flat -> h; Relu h -> r; MatMul r m -> scores")
    assert list_layers(made).layers == ()
    with pytest.raises(LayerError, match="the model has no layer with a grid: behind the image no value keeps rows"):
        differentiate(made)


# What a pooling may look like in an ONNX file; `a` (N, 4, 6, 8) is what it pools, or its NHWC form `t`.
POOLINGS = {
    "global": ("GlobalAveragePool a -> p; Flatten p -> f", "a"),
    "as (N, 1, 1, C)": ("GlobalAveragePool a -> p; Transpose p -> q perm=0,2,3,1; Reshape q two -> f", "a"),
    "flatten(2).mean(-1)": ("Reshape a three -> q; ReduceMean q last -> f keepdims=0", "a"),
    "flatten(2).mean(-1), twice": (
        "Reshape a three -> q; ReduceMean q last -> f1 keepdims=0; Reshape a three -> o; ReduceMean o last -> f2 "
        "keepdims=0; Add f1 f2 -> f",
        "a",
    ),
    "tokens": (
        "Reshape a three -> q; Transpose q -> t perm=0,2,1; ReduceMean t middle -> f keepdims=0",
        "t",
    ),
    "one side after the other": ("ReduceMean a last -> q keepdims=0; ReduceMean q last -> f keepdims=0", "a"),
    "NHWC": ("Transpose a -> t perm=0,2,3,1; ReduceMean t inner -> f keepdims=0", "t"),
    "window": ("AveragePool a -> p kernel_shape=6,8; Flatten p -> f", "a"),
    "large window": ("AveragePool a -> p kernel_shape=5,8; GlobalAveragePool p -> q; Flatten q -> f", "a"),
    "convolution": ("Conv a whole -> p; Flatten p -> f", "a"),
    "quantised": (
        "QuantizeLinear a s z -> q; DequantizeLinear q s z -> d; GlobalAveragePool d -> p; Flatten p -> f",
        "d",
    ),
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_default_enters_a_pooling_in_any_form(pooling):
    nodes, layer = POOLINGS[pooling]
    made = chain(f"Conv image w1 -> c; Relu c -> a; {nodes}; MatMul f m -> scores")
    default = list_layers(made).default
    assert default is not None
    assert (default.name, default.channels, default.grid) == (layer, 4, (6, 8))
    assert differentiate(made).layer.name == layer, "the list and the export agree"


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


def test_a_default_without_a_gradient_sends_the_search_on():
    """What enters the last pooling (of a gate) reaches the score by an operator without a rule only."""
    made = chain(
        "Conv image w1 -> a; Relu a -> e; GlobalAveragePool e -> g; Mul e g -> y; Inverse y -> odd;"
        "Slice odd zeros ones grid -> p; Flatten p -> f; MatMul f m -> scores",
        {"odd": ["N", 4, 6, 8]},
    )
    found = list_layers(made)
    assert {layer.name: bool(layer.refused) for layer in found.layers} == {"e": True, "y": True, "odd": False}
    assert found.default is not None
    assert found.default.name == differentiate(made).layer.name == "odd"


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
