"""A slice of what ``make fuzz`` runs, and whether it would notice."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("pydantic")
pytest.importorskip("onnxruntime")
pytest.importorskip("starlette")

from cfcam.runtime.errors import CfcamError
from cfcam.runtime.inference import Inference

from fuzz import run
from fuzz.common import refused_cleanly, spoil_json


@pytest.mark.parametrize("kind", run.KINDS)
def test_a_slice(kind, tmp_path):
    for number in range(run.KINDS[kind][1] // {"semantics": 400, "request": 50}.get(kind, 20)):
        run.run_case(kind, f"ci.{number}", tmp_path)


@pytest.mark.parametrize("wrong", ["probability", "layout", "gradient"])
def test_what_is_silently_wrong_is_noticed(wrong, monkeypatch, tmp_path):
    def spoilt(*arguments):
        found = tensors(*arguments)
        layer = found.layers[0]
        if wrong == "probability":
            return replace(found, scores=found.scores[:, ::-1])
        if wrong == "layout":
            layer = replace(layer, activations=layer.activations.swapaxes(1, 3).reshape(layer.activations.shape))
        else:
            factors = np.linspace(1, 1.2, layer.gradients.shape[1])[:, None, None]
            layer = replace(layer, gradients=layer.gradients * factors)
        return replace(found, layers=(layer, *found.layers[1:]))

    tensors = Inference.tensors
    monkeypatch.setattr(Inference, "tensors", spoilt)
    expected = {"probability": "probability", "layout": "activations", "gradient": "gradient at"}[wrong]
    with pytest.raises(AssertionError, match=expected):
        run.run_case("semantics", "0.0", tmp_path)


def test_an_internal_error_is_noticed(monkeypatch, tmp_path):
    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr("cfcam.runtime.serving.v1.asked", fail)
    monkeypatch.setattr("cfcam.runtime.serving.v2.questions", fail)

    def some():
        for number in range(20):
            run.run_case("request", f"ci.{number}", tmp_path)

    with pytest.raises(AssertionError, match="500"):
        some()


def test_a_case_is_known_by_its_seed():
    texts = {spoil_json({"a": [1, 2], "b": {"c": "d"}}, random.Random("photo:0.1")) for _ in range(3)}
    assert len(texts) == 1


def test_other_errors_and_unclean_messages_are_noticed():
    def fail(error: Exception) -> None:
        with refused_cleanly():
            raise error

    fail(CfcamError("a sentence"))
    with pytest.raises(KeyError):
        fail(KeyError("x"))
    unclean = CfcamError("x")
    unclean.args = ("\x1b[2J",)
    with pytest.raises(AssertionError):
        fail(unclean)


def test_a_failure_is_printed_with_its_command(monkeypatch, capsys):
    def broken(chance, folder):
        if chance.random() < 0.5:
            raise KeyError("x")

    monkeypatch.setattr(run, "KINDS", {"photo": (broken, 20)})
    monkeypatch.setattr("sys.argv", ["run"])
    assert run.main() == 1
    out, err = capsys.readouterr()
    command = err.partition("FAILED: make fuzz FUZZ='--only ")[2].partition("'")[0]
    assert command.startswith("photo:0.")
    assert "photo: 20 cases" in out
    monkeypatch.setattr("sys.argv", ["run", "--only", command])
    with pytest.raises(KeyError):
        run.main()
