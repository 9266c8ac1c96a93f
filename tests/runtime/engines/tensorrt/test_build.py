"""What the builder is told besides the graph: progress, stopping, the timing cache."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cfcam.runtime.engines.tensorrt.build import build_engine, compute_capabilities
from cfcam.runtime.engines.tensorrt.packages import _load, load_flavour
from cfcam.runtime.engines.tensorrt.timing_cache import timing_cache_file
from tensorrt_required import require_tensorrt


@pytest.fixture(autouse=True)
def rtx() -> None:
    require_tensorrt()


def test_progress_goes_from_nothing_to_nearly_all(tiny_path: Callable[[str], Path]) -> None:
    said: list[tuple[str, float]] = []
    build_engine(
        tiny_path("logits"),
        compute_capability="8.6",
        optimization_level=2,
        workspace_mb=64,
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


def test_compute_capabilities() -> None:
    assert {"7.5", "8.6", "12.0"} <= set(compute_capabilities("tensorrt_rtx"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the stand-in says that it keeps nothing
def test_timings_are_kept_for_the_next_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_path: Callable[[str], Path]
) -> None:
    """TensorRT for RTX takes the calls of the timing cache and keeps nothing; here it stands in for `tensorrt`."""
    module = load_flavour("tensorrt_rtx").module
    _load.cache_clear()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    try:
        rt = load_flavour("tensorrt")
        file = timing_cache_file(tmp_path / "timings", rt, "8.6")
        assert file is not None
        assert file == tmp_path / "timings" / f"tensorrt-{module.__version__}-sm86.cache"
        assert timing_cache_file(tmp_path, load_flavour("tensorrt_rtx"), "8.6") is None
        for damage in (None, b"damaged"):  # one that cannot be used is replaced
            if damage is not None:
                file.write_bytes(damage)
            build_engine(
                tiny_path("logits"), compute_capability="8.6", flavour="tensorrt", timing_cache=tmp_path / "timings"
            )
            assert [path.name for path in file.parent.iterdir()] == [file.name]
            assert len(file.read_bytes()) > len(b"damaged")
    finally:
        _load.cache_clear()
