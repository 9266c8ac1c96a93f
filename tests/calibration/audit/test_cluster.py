"""Photos on a cluster. Where Ray is not installed, what needs it is left out: `make fleet` installs it."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from cfcam.calibration.audit import AuditError, AuditOptions, audit
from cfcam.calibration.audit.cluster import _check_processors, _show_token, rows_on_cluster
from cfcam.calibration.audit.parts import read_parts
from cfcam.calibration.audit.plan import Plan
from cfcam.calibration.audit.row import UNREPEATED
from cfcam.calibration.audit.rungs import method_of
from cfcam.calibration.audit.sources import Files
from cfcam.calibration.audit.sources.opening import Joined
from cfcam.calibration.audit.workers import Job, rows_of
from cfcam.runtime.errors import CfcamError, MissingDependencyError
from cfcam.runtime.explainer import Explainer
from photo_sources import make_archive
from small_photos import corrupt_photos, make_photos


@pytest.fixture
def job(tiny_path):
    with Explainer(tiny_path("logits"), threads=1) as explainer:
        return Job(tiny_path("logits"), Plan("ab", *method_of(explainer, "gradcam")))


@pytest.fixture
def ray():
    return pytest.importorskip("ray")


def fixed(row):
    return {name: value for name, value in row.items() if name not in UNREPEATED}


def test_without_ray_it_is_said_what_to_install_and_relative_paths_are_refused(job, tmp_path, monkeypatch):
    source = Joined([Files(make_photos(tmp_path, 1))])
    names = source.names()
    assert list(rows_on_cluster(job, source, [], "local", 1)) == []
    with pytest.raises(AuditError, match=r"a\.png: is a relative path"):
        list(rows_on_cluster(job, source, ["a.png"], "10.0.0.1:6379", 1))
    with monkeypatch.context() as patched, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        patched.setattr("importlib.util.find_spec", lambda name: name)
        with pytest.raises(AuditError, match="no Ray cluster answers"):
            list(rows_on_cluster(job, source, names, f"127.0.0.1:{silent.getsockname()[1]}", 1))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"install cfcam\[fleet\]"):
        list(rows_on_cluster(job, source, names, "local", 1))


def test_a_token_is_shown_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    _show_token()
    assert "RAY_AUTH_MODE" not in os.environ
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t")
    _show_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    _show_token()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_more_workers_than_processors_are_refused():
    class Ray:
        @staticmethod
        def cluster_resources():
            return {"CPU": 2.0}

    _check_processors(Ray, "10.0.0.1:6379", 2)
    with pytest.raises(AuditError, match=r"the cluster has 2 processors.*give --workers 2"):
        _check_processors(Ray, "10.0.0.1:6379", 3)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_no_photo_and_doubles_none(job, tmp_path, ray):
    photos = make_photos(tmp_path / "photos", 396) + corrupt_photos(tmp_path / "photos", 1)
    data = photos[0].read_bytes()
    from cfcam.calibration.audit.sources.archive import Archive

    source = Joined([Files(photos), Archive(make_archive(tmp_path / "a.tar", [("0.png", data)]))])
    names = source.names()
    alone = {row["image"]: fixed(row) for row in rows_of(job, source.photos(set(names)))}
    seen, killed = [], 0
    for row in rows_on_cluster(job, source, names, "local", 2):
        seen.append(row)
        if len(seen) in (1, 150):
            os.kill(int(row["worker"].rpartition(":")[2]), signal.SIGKILL)
            killed += 1
    assert killed == 2
    assert sorted(row["image"] for row in seen) == sorted(names)
    assert len(seen) == 398
    assert {row["image"]: fixed(row) for row in seen} == alone


@pytest.mark.slow
def test_an_audit_goes_on_with_ray_where_it_was_stopped_without(tiny_path, tmp_path, ray):
    model, photos = tiny_path("logits"), make_photos(tmp_path / "photos", 20)
    audit(model, photos[:9], tmp_path / "a")
    document = audit(model, photos, tmp_path / "a", AuditOptions(ray="local", workers=2))
    assert document["counts"]["photos"] == 20
    audit(model, photos, tmp_path / "b", AuditOptions(plan=tmp_path / "a" / "plan.json"))
    both = [sorted(map(str, map(fixed, read_parts(tmp_path / name / "parts")))) for name in "ab"]
    assert both[0] == both[1]


@pytest.mark.slow
def test_a_job_that_cannot_be_opened_is_said(job, tmp_path, ray):
    source = Joined([Files(make_photos(tmp_path, 3))])
    names = source.names()
    with pytest.raises(CfcamError, match=r"no\.cam\.onnx"):
        list(rows_on_cluster(Job(tmp_path / "no.cam.onnx", job.plan), source, names, "local", 1))


@pytest.mark.slow
def test_a_cluster_that_goes_away_is_an_error_and_not_the_end_of_the_process(job, tmp_path, ray):
    source = Joined([Files(make_photos(tmp_path, 200))])
    rows = rows_on_cluster(job, source, source.names(), "local", 1)
    next(rows)
    (raylet,) = (int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if is_raylet_of(stat, os.getpid()))
    os.kill(raylet, signal.SIGKILL)
    with pytest.raises(AuditError, match="the cluster"):
        list(rows)


def is_raylet_of(stat, pid):
    """Whether a process is the raylet that a child of `pid` has started."""
    try:
        if b"raylet/raylet" not in stat.with_name("cmdline").read_bytes().split(b"\0")[0]:
            return False
        driver = stat.read_text().rpartition(")")[2].split()[1]
        return int((stat.parents[1] / driver / "stat").read_text().rpartition(")")[2].split()[1]) == pid
    except OSError:  # it has ended
        return False
