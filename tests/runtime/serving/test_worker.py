"""Files that are opened again, and what a process says."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from cfcam.runtime.contract.modelfile import file_sha256
from cfcam.runtime.profile import Profile, Usual, write_profile
from cfcam.runtime.serving import worker
from cfcam.runtime.serving.worker import ServeOptions, hung_up, reload_models


def test_files_are_opened_again_and_broken_ones_leave_the_old(tiny_path, tmp_path):
    files = [tmp_path / "a.cam.onnx", tmp_path / "b.cam.onnx"]
    for file in files:
        shutil.copy(tiny_path("logits"), file)
    options = ServeOptions(files=tuple(map(str, files)))
    models = options.open()
    old = dict(models)
    shutil.copy(tiny_path("softmax"), files[0])
    files[1].write_bytes(b"broken")
    said: list[str] = []
    reload_models(models, options, said.append)
    assert said[0] == "reloaded a"
    assert said[1].startswith(f"not reloaded, the old file goes on: {files[1]}: ")
    assert models["a"] is not old["a"]
    assert (old["a"].has_logits, models["a"].has_logits) == (True, False)
    assert models["b"] is old["b"]
    old["a"].check_ready()  # a request that holds it still gets its answer


def test_a_file_that_its_profile_is_not_of_is_not_taken(tiny_path, tmp_path):
    file, profile = tmp_path / "a.cam.onnx", tmp_path / "p.json"
    shutil.copy(tiny_path("logits"), file)
    usual = {"area": Usual(100, 0.5, 0.1, 0.1, 0.5, 0.1)}
    write_profile(profile, Profile(file_sha256(file), "cfcam", 100, 0.0, usual))
    options = ServeOptions(files=(str(file),), profiles=(str(profile),))
    models = options.open()
    old = models["a"]
    shutil.copy(tiny_path("softmax"), file)
    said: list[str] = []
    reload_models(models, options, said.append)
    assert "is a profile of another file" in said[0]
    assert models["a"] is old
    write_profile(profile, Profile(file_sha256(file), "cfcam", 100, 0.0, usual))
    reload_models(models, options, said.append)
    assert said[1] == "reloaded a"
    assert models["a"] is not old
    assert models["a"].watch is not None


def test_an_error_of_a_library_leaves_the_old_file(monkeypatch):
    def fail(self, *_):
        raise RuntimeError("of a library")

    monkeypatch.setattr(ServeOptions, "open", fail)
    said: list[str] = []
    reload_models({}, ServeOptions(files=("a.onnx",)), said.append)
    assert said == ["a.onnx: not reloaded, the old file goes on: RuntimeError"]


def test_sighup_reloads_in_a_thread_and_not_while_draining():
    draining, calls = threading.Event(), []
    before = signal.getsignal(signal.SIGHUP)
    with worker._reloading(lambda: calls.append(threading.current_thread().name), draining, shared=True):
        signal.raise_signal(signal.SIGHUP)
        end = time.monotonic() + 10
        while not calls and time.monotonic() < end:
            time.sleep(0.01)
        draining.set()
        signal.raise_signal(signal.SIGHUP)
    assert calls == ["reload"]
    assert signal.getsignal(signal.SIGHUP) is before


@pytest.mark.parametrize(("ignored", "expected"), [(False, ["SIGTERM"]), (True, ["reload"])])
def test_a_closed_terminal_ends_the_server_unless_it_was_to_outlive_it(monkeypatch, ignored, expected):
    """`nohup` has SIGHUP ignored."""
    done: list[str] = []
    monkeypatch.setattr(worker, "hung_up", lambda: True)
    terminate = signal.signal(signal.SIGTERM, lambda *_: done.append("SIGTERM"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with worker._reloading(lambda: done.append("reload"), threading.Event(), shared=False):
            signal.raise_signal(signal.SIGHUP)
            end = time.monotonic() + 10
            while not done and time.monotonic() < end:
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGHUP, before)
    assert done == expected


def test_a_terminal_that_was_closed_is_known(monkeypatch):
    master, slave = os.openpty()
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(fileno=lambda: slave))
    assert not hung_up()
    os.close(master)
    assert hung_up()
    os.close(slave)
    assert not hung_up()


def test_errors_are_said_where_no_logging_was_asked_for():
    said: list[str] = []
    logger = logging.getLogger("cfcam.runtime.serving.app")
    with worker._errors_said(said.append):
        logger.error("not %s", "ready")
        logger.info("quiet")
    logger.error("later")
    assert said == ["not ready"]
