"""Which of the two TensorRT packages a process has."""

from __future__ import annotations

import sys
import types

import pytest
from cfcam.runtime.engines.tensorrt import packages
from cfcam.runtime.engines.tensorrt.build import parse_onnx
from cfcam.runtime.engines.tensorrt.packages import Package, load_package
from cfcam.runtime.errors import EngineError, MissingDependencyError


class FakeLogger:
    """TensorRT's, as far as it is used here."""

    Severity = types.SimpleNamespace(WARNING=2)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has asked for none yet."""
    monkeypatch.setattr(packages, "_in_use", None)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    for name in ("tensorrt_rtx", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"install cfcam\[rtx\]"):
        parse_onnx(b"")
    with pytest.raises(MissingDependencyError, match=r"tensorrt_rtx is not installed: install cfcam\[rtx\]"):
        load_package("tensorrt_rtx")
    with pytest.raises(MissingDependencyError, match=r"tensorrt is not installed: .*NVIDIA"):
        load_package("tensorrt")


def test_a_stub_counts_as_missing(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    for name in ("tensorrt_rtx", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    with pytest.raises(MissingDependencyError, match="tensorrt is an empty package"):
        load_package("tensorrt")


def test_a_process_has_one_package(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    module = types.ModuleType("tensorrt")
    module.Builder, module.ILogger, module.__version__ = object, FakeLogger, "10.3.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    first = load_package("tensorrt")
    assert load_package() is first, "not the first that is installed"
    with pytest.raises(EngineError, match=r"tensorrt 10\.3\.0 is in use in this process.*run tensorrt_rtx in another"):
        load_package("tensorrt_rtx")


def test_polygraphy_has_one_package_too(monkeypatch: pytest.MonkeyPatch) -> None:
    config = pytest.importorskip("polygraphy.config")
    monkeypatch.setitem(sys.modules, "polygraphy.backend.trt", types.ModuleType("imported"))
    monkeypatch.setattr(config, "USE_TENSORRT_RTX", True)
    with (
        pytest.raises(EngineError, match="Polygraphy's other package is in use in this process"),
        Package("tensorrt", types.ModuleType("tensorrt"), None).polygraphy(),
    ):
        pass


def test_polygraphy_that_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with (
        pytest.raises(
            MissingDependencyError, match=r"built with Polygraphy, which is not installed: install cfcam\[rtx\]"
        ),
        Package("tensorrt", types.ModuleType("tensorrt"), None).polygraphy(),
    ):
        pass
