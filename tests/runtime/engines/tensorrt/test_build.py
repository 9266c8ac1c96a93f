"""Asking TensorRT's parser, and building: refusals, options, progress, stopping, the timing cache."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cfcam.runtime.engines.tensorrt import packages
from cfcam.runtime.engines.tensorrt.build import (
    ParseResult,
    _aim,
    _settings,
    build_engine,
    compute_capabilities,
    parse_onnx,
    timing_cache_file,
)
from cfcam.runtime.engines.tensorrt.options import BuilderOptions
from cfcam.runtime.engines.tensorrt.packages import Package, load_package
from cfcam.runtime.errors import EngineError, ModelFileError
from tensorrt_required import require_tensorrt

#: Made with the smallest of graphs: (operator, inputs, attributes, outputs) of each node.
Nodes = list[tuple[str, list[str], dict[str, Any], list[str]]]


@pytest.fixture(autouse=True)
def rtx() -> None:
    require_tensorrt()


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


@pytest.mark.parametrize("variant", ["logits", "softmax-and-logits", "nhwc", "float16", "fixed-batch"])
def test_exported_files_are_accepted(tiny_path: Callable[[str], Path], variant: str) -> None:
    path = tiny_path(variant)
    result = parse_onnx(path)
    assert result, str(result)
    assert result.problems == ()
    assert str(result) == f"tensorrt_rtx {sys.modules['tensorrt_rtx'].__version__}: accepted"
    assert parse_onnx(path.read_bytes())


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


def test_one_parse_leaves_nothing_behind_for_the_next() -> None:
    assert not parse_onnx(graph(SCATTER, ("N", 4)))
    assert parse_onnx(graph([("Relu", ["x"], {}, ["y"])], ("N", 4)))
    (problem,) = parse_onnx(graph([("Nonsense", ["x"], {}, ["y"])], ("N", 4))).problems
    assert (problem.node, problem.operator) == ("the_Nonsense", "Nonsense")


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "scatter.onnx"
    path.write_bytes(graph(SCATTER, ("N", 4)))
    parse_onnx(path)
    with pytest.raises(EngineError, match=r"scatter\.onnx: tensorrt_rtx .*refused: node 'the_ScatterElements'"):
        build_engine(path)
    assert capfd.readouterr() == ("", "")


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


def test_weights_in_a_file_beside_it_are_found(tmp_path: Path, tiny_path: Callable[[str], Path]) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "outside.onnx"
    model = onnx.load(tiny_path("logits"))
    onnx.save(model, path, save_as_external_data=True, location="outside.weights", size_threshold=0)
    assert parse_onnx(path)
    (tmp_path / "outside.weights").unlink()
    with pytest.raises(ModelFileError, match=r"outside\.onnx: its external data '.*outside\.weights' cannot be opened"):
        parse_onnx(path)


def test_an_engine_is_built_without_a_gpu(tiny_path: Callable[[str], Path]) -> None:
    engine = build_engine(tiny_path("logits"), batch=(1, 4, 8), compute_capability="8.6")
    assert isinstance(engine, bytes)
    assert len(engine) > 8 * 3 * 4 * 4 * 4  # it holds the weights
    assert build_engine(tiny_path("fixed-batch"))


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


def test_progress_goes_from_nothing_to_nearly_all(tiny_path: Callable[[str], Path]) -> None:
    said: list[tuple[str, float]] = []
    build_engine(
        tiny_path("logits"),
        compute_capability="8.6",
        options=BuilderOptions(optimization_level=2, workspace_mb=64),
        progress=lambda phase, share: said.append((phase, share)),
    )
    shares = [share for _, share in said]
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert 0.8 < shares[-1] <= 1
    assert len({phase for phase, _ in said}) > 3


def test_what_progress_raises_stops_the_build(tiny_path: Callable[[str], Path]) -> None:
    """As Ctrl-C does: it must not be thrown through TensorRT's own code, nor be lost."""

    def stop(phase: str, share: float) -> None:
        if share > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(tiny_path("logits"), compute_capability="8.6", progress=stop)


