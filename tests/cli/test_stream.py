"""``cfcam stream`` on a video made here and a real, tiny file."""

from __future__ import annotations

import json

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
