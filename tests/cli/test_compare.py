"""``cfcam compare``."""

from __future__ import annotations

import json

import pytest
from cfcam.cli import main


@pytest.fixture
def model(tiny_path):
    return str(tiny_path("logits"))


def test_compare(model, tmp_path, capsys):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    assert main(["bench", model, "--runs", "2", "--json", "-o", str(a)]) == 0
    capsys.readouterr()
    result = json.loads(a.read_text())
    result["engine"]["threads"] = 4
    result["latency_ms"]["explanation"]["p50"] *= 3
    b.write_text(json.dumps(result))

    assert main(["compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "not measured alike:" in out
    assert "3.000" in out
    assert main(["compare", str(a), str(b), "--max-regression", "1.1"]) == 1
    assert "rose by more than 1.1: p50 of the explanation (3.000)" in capsys.readouterr().out
    assert main(["compare", str(b), str(a), "--max-regression", "1.1"]) == 0
    assert "nothing rose by more than 1.1" in capsys.readouterr().out
    assert main(["compare", str(a), str(b), "--json", "--max-regression", "1.1"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "cfcam.compare/1"
    assert document["differences"] == [{"what": "threads", "a": "not set", "b": "4"}]
    assert document["regressions"] == [{"name": "explanation", "point": "p50", "ratio": pytest.approx(3)}]


@pytest.mark.parametrize("text", [None, "{", '{"schema": "cfcam.explain/1"}'])
def test_compare_refuses_other_files(text, tmp_path, capsys):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    assert main(["compare", str(path), str(path)]) == 2
    err = capsys.readouterr().err
    assert str(path) in err
    assert len(err.splitlines()) == 1