@pytest.mark.parametrize(
    ("asked", "name", "wanted"),
    [
        ({"sparsity": True}, "flags", "SPARSE_WEIGHTS"),
        ({"refittable": True}, "flags", "REFIT"),
        ({"detailed_profiling": True}, "profiling_verbosity", "DETAILED"),
        ({}, "profiling_verbosity", "LAYER_NAMES_ONLY"),
        ({"optimization_level": 1}, "builder_optimization_level", 1),
        ({"tactic_sources": ("jit_convolutions",)}, "get_tactic_sources", "JIT_CONVOLUTIONS"),
    ],
)
def test_options_reach_tensorrt(
    tiny_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], name: str, wanted: Any
) -> None:
    """Its own configuration is read back where the engine would be built."""
    rt, found = load_package("tensorrt_rtx"), []
    with rt.polygraphy() as (loaders, _):

        def look(_: Any, config: Any) -> bytes:
            value = getattr(config, name)
            found.append((value() if callable(value) else value, int(config.flags)))
            return b"plan"

        monkeypatch.setattr(loaders, "engine_bytes_from_network", look)
    assert build_engine(tiny_path("logits"), options=BuilderOptions(**asked)) == b"plan"
    ((value, flags),) = found
    assert flags >> int(rt.module.BuilderFlag.TF32) & 1, "as TensorRT does by itself"
    if name == "flags":
        assert flags >> int(getattr(rt.module.BuilderFlag, wanted)) & 1
    elif name == "get_tactic_sources":
        assert value == 1 << int(getattr(rt.module.TacticSource, wanted))
    else:
        assert value == (wanted if isinstance(wanted, int) else getattr(rt.module.ProfilingVerbosity, wanted))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"dla": True}, "builder.dla: tensorrt_rtx does not have it: leave it out, or take tensorrt"),
        ({"tactic_sources": ("cudnn",)}, r"has no TacticSource 'cudnn': expected one of edge_mask_convolutions, jit_"),
    ],
)
def test_options_that_it_does_not_have(tiny_path: Callable[[str], Path], asked: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        build_engine(tiny_path("logits"), options=BuilderOptions(**asked))


def test_a_machine_without_an_accelerator() -> None:
    """What `tensorrt` is asked and told on one, by its stand-in."""
    types_ = types.SimpleNamespace(DLA="dla")
    module = types.SimpleNamespace(DeviceType=types_, __version__="10.3.0", ProfilingVerbosity=types.SimpleNamespace())
    module.ProfilingVerbosity.__members__ = {"LAYER_NAMES_ONLY": 0}
    rt, options = Package("tensorrt", module, None), BuilderOptions(dla=True)
    for version, weakly in (("10.3.0", True), ("11.4.1", False)):
        module.__version__ = version
        settings = _settings(rt, options)
        assert (settings["use_dla"], settings["allow_gpu_fallback"], settings["fp16"]) == (True, True, weakly)
    builder = types.SimpleNamespace(num_DLA_cores=0)
    with pytest.raises(EngineError, match=r"dla: tensorrt 11\.4\.1 has none on this machine: AGX Orin .*10\.7"):
        _aim(rt, builder, types.SimpleNamespace(default_device_type="dla"), None)
    builder.num_DLA_cores = 2
    _aim(rt, builder, types.SimpleNamespace(default_device_type="dla"), None)


def test_compute_capabilities() -> None:
    assert {"7.5", "8.6", "12.0"} <= set(compute_capabilities("tensorrt_rtx"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the stand-in says that it keeps nothing
def test_timings_are_kept_for_the_next_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_path: Callable[[str], Path]
) -> None:
    """TensorRT for RTX takes the calls of the timing cache and keeps nothing; here it stands in for `tensorrt`."""
    rtx = load_package("tensorrt_rtx")
    monkeypatch.setattr(packages, "_in_use", Package("tensorrt", rtx.module, rtx.logger))
    polygraphy = Package.polygraphy
    monkeypatch.setattr(Package, "polygraphy", lambda _: polygraphy(rtx))
    file = timing_cache_file(tmp_path / "timings", load_package("tensorrt"), "8.6")
    assert file is not None
    assert file == tmp_path / "timings" / f"tensorrt-{rtx.module.__version__}-sm86.cache"
    assert timing_cache_file(tmp_path, rtx, "8.6") is None
    for damage in (None, b"damaged"):  # one that cannot be used is replaced
        if damage is not None:
            file.write_bytes(damage)
        build_engine(tiny_path("logits"), compute_capability="8.6", timing_cache=tmp_path / "timings")
        assert [path.name for path in file.parent.iterdir()] == [file.name]
        assert len(file.read_bytes()) > len(b"damaged")
    with_a_file = tmp_path / "file"
    with_a_file.touch()
    assert build_engine(tiny_path("logits"), compute_capability="8.6", timing_cache=with_a_file), "kept or not"


def test_a_library_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the package `tensorrt` does on a machine without a GPU, in place of the real one."""

    class Logger:
        Severity = types.SimpleNamespace(WARNING=2)

    class Builder:
        def __init__(self, logger: Any) -> None:
            logger.log(1, "CUDA initialization failure\n with error: 35")
            raise TypeError("factory function returned nullptr")

    fake = types.ModuleType("tensorrt")
    for name, value in {"ILogger": Logger, "Builder": Builder, "__version__": "10.0"}.items():
        setattr(fake, name, value)
    with load_package().polygraphy():
        pass  # imports Polygraphy for the real one
    monkeypatch.setattr("polygraphy.backend.trt.loader.trt", fake)
    monkeypatch.setattr("polygraphy.config.USE_TENSORRT_RTX", False)
    monkeypatch.setattr(packages, "_in_use", None)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(EngineError, match=r"tensorrt 10\.0 cannot start: CUDA initialization failure with error: 35"):
        parse_onnx(b"")


def test_a_result_is_true_when_accepted() -> None:
    assert ParseResult("tensorrt_rtx 1.7")
