"""``cfcam bench`` and ``cfcam compare`` on a real, tiny file."""

from __future__ import annotations

import json
import shutil
from functools import partial

import onnx
import onnx.utils
import onnxruntime
import pytest
from cfcam.cli import main
from cfcam.runtime.bench.timed_file import TimedFile
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord
from cfcam.runtime.contract.modelfile import read_spec


@pytest.fixture
def model(tiny_path):
    return str(tiny_path("logits"))


@pytest.fixture(scope="module")
def plain(tiny_path, tmp_path_factory):
    """The tiny model without its gradients."""
    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    onnx.utils.extract_model(str(tiny_path("logits")), str(path), ["image"], ["scores"])
    return str(path)


def test_json_and_file_hold_what_the_tables_show(model, plain, tmp_path, capsys):
    place = tmp_path / "result.json"
    code = main(["bench", model, "--runs", "5", "--threads", "1", "--against", plain, "--json", "-o", str(place)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert json.loads(place.read_text()) == result
    assert result["schema"] == "cfcam.bench/1"
    assert result["image"]["name"] == "two_dogs.jpg (built in)"
    assert result["ratio"]["n"] == result["control"]["n"] == result["latency_ms"]["map"]["n"] == 5
    assert result["ratio"]["low"] <= result["ratio"]["median"] <= result["ratio"]["high"]
    assert (result["budget"], result["soak"], result["plan"]) == (None, None, None)


def test_tables(model, plain, capsys):
    options = ["--runs", "5", "--against", plain, "--latency-plan", "--soak", "1", "--budget-ms", "1e6"]
    code = main(["bench", model, *options, "--threads", "1"])
    out = capsys.readouterr().out
    for words in (
        "explanation (file to result)", "  decode", "  method", "plain model", "inference explained / plain: ",
        "within the budget of 1e+06 ms", "cfcam, relu, batch 1", "transfers  none", "governor", "garbage collection",
        "soak: ", "latency: last tenth / first", "latency plan: p99", "fits 1e+06 ms", "added up", "p50 measured",
    ):  # fmt: skip
        assert words in out
    # What the second of soaking says depends on what else the machine does.
    assert code == ("IT GETS SLOWER" in out or "IT GROWS" in out)


@pytest.mark.parametrize("of", ["explanation", "map", "inference"])
def test_a_budget_decides_the_exit_code(model, of, capsys):
    how = ["bench", model, "--runs", "3", "--budget-of", of, "--budget-ms"]
    assert main([*how, "1e6"]) == 0
    assert f"p99 of the {of}: " in capsys.readouterr().out
    assert main([*how, "0.001"]) == 1
    assert "OVER the budget of 0.001 ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("budgets", "code", "words"),
    [
        ({"p99_ms": 1e6, "memory_mb": 1e6}, 0, ["within the budget of 1e+06 ms", "within the budget of 1000000 MiB"]),
        ({"p99_ms": 0.001}, 1, ["OVER the budget of 0.001 ms"]),
        ({"memory_mb": 1}, 1, ["OVER the budget of 1 MiB"]),
    ],
)
def test_budgets_of_a_products_configuration(model, budgets, code, words, tmp_path, capsys):
    product = tmp_path / "net.onnx"
    shutil.copyfile(model, product)
    backend = BackendRecord(name="onnxruntime", version=onnxruntime.__version__, provider="cpu")
    Manifest(
        product=ProductRecord.of(product), source=FileRecord.of(product), backend=backend, precision="float32",
        config={"budgets": budgets}, spec=read_spec(product).to_dict(), created="2026-11-24T00:00:00+00:00",
    ).write(product)  # fmt: skip
    assert main(["bench", str(product), "--runs", "3"]) == code
    out = capsys.readouterr().out
    assert all(word in out for word in words)


def test_a_failed_soak_is_exit_code_1(model, monkeypatch, capsys):
    from cfcam.runtime.bench import soak as module

    held = iter(range(0, 10**12, 10**7))
    monkeypatch.setattr(module, "soak", partial(module.soak, memory=lambda: next(held)))
    assert main(["bench", model, "--runs", "2", "--soak", "1"]) == 1
    assert "IT GROWS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--image", "none.jpg"], "none.jpg"),
        (["--method", "gradcan"], "did you mean 'gradcam'"),
        (["--layer", "nowhere"], "nowhere"),
        (["-o", "result.txt"], "ends in .json"),
        (["-o", f"{__file__}/result.json"], "cannot be written there"),
        (["--latency-plan", "--budget-of", "inference"], "plans explanations"),
        (["--provider", "cudda"], "unknown provider"),
    ],
)
def test_what_cannot_be_done_is_one_line(model, options, words, capsys):
    assert main(["bench", model, "--runs", "1", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_file_that_is_not_plain_is_refused_before_anything_runs(model, monkeypatch, capsys):
    monkeypatch.setattr(TimedFile, "warm_up", lambda *_: pytest.fail("warmed up"))
    assert main(["bench", model, "--runs", "1", "--against", model]) == 2
    assert "expected the plain model" in capsys.readouterr().err
