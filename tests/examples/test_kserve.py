"""The container and the manifest say what `cfcam serve` takes, and the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cfcam.cli.app import app
from typer.main import get_command

yaml = pytest.importorskip("yaml")
pytest.importorskip("starlette")

_FOLDER = Path(__file__).resolve().parents[2] / "examples" / "kserve"


def _parsed(words):
    """What the command makes of these words; raises for those that it does not take."""
    command = get_command(app).commands["serve"]  # pyright: ignore[reportAttributeAccessIssue]
    return command.make_context("serve", list(words)).params


@pytest.fixture
def lines():
    text = (_FOLDER / "Dockerfile").read_text()
    found = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in found]


@pytest.fixture
def container():
    service = yaml.safe_load((_FOLDER / "inference-service.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = service["spec"]["predictor"]
    assert predictor["terminationGracePeriodSeconds"] > 31  # `serve` has a grace of 30 and lingers
    (found,) = predictor["containers"]
    return found


def test_the_container_starts_the_server(lines):
    said = dict(lines)
    assert json.loads(said["ENTRYPOINT"]) == ["cfcam", "serve"]
    parsed = _parsed(json.loads(said["CMD"]))
    assert (parsed["host"], str(parsed["port"])) == ("0.0.0.0", said["EXPOSE"])
    copied = [rest.split()[-1] for name, rest in lines if name == "COPY"]
    assert parsed["models"][0] in copied


def test_the_manifest_runs_the_container(lines, container):
    parsed, usual = _parsed(container["args"]), _parsed(json.loads(dict(lines)["CMD"]))
    assert {name for name in parsed if parsed[name] != usual[name]} == {"workers"}
    assert str(parsed["workers"]) == container["resources"]["limits"]["cpu"]
    ports = {port["containerPort"] for port in container["ports"]}
    assert ports == {parsed["port"]}
    assert container["image"] in (_FOLDER / "Dockerfile").read_text()


def test_probes_ask_what_is_answered_without_a_token(container):
    from cfcam.runtime.serving.openapi import document

    paths = document(["m"], token=True)["paths"]
    for probe in ("readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == container["ports"][0]["containerPort"]
        assert paths[asked["path"]]["get"]["security"] == []
