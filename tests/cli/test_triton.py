"""``cfcam triton``: options, exit codes, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cfcam.cli import main

pytest.importorskip("onnx", reason="repositories are written with onnx")


def test_a_repository_is_written(tiny_path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = str(tiny_path("logits")), tmp_path / "repo"
    assert main(["triton", path, "-o", str(out), "--layout", "ensemble", "--name", "m"]) == 0
    said = capsys.readouterr().out
    assert said == f"{out}: m_engine, m_map, m; how to start it: {out / 'm' / 'README.md'}\n"
    assert main(["triton", path, "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["models"]) == ("cfcam.triton/1", ["logits"])
    assert main(["triton", path, "-o", str(out)]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give -o REPOSITORY to write one, or --check URL"),
        (["-o", "r", "--check", "http://x"], "give -o REPOSITORY"),
        (["-o", "r", "--image", "x.jpg"], "--image goes with --check"),
        (["-o", "r", "--tolerance", "0.1"], "--tolerance goes with --check"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, tiny_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triton", str(tiny_path("logits")), *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("same", "code"), [(True, 0), (False, 1)])
def test_the_answer_of_a_check(
    same: bool, code: int, tiny_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cfcam.export.triton import checking

    differing = () if same else ("map",)
    row = checking.ServedRow("noise", "tensor", -1, same, differing, 0.0 if same else 1e-7)
    asked: list[Any] = []

    def check_server(*args: Any, **_: Any) -> list[Any]:
        asked.append(args)
        return [row]

    monkeypatch.setattr(checking, "check_server", check_server)
    path = str(tiny_path("logits"))
    assert main(["triton", path, "--check", "http://x:1"]) == code
    assert f"{int(same)} of 1 answers are cfcam's own" in capsys.readouterr().out
    assert asked == [(path, "http://x:1", "logits", [])]
    assert main(["triton", path, "--check", "http://x:1", "--tolerance", "1e-6"]) == code
    assert f"{int(same)} of 1 answers are cfcam's own, within 1e-06" in capsys.readouterr().out
    assert main(["triton", path, "--check", "http://x:1", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["same"] is same
