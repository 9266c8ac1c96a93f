"""The document of a measurement in words."""

from __future__ import annotations

from typing import Any

import pytest
from cfcam.cli.bench_tables import print_result


def times(p50: float, **more: Any) -> dict[str, Any]:
    return {"p50": p50, "p90": p50 + 1, "p99": p50 + 2, "max": p50 + 3, "n": 40, **more}


def result(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "latency_ms": {"explanation": times(10, images_per_second=99.94), "map": times(7, images_per_second=140)},
        "stages_ms": {"decode": times(2.5)},
        "plain_ms": None,
        "ratio": None,
        "control": None,
        "budget": None,
        "memory": {"high_water": 300 * 2**20, "weights_only": None},
        "model": {"path": "x.cam.onnx", "bytes": 3 * 2**19, "precision": "float32", "sha256": "ab" * 32,
                  "input": {"shape": [1, 3, 32, 48]}},
        "engine": {"backend": "onnxruntime 1.0", "provider": "cpu", "threads": None},
        "what": {"method": "cfcam", "layers": ["relu", "conv"], "fusion": "mean", "batch": 1},
        "image": {"name": "dog.jpg", "width": 640, "height": 480},
        "machine": {"board": None, "cpu": "A CPU", "usable_cores": 2, "cores": 8, "memory_bytes": None,
                    "system": "Linux", "clock_mhz": 1800.4, "max_clock_mhz": 3600, "governor": None, "gpus": []},
        "open_ms": 120.4, "first_ms": 30.6, "transfers": "none", "load": {"before": 0.5, "after": None},
        "versions": {"cfcam": "0.1", "backend": "onnxruntime 1.0"}, "created": "2026-11-24", "rounds": 40,
        "seconds": 4.04, "warm_up_rounds": 5, "garbage_collection": "off", "clock": "a clock",
        "soak": None, "plan": None, "warnings": [],
    }  # fmt: skip
    return {**document, **changes}


def printed(capsys: pytest.CaptureFixture[str], **changes: Any) -> list[str]:
    print_result(result(**changes))
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_latencies_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys)
    assert lines[:4] == [
        "milliseconds p50 p90 p99 max images/s runs",
        "explanation (file to result) 10.00 11.00 12.00 13.00 99.9 40",
        "map (tensor to map) 7.00 8.00 9.00 10.00 140.0 40",
        "decode 2.50 3.50 4.50 5.50 40",
    ]
    assert {
        "model x.cam.onnx, 1.5 MiB, float32",
        "engine onnxruntime 1.0 on cpu, threads: as it likes",
        "explained cfcam, relu + conv (mean), batch 1, input 1x3x32x48",
        "opening 120 ms, first explanation 31 ms",
        "memory high water 300.0 MiB",
        "machine A CPU, 2 of 8 cores, Linux",
        "clock 1800 MHz of 3600, governor not known",
        "load 0.5 before, not known after",
        "versions cfcam 0.1",
    } <= set(lines)
    assert not any(line.startswith("gpu") for line in lines), "there is none"


def test_the_plain_model_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    ratio = {"median": 1.2345, "low": 1.2, "high": 1.25, "n": 40}
    lines = printed(capsys, plain_ms=times(8), ratio=ratio, control={**ratio, "median": 1})
    assert "plain model 8.00 9.00 10.00 11.00 40" in lines
    assert (
        "inference explained / plain: 1.234 [1.200, 1.250] over 40 interleaved rounds; plain / plain: 1.000 "
        "[1.200, 1.250]"
    ) in lines


def test_budgets(capsys: pytest.CaptureFixture[str]) -> None:
    for met, word in ((True, "within"), (False, "OVER")):
        lines = printed(
            capsys,
            budget={"of": "map", "p99": 9.006, "met": met, "ms": 9},
            memory={"budget": (400 if met else 200) * 2**20, "high_water": 300 * 2**20},
        )
        assert f"p99 of the map: 9.01 ms, {word} the budget of 9 ms" in lines
        assert f"memory: 300 MiB at most, {word} the budget of {400 if met else 200} MiB" in lines


def test_a_soak(capsys: pytest.CaptureFixture[str]) -> None:
    soak: dict[str, Any] = {
        "parts": [{"seconds": 1, "p50": 5, "resident": 2**20}, {"seconds": 2, "p50": 5.5, "resident": None}],
        "latency": {"n": 400, "max": 9.44}, "seconds": 2.0, "drift": 1.1, "slope": 0.25, "drifted": True,
        "growth": 3 * 2**20, "limit": 2**21, "smallest_leak": 2048, "grew": False,
    }  # fmt: skip
    lines = printed(capsys, soak=soak)
    assert "soak: 400 explanations in 2.0 s, by tenths" in lines
    assert "2.0 5.50 not known" in lines
    assert ("latency: last tenth / first 1.100, slope +0.25 ms per minute, worst 9.4 ms: IT GETS SLOWER") in lines
    assert (
        "memory: +3.0 MiB since the second tenth, 2.0 are let pass: steady (a leak of 2.0 KiB or more per explanation "
        "would have been seen)"
    ) in lines
    assert any(line.endswith("IT GROWS") for line in printed(capsys, soak={**soak, "grew": True}))
    assert "memory: not known on this system" in printed(capsys, soak={**soak, "growth": None})


def test_a_plan_has_a_column_for_each_number_of_classes(capsys: pytest.CaptureFixture[str]) -> None:
    def row(method: str, classes: int, to_input: bool, p99: float, fits: bool | None) -> dict[str, Any]:
        return {
            "method": method,
            "layers": ["relu"],
            "classes": classes,
            "to_input": to_input,
            "p99": p99,
            "fits": fits,
        }

    plan: dict[str, Any] = {
        "rows": [row("cfcam", 5, True, 40, False), row("cfcam", 1, True, 20, True), row("gradcam", 1, False, 9, True)],
        "photo": True, "budget_ms": 25, "runs": 30, "left_out": {"rise": "too slow"},
        "checks": [{"method": "cfcam", "layers": ["relu"], "classes": 1, "planned_p50": 1, "measured_p50": 2,
                    "planned_p99": 3, "measured_p99": 4}],
    }  # fmt: skip
    lines = printed(capsys, plan=plan)
    assert "method layers 1 class 5 classes 1 class, grid" in lines
    assert "cfcam relu 20.0 * 40.0" in lines
    assert "gradcam relu 9.0 *" in lines
    assert "left out: rise: too slow" in lines
    assert "cfcam relu 1 1.00 2.00 3.00 4.00" in lines
    (title,) = (
        line for line in lines if line.startswith("latency plan: p99 in milliseconds from the photo's file, 30")
    )
    assert "* fits 25 ms" in title


def test_warnings_come_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, warnings=["the machine is busy"])[-2:] == ["", "careful: the machine is busy"]
