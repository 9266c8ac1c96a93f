"""Inputs beside the image: read from a command line, kept in the file, and right for every image of a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from cfcam.export import export_onnx
from cfcam.export.errors import ExportError
from cfcam.export.sources.fixed_inputs import parse_input
from onnx import TensorProto, helper, numpy_helper


def _two(path: Path, batch: int | str, meta: list[int | str]) -> Path:
    """conv -> relu -> mean, joined by `meta` (N, 5): scores (N, 3)."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(4, 3, 8, 8)) / 14, "fc": random.normal(size=(9, 3)), "b": np.zeros(3)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[8, 8]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Concat", ["f", "meta"], ["joined"], axis=1),
        helper.make_node("Gemm", ["joined", "fc", "b"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [
            helper.make_tensor_value_info("meta", TensorProto.FLOAT, meta),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 32, 32]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _run(path: Path, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(None, feeds)), strict=True))


@pytest.mark.parametrize(
    ("batch", "meta", "given"),
    [
        ("N", ["N", 5], np.arange(5.0)),
        ("N", ["N", 5], np.arange(5.0)[None]),
        ("N", ["other", 5], 0.25),
        (1, [1, 5], np.arange(5)),
        (2, [2, 5], np.arange(5.0)),
    ],
)
def test_the_value_is_kept_for_every_image(batch, meta, given, tmp_path):
    plain = _two(tmp_path / "two.onnx", batch, meta)
    report = export_onnx(plain, tmp_path / "two.cam.onnx", inputs={"meta": given})
    assert report.proof
    assert any("'meta' (1, 5) is fixed" in note or "'meta' (2, 5) is fixed" in note for note in report.warnings)
    count = batch if isinstance(batch, int) else 3
    images = np.random.default_rng(1).normal(size=(count, 3, 32, 32)).astype(np.float32)
    row = np.broadcast_to(np.asarray(given, np.float32), (count, 5))
    expected = _run(plain, x=images, meta=np.ascontiguousarray(row))["scores"]
    classes = np.full(count, 1, np.int64)
    found = _run(tmp_path / "two.cam.onnx", x=images, cam_target=classes)
    np.testing.assert_allclose(found["scores"], expected, atol=1e-5)
    # d score_1 / d relu is fc[k, 1] / cells, whatever the metadata are
    fc = numpy_helper.to_array(next(t for t in onnx.load(plain).graph.initializer if t.name == "fc"))
    np.testing.assert_allclose(found["cam_gradients"][0, :, 0, 0], fc[:4, 1] / 16, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((1, 4)), r"'meta': expected a value of shape \(1, 5\) for one image, got \(1, 4\)"),
        (np.zeros((3, 5)), r"expected a value of shape \(1, 5\)"),
        (np.array(["a"]), "expected numbers"),
    ],
)
def test_values_that_do_not_fit_are_refused(given, words, tmp_path):
    with pytest.raises(ExportError, match=words):
        export_onnx(_two(tmp_path / "two.onnx", "N", ["N", 5]), tmp_path / "x.onnx", inputs={"meta": given})
    assert not (tmp_path / "x.onnx").exists()


def test_values_on_a_command_line(tmp_path):
    assert parse_input("a=2") == ("a", 2)
    assert parse_input("a=-0.5") == ("a", -0.5)
    assert parse_input("a = true") == ("a", True)
    name, row = parse_input("a=1,2.5")
    np.testing.assert_array_equal(row, [[1, 2.5]])
    np.save(tmp_path / "m.npy", np.arange(3))
    np.testing.assert_array_equal(parse_input(f"{name}={tmp_path / 'm.npy'}")[1], [0, 1, 2])
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    for text, words in (
        ("a", "NAME=VALUE"),
        ("=1", "NAME=VALUE"),
        ("a=none", "no number"),
        ("a=none.npy", "no such file"),
        (f"a={tmp_path / 'o.npy'}", "not a .npy file of numbers"),
    ):
        with pytest.raises(ExportError, match=words):
            parse_input(text)
