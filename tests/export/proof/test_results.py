"""Checks, proofs and errors, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cfcam.export.errors import ProofError
from cfcam.export.proof.results import Check, Proof, image_errors, of_layer, relative_error


def test_errors_by_hand() -> None:
    assert relative_error(np.array([1.0, 2.5]), np.array([1.0, 2.0])) == 0.25
    assert np.isnan(relative_error(np.ones(2), np.zeros(2)))
    reference = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    value = np.array([[3.0, 4.5], [0.0, 0.0], [0.0, 1.0]])
    assert image_errors(value, reference).tolist() == [0.1, 0.0, np.inf]


def test_a_figure_that_could_not_be_computed_fails_either_way() -> None:
    assert Check("a", 1, 1).ok
    assert Check("a", 1, 1, at_least=True).ok
    assert not Check("a", float("nan"), 1).ok
    assert not Check("a", float("nan"), 1, at_least=True).ok


def test_a_proof_holds_where_every_check_does() -> None:
    assert not Proof()  # nothing was measured
    good, bad = Check("good", 0.5, 1), Check("bad", 2, 1)
    assert Proof([good])
    proof = Proof([good, bad])
    assert not proof
    assert proof.failures == [bad]
    assert proof.rows() == [("good", 0.5, 1, True), ("bad", 2, 1, False)]
    assert json.loads(json.dumps(proof.to_dict()))["checks"][1]["ok"] is False


def test_what_fails_is_demanded_in_one_sentence() -> None:
    Proof([Check("good", 0.5, 1)]).demand("x.cam.onnx")
    with pytest.raises(ProofError, match=r"^x.cam.onnx: not written, the lowered .* \(bad: 2, limit 1"):
        Proof([Check("bad", 2, 1)]).demand("x.cam.onnx", "lowered")


def test_further_layers_are_named() -> None:
    assert [check.name for check in of_layer("mid", [Check("a", 0, 1)])] == ["layer 'mid': a"]
