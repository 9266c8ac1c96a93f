"""The loop: same figures as the measures alone, resumable, and nothing dropped in silence."""

import shutil
import threading

import numpy as np
import pytest
from cfcam.calibration.evaluate import (
    Evaluator,
    Journal,
    evaluate,
    make_plan,
    read_boxes,
)
from cfcam.runtime.errors import ArrayError, TargetError
from cfcam.runtime.explainer import Explainer


def same(first, second):
    np.testing.assert_array_equal(
        np.stack([one.values for one in first.photos]), np.stack([one.values for one in second.photos])
    )


def test_no_order_of_photos_and_no_batch_changes_a_figure(explainer, coloured, small, boxes):
    photos = coloured[0][:4]
    first = evaluate(explainer, photos, small, annotations=boxes)
    other = evaluate(explainer, photos[::-1], small, annotations=boxes, batch=3)
    np.testing.assert_allclose(
        np.stack([one.values for one in first.photos]), np.stack([one.values for one in other.photos[::-1]]), atol=1e-6
    )
    reseeded = make_plan(
        explainer, methods=["cfcam", "gradcam"], baselines=["centre", "random"], seed=4, annotated=True
    )
    assert not np.array_equal(
        evaluate(explainer, photos, reseeded).values("random", "insertion"), first.values("random", "insertion")
    )


def test_a_killed_run_goes_on(explainer, coloured, small, boxes, tmp_path):
    photos, path = coloured[0][:5], tmp_path / "journal.jsonl"
    whole = evaluate(explainer, photos, small, annotations=boxes)

    def stop(done, total):
        assert total == 5
        if done == 3:
            raise KeyboardInterrupt

    with Journal(path) as journal, pytest.raises(KeyboardInterrupt):
        evaluate(explainer, photos, small, annotations=boxes, journal=journal, progress=stop)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    path.write_bytes(b"".join(lines)[:-7])  # killed while it wrote
    with Journal(path) as journal:
        again = evaluate(explainer, photos, small, annotations=boxes, journal=journal)
    assert again.resumed == 2
    same(again, whole)
    with Journal(path) as journal:
        assert evaluate(explainer, photos, small, annotations=boxes, journal=journal).resumed == 5


def test_the_journal_believes_nothing_else(explainer, tiny_path, coloured, small, boxes, tmp_path):
    photos = [tmp_path / path.name for path in coloured[0][:2]]
    for source, copy in zip(coloured[0], photos, strict=False):
        shutil.copy(source, copy)
    with Journal(tmp_path / "j") as journal:
        evaluate(explainer, photos, small, journal=journal)

        def resumed(plan=small, model=explainer, **more):
            return evaluate(model, photos, plan, journal=journal, **more).resumed

        assert resumed() == 2
        assert resumed(annotations=boxes) == 0
        other = make_plan(explainer, methods=["cfcam"], measures=["class_sensitivity"], baselines=["none"])
        assert resumed(other) == 0
        with Explainer(tiny_path("bgr"), threads=1) as model:
            assert resumed(model=model) == 0
        shutil.copy(coloured[0][5], photos[1])
        assert resumed() == 1
        moved = photos[0].rename(tmp_path / "moved.png")
        found = evaluate(explainer, [moved], small, journal=journal)
        assert (found.resumed, found.photos[0].name) == (1, str(moved))


def test_bad_photos_copies_and_photos_without_boxes_are_listed(explainer, coloured, small, boxes, tmp_path):
    broken, empty = tmp_path / "broken.png", tmp_path / "empty.jpg"
    broken.write_bytes(coloured[0][0].read_bytes()[:200])
    empty.touch()
    copy = tmp_path / "copy.png"
    shutil.copy(coloured[0][0], copy)
    photos = [broken, coloured[0][0], empty, copy, tmp_path / "missing.png", coloured[0][1]]
    done = []
    found = evaluate(explainer, photos, small, annotations=boxes, progress=lambda n, of: done.append((n, of)))
    assert [entry["image"] for entry in found.failures] == [str(broken), str(empty), str(tmp_path / "missing.png")]
    assert "truncated" in found.failures[0]["error"]
    assert len(found.photos) == 2
    assert any(f"{copy}: is a copy of {coloured[0][0]}, counted once" in text for text in found.warnings)
    assert "4 of 6 photos have no boxes or mask" in " ".join(found.warnings)
    assert done[-1] == (6, 6)


def test_a_mask_of_another_size_fails_alone(explainer, coloured, small, tmp_path):
    from cfcam.calibration.evaluate import read_masks
    from PIL import Image

    for path in coloured[0][:2]:
        Image.new("L", (96, 64), 255).save(tmp_path / f"{path.stem}.png")
    Image.new("L", (64, 96), 255).save(tmp_path / f"{coloured[0][1].stem}.png")
    found = evaluate(explainer, coloured[0][:2], small, annotations=read_masks(tmp_path))
    assert len(found.photos) == 1
    assert "the mask has 64 x 96 pixels, the photo 96 x 64" in found.failures[0]["error"]


