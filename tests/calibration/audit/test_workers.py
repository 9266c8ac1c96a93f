"""Photos shared among processes, some of which die."""

import os
import signal

import pytest

pytest.importorskip("onnxruntime")

from cfcam.calibration.audit.plan import Plan
from cfcam.calibration.audit.row import UNREPEATED
from cfcam.calibration.audit.rungs import method_of
from cfcam.calibration.audit.sources import Photo
from cfcam.calibration.audit.workers import Job, opened, rows_of
from cfcam.runtime.errors import CfcamError
from cfcam.runtime.explainer import Explainer
from small_photos import make_photos


@pytest.fixture
def job(tiny_path):
    with Explainer(tiny_path("logits"), threads=1) as explainer:
        return Job(tiny_path("logits"), Plan("ab", *method_of(explainer, "gradcam")))


def fixed(row):
    return {name: value for name, value in row.items() if name not in UNREPEATED}


def test_two_workers_give_the_rows_of_one_and_outlive_the_death_of_one(job, tmp_path):
    files = make_photos(tmp_path, 24)
    photos = [Photo.of_file(path) for path in files]
    alone = {row["image"]: fixed(row) for row in rows_of(job, photos)}
    seen, killed = [], None
    for row in rows_of(job, photos, 2):
        seen.append(row)
        if killed is None:
            killed = int(row["worker"])
            os.kill(killed, signal.SIGKILL)
    assert sorted(row["image"] for row in seen) == sorted(map(str, files))
    assert {row["image"]: fixed(row) for row in seen} == alone
    assert {row["worker"] for row in seen} != {str(killed)}


def test_a_job_that_cannot_be_opened_is_said_by_its_workers(job, tmp_path):
    broken = Job(tmp_path / "no.cam.onnx", job.plan)
    with pytest.raises(CfcamError, match=r"no\.cam\.onnx"):
        list(rows_of(broken, map(Photo.of_file, make_photos(tmp_path / "p", 2)), 2))
    with pytest.raises(CfcamError, match=r"no\.cam\.onnx"), opened(broken):
        pass
