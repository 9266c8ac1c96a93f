"""What a build asks `verify` for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic")

from cfcam.calibration.build import verdict
from cfcam.calibration.build.config_files import parse_config
from cfcam.calibration.build.job import make_job
from cfcam.calibration.build.verdict import verify_product
from cfcam.runtime import Explainer


def test_a_file_is_judged_on_the_cpu_and_what_is_open_where_it_is(
    tiny_path: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr(verdict, "verify", lambda *given, **options: asked.append((given, options)))
    source, photos = tiny_path("logits"), [Path("a.png")]
    text = "backend: onnx\nprecision: int8\nmethod: {name: layercam}\ngate: {thresholds: {top1: 0.5}}"
    job = make_job(source, "mine", parse_config(text, "f.yaml"), tmp_path)
    with Explainer(source) as explainer:
        for candidate in (Path("x.onnx"), explainer):
            verify_product(job, candidate, photos, limit=7)
            given, options = asked.pop()
            assert given == (candidate, source, photos, job.config.thresholds)
            assert job.config.thresholds.top1 == 0.5
            provider = "cpu" if isinstance(candidate, Path) else None
            assert options == {"method": "layercam", "settings": {}, "provider": provider, "limit": 7}
