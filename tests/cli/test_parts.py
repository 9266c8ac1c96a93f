"""``cfcam parts``."""

import json

import pytest
from cfcam.calibration.parts import LayerSample, measure_part
from cfcam.cli import main
from cfcam.cli.data import data_file
from cfcam.runtime.explainer import Explainer


@pytest.fixture
def photo():
    with data_file("two_dogs.jpg") as path:
        yield str(path)


def test_json_is_what_calibration_measures(tiny_path, photo, capsys):
    model = str(tiny_path("logits"))
    assert main(["parts", model, photo, "--also", str(tiny_path("pad")), "-t", "blue", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["schema"] == "cfcam.parts/1"
    assert [entry["path"] for entry in document["models"]] == [model, str(tiny_path("pad"))]
    assert len(document["rows"]) == 2
    with Explainer(model) as explainer:
        raw = explainer.tensors([photo], 2)
    sample = LayerSample(
        name=photo, activations=raw.activations[0], gradients=raw.gradients[0], last=True, layer="relu"
    )
    row = measure_part(sample)
    assert document["rows"][0]["hirescam"] == pytest.approx(row.hirescam)
    assert document["rows"][0]["counts"] == row.counts
    assert document["summary"]["relu"]["hirescam"]["count"] == 2


def test_guide_and_contrast_of_a_guided_file(guided_path, tiny_path, photo, capsys):
    model = str(guided_path)
    assert main(["parts", model, photo, "--also", str(tiny_path("logits")), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["models"][0]["form"] == {"guided": True, "contrast": 0.3, "detail": "early"}
    assert document["models"][1]["form"] == {"guided": False, "contrast": 0.0, "detail": None}
    with Explainer(model) as explainer:
        layer = explainer.tensors([photo]).layers[0]
    arrays = {name: values[0] for name, values in vars(layer).items()}
    row, first = measure_part(LayerSample(name=photo, last=True, **arrays)), document["rows"][0]
    assert [first[name] for name in ("no_guide", "blind_guide", "no_contrast")] == pytest.approx(
        [row.no_guide, row.blind_guide, row.no_contrast], abs=1e-5
    )
    assert document["rows"][1]["no_guide"] is None
    assert main(["parts", model, photo]) == 0
    assert "no guide  class-blind guide  no contrast" in capsys.readouterr().out.splitlines()[0]
    assert main(["parts", str(tiny_path("logits")), photo]) == 0
    assert "guide" not in capsys.readouterr().out


def test_table_and_bad_files(tiny_path, photo, tmp_path, capsys):
    assert main(["parts", str(tiny_path("logits")), photo, str(tmp_path / "none.png")]) == 1
    out, err = capsys.readouterr()
    assert "HiResCAM" in out.splitlines()[0]
    assert out.splitlines()[1].startswith("two_dogs.jpg")
    assert out.splitlines()[-1].startswith("median")
    assert err == f"cfcam: error: {tmp_path / 'none.png'}: no such file\n"


def test_nothing_measured_is_not_done(tiny_path, tmp_path, capsys):
    assert main(["parts", str(tiny_path("logits")), str(tmp_path / "none.png"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["rows"] == []


def test_settings_are_checked_first(tiny_path, photo, capsys):
    assert main(["parts", str(tiny_path("logits")), photo, "--settings", '{"sgima": 2}']) == 2
    assert "did you mean 'sigma'" in capsys.readouterr().err
