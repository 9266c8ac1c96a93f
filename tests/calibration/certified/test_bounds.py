"""Interval bounds hold every value: of the engine in float32, of float64, for random and for adversarial images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from certified_nets import NETS, image
from cfcam.calibration.certified import ARITHMETICS, Bounds, IntervalNetwork
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.graph import load_model, value_info
from cfcam.export.proof.float64 import Evaluator
from cfcam.export.proof.session import Session
from cfcam.export.tail.cutting import open_exported
from cfcam.runtime.errors import ArrayError, MethodError
from onnx import ModelProto, TensorProto, helper, numpy_helper
from shared_data import shared_path

COUNT = 400


def open_everything(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """The model with all its float values as outputs, and their names."""
    graph = open_exported(model)
    moved = graph.descendants([graph.input_names[0]])
    names = [n for node in graph.nodes for n in node.output if n in moved and graph.elem_type(n) == TensorProto.FLOAT]
    graph.outputs = [value_info(graph, name) for name in names]
    return graph.to_model(), names


def layer_alone(net: str) -> ModelProto:
    """Up to the layer, with nothing else given out: the engine may fuse what it likes."""
    model = NETS[net]()
    del model.graph.output[:]
    model.graph.output.append(helper.make_value_info("last", helper.make_tensor_type_proto(TensorProto.FLOAT, None)))
    return model


def inside(clean: np.ndarray, radius: float, count: int, random: np.random.Generator) -> np.ndarray:
    """Images of the ball, half of them corners of it, float32; the first is the clean one."""
    noise = random.uniform(-1, 1, (count, *clean.shape))
    noise[::2] = np.sign(noise[::2])
    noise[0] = 0
    low, high = clean.astype(np.float64) - radius, clean.astype(np.float64) + radius
    x = (clean + radius * noise).astype(np.float32)
    x = np.where(x > high, np.nextafter(x, np.float32(-np.inf)), x)
    return np.where(x < low, np.nextafter(x, np.float32(np.inf)), x)


def excess(bounds: Bounds, values: Any) -> float:
    """How far values leave the bounds, the worst; not above 0 when all are inside."""
    return float(max((bounds.low - values).max(), (values - bounds.high).max()))


@pytest.mark.parametrize("radius", [0, 1e-5, 1e-2, 0.3])
@pytest.mark.parametrize("net", NETS)
def test_every_value_of_every_layer_is_inside(net, radius):
    model, names = open_everything(NETS[net]())
    engine, exact, fused = Session(model, threads=1), Evaluator(model), Session(layer_alone(net), threads=1)
    random = np.random.default_rng(7)
    for seed in range(2):
        clean = image(seed)
        box = clean[None].astype(np.float64) - radius, clean[None].astype(np.float64) + radius
        bounds = {a: IntervalNetwork(model, "image", names, arithmetic=a)(*box) for a in ARITHMETICS}
        x = inside(clean, radius, COUNT, random)
        found = engine.run({"image": x})
        assert excess(bounds["float32"]["last"], fused.run({"image": x})["last"]) <= 0
        for name in names:
            assert excess(bounds["float32"][name], found[name]) <= 0, name
        for name, values in exact.run({"image": x[:40].astype(np.float64)}, names).items():
            assert excess(bounds["real"][name], values) <= 0, name
            assert excess(bounds["float32"][name], values) <= 0, name


@pytest.mark.parametrize("net", NETS)
def test_steps_against_the_bounds_do_not_cross_them(net):
    """Coordinate signs that raised a random sum of the last layer, by differences, step by step."""
    model, names = open_everything(NETS[net]())
    engine = Session(model, threads=1)
    random = np.random.default_rng(8)
    clean, radius = image(5), 0.05
    bounds = IntervalNetwork(model, "image", names)(clean[None] - np.float64(radius), clean[None] + np.float64(radius))
    for _ in range(4):
        x = clean
        channel = random.integers(bounds["last"].shape[1])
        row, column = random.integers(8, size=2)
        for _ in range(15):
            signs = np.sign(random.standard_normal((48, *clean.shape)))
            trial = np.concatenate([x[None] + 0.3 * radius * signs, x[None] - 0.3 * radius * signs])
            last = np.asarray(engine.run({"image": trial.astype(np.float32)})["last"], np.float64)
            values = last[:, channel, row, column]
            slope = ((values[:48] - values[48:])[:, None, None, None] * signs).sum(0)
            x = inside(np.clip(x + 0.5 * radius * np.sign(slope), clean - radius, clean + radius), 0, 1, random)[0]
            x = np.clip(x, np.nextafter(clean - np.float32(radius), np.float32(9)),
                        np.nextafter(clean + np.float32(radius), np.float32(-9)))  # fmt: skip
            found = engine.run({"image": x[None]})
            for name in names:
                assert excess(bounds[name], found[name]) <= 0, name


@pytest.mark.parametrize("net", NETS)
def test_bounds_that_are_too_narrow_are_caught(net):
    """The test above can fail: bounds of a third of the radius do not hold what the whole ball gives."""
    model, names = open_everything(NETS[net]())
    clean, radius = image(0), 0.3
    bounds = IntervalNetwork(model, "image", names)(clean[None] - radius / 3, clean[None] + radius / 3)
    found = Session(model, threads=1).run({"image": inside(clean, radius, COUNT, np.random.default_rng(0))})
    assert max(excess(bounds[name], found[name]) for name in names) > 0


def test_a_real_network_at_a_small_radius():
    """MobileNetV1, every value: the float32 margin holds the engine, and the first layers' bounds say something."""
    model, names = open_everything(load_model(shared_path("models/mobilenet_v1_0.5_160.onnx")))
    name = model.graph.input[0].name
    shape = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    clean = np.random.default_rng(0).uniform(-1, 1, shape[1:]).astype(np.float32)
    engine = Session(model, threads=1)
    convs = [n for node in open_exported(model).nodes if node.op_type == "Conv" for n in node.output]
    for radius in (0.0, 1e-3):
        x = inside(clean, radius, 12, np.random.default_rng(1))
        checked = [n for n in names if n in convs or n.endswith("clip")]
        bounds = IntervalNetwork(model, name, checked)(clean[None] - np.float64(radius), clean[None] + radius)
        for start in range(0, len(x), 4):
            found = engine.run({name: x[start : start + 4]})
            assert max(excess(bounds[n], found[n]) for n in checked) <= 0
        first = bounds[convs[0]]
        assert first.radius.max() < 0.02 < 0.01 * np.abs(first.centre).max()
        assert (first.radius > 0).all()


