"""The README of a model says what was written."""

from __future__ import annotations

from typing import Any

import pytest
from cfcam.export.triton.config import TritonPlan
from cfcam.export.triton.readme import readme
from cfcam.runtime.contract.modelfile import read_model_info, read_spec


@pytest.mark.parametrize(
    ("layout", "words"), [("one", "`image` (BYTES"), ("bls", "calls `m_engine`"), ("ensemble", "`m_map` makes the map")]
)
def test_what_it_says(layout: Any, words: str, tiny_path) -> None:
    path = tiny_path("logits")
    text = readme(TritonPlan(name="m", layout=layout), read_spec(path), read_model_info(path))
    assert words in text
    assert ("overlay" in text) is (layout != "ensemble")
    assert "EXECUTION_ENV_PATH" in text
    assert "{" not in text.replace("parameters {", "").replace("value {", "")
