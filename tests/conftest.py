"""Fixtures that every test can use."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import tiny_model
from filelock import FileLock
from long_process import (
    collect_only_what_is_new,
    look_for_operators_once,
    override_operators_once,
    read_torchlib_once,
)
from two_runs import still_to_run, write_passed


@pytest.fixture(scope="session")
def tiny_path() -> Callable[[str], Path]:
    """Gives the path of a variant of `tiny_model` (a key of its VARIANTS or WITH_TAIL).

    The files are built where onnx is installed, and only used where it is not.
    """
    tiny_model.build_all(tiny_model.FIXTURES)

    def path_of(name: str) -> Path:
        return tiny_model.FIXTURES / f"{name}.cam.onnx"

    return path_of


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """``made_once(name, make)``: a folder that `make`, called with its path, has filled, once for all workers.

    For files that take seconds to make: a fixture, even of a session, is made by each worker.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / "made_once" / name
        folder.mkdir(parents=True, exist_ok=True)
        finished = folder / ".finished"
        with FileLock(folder / ".lock"):
            if not finished.exists():
                make(folder)
                finished.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def guided_path(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A small exported file with a detail layer, `early` (8 x 16 x 16 before `last`, 16 x 8 x 8), and rivals."""
    pytest.importorskip("onnx", reason="exporting needs onnx")

    def make(folder: Path) -> None:
        import onnx
        import onnx_classifiers
        from cfcam.export import export_onnx, preset

        onnx.save(onnx_classifiers.plain(), str(folder / "net.onnx"))
        export_onnx(folder / "net.onnx", folder / "net.cam.onnx", preprocessing=preset("torchvision"))

    return made_once("guided", make) / "net.cam.onnx"


@pytest.fixture(scope="session")
def lite0(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Callable[[str], Path]:
    """Gives EfficientNet-Lite0 with its own weights, at 224 x 224 pixels, with its "last" or a "middle" layer inside.

    The last one is in the folder that ``cfcam demo`` wrote, where ``printed.txt`` is what it said;
    the middle one, what `_blocks.10` returns, is by `export_onnx` of the plain network in that file.
    """

    def by_demo(folder: Path) -> None:
        from cfcam.cli import main

        with io.TextIOWrapper(io.BytesIO(), "utf-8") as said:
            with redirect_stdout(said):
                assert main(["demo", "-o", str(folder)]) == 0
            said.seek(0)
            (folder / "printed.txt").write_text(said.read(), "utf-8")

    def by_function(folder: Path) -> None:
        import onnx
        from cfcam.export import export_onnx, preset
        from onnx.utils import Extractor

        whole = onnx.load(path_of("last"))
        del whole.metadata_props[:]
        plain = Extractor(whole).extract_model(["inputs"], ["linear"])
        for node in plain.graph.node:
            for names in (node.input, node.output):
                names[:] = [name.replace("cam_", "") for name in names]
        del plain.graph.value_info[:]
        onnx.save(plain, str(folder / "plain.onnx"))
        shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
            for value in onnx.shape_inference.infer_shapes(plain).graph.value_info
        }
        sums = [node.output[0] for node in plain.graph.node if node.op_type == "Add"]
        layer = [name for name in sums if shapes[name] == [112, 14, 14]][-1]
        export_onnx(folder / "plain.onnx", folder / "x.cam.onnx", layer=layer, preprocessing=preset("lite"))

    def path_of(layer: str) -> Path:
        if layer == "last":
            return made_once("demo", by_demo) / "efficientnet-lite0.cam.onnx"
        return made_once("lite0_middle", by_function) / "x.cam.onnx"

    return path_of


@pytest.fixture
def summary_line(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Gives a function that adds a line to the end of the run's output: what a test has counted."""
    return lambda line: record_property("summary", line)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cfcam")
    group.addoption("--write-passed", metavar="FILE", help="write the names of the tests that passed, if none failed")
    group.addoption("--passed-elsewhere", metavar="FILE", help="leave out tests that FILE names, if not `everywhere`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if file := config.getoption("passed_elsewhere"):
        items[:], left_out = still_to_run(items, config.rootpath / file)
        config.hook.pytest_deselected(items=left_out)


def pytest_report_header(config: pytest.Config) -> str | None:
    file = config.getoption("passed_elsewhere")
    return file and f"left out: the tests in {file}, which have passed in another environment"


def pytest_collection_finish() -> None:
    collect_only_what_is_new()


def pytest_runtest_setup() -> None:
    look_for_operators_once()
    override_operators_once()
    if read_torchlib_once():  # after the first export, which has loaded much more
        collect_only_what_is_new()


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    # A worker of a parallel run has only its own tests to tell of.
    if (file := config.getoption("write_passed")) and exitstatus == 0 and not hasattr(config, "workerinput"):
        write_passed(terminalreporter.stats.get("passed", ()), config.rootpath / file)
    # Properties of a test come back from the workers of a parallel run too.
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    lines = [text for r in reports for key, text in getattr(r, "user_properties", ()) if key == "summary"]
    if lines:
        terminalreporter.section("counted")
        for line in sorted(set(lines)):
            terminalreporter.write_line(line)
