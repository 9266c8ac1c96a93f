"""The report of a comparison in words: tables on stdout, what was missed, and the verdict at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cfcam.calibration.verify import Failure, VerifyReport, verify
from cfcam.calibration.verify.layerwise import Jump, LayerwiseReport
from cfcam.calibration.verify.verdict import Undecided
from cfcam.cli.verify_tables import print_layerwise, print_report
from small_photos import make_photos


@pytest.fixture(scope="module")
def report(tiny_path: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> VerifyReport:
    plain, photos = tiny_path("logits"), make_photos(tmp_path_factory.mktemp("photos"), 3)
    return verify(plain, plain, photos, {"top1": 0.5}, pictures=0)


def printed(report: VerifyReport, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_report(report)
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_tables_and_the_verdict(report: VerifyReport, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(replace(report, failures=(), undecided=(), given=3, seconds=1.25, form=None), capsys)
    assert lines[0] == "network"
    (place,) = (i for i, line in enumerate(lines) if line.startswith("layer relu (last, 8 x 12), "))
    assert lines[place - 1] == ""
    assert any(line.split()[:2] == ["Spearman", "1.0000"] for line in lines[place:])
    assert not any("FAILED" in line for line in lines)
    name = report.candidate.path
    assert lines[-1] == (f"{name} (float32, cpu) against {name}: method {report.method}, 3 photos, 1.2 s: passed")


def test_what_was_missed_marks_its_row_and_has_a_line(report: VerifyReport, capsys: pytest.CaptureFixture[str]) -> None:
    failures = (Failure("moved", "relu", 1.0, 0.0, "layer relu: moved peaks 1"),)
    lines = printed(replace(report, failures=failures, undecided=(), given=9, form="not guided"), capsys)
    (row,) = (line for line in lines if line.startswith("moved peaks"))
    assert row.endswith("FAILED")
    assert "FAILED: layer relu: moved peaks 1" in lines
    assert f"method {report.method} (not guided), 3 photos of 9, " in lines[-1]
    assert lines[-1].endswith("FAILED: 1 limit was missed")


def test_what_is_undecided_says_what_would_decide(report: VerifyReport, capsys: pytest.CaptureFixture[str]) -> None:
    undecided = (Undecided("top1", None, 1.0, 0.5, 40, "top-1 agreement: 3 of 3 photos"),)
    lines = printed(replace(report, failures=(), undecided=undecided), capsys)
    assert "undecided: top-1 agreement: 3 of 3 photos" in lines
    assert lines[-1].endswith("UNDECIDED: 3 photos, about 40 would decide")
    (row,) = (line for line in lines if line.startswith("top-1 agreement"))
    assert row.endswith("undecided")


def test_where_they_part(capsys: pytest.CaptureFixture[str]) -> None:
    jumps = tuple(Jump(f"n{i}", "Conv", f"v{i}", 0.01, 0.01 * (12 - i)) for i in range(12))
    found = LayerwiseReport("a", "b", 8, 12, jumps, 4, "the engine was built again")
    print_layerwise(found)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[:2] == ["", "where they part: 8 of 12 values compared, 4 photos"]
    assert lines[3].split() == ["n0", "Conv", "v0", "1.0%", "12.0%", "12.0"]
    assert len(lines) == 3 + 10, "the ten largest jumps"
    assert err == "cfcam: note: the engine was built again\n"
    print_layerwise(replace(found, note=""))
    assert capsys.readouterr().err == ""
