"""Frames in order, every drop counted, times and rotation kept, and a video that is whole or absent."""

from __future__ import annotations

import json
import struct
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cfcam.runtime import stream
from cfcam.runtime.errors import ArrayError, ImageError, OutputError
from cfcam.runtime.explanation import Explanation
from cfcam.runtime.photos.frame import Frame
from cfcam.runtime.stream import annotate_video, explain_frames
from cfcam.runtime.videos import VideoPhoto, VideoReport
from PIL import Image


def _explain(photo: Image.Image, target: int | None = None) -> Explanation:
    """Class 1 for bright photos, else 0; the map is as bright as the photo."""
    level = float(np.asarray(photo.convert("L")).mean() / 255)
    probabilities = np.array([1 - level, level], np.float32)
    chosen = int(probabilities.argmax()) if target is None else target
    heat = np.full((photo.height, photo.width), level, np.float32)
    return Explanation(
        map=heat,
        target=chosen,
        label=str(chosen),
        probability=float(probabilities[chosen]),
        probabilities=probabilities,
        logits=None,
        top=[],
        frame=Frame.whole(photo.width, photo.height),
        photo=photo,
        grid=(1, 1),
        method="test",
        settings={},
    )


def _video(path: Path, levels: list[int], size: tuple[int, int] = (64, 32), times: list[int] | None = None) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i, level in enumerate(levels):
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (level,) * 3))
            if times is not None:
                frame.pts = times[i]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _decoded(path: Path) -> list:
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_without_drops_every_frame_comes_in_order():
    found = list(explain_frames(lambda frame: frame * 2, range(50), drop="none"))
    assert [(one.index, one.explanation, one.dropped) for one in found] == [(i, 2 * i, 0) for i in range(50)]


def test_the_latest_wins_and_every_drop_is_counted():
    def camera():
        for i in range(40):
            time.sleep(0.005)
            yield i

    def slow(frame: int) -> Any:
        time.sleep(0.03)
        return frame

    found = list(explain_frames(slow, camera()))
    assert found[-1].index == 39
    assert len(found) + sum(one.dropped for one in found) == 40
    assert len(found) < 30


def test_a_frame_that_waited_longer_than_the_budget_is_left_out():
    def slow(frame: int) -> Any:
        time.sleep(0.05)
        return frame

    found = list(explain_frames(slow, range(10), budget_ms=0.001))
    assert len(found) < 3
    with pytest.raises(ArrayError, match="above 0"):
        explain_frames(lambda frame: frame, [], budget_ms=0)
    with pytest.raises(ArrayError, match="budget leaves frames out"):
        explain_frames(lambda frame: frame, [], budget_ms=5, drop="none")


def test_what_reading_raises_comes_after_the_frames_before_it():
    def broken():
        yield 1
        raise ImageError("gone")

    found = explain_frames(lambda frame: frame, broken(), drop="none")
    assert next(found).index == 0
    with pytest.raises(ImageError, match="gone"):
        next(found)


def test_time_stamps_are_kept_and_lines_say_what_was_seen(tmp_path):
    times = [0, 1, 4, 9, 10]
    source = _video(tmp_path / "in.mp4", [20, 20, 230, 230, 20], times=times)
    report = annotate_video(_explain, str(source), tmp_path / "out.mp4", json_lines=tmp_path / "out.jsonl")
    assert (report.read, report.shown, report.dropped) == (5, 5, 0)
    before, after = ([float(frame.time) for frame in _decoded(tmp_path / name)] for name in ("in.mp4", "out.mp4"))
    np.testing.assert_allclose(after, before, atol=1e-3)
    np.testing.assert_allclose(after, [t / 25 for t in times], atol=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["target"] for line in lines] == [0, 0, 1, 1, 0]


def test_class_fixed_and_followed(tmp_path):
    source = str(_video(tmp_path / "in.mp4", [20, 230, 20, 230, 230, 230]))
    seen = {}
    settings: dict[str, dict[str, Any]] = {"fixed": {"target": 1}, "followed": {"follow": 2}}
    for name, how in settings.items():
        annotate_video(_explain, source, tmp_path / "o.mp4", json_lines=tmp_path / "o.jsonl", **how)
        seen[name] = [json.loads(line)["target"] for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert seen == {"fixed": [1] * 6, "followed": [0, 0, 0, 0, 0, 1]}


def test_rotation_in_the_metadata_is_honoured(tmp_path):
    data = bytearray(_video(tmp_path / "in.mp4", [100] * 3, size=(64, 32)).read_bytes())
    # The matrix of the track's header (ISO 14496-12, 8.3.2): turned clockwise by 90 degrees, as telephones write it.
    place = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[place : place + 36])[0] == 0x10000
    data[place : place + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 32 << 16, 0, 0x40000000)
    (tmp_path / "turned.mp4").write_bytes(data)
    photos = []

    def explain(photo: Image.Image, target: int | None) -> Explanation:
        photos.append(photo)
        return _explain(photo, target)

    annotate_video(explain, str(tmp_path / "turned.mp4"), tmp_path / "out.mp4")
    assert [photo.size for photo in photos] == [(32, 64)] * 3
    assert (_decoded(tmp_path / "out.mp4")[0].width, _decoded(tmp_path / "out.mp4")[0].height) == (32, 64)


