"""Counters, and what several processes have counted together."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys

import pytest
from cfcam.runtime.errors import EngineError, ImageError, OutputError
from cfcam.runtime.serving import metrics as metrics_module
from cfcam.runtime.serving.limits import Refusal
from cfcam.runtime.serving.metrics import Metrics, outcome_of
from cfcam.runtime.serving.service import TooLate
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families


def _values(text, parse=text_string_to_metric_families):
    """{(name, labels...): value}, without buckets."""
    samples = (sample for family in parse(text) for sample in family.samples)
    return {(s.name, *(s.labels[name] for name in sorted(s.labels))): s.value for s in samples if "le" not in s.labels}


def test_what_is_counted(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    metrics = Metrics()
    with metrics.request("grpc") as named:
        named.model = "m"
    for error in (Refusal(400, ""), Refusal(503, ""), TooLate(), ZeroDivisionError(), asyncio.CancelledError()):
        with pytest.raises(type(error)), metrics.request("v2", "m"):
            raise error
    metrics.denied("v1")
    with metrics.explaining("m", 3):
        pass
    with pytest.raises(ZeroDivisionError), metrics.explaining("m", 5):
        raise ZeroDivisionError
    metrics.waited(0.25)
    metrics.body("v1", 1000)
    metrics.places(4)
    text, kind = metrics.text("")
    assert kind.startswith("text/plain")
    values = _values(text.decode())
    assert {key[1:]: value for key, value in values.items() if key[0] == "cfcam_requests_total"} == {
        ("m", "ok", "grpc"): 1,
        ("m", "wrong", "v2"): 1,
        ("m", "busy", "v2"): 1,
        ("m", "late", "v2"): 1,
        ("m", "failed", "v2"): 1,
        ("m", "given_up", "v2"): 1,
        ("", "denied", "v1"): 1,
    }
    assert values["cfcam_images_total", "m"] == 3
    assert values["cfcam_explain_seconds_count", "m"] == 1
    assert (values[("cfcam_wait_seconds_count",)], values[("cfcam_wait_seconds_sum",)]) == (1, 0.25)
    assert values["cfcam_body_bytes_sum", "v1"] == 1000
    assert values[("cfcam_requests_in_progress",)] == 4
    assert values[("process_resident_memory_bytes",)] > 1e6
    text, kind = metrics.text("application/openmetrics-text")
    assert kind.startswith("application/openmetrics-text")
    assert _values(text.decode(), open_metrics)["cfcam_images_total", "m"] == 3


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ImageError("no photo"), "wrong"),
        (EngineError("broken"), "failed"),
        (Refusal(401, ""), "denied"),
        (Refusal(403, ""), "denied"),
        (Refusal(413, ""), "wrong"),
        (Refusal(500, ""), "failed"),
    ],
)
def test_outcomes(error, outcome):
    assert outcome_of(error) == outcome


def test_that_the_library_is_missing_is_said_when_the_module_is_imported(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.reload(metrics_module)
    assert caught.value.name == "prometheus_client"


def test_processes_add_up(tmp_path):
    code = (
        "from cfcam.runtime.serving.metrics import Metrics\n"
        "m = Metrics()\n"
        "with m.request('v1', 'm'): m.places(2)\n"
        "print(m.text('')[0].decode())"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for count in (1, 2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        values = _values(done.stdout)
        assert values["cfcam_requests_total", "m", "ok", "v1"] == count
    assert len(set(tmp_path.glob("counter_*.db"))) == 2


def test_a_folder_that_is_none_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="make it, empty"):
        Metrics()
