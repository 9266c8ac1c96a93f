"""Loading, normalising, asking, small passes, cutting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.graph import (
    Graph,
    extract,
    fold_batch_norms,
    fold_constants,
    load_model,
    loading,
    normalise,
    prune,
    save_model,
    share_subexpressions,
    tensor_bytes,
    without_weights,
)
from cfcam.runtime.errors import ModelFileError, OutputError
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_gradcheck import run_ort

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def make(nodes, constants=None, *, inputs=None, outputs=("y",), opset=18, ir=9) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in (inputs or {"x": ["N", 4]}).items()],
        [helper.make_value_info(o, helper.make_tensor_type_proto(TensorProto.FLOAT, None)) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def linear() -> ModelProto:
    return make([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": normal(300, 4)})


def test_save_and_load(tmp_path: Path) -> None:
    model = linear()
    save_model(model, tmp_path / "sub" / "a.onnx")
    assert load_model(tmp_path / "sub" / "a.onnx") == model
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["a.onnx"]


def test_large_models_get_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "INLINE_LIMIT", 1000)
    model = linear()
    save_model(model, tmp_path / "big.onnx")
    assert (tmp_path / "big.onnx").stat().st_size < 1000
    assert (tmp_path / "big.onnx.data").stat().st_size == 4800
    loaded = load_model(tmp_path / "big.onnx")
    np.testing.assert_array_equal(
        numpy_helper.to_array(loaded.graph.initializer[0]), numpy_helper.to_array(model.graph.initializer[0])
    )


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09\x12"])
def test_unreadable_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"x\.onnx: not "):
        load_model(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.onnx: no such file"):
        load_model(tmp_path / "none.onnx")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4800)
    folder = tmp_path / "model"
    folder.mkdir()
    model = linear()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (folder / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"x\.onnx: not a readable"):
        load_model(folder / "x.onnx")


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_model(linear(), tmp_path / "file" / "x.onnx")


def test_truncated_files_never_crash(tmp_path: Path) -> None:
    data = linear().SerializeToString()
    path = tmp_path / "x.onnx"
    for length in range(0, len(data) - 1, 97):
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            normalise(load_model(path))


def test_helpers_do_not_see_large_weights() -> None:
    seen: list[ModelProto] = []

    def look(slim: ModelProto) -> ModelProto:
        seen.append(slim)
        return slim

    result = without_weights(linear(), look)
    assert tensor_bytes(result.graph.initializer[0]) == 4800
    assert [i.name for i in result.graph.input] == ["x"]
    assert len(seen) == 1


def test_normalised_form() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(normal(4))),
        helper.make_node("Constant", [], ["d"], value_float=2.0),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Add", ["same", "c"], ["a"]),
        helper.make_node("Dropout", ["a"], ["dropped"]),
        helper.make_node("Mul", ["dropped", "d"], ["y"]),
    ]
    source = make(nodes, opset=11, ir=6)
    model, notes = normalise(source)
    assert [n.op_type for n in model.graph.node] == ["Add", "Mul"]
    assert {"c", "d"} <= {t.name for t in model.graph.initializer}
    assert all(n.name for n in model.graph.node)
    assert notes == ["converted from opset 11 to 18"]
    x = normal(3, 4)
    np.testing.assert_array_equal(run_ort(source, {"x": x})[0], run_ort(model, {"x": x})[0])
    assert len(source.graph.node) == 6


@pytest.mark.parametrize("written", ["B i J, Z J -> i B Z", "c a j, b j", "bij,zj->ibz"])
def test_einsum_equations_are_in_small_letters(written: str) -> None:
    source = make(
        [helper.make_node("Einsum", ["x", "w"], ["y"], equation=written)], {"w": normal(5, 4)}, inputs={"x": [2, 3, 4]}
    )
    model, _ = normalise(source)
    (node,) = model.graph.node
    equation = helper.get_attribute_value(node.attribute[0]).decode()
    assert equation == equation.lower().replace(" ", "")
    x = normal(2, 3, 4)
    np.testing.assert_array_equal(run_ort(source, {"x": x})[0], run_ort(model, {"x": x})[0])


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 17])
def test_old_opsets_compute_the_same(opset: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "s", "s", "v"], ["n"]),
        helper.make_node("MaxPool", ["n"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Softmax", ["f"], ["y"], axis=1),
    ]
    constants = {"w": normal(5, 3, 3, 3), "s": normal(5), "v": np.abs(normal(5)) + 1}
    source = make(nodes, constants, inputs={"x": [2, 3, 8, 8]}, opset=opset, ir=7)
    model, _ = normalise(source)
    onnx.checker.check_model(model)
    assert model.opset_import[0].version == 18
    x = normal(2, 3, 8, 8)
    np.testing.assert_allclose(run_ort(source, {"x": x})[0], run_ort(model, {"x": x})[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Relu", ["nothing"], ["y"], name="n")], "'n' .Relu. reads 'nothing'"),
        (
            [helper.make_node("Relu", ["x"], ["y"], name="a"), helper.make_node("Tanh", ["x"], ["y"], name="b")],
            "'y' is made twice, again by node 'b'",
        ),
        ([helper.make_node("Relu", ["x"], ["z"])], "output 'y' is made by no node"),
    ],
)
def test_broken_graphs(nodes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        normalise(make(nodes))


def test_model_without_operator_set() -> None:
    model = linear()
    del model.opset_import[:]
    with pytest.raises(ExportError, match="operator set"):
        normalise(model)


def test_model_from_the_future() -> None:
    model = linear()
    model.opset_import[0].version = 99
    with pytest.raises(ExportError, match="opset 99 is newer"):
        normalise(model)


def test_questions() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Abs", ["x"], ["side"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    graph = Graph(make(nodes, {"c": normal(4)}))
    assert graph.shape("b") == ("N", 4)
    assert graph.is_float("b")
    assert graph.shape("unknown") is None
    assert graph.ancestors(["y"]) == {"x", "a", "b", "c", "y"}
    assert graph.descendants(["x"]) == {"x", "a", "b", "side", "y"}
    assert graph.ancestors(["y"], stops={"b"}) == {"b", "c", "y"}
    assert graph.fresh("a") == "a_1"
    assert graph.fresh("a") == "a_2"
    constant = graph.constant("c")
    assert constant is not None
    assert constant.shape == (4,)
    assert graph.constant("a") is None


def test_names_inside_bodies_count_as_uses() -> None:
    info = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    bodies = [helper.make_graph([helper.make_node(op, ["a"], ["r"])], op, [], [info]) for op in ("Relu", "Neg")]
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    graph = Graph(make(nodes, {"flag": np.array(True)}))
    assert "a" in graph.ancestors(["y"])
    graph.rename("a", "renamed")
    x = normal(2, 4)
    np.testing.assert_array_equal(run_ort(graph.to_model(), {"x": x})[0], np.abs(x))


def test_folding_shape_arithmetic() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Mul", ["n", "two"], ["m"]),
        helper.make_node("Concat", ["m", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "two": np.array([2]), "rest": np.array([-1])}
    graph = Graph(make(nodes, constants, inputs={"x": [3, 4]}))
    assert fold_constants(graph) == 4
    assert [n.op_type for n in graph.nodes] == ["Reshape"]
    target = graph.constant("target")
    assert target is not None
    assert target.tolist() == [6, -1]
    assert graph.shape("y") == (6, 2)


def test_weights_are_not_folded() -> None:
    nodes = [helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    graph = Graph(make(nodes, {"w": normal(300, 4)}))
    assert fold_constants(graph) == 0


def test_sharing_and_pruning() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["m1"]),
        helper.make_node("Mul", ["x", "b"], ["m2"]),
        helper.make_node("Relu", ["m1"], ["r1"]),
        helper.make_node("Relu", ["m2"], ["r2"]),
        helper.make_node("Tanh", ["m2"], ["dead"]),
        helper.make_node("Add", ["r1", "r2"], ["y"]),
    ]
    source = make(nodes, {"a": np.array(2, np.float32), "b": np.array(2, np.float32)})
    graph = Graph(source)
    assert share_subexpressions(graph) == 2
    assert prune(graph) == 1
    assert [n.op_type for n in graph.nodes] == ["Mul", "Relu", "Add"]
    assert list(graph.constants) == ["a"]
    x = normal(2, 4)
    np.testing.assert_array_equal(run_ort(graph.to_model(), {"x": x})[0], run_ort(source, {"x": x})[0])


def test_random_nodes_are_not_shared() -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], [f"r{i}"]) for i in range(2)]
    graph = Graph(make([*nodes, helper.make_node("Sub", ["r0", "r1"], ["y"])]))
    assert share_subexpressions(graph) == 0


def normed(extra=(), outputs=("y",)) -> ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], epsilon=1e-3),
        *extra,
    ]
    constants = {"w": normal(5, 3, 3, 3), "s": normal(5), "b": normal(5), "m": normal(5), "v": np.abs(normal(5)) + 1}
    return make(nodes, constants, inputs={"x": ["N", 3, 6, 6]}, outputs=outputs)


def test_batch_norm_folding() -> None:
    source = normed()
    graph = Graph(source)
    assert fold_batch_norms(graph) == 1
    prune(graph)
    assert [n.op_type for n in graph.nodes] == ["Conv"]
    assert len(graph.constants) == 2
    x = normal(2, 3, 6, 6)
    np.testing.assert_allclose(run_ort(graph.to_model(), {"x": x})[0], run_ort(source, {"x": x})[0], atol=1e-5)


def test_batch_norm_is_kept_where_its_input_is_needed() -> None:
    assert fold_batch_norms(Graph(normed()), keep={"c"}) == 0
    assert fold_batch_norms(Graph(normed()), only={"other"}) == 0
    assert fold_batch_norms(Graph(normed(outputs=("y", "c")))) == 0
    shared = [helper.make_node("Conv", ["x", "w"], ["c2"])]
    assert fold_batch_norms(Graph(normed(shared, outputs=("y", "c2")))) == 0


def test_cutting_out_a_tail() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    graph = Graph(make(nodes, {"k": np.array(3, np.float32), "c": normal(4)}))
    tail = extract(graph, ["a"], ["y"])
    assert [n.op_type for n in tail.graph.node] == ["Relu", "Add"]
    assert [i.name for i in tail.graph.input] == ["a"]
    assert [t.name for t in tail.graph.initializer] == ["c"]
    x = normal(2, 4)
    np.testing.assert_array_equal(run_ort(tail, {"a": 3 * x})[0], run_ort(graph.to_model(), {"x": x})[0])
    with pytest.raises(ExportError, match="no value 'nowhere'"):
        extract(graph, ["nowhere"], ["y"])
