"""The least alike photos, the worst first."""

from dataclasses import replace

import pytest
import spoilt_files
from cfcam.calibration.verify import verify
from cfcam.calibration.verify.comparing import PhotoMeasures
from cfcam.calibration.verify.pictures import COLUMNS, save_sheet, worst_photos
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.explainer import Explainer
from PIL import Image
from verify_measures import measures


def _photo(index: int, s: float) -> PhotoMeasures:
    numbers = {"logits_max": 0.0, "logits_mean": 0.0, "jitter_max": 0.0, "jitter_mean": 0.0}
    return PhotoMeasures(
        index, f"{index}.jpg", 0, "a", 0, "a", True, **numbers, places=(measures(s),), same_scores=False
    )


def test_the_worst_come_first_and_equal_maps_are_not_drawn():
    photos = [_photo(0, 0.9), _photo(1, 1.0), _photo(2, 0.2), _photo(3, 0.5)]
    assert [photo.index for photo in worst_photos(photos, 0, 2)] == [2, 3]
    assert [photo.index for photo in worst_photos(photos, 0, 9)] == [2, 3, 0]


def test_a_sheet_has_a_row_for_each_case(tiny_path, photos, tmp_path):
    plain = tiny_path("logits")
    with Explainer(plain, threads=1) as explainer:
        gradients = explainer.tensors([photos[0]]).gradients
    frozen = spoilt_files.freeze_gradients(plain, tmp_path / "frozen.cam.onnx", [gradients])
    report = verify(frozen, plain, photos, pictures=2)
    assert [len(case.images) for case in report.cases] == [len(COLUMNS)] * 2
    assert report.cases[0].likeness.spearman <= report.cases[1].likeness.spearman
    sheets = []
    for count in (1, 2):
        replace(report, cases=report.cases[:count]).save_sheet(tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            sheets.append(sheet.height)
    assert sheets[1] > sheets[0]
    with pytest.raises(ArrayError, match="all maps are equal"):
        save_sheet(tmp_path / "none.png", ())
