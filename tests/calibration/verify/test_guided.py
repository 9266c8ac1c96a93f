"""Files with a detail layer and rivals: the maps that are compared are those that users get."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import spoilt_files
from cfcam.calibration.sensitivity import class_sensitivity
from cfcam.calibration.verify import VerifyError, verify
from cfcam.calibration.verify.compared_file import ComparedFile, open_files
from cfcam.calibration.verify.comparing import Comparer, PhotoMeasures
from cfcam.cli import main
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.explainer import Explainer

OPENED = {
    "method": None,
    "settings": None,
    "layer": None,
    "provider": None,
    "allow_fallback": False,
    "threads": 1,
}


def with_layer(source, copy, **changes):
    """A copy whose spec says something else of its layer; the outputs stay."""
    return spoilt_files.with_spec(source, copy, layers=(dataclasses.replace(read_spec(source).layer, **changes),))


def test_maps_are_those_of_the_explainer(guided_path, photos):
    with open_files(guided_path, guided_path, **OPENED) as (_, reference):
        assert str(reference.form) == "guided by layer 'early', contrast 0.3"
        assert [place.grid for place in reference.places] == [(16, 16)], (
            "noise has the grid of what it is compared with"
        )
        explained = reference.explainer.explain(photos[0])
        raw = reference.explainer.tensors([photos[0]])
        np.testing.assert_array_equal(reference.maps(raw, 0)[0].heat.values, explained.map)


def test_two_classes_are_told_apart_without_contrast(guided_path, photos):
    with Explainer(guided_path, threads=1) as explainer:
        file = ComparedFile(explainer, *explainer.resolve_method())
        (one,) = Comparer(file, file, 0).measure([(0, photos[0])])
        top = explainer.explain(photos[0])
        assert top.logits is not None
        second = int(np.argsort(-top.logits)[1])
        pairs = [
            [explainer.explain(photos[0], c, settings={"contrast": x}).map for c in (top.target, second)]
            for x in (0, 0.3)
        ]
    assert isinstance(one, PhotoMeasures)
    place = one.places[0]
    assert place.other is not None
    assert place.sensitivity == place.sensitivity_reference == pytest.approx(class_sensitivity(*pairs[0]), abs=1e-5)
    assert place.other.pearson == pytest.approx(1 - class_sensitivity(*pairs[0]), abs=1e-5)
    assert abs(place.sensitivity - class_sensitivity(*pairs[1])) > 1e-3
    assert place.candidate.pearson == 1


def test_the_gate_sees_a_broken_detail(guided_path, photos, tmp_path):
    """Scores and gradients are the reference's own, and only the guide is another photo's."""
    with Explainer(guided_path, threads=1) as explainer:
        value = explainer.tensors([photos[0]]).layers[0].detail
    assert value is not None
    broken = spoilt_files.freeze_detail(guided_path, tmp_path / "broken.cam.onnx", value)
    same = verify(guided_path, guided_path, photos, threads=1, pictures=0)
    assert same.verdict == "passed"
    assert same.to_dict()["form"] == {"guided": True, "contrast": 0.3, "detail": "early"}
    report = verify(broken, guided_path, photos, threads=1, pictures=0)
    assert report.verdict == "failed"
    assert {one.place for one in report.failures} == {"last"}
    assert report.top1.share == 1


def test_two_forms_are_no_pair_and_the_remedy_works(guided_path, photos, tmp_path, capsys):
    coarse = with_layer(guided_path, tmp_path / "coarse.cam.onnx", detail=None)
    plain = with_layer(guided_path, tmp_path / "plain.cam.onnx", rivals=None)
    words = "maps of the one are not guided, contrast 0.3, of the other guided by layer 'early', contrast 0.3"
    with pytest.raises(VerifyError, match=words):
        verify(coarse, guided_path, photos[:1])
    with pytest.raises(VerifyError, match=r"guided by layer 'early', contrast 0, of the other .* contrast 0.3; make"):
        verify(plain, guided_path, photos[:1])
    assert verify(coarse, guided_path, photos[:1], method="gradcam", pictures=0), "it has but one form"
    command = ["verify", str(coarse), "--against", str(guided_path), "--images", str(photos[0])]
    assert main(command) == 2
    remedy = capsys.readouterr().err.partition("--settings ")[2].strip().strip("'")
    assert main([*command, "--settings", remedy]) == 0
    assert "cfcam (not guided, contrast 0)" in capsys.readouterr().out
