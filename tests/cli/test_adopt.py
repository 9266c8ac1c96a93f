"""``cfcam adopt``: one line that says what was written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cfcam.cli import main
from cfcam.runtime.contract.manifest import Target
from cfcam.runtime.engines.tensorrt import adopting
from cfcam.runtime.errors import ManifestError


@pytest.mark.parametrize(
    ("target", "where"), [(Target(gpu="Orin", compute_capability="8.7"), " for Orin (8.7)"), (None, "")]
)
def test_what_is_said(
    target: Target | None, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str]] = []

    def adopt_engine(engine: str, graph: str) -> Any:
        asked.append((engine, graph))
        return SimpleNamespace(
            target=target, backend=SimpleNamespace(name="tensorrt", version="10.3.0"), precision="float16"
        )

    monkeypatch.setattr(adopting, "adopt_engine", adopt_engine)
    assert main(["adopt", "a/x.engine", "--graph", "a/x.onnx"]) == 0
    assert asked == [("a/x.engine", "a/x.onnx")]
    assert capsys.readouterr() == (f"a/x.engine.manifest.json: tensorrt 10.3.0{where}, float16\n", "")


def test_a_refusal_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: Any) -> Any:
        raise ManifestError("x.onnx: has no manifest beside it")

    monkeypatch.setattr(adopting, "adopt_engine", refuse)
    assert main(["adopt", "x.engine", "--graph", "x.onnx"]) == 2
    assert capsys.readouterr() == ("", "cfcam: error: x.onnx: has no manifest beside it\n")
