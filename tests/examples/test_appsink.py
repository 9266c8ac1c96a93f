"""The GStreamer example, where GStreamer and its Python bindings are."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

gi = pytest.importorskip("gi")
try:
    gi.require_version("Gst", "1.0")
except ValueError:
    pytest.skip("GStreamer's typelib is not installed", allow_module_level=True)

_EXAMPLE = str(Path(__file__).resolve().parents[2] / "examples" / "gstreamer" / "appsink.py")


def test_frames_come_whole_and_in_their_colours():
    frames = runpy.run_path(_EXAMPLE)["frames"]
    source = "videotestsrc pattern=blue num-buffers=3 ! video/x-raw,format=RGB,width=61,height=32"  # rows are padded
    pictures = list(frames(source))
    assert [picture.size for picture in pictures] == [(61, 32)] * 3
    assert (np.asarray(pictures[-1]) == (0, 0, 255)).all()


@pytest.mark.parametrize(
    ("source", "words"), [("nonsense", "cannot be built"), ("filesrc location=/absent", "pipeline failed")]
)
def test_pipelines_that_fail_say_so(source, words):
    frames = runpy.run_path(_EXAMPLE)["frames"]
    with pytest.raises(SystemExit, match=words):
        list(frames(source))


def test_the_example_runs(tiny_path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = "videotestsrc num-buffers=4 ! video/x-raw,width=64,height=48"
    monkeypatch.setattr(sys, "argv", [_EXAMPLE, str(tiny_path("logits")), source])
    runpy.run_path(_EXAMPLE, run_name="__main__")
    assert "frame 3: " in capsys.readouterr().out
    assert (tmp_path / "last.jpg").stat().st_size > 0