def one_node(operator: str, *constants: np.ndarray, shape=(1, 4, 6, 6), **attributes):
    weights = [numpy_helper.from_array(np.asarray(value), f"c{i}") for i, value in enumerate(constants)]
    names = ["x", *(w.name for w in weights)]
    node = helper.make_node(operator, names, ["y"], name="it", **attributes)
    x = helper.make_tensor_value_info("x", 1, ["N", *shape[1:]])
    y = helper.make_value_info("y", helper.make_tensor_type_proto(1, None))
    graph = helper.make_graph([node], "one", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (one_node("Softmax"), "Softmax node 'it': Softmax has no interval bounds.*covered are Add"),
        (one_node("LeakyRelu", alpha=-0.1), "LeakyRelu node 'it': its slope is negative"),
        (one_node("Cast", to=TensorProto.FLOAT16), "Cast node 'it': it casts to FLOAT16"),
        (one_node("Div", np.zeros(1, np.float32)), "Div node 'it': it divides by zero"),
    ],
)
def test_refused_by_name(model, message):
    with pytest.raises(UnsupportedOperatorError, match=message):
        IntervalNetwork(model, "x", ["y"])(np.zeros((1, 4, 6, 6)), np.ones((1, 4, 6, 6)))


def test_bad_boxes_and_names():
    model = NETS["plain"]()
    with pytest.raises(MethodError, match="arithmetic: expected one of float32, real, got 'float16'"):
        IntervalNetwork(model, "image", ["last"], arithmetic="float16")
    network = IntervalNetwork(model, "image", ["last"])
    box = np.zeros((1, 3, 32, 32))
    for low, high in ((box + 1, box), (box, box + np.inf), (box, box[:, :1])):
        with pytest.raises(ArrayError, match="bounds: expected finite low <= high of one shape"):
            network(low, high)
    with pytest.raises(MethodError, match="computes no value 'nothing'"):
        IntervalNetwork(model, "image", ["nothing"])(box, box)


def test_bounds_beyond_all_numbers_stay_bounds():
    """A network whose weights are huge: infinite or NaN, never a finite bound that is wrong."""
    network = IntervalNetwork(one_node("Conv", np.full((2, 4, 6, 6), 3e38, np.float32)), "x", ["y"])
    found = network(np.full((1, 4, 6, 6), -1e300), np.full((1, 4, 6, 6), 1e300))["y"]
    assert not np.isfinite(found.high).any()