def test_one_class_for_everything_is_a_warning(explainer, coloured, small):
    reds, mixed = coloured[0][::3], coloured[0][:3]
    assert "'red' (0) for all 4 photos" in " ".join(evaluate(explainer, reds, small).warnings)
    assert not evaluate(explainer, mixed, small).warnings


def test_targets(explainer, coloured, tmp_path):
    plan = make_plan(explainer, methods=["gradcam"], measures=["class_sensitivity"], baselines=[], target="blue")
    found = evaluate(explainer, coloured[0][:2], plan)
    assert [one.target for one in found.photos] == [2, 2]
    assert [one.top for one in found.photos] == [0, 1]
    table = tmp_path / "b.csv"
    table.write_text(
        "file,x0,y0,x1,y1,target\nphoto00.png,0,0,1,1,green\nphoto01.png,0,0,1,1,99\nphoto02.png,0,0,1,1,\n"
    )
    plan = make_plan(explainer, methods=["gradcam"], baselines=[], target="annotated", annotated=True)
    found = evaluate(explainer, coloured[0][:3], plan, annotations=read_boxes(table))
    assert [one.target for one in found.photos] == [1]
    assert "target 99 is out of range: the model has 6 classes" in found.failures[0]["error"]
    assert "name no class" in found.failures[1]["error"]
    with pytest.raises(TargetError, match="target 6 is out of range"):
        make_plan(explainer, target=6)


def test_a_model_of_one_class(tiny_path, coloured):
    with Explainer(tiny_path("binary"), threads=1) as explainer:
        found = evaluate(explainer, coloured[0][:2], make_plan(explainer, methods=["gradcam"], baselines=["uniform"]))
    assert np.isnan(found.values("gradcam", "class_sensitivity")).all()
    assert np.isfinite(found.values("gradcam", "insertion")).all()


def test_rules_share_their_inferences(explainer, coloured, monkeypatch):
    asked = []
    real = explainer.tensors
    monkeypatch.setattr(
        explainer, "tensors", lambda images, targets: asked.append(len(images)) or real(images, targets)
    )
    counts = []
    for methods in (["gradcam"], ["gradcam", "hirescam", "layercam", "cfcam"]):
        asked.clear()
        measures = [
            "input_noise",
            "max_sensitivity",
            "transformed",
            "robustness",
            "class_sensitivity",
            "gradient_noise",
        ]
        plan = make_plan(explainer, methods=methods, measures=measures, baselines=["class_blind", "sharpened"])
        Evaluator(explainer, plan).update(coloured[0][0])
        counts.append(sum(asked))
    # The photo, its other class, 2 + 10 noisy ones, 4 changed, 3 noisy ones; none of these has another top class.
    assert counts == [21, 21]


@pytest.mark.parametrize("variant", ["float16", "fixed-batch", "gray", "nhwc", "sigmoid", "unlabelled"])
def test_every_kind_of_file(tiny_path, coloured, variant):
    with Explainer(tiny_path(variant), threads=1) as explainer:
        plan = make_plan(
            explainer, methods=["gradcam", "scorecam"], baselines=["centre"], measures=["cheap", "transformed"]
        )
        found = evaluate(explainer, coloured[0][:2], plan)
    assert not found.failures
    for column in found.columns:
        known = np.isfinite(found.values("gradcam", column))
        # A class without weights has no map.
        assert known.all() or column in ("class_sensitivity", "gradient_noise"), column
    assert np.isnan(found.values("scorecam", "gradient_noise")).all()
    assert np.isfinite(found.values("scorecam", "adcc")).all()


def test_update_compute_reset(explainer, coloured, small):
    evaluator = Evaluator(explainer, small)
    for photo in coloured[0][:2]:
        evaluator.update(photo)
    assert len(evaluator.compute().photos) == 2
    kept = evaluator.compute().photos[0]
    evaluator.reset()
    assert evaluator.compute().photos == ()
    evaluator.add(kept)
    other = Evaluator(explainer, make_plan(explainer, methods=["gradcam"]))
    with pytest.raises(ArrayError, match="measured with another plan"):
        other.add(kept)


def test_no_photo_at_all(explainer, small):
    with pytest.raises(ArrayError, match="at least one photo"):
        evaluate(explainer, [], small)


def test_threads_end_when_a_run_is_broken_off(explainer, coloured, small):
    before = set(threading.enumerate())

    def stop(done, total):
        assert set(threading.enumerate()) > before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(explainer, coloured[0], small, batch=1, workers=2, progress=stop)
    assert set(threading.enumerate()) == before
