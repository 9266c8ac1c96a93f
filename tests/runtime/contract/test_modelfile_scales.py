"""Whether a file quantises in float16, told from the graph of anybody's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cfcam.runtime.contract.modelfile import has_float16_scales
from shared_data import shared_path

onnx = pytest.importorskip("onnx")


def quantised(folder: Path, *, scale: str, half: bool = True) -> Path:
    """x -> QuantizeLinear -> DequantizeLinear -> y, with the scale as an initializer, a Constant or a Cast."""
    make, element = onnx.helper, onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    wide = onnx.numpy_helper.from_array(np.float32(0.5), "wide")
    value = onnx.numpy_helper.from_array(np.array(0.5, np.float16 if half else np.float32), "s")
    nodes = {
        "initializer": [],
        "Constant": [make.make_node("Constant", [], ["s"], value=value)],
        "Cast": [make.make_node("Cast", ["wide"], ["s"], to=element)],
    }[scale]
    nodes += [
        make.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        make.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    ends = [[make.make_tensor_value_info(name, element, [2])] for name in ("x", "y")]
    weights = [value] if scale == "initializer" else [wide]
    graph = make.make_graph(nodes, "g", *ends, initializer=weights)
    path = folder / f"{scale}-{half}.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 19)], ir_version=9), path)
    return path


@pytest.mark.parametrize("scale", ["initializer", "Constant", "Cast"])
@pytest.mark.parametrize("half", [True, False])
def test_the_scale_decides(tmp_path: Path, scale: str, half: bool) -> None:
    assert has_float16_scales(quantised(tmp_path, scale=scale, half=half)) is half


def test_float16_elsewhere_is_no_scale(tmp_path: Path) -> None:
    path = quantised(tmp_path, scale="initializer", half=False)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float16), "other"))
    onnx.save(model, path)
    assert not has_float16_scales(path)


def test_what_cannot_be_read_has_none(tmp_path: Path) -> None:
    whole = quantised(tmp_path, scale="initializer").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut.onnx").write_bytes(whole[:size])
        assert has_float16_scales(tmp_path / "cut.onnx") in (True, False)
    assert not has_float16_scales(tmp_path / "none.onnx")
    assert not has_float16_scales(tmp_path)


def test_a_float32_network_has_none() -> None:
    assert not has_float16_scales(shared_path("models/mobilenet_v2_1.0_224.onnx"))
