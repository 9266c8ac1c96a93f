"""Whatever is wrong with a video is said truly: what it is, where it ends, how many frames were damaged."""

from __future__ import annotations

import contextlib
import functools
import http.server
import socket
import threading
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cfcam.runtime import videos
from cfcam.runtime.errors import ImageError
from cfcam.runtime.videos import VideoReport, is_same, named, read_video

av = pytest.importorskip("av")


def _noise(path: Path, count: int = 40, size: tuple[int, int] = (64, 48), *, index_first: bool = False) -> Path:
    """A video of noise, so that every frame takes many bytes."""
    random = np.random.default_rng(0)
    options = {"movflags": "faststart"} if index_first else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(count):
            pixels = random.integers(0, 255, (size[1], size[0], 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def _read(source: object, every: int = 1) -> tuple[list, VideoReport]:
    report = VideoReport()
    return list(read_video(str(source), report, every=every)), report


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv", "avi"])
def test_a_whole_video_is_whole_and_a_cut_one_ends_early(tmp_path, suffix):
    whole = _noise(tmp_path / f"whole.{suffix}", index_first=suffix == "mp4")
    photos, report = _read(whole)
    assert (len(photos), report.expected, report.damaged, report.ended_early) == (40, 40, 0, None)
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: len(data) * 6 // 10])
    photos, report = _read(cut)
    assert 15 < len(photos) < 30
    assert report.ended_early is not None
    assert report.ended_early.startswith("the video ends ")


def test_every_nth_frame_is_expected_and_read(tmp_path):
    photos, report = _read(_noise(tmp_path / "in.mp4", 10), every=4)
    assert [float(photo.pts * photo.time_base) for photo in photos] == [0.0, 0.16, 0.32]
    assert report.expected == 3


def test_frames_after_a_hole_are_read_and_the_hole_is_counted(tmp_path):
    data = bytearray(_noise(tmp_path / "in.mp4", index_first=True).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    (tmp_path / "hole.mp4").write_bytes(data)
    photos, report = _read(tmp_path / "hole.mp4")
    assert report.damaged > 0
    assert 40 > len(photos) >= 40 - report.damaged
    assert float(photos[-1].pts * photos[-1].time_base) == pytest.approx(39 / 25, abs=0.05)
    assert report.ended_early is None


@pytest.mark.parametrize("size", [(64, 48), (35, 21), (1278, 8)])
@pytest.mark.parametrize("kind", ["yuv420p", "yuv422p10le", "gray", "rgb24", "bgr24"])
def test_pictures_are_those_of_the_library(kind: str, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=kind)
    np.testing.assert_array_equal(np.asarray(videos._picture(frame)), np.asarray(frame.to_image()))


def test_a_size_that_changes_is_read_as_it_comes(tmp_path):
    parts = [_noise(tmp_path / name, 5, size).read_bytes() for name, size in (("a.ts", (64, 48)), ("b.ts", (96, 64)))]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    photos, report = _read(tmp_path / "both.ts")
    assert [photo.image.size for photo in photos] == [(64, 48)] * 5 + [(96, 64)] * 5
    times = [photo.pts for photo in photos]
    assert times == sorted(set(times))
    assert report.ended_early is None


def test_what_holds_no_pictures_is_refused(tmp_path):
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    with av.open(str(tmp_path / "none.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    for name in ("sound.wav", "none.mp4"):
        with pytest.raises(ImageError, match="has no video stream"):
            _read(tmp_path / name)


def test_files_and_cameras_that_cannot_be_opened_have_sentences_of_their_own(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    for source, words in (
        (tmp_path / "absent.mp4", "no such file"),
        (tmp_path / "empty.mp4", "cannot be opened as a video"),
        (tmp_path, "cannot be opened as a video"),
        ("/dev/video-that-is-not-there", "camera cannot be opened"),
        ("nonsense://here", "stream cannot be opened"),
    ):
        with pytest.raises(ImageError, match=words):
            _read(source)


def test_an_address_is_read_and_its_secrets_are_not_shown(tmp_path):
    _noise(tmp_path / "in.mp4", 5)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://me:secret@127.0.0.1:{server.server_port}/"
        photos, report = _read(address + "in.mp4")
        assert (len(photos), report.ended_early) == (5, None)
        with pytest.raises(ImageError, match="stream cannot be opened") as caught:
            _read(address + "absent.mp4?token=secret")
        server.shutdown()
    assert "secret" not in str(caught.value)
    with pytest.raises(ImageError, match="stream cannot be opened"):
        _read(address + "in.mp4")
    assert named("rtsp://me:p@ss@host:554/live?key=1") == "rtsp://host:554/live"
    assert named("a?b@c.mp4") == "a?b@c.mp4"


def test_an_address_that_stays_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(videos, "_PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ImageError, match=r"no answer for 0\.3 seconds"):
            _read(f"http://127.0.0.1:{port}/live.ts")


def test_a_stream_that_falls_silent_ends_early(tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "_PATIENCE", 1.0)
    data = _noise(tmp_path / "in.ts").read_bytes()
    done = threading.Event()

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(data)
            done.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        photos, report = _read(f"tcp://127.0.0.1:{listening.getsockname()[1]}")
        done.set()
    assert len(photos) > 20
    assert report.ended_early is not None
    assert "nothing came for 1 seconds" in report.ended_early


@pytest.mark.parametrize(("duration", "early"), [(None, True), (1_000_000, False)])
def test_a_live_source_that_ends_has_stopped_sending(
    duration: int | None, early: bool, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RTSP has neither frames nor a length unless it is a recording; the rest of the container is a file's."""
    with av.open(str(_noise(tmp_path / "x.mp4", 25))) as opened:
        stream = SimpleNamespace(
            **{name: getattr(opened.streams.video[0], name) for name in ("index", "average_rate", "time_base")},
            frames=0,
        )
        live = SimpleNamespace(
            format=SimpleNamespace(name="rtsp"),
            streams=SimpleNamespace(video=[stream]),
            demux=opened.demux,
            duration=duration,
            start_time=0,
            size=0,
        )
        monkeypatch.setattr(videos, "_opened", lambda _: contextlib.nullcontext(live))
        report = VideoReport()
        assert len(list(read_video("rtsp://camera/x", report))) == 25
    assert (report.ended_early is not None) is early
    assert not early or "stopped sending after 25 frames" in (report.ended_early or "")


def test_one_file_under_two_names_is_the_same(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert is_same(tmp_path / "a", tmp_path / "b")
    assert not is_same(tmp_path / "a", tmp_path / "absent")
