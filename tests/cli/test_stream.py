"""``cfcam stream`` on a video made here and a real, tiny file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cfcam.cli import main
from PIL import Image

av = pytest.importorskip("av")


def test_a_video_is_annotated_and_a_file_that_is_none_is_refused(tiny_path, tmp_path, capsys):
    source, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for level in range(0, 200, 20):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (96, 64), (level, 90, 30)))))
        container.mux(stream.encode())
    model = str(tiny_path("logits"))
    command = ["stream", model, str(source), "-o", str(output), "--every", "2", "--target", "1", "--json"]
    assert main([*command, "--json-lines", str(tmp_path / "out.jsonl")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["shown"], found["dropped"]) == ("cfcam.stream/1", 5, 0)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["target"] for line in lines] == [1] * 5
    assert [line["seconds"] for line in lines] == [0.0, 0.2, 0.4, 0.6, 0.8]
    with av.open(str(output)) as container:
        assert len(list(container.decode(video=0))) == 5

    source.write_bytes(b"no video")
    assert main([*command[:4], str(tmp_path / "other.mp4")]) == 2
    assert "cannot be opened as a video" in capsys.readouterr().err
    assert not (tmp_path / "other.mp4").exists()


def test_a_cut_video_and_a_class_that_is_not_there(tiny_path, tmp_path, capsys):
    source, output = tmp_path / "in.ts", tmp_path / "out.mp4"
    random = np.random.default_rng(0)
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(10):
            pixels = random.integers(0, 255, (64, 96, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    command = ["stream", str(tiny_path("logits")), str(source), "-o", str(output)]
    assert main([*command, "--json"]) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "ends within a frame" in found["ended_early"]
    assert "ends within a frame" in said.err
    assert found["read"] == found["shown"] > 0
    output.unlink()
    assert main([*command, "--target", "999"]) == 2
    assert "999" in capsys.readouterr().err
    assert not output.exists()
