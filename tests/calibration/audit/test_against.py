"""A product against its float32 file: the verdict, where it is found again, and what is refused."""

import json
import re

import pytest

pytest.importorskip("pyarrow")

import spoilt_files
from cfcam.calibration.audit import AuditError, AuditOptions, audit
from cfcam.calibration.audit.against import PAGE, is_met, table_rows, unless_compared
from cfcam.calibration.audit.planning import asked_plan
from cfcam.calibration.audit.signing import authenticate, make_keys
from cfcam.calibration.verify import VerifyError
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord
from cfcam.runtime.contract.modelfile import read_spec
from photo_sources import make_archive
from small_photos import make_photos


@pytest.fixture(scope="module")
def model(tiny_path):
    return tiny_path("logits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("against")


@pytest.fixture(scope="module")
def photos(folder):
    return make_photos(folder / "photos", 12)


@pytest.fixture(scope="module")
def lowered(model, folder):
    """The same graph, which says that it is in float16: nothing in it can differ."""
    return spoilt_files.with_spec(model, folder / "m.fp16.cam.onnx", precision="float16")


def options(reference, **more):
    return AuditOptions(method="gradcam", against=reference, against_photos=10, **more)


def test_the_same_explanations_pass_and_the_verdict_is_signed_and_kept(model, lowered, photos, tmp_path, monkeypatch):
    make_keys(tmp_path / "key.pem")
    asked = options(model, sign=tmp_path / "key.pem")
    told = []
    document = audit(lowered, photos, tmp_path / "a", asked, comparing=lambda *done: told.append(done))
    against = document["against"]
    assert (against["by"], against["verdict"], against["met"]) == ("comparison", "passed", True)
    assert against["sample"] | {"sha256": ""} == {"photos": 10, "of": 12, "seed": 0, "sha256": ""}
    assert told[-1] == (10, 10)
    assert against["report"]["top1"]["share"] == 1
    assert against["report"]["thresholds"]["last_score"] == 0.97, "those of float16"
    page = (tmp_path / "a" / "report.html").read_text()
    assert "may stand for the model" in page
    assert f'href="{PAGE}"' in page
    assert (tmp_path / "a" / PAGE).exists()
    found = authenticate(tmp_path / "a", tmp_path / "key.pub.pem", lowered)
    assert found.authentic
    assert found.against is not None
    assert (found.against["verdict"], found.against["reference"]) == ("passed", against["reference"]["sha256"])
    assert json.loads((tmp_path / "a" / "plan.json").read_text())["against_photos"] == 10

    def never(*_, **__):
        raise AssertionError("it was compared once more")

    with monkeypatch.context() as patched:
        patched.setattr("cfcam.calibration.verify.verify", never)
        assert audit(lowered, photos, tmp_path / "a", asked)["against"] == against
        (tmp_path / "a" / PAGE).unlink()
        with pytest.raises(AssertionError, match="once more"):
            audit(lowered, photos, tmp_path / "a", asked)
    with pytest.raises(AuditError, match=r"another plan \(against_sha256, against_photos\)"):
        audit(lowered, photos, tmp_path / "a", AuditOptions(method="gradcam"))


def test_explanations_of_another_class_fail_and_only_limits_that_say_so_allow_it(model, photos, tmp_path):
    wrong = spoilt_files.other_class(model, tmp_path / "wrong.cam.onnx")
    (tmp_path / "limits.yaml").write_text("errors: 0\n")
    asked = options(model, limits=tmp_path / "limits.yaml")
    document = audit(wrong, photos, tmp_path / "a", asked)
    against = document["against"]
    assert (against["verdict"], against["met"]) == ("failed", False)
    assert all(limit["met"] for limit in document["limits"])
    assert "FAILED, its explanations do not stand for the model's: " in against["text"]
    assert any(row["missed"] and row["title"] == "Spearman" for row in table_rows(against["report"]))
    assert 'class="bad">Explanations: compared' in (tmp_path / "a" / "report.html").read_text()
    (tmp_path / "limits.yaml").write_text("against: failed\n")
    assert audit(wrong, photos, tmp_path / "a", asked)["against"]["met"]


def test_photos_of_an_archive_are_compared_like_files(model, lowered, photos, tmp_path):
    from cfcam.calibration.audit.sources.opening import open_sources

    make_archive(tmp_path / "a.tar", [(photo.name, photo.read_bytes()) for photo in photos[:4]])
    sources, _ = open_sources([str(tmp_path / "a.tar")])
    against = audit(lowered, sources, tmp_path / "a", options(model))["against"]
    assert against["sample"]["photos"] == 4
    assert against["report"]["count"] == 4
    assert against["report"]["errors"] == []


@pytest.mark.parametrize("other", ["itself", "binary"])
def test_a_reference_of_another_model_is_refused_before_anything_is_measured(
    model, lowered, photos, tiny_path, tmp_path, other
):
    reference = lowered if other == "itself" else tiny_path(other)
    with pytest.raises((AuditError, VerifyError), match=r"is what is audited|do not belong together"):
        audit(lowered, photos, tmp_path / "a", options(reference))
    assert not (tmp_path / "a").exists()


def product(folder, lowered, source, gate):
    """A product of `cfcam build`, in so far as its manifest says so."""
    path = folder / "product.onnx"
    path.write_bytes(lowered.read_bytes())
    Manifest(
        product=ProductRecord.of(path),
        source=FileRecord.of(source),
        backend=BackendRecord(name="onnxruntime", version="1"),
        precision="float16",
        spec=read_spec(lowered).to_dict(),
        gate=gate,
        created="2026-11-24T12:00:00Z",
    ).write(path)
    return path


GATE = {
    "passed": False,
    "verdict": "failed",
    "method": "gradcam",
    "settings": {},
    "count": 7,
    "failures": [{"measure": "top1", "place": None, "text": "top-1 agreement 0.5"}],
    "ran_on": "product.onnx on cpu",
}


@pytest.mark.parametrize(
    ("changes", "verdict", "text"),
    [
        ({}, "failed", "in the gate of its build, on 7 photos: FAILED, .*: top-1 agreement 0.5$"),
        ({"passed": True, "verdict": "passed", "failures": []}, "passed", "may stand"),
        ({"verdict": "undecided", "photos_needed": 90}, "undecided", "about 90 would decide .give logits.cam.onnx"),
        (
            {"method": "cfcam"},
            None,
            "judged maps of 'cfcam' .*: nothing shows that .*--against, and another folder with -o",
        ),
        ({"ran_on": "graph.onnx on cpu"}, None, "ran graph.onnx on cpu, and the audit product.onnx on cpu: nothing"),
        (None, None, "has compared it with nothing: nothing shows"),
    ],
)
def test_without_a_reference_the_gate_of_the_build_speaks(model, lowered, tmp_path, changes, verdict, text):
    path = product(tmp_path, lowered, model, None if changes is None else GATE | changes)
    plan, about, _ = asked_plan(path, AuditOptions(method="gradcam"))
    found = unless_compared(path, plan, about["precision"])
    assert found["verdict"] == verdict
    assert found["reference"]["file"] == "logits.cam.onnx"
    assert re.search(text, found["text"])


@pytest.mark.parametrize(
    "changes", [{"layers": 1}, {"layers": [{"name": "last"}]}, {"failures": [1]}, {"top1": {"share": "all"}}]
)
def test_a_gate_that_somebody_edited_is_refused(model, lowered, tmp_path, changes):
    path = product(tmp_path, lowered, model, GATE | changes)
    plan, about, _ = asked_plan(path, AuditOptions(method="gradcam"))
    with pytest.raises(AuditError, match=r"its gate is not what .*build the product again, or give logits.*--against"):
        unless_compared(path, plan, about["precision"])


def test_limits_of_a_gate_that_somebody_edited_are_refused_before_anything_is_measured(
    model, lowered, photos, tmp_path
):
    path = product(tmp_path, lowered, model, GATE | {"thresholds": {"foo": 1}})
    with pytest.raises(AuditError, match=r"its gate is not what .*there is no 'foo'.*: build the product again"):
        audit(path, photos, tmp_path / "a", options(model))
    assert not list((tmp_path / "a").glob("parts/*"))


def test_a_product_is_compared_with_no_other_file_than_its_own(model, lowered, photos, tmp_path):
    path = product(tmp_path, lowered, model, GATE)
    again = spoilt_files.with_spec(model, tmp_path / "again.cam.onnx", tools={"cfcam": "0"})
    with pytest.raises(AuditError, match=r"is not the file that .*product\.onnx was made of.* calls logits\.cam\.onnx"):
        audit(path, photos, tmp_path / "a", options(again))


def test_a_lowered_file_without_a_manifest_is_told_that_nothing_is_shown(model, lowered):
    plan, _, _ = asked_plan(lowered, AuditOptions(method="gradcam"))
    assert (
        "is in float16 and has no manifest of a build: nothing shows"
        in unless_compared(lowered, plan, "float16")["text"]
    )
    assert unless_compared(model, plan, "float32")["by"] == "itself"


@pytest.mark.parametrize(
    ("verdict", "allowed"),
    [
        ("passed", {None, "passed", "undecided", "failed"}),
        ("undecided", {"undecided", "failed"}),
        ("failed", {"failed"}),
        (None, {None, "failed"}),
    ],
)
def test_the_worst_verdict_that_is_allowed(verdict, allowed):
    for limit in (None, "passed", "undecided", "failed"):
        assert is_met({"by": "gate", "verdict": verdict}, limit) == (limit in allowed)
    assert is_met({"by": "itself", "verdict": None}, "passed")