def test_a_damaged_end_keeps_what_came_before_and_is_said(tmp_path):
    data = _video(tmp_path / "in.ts", list(range(0, 250, 5)), size=(320, 240)).read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[: len(data) * 6 // 10 // 188 * 188 + 100])  # within a packet of 188
    report = annotate_video(_explain, str(tmp_path / "cut.ts"), tmp_path / "out.mp4")
    assert 0 < report.shown < 50
    assert len(_decoded(tmp_path / "out.mp4")) == report.shown
    assert report.ended_early is not None


def test_frames_of_another_size_are_resized_to_the_first_and_counted(tmp_path):
    parts = [_video(tmp_path / f"{side}.ts", [90] * 4, size=(side, 32)).read_bytes() for side in (64, 96)]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    report = annotate_video(_explain, str(tmp_path / "both.ts"), tmp_path / "out.mp4")
    assert (report.shown, report.resized) == (8, 4)
    assert {(frame.width, frame.height) for frame in _decoded(tmp_path / "out.mp4")} == {(64, 32)}


def test_smoothing_keeps_a_share_of_the_map_before_and_none_when_the_class_changes(tmp_path, monkeypatch):
    source = str(_video(tmp_path / "in.mp4", [20, 100, 60, 230, 250]))
    maps: dict[float, list[float]] = {}
    for share in (0.0, 0.75):
        seen = maps[share] = []

        def drawn(explanation: Explanation, seen: list[float] = seen) -> Image.Image:
            seen.append(float(explanation.map.mean()))
            return explanation.photo

        monkeypatch.setattr(stream, "label_frame", drawn)
        annotate_video(_explain, source, tmp_path / "out.mp4", smooth=share)
    a, b, c, d, e = maps[0.0]
    second = 0.75 * a + 0.25 * b
    np.testing.assert_allclose(maps[0.75], [a, second, 0.75 * second + 0.25 * c, d, 0.75 * d + 0.25 * e], atol=1e-5)
    with pytest.raises(ArrayError, match="smooth"):
        annotate_video(_explain, source, tmp_path / "out.mp4", smooth=1)


def test_outputs_that_cannot_be_written_are_refused_and_the_source_is_kept(tmp_path):
    source = _video(tmp_path / "in.mp4", [90] * 3)
    before = source.read_bytes()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(source)
    for output in (source / "out.mp4", tmp_path / "folder.mp4", source, tmp_path / "link.mp4"):
        with pytest.raises(OutputError):
            annotate_video(_explain, str(source), output)
    with pytest.raises(OutputError, match="video and lines at once"):
        annotate_video(_explain, str(source), tmp_path / "o.mp4", json_lines=tmp_path / "o.mp4")
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.mp4", "in.mp4", "link.mp4"]


@pytest.mark.parametrize(("expected", "whole"), [(None, True), (9, False)])
def test_stopping_is_the_end_of_what_has_no_other(
    expected: int | None, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    photos = [VideoPhoto(Image.new("RGB", (32, 16), (i,) * 3), i, Fraction(1, 25)) for i in range(9)]

    def read_video(source: str, report: VideoReport, **_: Any) -> Any:
        report.expected = expected
        yield from photos

    def explain(photo: Image.Image, target: int | None) -> Explanation:
        if photo is photos[3].image:
            raise KeyboardInterrupt
        return _explain(photo, target)

    monkeypatch.setattr(stream, "read_video", read_video)
    out, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    if whole:
        report = annotate_video(explain, "rtsp://camera", out, json_lines=lines)
        assert (report.shown, report.stopped, report.ended_early) == (3, True, None)
        assert report.read == report.shown + report.dropped
        assert len(_decoded(out)) == len(lines.read_text().splitlines()) == 3
    else:
        with pytest.raises(KeyboardInterrupt):
            annotate_video(explain, "rtsp://camera", out, json_lines=lines)
        assert list(tmp_path.iterdir()) == []


def test_an_explanation_that_fails_leaves_no_video(tmp_path):
    def explain(photo: Image.Image, target: int | None) -> Explanation:
        raise ArrayError("target: expected 0 to 1, got 7")

    with pytest.raises(ArrayError, match="got 7"):
        annotate_video(explain, str(_video(tmp_path / "in.mp4", [90] * 3)), tmp_path / "out.mp4", target=7)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_what_is_no_video_is_refused_and_leaves_nothing(tmp_path):
    pytest.importorskip("av")
    for name, content in (("empty.mp4", b""), ("text.mp4", b"hello " * 100)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match="cannot be opened as a video"):
            annotate_video(_explain, str(tmp_path / name), tmp_path / "out.mp4")
    with pytest.raises(ImageError, match="no such file"):
        annotate_video(_explain, str(tmp_path / "absent.mp4"), tmp_path / "out.mp4")
    with pytest.raises(OutputError, match=r"ends in \.mp4"):
        annotate_video(_explain, str(tmp_path / "empty.mp4"), tmp_path / "out.avi")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.mp4", "text.mp4"]
