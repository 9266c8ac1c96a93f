"""Some architectures of the zoo, and the harness that runs them all."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zoo
from tensorrt_required import require_tensorrt
from zoo_measure import Layer, measure_network
from zoo_networks import NETWORKS, find

# `make zoo` judges all rows. This one runs here, for the harness and for a transformer; test_torch_export.py has two
# convolutional networks of the zoo.
CHOSEN = ["vit_tiny"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_architecture(name: str, tmp_path: Path) -> None:
    """In a middle layer, whose tail has every operator of the network; all figures are there and hold."""
    network = find(name)
    (row,) = measure_network(network, tmp_path, positions=["middle"])
    assert row.error is None
    assert row.layer == network.middle
    assert row.shape is not None
    assert len(row.shape) == 3
    assert row.float64 is not None
    assert row.float64 <= 1e-8
    assert row.share is not None
    assert row.differences is not None
    require_tensorrt()
    assert row.tensorrt == "parsed"


def test_names_are_unique() -> None:
    names = [network.name for network in NETWORKS]
    assert len(set(names)) == len(names)
    assert set(CHOSEN) <= set(names)


def test_what_fails_is_a_row(tmp_path: Path) -> None:
    small = find("squeezenet1_1")
    (row,) = measure_network(replace(small, size=64, middle="features.99"), tmp_path, positions=["middle"])
    assert "no layer 'features.99'" in str(row.error)

    def broken() -> None:
        raise MemoryError("no room\nfor this")

    rows = measure_network(replace(small, build=broken), tmp_path)  # type: ignore[arg-type]
    assert [row.error for row in rows] == ["cannot be built: MemoryError: no room"] * 2


def rows(error: str | None = None) -> list[Layer]:
    figures: dict[str, Any] = {"seconds": 7, "float64": 1e-15, "share": 0.5, "differences": 1e-7, "tensorrt": "parsed"}
    times: dict[str, Any] = {"ratio": 1.25, "spread": 0.01, "control": 1.0}
    return [Layer("net", "Nets", "last", "layer4", (8, 4, 4), error, **({} if error else figures | times))]


def test_the_table_has_every_figure_and_every_failure() -> None:
    text = zoo.table(rows())
    line = "| net | Nets | layer4 (last) | 8 x 4 x 4 | 7 | 1.0e-15 | 0.50 | 1.0e-07 | parsed | 1.25 ± 0.01 | 1.000 |"
    assert line in text.splitlines()
    assert text.endswith("No row failed.")
    text = zoo.table(rows("no rule for Foo"))
    assert "**failed**" in text
    assert text.endswith("- net, last layer: no rule for Foo")
    assert "- gone, last layer: signal 9" in zoo.table([Layer("gone", "Nets", "last", "", error="signal 9")])


def test_results_are_kept_until_the_exporter_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo, "_RESULTS", tmp_path)
    asked: list[str] = []
    errors: list[str | None] = [None]

    def process(command: list[str], **_: object) -> argparse.Namespace:
        asked.append(command[command.index("--only") + 1])
        part = Path(command[command.index("--worker") + 1])
        part.write_text(zoo.json.dumps([row.to_dict() for row in rows(errors[0])]))
        return argparse.Namespace(returncode=0)

    monkeypatch.setattr(zoo.subprocess, "run", process)
    arguments = ["--only", "resnet18", "--no-timing", "--output", str(tmp_path / "zoo.md")]
    assert zoo.main(arguments) == 0
    assert zoo.main(arguments) == 0
    assert asked == ["resnet18"]
    assert "| net | Nets |" in (tmp_path / "zoo.md").read_text()
    assert zoo.main([*arguments, "--fresh"]) == 0
    monkeypatch.setattr(zoo, "_fingerprint", lambda: "changed")
    errors[0] = "no rule for Foo"
    assert zoo.main(arguments) == 1
    assert zoo.main(arguments) == 1  # failures are tried again
    assert asked == ["resnet18"] * 4
    assert "no rule for Foo" in capsys.readouterr().out


def test_a_process_that_dies_or_hangs_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_RESULTS", tmp_path)
    monkeypatch.setattr(zoo.sys, "executable", str(tmp_path / "python"))
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nkill -9 $$\n")
    interpreter.chmod(0o755)
    options = zoo._parser().parse_args(["--timeout", "1"])
    died = zoo._in_a_process(find("resnet18"), "now", options)
    assert [row.error for row in died] == ["the process was ended by signal 9"] * 2
    interpreter.write_text("#!/bin/sh\nexec sleep 30\n")
    hung = zoo._in_a_process(find("resnet18"), "now", options)
    assert [row.error for row in hung] == ["no result within 1 s"] * 2
