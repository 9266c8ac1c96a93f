"""``cfcam build``."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cfcam.cli import main
from cfcam.runtime.explainer import Explainer
from small_photos import corrupt_photos, make_photos
from tensorrt_required import require_tensorrt


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFCAM_CACHE", str(tmp_path / "cache"))


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_lists_and_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--list-configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == sorted(line.split()[0] for line in lines[1:])
    assert any(line.startswith("jetson-orin-int8") and "tensorrt" in line for line in lines)
    assert main(["build", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["backend"]["enum"][0] == "onnxruntime"


def test_json_with_ten_corrupt_photos_among_a_hundred(
    tiny_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_photos(tmp_path / "photos", 90)
    corrupt = corrupt_photos(tmp_path / "photos", 10)
    out = tmp_path / "out"
    arguments = ["build", str(tiny_path("logits")), "--config", "cpu", "--images", str(tmp_path / "photos")]
    assert main([*arguments, "-o", str(out), "--json"]) == 1  # done, but some photos could not be read
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    document = json.loads(stdout)
    assert document["schema"] == "cfcam.build/1"
    assert document["passed"] is True
    assert document["products"] == [str(out / "logits.cpu.onnx")]
    tried = {entry["image"] for entry in document["errors"]}
    assert tried <= {str(path) for path in corrupt}
    assert tried
    assert len(document["photos"]["gate"]) == 50
    assert document["gate"]["top1"]["share"] == 1


def test_words_for_people(tiny_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_photos(tmp_path / "photos", 6)
    arguments = ["build", str(tiny_path("logits")), "--images", str(tmp_path / "photos"), "-o", str(tmp_path / "out")]
    command = [*arguments, "--config", "jetson-orin-fp16", "--onnx-only"]
    assert main(command) == 1
    out, _ = capsys.readouterr()
    assert "nothing was built: give more photos with --images, or take it as it is with --allow-undecided" in out
    assert "undecided: top-1 agreement 1.000 (6 of 6 photos), limit 0.98: about " in out
    assert main([*command, "--allow-undecided"]) == 1
    out, _ = capsys.readouterr()
    assert "6 photos judge" in out
    assert "UNDECIDED: 6 photos, about " in out
    assert "on the target, beside the graph: trtexec --onnx=logits.jetson-orin-fp16.onnx" in out
    product = str(tmp_path / "out" / "logits.jetson-orin-fp16.onnx")
    assert main(["inspect", product]) == 0
    assert "UNDECIDED: 6 photos" in capsys.readouterr().out
    assert main([*arguments, "--config", "cpu", "--limit", "3"]) == 2
    assert "--limit: nothing is calibrated with precision float32" in capsys.readouterr().err


def test_several_configurations_have_a_process_each(
    tiny_path: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """This process has one TensorRT package at most; a configuration of the other one asks a process of its own."""
    photos = tmp_path / "photos"
    make_photos(photos, 20)
    half = tmp_path / "half.yaml"
    half.write_text("backend: onnx\nprecision: float16\n")
    words = ["build", str(tiny_path("logits")), "-o", str(tmp_path / "out"), "--images", str(photos)]
    configs = ["cpu", str(half)]
    absent = importlib.util.find_spec("tensorrt") is None
    if absent:  # asked for all the same
        configs.append("jetson-orin-fp16")
    words += ["--allow-undecided", "--limit", "16", *(word for one in configs for word in ("--config", one))]
    assert main(words) == 2, "the worst of all"
    said = capfd.readouterr().err
    assert "--limit: nothing is calibrated with precision float32" in said
    assert ("'jetson-orin-fp16': tensorrt is not installed" in said) == absent
    assert listing(tmp_path / "out") == ["logits.half.onnx", "logits.half.onnx.manifest.json"]


def test_an_empty_folder_builds_nothing(
    tiny_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    arguments = ["build", str(tiny_path("logits")), "--config", "cpu-int8", "--images", str(tmp_path / "photos")]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cfcam: error: {tmp_path / 'photos'}: ")
    assert not (tmp_path / "out").exists() or not listing(tmp_path / "out")


def test_a_build_that_is_killed_leaves_nothing_that_looks_finished(
    tiny_path: Callable[[str], Path], tmp_path: Path
) -> None:
    require_tensorrt()
    make_photos(tmp_path / "photos", 24)
    out = tmp_path / "out"
    words = ["build", str(tiny_path("logits")), "--config", "rtx", "--images", str(tmp_path / "photos")]
    command = [sys.executable, "-m", "cfcam.cli", *words, "-o", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob(".*.part/*.engine")) and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "it was done before it could be killed"
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    assert all(path.name.endswith(".part") for path in out.iterdir())
    assert main([*words, "-o", str(out), "--allow-undecided"]) == 1  # undecided, and another one is not in its way
    with Explainer(out / "logits.rtx.onnx") as explainer:
        assert explainer.spec.precision == "float16"


def test_a_build_that_is_told_to_stop_cleans_up(
    tiny_path: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_photos(tmp_path / "photos", 6)
    out = tmp_path / "out"

    def terminated(*_: object, **__: object) -> None:
        assert list(out.glob(".*.part"))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("cfcam.calibration.build.lowering.lower", terminated)
    before = signal.getsignal(signal.SIGTERM)
    words = ["build", str(tiny_path("logits")), "--config", "cpu", "--images", str(tmp_path / "photos")]
    assert main([*words, "-o", str(out)]) == 143
    assert capsys.readouterr().err.endswith("cfcam: stopped by SIGTERM\n")
    assert listing(out) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_search_says_what_it_tried(
    tiny_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_photos(tmp_path / "photos", 24)
    config = tmp_path / "mine.yaml"
    config.write_text(
        "backend: onnx\nprecision: int8\nquantisation: {float_first: false}\ngate: {thresholds: {top1: 1.0}}\n"
    )
    arguments = ["build", str(tiny_path("logits")), "--config", str(config), "--images", str(tmp_path / "photos")]
    assert main([*arguments, "-o", str(tmp_path / "out"), "--auto-precision", "--limit", "8", "--json"]) == 0
    stdout, stderr = capsys.readouterr()
    document = json.loads(stdout)
    assert stderr == ""
    (chosen,) = [attempt for attempt in document["attempts"] if attempt["chosen"]]
    assert chosen["passed"]
    assert chosen == document["attempts"][-1]  # the first that passes
    assert len(document["photos"]["calibration"]) == 8
    with Explainer(tmp_path / "out" / "logits.mine.onnx") as explainer:
        assert explainer.manifest is not None
        assert explainer.manifest.precision.startswith(chosen["plan"]["precision"])
