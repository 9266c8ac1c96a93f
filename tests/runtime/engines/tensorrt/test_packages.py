"""TensorRT's parser and builder, behind two flavours of one Python API."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cfcam.runtime.engines.tensorrt.build import ParseResult, build_engine, parse_onnx
from cfcam.runtime.engines.tensorrt.packages import _load, load_flavour
from cfcam.runtime.errors import EngineError, MissingDependencyError, ModelFileError
from tensorrt_required import require_tensorrt

#: Made with the smallest of graphs: (operator, inputs, attributes, outputs) of each node.
Nodes = list[tuple[str, list[str], dict[str, Any], list[str]]]


@pytest.fixture
def rtx() -> None:
    require_tensorrt()


@pytest.fixture
def fresh_flavours() -> Any:
    """Forget what was loaded, before and after."""
    _load.cache_clear()
    yield
    _load.cache_clear()


def graph(nodes: Nodes, x: tuple[Any, ...], named: bool = True) -> bytes:
    """An ONNX file with input `x`, outputs those of the last node."""
    onnx = pytest.importorskip("onnx")
    make, types_ = onnx.helper, onnx.TensorProto
    made = [
        make.make_node(op, ins, outs, name=f"the_{op}" if named else "", **attributes)
        for op, ins, attributes, outs in nodes
    ]
    constants = {"index": np.zeros((1, 2), np.int64), "update": np.ones((1, 2), np.float32)}
    integers = {"where": types_.INT64, "nonzero": types_.INT64}
    used = {name for _, ins, _, _ in nodes for name in ins}
    whole = make.make_graph(
        made,
        "g",
        [make.make_tensor_value_info("x", types_.FLOAT, x)],
        [make.make_tensor_value_info(name, integers.get(name, types_.FLOAT), None) for name in nodes[-1][3]],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    return make.make_model(whole, opset_imports=[make.make_opsetid("", 18)], ir_version=9).SerializeToString()


SCATTER: Nodes = [("ScatterElements", ["x", "index", "update"], {"axis": 1, "reduction": "add"}, ["y"])]
POOL_WITH_INDICES: Nodes = [("MaxPool", ["x"], {"kernel_shape": [2, 2]}, ["y", "where"])]
NON_ZERO: Nodes = [("Relu", ["x"], {}, ["r"]), ("NonZero", ["r"], {}, ["nonzero"])]


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("variant", ["logits", "softmax-and-logits", "nhwc", "float16", "fixed-batch"])
def test_exported_files_are_accepted(tiny_path: Callable[[str], Path], variant: str) -> None:
    path = tiny_path(variant)
    result = parse_onnx(path)
    assert result, str(result)
    assert result.problems == ()
    assert str(result) == f"tensorrt_rtx {sys.modules['tensorrt_rtx'].__version__}: accepted"
    assert parse_onnx(path.read_bytes())


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("nodes", "x", "operator", "words"),
    [
        (SCATTER, ("N", 4), "ScatterElements", "Unsupported reduction type"),
        (POOL_WITH_INDICES, ("N", 4, 8, 8), "MaxPool", "1 outputs for MaxPool"),
        (NON_ZERO, ("N", 4), "NonZero", "NonZero"),
    ],
)
def test_what_tensorrt_refuses_is_reported_with_its_node(
    nodes: Nodes, x: tuple[Any, ...], operator: str, words: str
) -> None:
    result = parse_onnx(graph(nodes, x))
    assert not result
    (problem,) = result.problems
    assert (problem.node, problem.operator) == (f"the_{operator}", operator)
    assert words in problem.words
    assert f"refused: node 'the_{operator}' ({operator}): " in str(result)
    (nameless,) = parse_onnx(graph(nodes, x, named=False)).problems
    assert (nameless.node, nameless.operator) == (f"node_of_{nodes[-1][3][0]}", operator)


@pytest.mark.usefixtures("rtx")
def test_one_parse_leaves_nothing_behind_for_the_next() -> None:
    assert not parse_onnx(graph(SCATTER, ("N", 4)))
    assert parse_onnx(graph([("Relu", ["x"], {}, ["y"])], ("N", 4)))
    (problem,) = parse_onnx(graph([("Nonsense", ["x"], {}, ["y"])], ("N", 4))).problems
    assert (problem.node, problem.operator) == ("the_Nonsense", "Nonsense")


@pytest.mark.usefixtures("rtx")
def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "scatter.onnx"
    path.write_bytes(graph(SCATTER, ("N", 4)))
    parse_onnx(path)
    with pytest.raises(EngineError, match=r"scatter\.onnx: tensorrt_rtx .*refused: node 'the_ScatterElements'"):
        build_engine(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("rtx")
def test_files_that_are_no_onnx(tmp_path: Path, tiny_path: Callable[[str], Path]) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.onnx: no such file"):
        parse_onnx(tmp_path / "gone.onnx")
    for content in (b"", b"a text file", tiny_path("logits").read_bytes()[:500]):
        path = tmp_path / "bad.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"bad\.onnx: "):
            parse_onnx(path)
        with pytest.raises(ModelFileError, match="the model: "):
            parse_onnx(content)


@pytest.mark.usefixtures("rtx")
def test_weights_in_a_file_beside_it_are_found(tmp_path: Path, tiny_path: Callable[[str], Path]) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "outside.onnx"
    model = onnx.load(tiny_path("logits"))
    onnx.save(model, path, save_as_external_data=True, location="outside.weights", size_threshold=0)
    assert parse_onnx(path)
    (tmp_path / "outside.weights").unlink()
    with pytest.raises(ModelFileError, match=r"outside\.onnx: its external data '.*outside\.weights' cannot be opened"):
        parse_onnx(path)


@pytest.mark.usefixtures("rtx")
def test_an_engine_is_built_without_a_gpu(tiny_path: Callable[[str], Path]) -> None:
    engine = build_engine(tiny_path("logits"), batch=(1, 4, 8), compute_capability="8.6")
    assert isinstance(engine, bytes)
    assert len(engine) > 8 * 3 * 4 * 4 * 4  # it holds the weights
    assert build_engine(tiny_path("fixed-batch"))


@pytest.mark.usefixtures("rtx")
def test_what_an_engine_cannot_be_built_for(tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    path = tiny_path("logits")
    with pytest.raises(EngineError, match=r"compute capability '9\.9': .* builds for 7\.5, 8\.0, 8\.6"):
        build_engine(path, compute_capability="9.9")
    with pytest.raises(EngineError, match="expected 1 <= smallest <= best <= largest, got 2, 1, 8"):
        build_engine(path, batch=(2, 1, 8))
    wide = tmp_path / "wide.onnx"
    wide.write_bytes(graph([("Relu", ["x"], {}, ["y"])], ("N", 3, "H", "W")))
    with pytest.raises(EngineError, match=r"input 'x' is \(-1, 3, -1, -1\): only its first dimension may be free"):
        build_engine(wide)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, fresh_flavours: None) -> None:
    for name in ("tensorrt_rtx", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"install cfcam\[rtx\]"):
        parse_onnx(b"")
    with pytest.raises(MissingDependencyError, match=r"tensorrt_rtx is not installed: install cfcam\[rtx\]"):
        load_flavour("tensorrt_rtx")
    with pytest.raises(MissingDependencyError, match=r"tensorrt is not installed: .*NVIDIA"):
        load_flavour("tensorrt")


def test_a_stub_counts_as_missing(monkeypatch: pytest.MonkeyPatch, fresh_flavours: None) -> None:
    for name in ("tensorrt_rtx", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    with pytest.raises(MissingDependencyError, match="tensorrt is an empty package"):
        load_flavour("tensorrt")


def test_a_library_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, fresh_flavours: None) -> None:
    """What the flavour `tensorrt` does on a machine without a GPU, in place of the real one."""

    class Logger:
        Severity = types.SimpleNamespace(WARNING=2)

    class Builder:
        def __init__(self, logger: Any) -> None:
            logger.log(1, "CUDA initialization failure\n with error: 35")
            raise TypeError("factory function returned nullptr")

    fake = types.ModuleType("tensorrt")
    for name, value in {"ILogger": Logger, "Builder": Builder, "__version__": "10.0"}.items():
        setattr(fake, name, value)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(EngineError, match=r"tensorrt 10\.0 cannot start: CUDA initialization failure with error: 35"):
        parse_onnx(b"")


def test_a_result_is_true_when_accepted() -> None:
    assert ParseResult("tensorrt_rtx 1.7")
