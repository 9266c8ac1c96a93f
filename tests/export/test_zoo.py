"""Some architectures of the zoo, and the harness that runs them all."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zoo
from tensorrt_required import require_tensorrt
from torch import nn
from torchvision_compat import import_torchvision
from zoo_measure import Layer, measure_network
from zoo_networks import NETWORKS, find


def create_model(name: str, **options: Any) -> nn.Module:
    import_torchvision()  # timm imports it
    import timm

    return timm.create_model(name, pretrained=False, **options)


def bit_net() -> nn.Module:
    import_torchvision()
    from timm.models.resnetv2 import ResNetV2

    return ResNetV2(layers=[1, 1, 1, 1], channels=(128, 128, 256, 256), stem_type="fixed")


# Name -> what differs from the zoo's own row (less deep, where that loses no rule). `make zoo` goes through all rows;
# these have the rules that no other test's network has:
CHOSEN: dict[str, dict[str, Any]] = {
    # split attention, average pooling
    "resnest14d": {},
    # weights standardised in the graph, group norms
    "resnetv2_50x1_bit": {"build": bit_net},
    # layer norms over channels, layer scales
    "convnext_atto": {
        "build": lambda: create_model("convnext_atto", depths=(1, 1, 2, 1)),
        "middle": "stages.2.blocks.0",
    },
    # attention, a class token
    "vit_tiny": {},
    # shifted windows, channels last
    "swin_tiny": {},
    # means over neighbours without the padding, one group for all channels
    "poolformer": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_architecture(name: str, tmp_path: Path) -> None:
    """In a middle layer, whose tail has every operator of the network; all figures are there and hold."""
    network = replace(find(name), **CHOSEN[name])
    if network.size == 128:
        network = replace(network, size=96)
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
