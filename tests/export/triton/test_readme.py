"""The README of a model says what was written."""

from __future__ import annotations

import ast
import shlex
from typing import Any

import pytest
from cfcam.export.triton.config import TritonPlan
from cfcam.export.triton.readme import photo_in_words, readme
from cfcam.export.triton.source import open_source
from cfcam.runtime.contract.modelfile import read_spec


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("one", "`image` (BYTES"),
        ("bls", "calls `m_engine`"),
        ("ensemble", "`m_map` makes the map"),
        ("plain", "np.full((1, 1), -1, np.int64)"),
    ],
)
def test_what_it_says(layout: Any, words: str, tiny_path) -> None:
    text = readme(TritonPlan(name="m", layout=layout), open_source(tiny_path("logits")))
    assert words in text
    assert ("overlay" in text) is (layout in ("one", "bls"))
    assert ("EXECUTION_ENV_PATH" in text) is (layout != "plain")
    code = text.replace('arrays = {"image": image, "cam_target"', "").replace("-1, np.int64)}", "")
    assert "{" not in code.replace("parameters {", "").replace("value {", "")
    assert "cfcam triton logits.cam.onnx --name m --check" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("logits", "its shorter side is 56 pixels, and cut 48 x 32 out of its middle (bilinear, with antialiasing)"),
        ("pad", "so that all of it fits into 48 x 32, and fill the rest with the mean colour"),
        ("gray", "Colours: grey (Pillow's L)."),
        (
            "bgr",
            "Colours: BGR. Of its pixels p (0 to 255), x = (p * 0.00392156862745098 - mean) / std, with mean [0.5, ",
        ),
    ],
)
def test_how_a_photo_is_prepared(name: str, words: str, tiny_path) -> None:
    assert words in photo_in_words(read_spec(tiny_path(name)).input)


def test_its_commands_hold_for_names_with_spaces_and_quotes(tiny_path, tmp_path) -> None:
    path = tmp_path / 'a "b".cam.onnx'
    path.write_bytes(tiny_path("logits").read_bytes())
    text = readme(TritonPlan(name="m", layout="plain"), open_source(path))
    command = next(line for line in text.splitlines() if line.startswith("cfcam triton"))
    assert shlex.split(command)[2] == path.name
    code = text.partition("```python\n")[2].partition("```")[0]
    assert path.name in [one.value for one in ast.walk(ast.parse(code)) if isinstance(one, ast.Constant)]
