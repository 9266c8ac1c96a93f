"""A photo's row, against what the same file says by other ways."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cfcam.calibration import class_sensitivity
from cfcam.calibration.audit.errors import AuditError
from cfcam.calibration.audit.plan import RUNGS, USUAL, Plan
from cfcam.calibration.audit.row import COLUMNS
from cfcam.calibration.audit.rungs import Auditor, method_of
from cfcam.calibration.evaluate.annotations import read_boxes
from cfcam.runtime.explainer import Explainer
from small_photos import corrupt_photos, make_photos


@pytest.fixture
def explainer(tiny_path):
    with Explainer(tiny_path("logits"), threads=1) as opened:
        yield opened


@pytest.fixture
def photo(tmp_path):
    return make_photos(tmp_path / "photos", 1)[0]


def plan(explainer, method="gradcam", **changes):
    return dataclasses.replace(Plan("ab", *method_of(explainer, method)), **changes)


def test_prediction_and_map_are_those_of_the_explainer(explainer, photo):
    row = Auditor(explainer, plan(explainer)).row(photo)
    explanation = explainer.explain(photo, method="gradcam")
    assert list(row) == list(COLUMNS)
    assert (row["target"], row["label"]) == (explanation.target, explanation.label)
    assert row["probability"] == pytest.approx(explanation.probability, rel=1e-6)
    top = explanation.top
    assert row["margin"] == pytest.approx(top[0][2] - top[1][2], abs=1e-6)
    assert row["rungs"] == list(USUAL)
    assert max(row["grid"]) == 255
    assert len(row["grid"]) == row["grid_height"] * row["grid_width"] == np.prod(explanation.grid)
    assert row["area"] == pytest.approx((explanation.map >= 0.5).mean())
    assert row["ms"] > 0
    assert row["over"] is False


def test_class_sensitivity_is_that_of_the_maps_of_the_first_two_classes(explainer, photo):
    row = Auditor(explainer, plan(explainer)).row(photo)
    (first, _, _), (second, _, _), *_ = explainer.explain(photo).top
    gradients = [explainer.tensors([photo], target) for target in (first, second)]
    maps = [np.maximum((t.gradients.mean((2, 3), keepdims=True) * t.activations).sum(1)[0], 0) for t in gradients]
    assert row["class_sensitivity"] == pytest.approx(class_sensitivity(*maps), abs=1e-5)


def test_a_file_of_several_classes_gives_the_same_row_by_one_inference_less(guided_path, photo, tmp_path, monkeypatch):
    from cfcam.export import export_onnx, preset

    several = tmp_path / "several.cam.onnx"
    export_onnx(guided_path.with_name("net.onnx"), several, preprocessing=preset("torchvision"), classes_per_image=2)
    rows, counts = [], []
    for path in (guided_path, several):
        with Explainer(path, threads=1) as opened:
            auditor, infer, runs = Auditor(opened, plan(opened, "cfcam")), opened.engine.infer, []
            monkeypatch.setattr(
                opened.engine, "infer", lambda *given, infer=infer, runs=runs: runs.append(0) or infer(*given)
            )
            rows.append({**auditor.row(photo), "ms": 0})
            counts.append(len(runs))
    assert rows[0] == rows[1]
    assert rows[0]["class_sensitivity"] > 0
    assert counts == [4, 3]


def test_a_second_class_by_another_order_than_the_files_has_an_inference_of_its_own(explainer, photo, monkeypatch):
    auditor = Auditor(explainer, plan(explainer))
    expected = {**auditor.row(photo), "ms": 0}
    third = explainer.explain(photo).top[2][0]
    monkeypatch.setattr(auditor, "_two_at_once", True)
    monkeypatch.setattr(
        auditor._access, "columns", lambda images, _: tuple(auditor._access.tensors(images, [c]) for c in (-1, third))
    )
    assert {**auditor.row(photo), "ms": 0} == expected


def test_eigencam_is_blind_to_the_class(explainer, photo):
    row = Auditor(explainer, plan(explainer, "eigencam")).row(photo)
    assert row["class_sensitivity"] == pytest.approx(0, abs=1e-9)
    assert "class_blind" in row["findings"]


def test_removal_hides_the_highest_fifth_and_shows_it_alone(explainer, photo):
    row = Auditor(explainer, plan(explainer)).row(photo)
    explanation = explainer.explain(photo, method="gradcam")
    tensor = explainer.prepare(photo).tensor
    shown = explanation.map >= np.quantile(explanation.map, 0.8)
    mean = np.broadcast_to(tensor.mean((1, 2), keepdims=True), tensor.shape)
    without, alone = np.where(shown, mean, tensor), np.where(shown, tensor, mean)
    p = explainer.probabilities(np.stack([tensor, without, alone]))[:, explanation.target] - 1 / 6  # of six classes
    assert row["drop_without"] == pytest.approx(1 - p[1] / p[0], abs=1e-5)
    assert row["keep_only"] == pytest.approx(p[2] / p[0], abs=1e-5)


def test_the_same_photo_gives_the_same_row_whatever_came_before(explainer, photo, tmp_path):
    auditor = Auditor(explainer, plan(explainer))
    first = auditor.row(photo)
    for other in make_photos(tmp_path / "others", 2, seed=5):
        auditor.row(other)
    again = auditor.row(photo)
    assert {**first, "ms": 0} == {**again, "ms": 0}
    assert 0.3 < first["noise_agreement"] < 1


def test_boxes_say_what_lies_on_the_object(explainer, photo, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(f'[{{"file": "{photo.name}", "boxes": [[0.0, 0.0, 0.5, 1.0]], "target": 1}}]')
    row = Auditor(explainer, plan(explainer), read_boxes(boxes)).row(photo)
    heat = explainer.explain(photo, method="gradcam").map
    assert row["annotated"] == 1
    assert 0.4 < row["box_share"] < 0.6
    columns = round(row["box_share"] * heat.shape[1])
    assert row["energy_inside"] == pytest.approx(heat[:, :columns].sum() / heat.sum(), abs=1e-5)
    assert row["without_object"] is not None


def test_fewer_rungs_measure_less_and_say_so(explainer, photo):
    row = Auditor(explainer, plan(explainer, rungs=("label",))).row(photo)
    assert row["rungs"] == ["label"]
    assert row["probability"] > 0
    assert row["area"] is row["class_sensitivity"] is None


def test_the_adaptive_ladder_stops_where_the_next_rung_would_not_fit(explainer, photo):
    adaptive = plan(explainer, ladder="adaptive", budget_ms=1000.0)
    for slow, expected in (("map", 1), ("noise", 3), ("none", 5)):
        times = dict.fromkeys(RUNGS, 0.0)
        if slow != "none":
            times |= dict.fromkeys(RUNGS[RUNGS.index(slow) :], 2000.0)
        auditor = Auditor(explainer, dataclasses.replace(adaptive, rung_ms=times))
        assert auditor.row(photo)["rungs"] == list(RUNGS[:expected])


def test_a_photo_over_budget_is_measured_and_marked(explainer, photo):
    row = Auditor(explainer, plan(explainer, budget_ms=1e-6)).row(photo)
    assert row["over"] is True
    assert row["rungs"] == list(USUAL)


def test_photos_that_cannot_be_read_have_an_error_and_no_figures(explainer, tmp_path):
    auditor = Auditor(explainer, plan(explainer))
    for path in [*corrupt_photos(tmp_path, 3), tmp_path / "gone.png"]:
        row = auditor.row(path)
        assert row["error"]
        assert row["probability"] is None
        assert row["findings"] == []
        assert (row["sha256"] == "") == (path.name == "gone.png")


def test_a_method_that_runs_the_model_again_is_refused(explainer):
    with pytest.raises(AuditError, match="--method cfcam"):
        Auditor(explainer, plan(explainer, "scorecam"))


def test_fused_files_are_refused_by_what_helps():
    explainer: Any = SimpleNamespace(path="f.cam.onnx", spec=SimpleNamespace(fused=object()))
    with pytest.raises(AuditError, match=r"f.cam.onnx: is fused.*give the file that is exported without --fused"):
        method_of(explainer, None)
