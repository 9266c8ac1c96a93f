"""Videos and cameras: frames are read, explained, drawn and encoded at the same time.

Frames that there is no time for are left out, the latest wins, and every one is counted.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import ArrayError, OutputError
from .files import atomic_path
from .shown import utf8
from .videos import VideoPhoto, VideoReport, import_av, is_same, read_video

if TYPE_CHECKING:
    from PIL import Image

    from .explanation import Explanation

    Explain = Callable[[Any, Any], Explanation]

__all__ = ["Drop", "Streamed", "VideoReport", "annotate_video", "explain_frames", "label_frame"]

Drop = Literal["latest", "none"]
_END = object()


@dataclass(frozen=True, eq=False)
class Streamed:
    """One explained frame.

    Attributes:
        index: Its number among the frames that came, from 0.
        frame: What came.
        explanation: Why.
        dropped: Frames that were left out since the one before.
        age_ms: Milliseconds from its arrival to its explanation.
    """

    index: int
    frame: Any
    explanation: Explanation
    dropped: int
    age_ms: float


class _Waiting:
    """Frames between the thread that reads and the one that explains: the latest alone, or two in order."""

    def __init__(self, drop: Drop) -> None:
        self._latest = drop == "latest"
        self._items: list[tuple[int, Any, float]] = []
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = self._stopped = False
        self.count = 0

    def fill(self, frames: Iterable[Any]) -> None:
        """Read all frames; an error is kept for the other thread."""
        try:
            for frame in frames:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._latest or len(self._items) < 2)
                    if self._stopped:
                        return
                    if self._latest:
                        self._items.clear()
                    self._items.append((self.count, frame, time.perf_counter()))
                    self.count += 1
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def take(self) -> tuple[int, Any, float] | None:
        """The next frame; None at the end. Raises what reading raised, after the frames before it."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended)
            if self._items:
                item = self._items.pop(0)
                self._changed.notify_all()
                return item
        if self._error is not None:
            raise self._error
        return None

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def explain_frames(
    explain: Callable[[Any], Explanation],
    frames: Iterable[Any],
    *,
    budget_ms: float | None = None,
    drop: Drop = "latest",
    report: VideoReport | None = None,
) -> Generator[Streamed, None, None]:
    """Explain frames while others are read in a thread.

    Args:
        explain: Makes an explanation of a frame.
        frames: What is explained, as it comes.
        budget_ms: Frames that have waited longer (ms) before their turn are left out too; None for any wait.
        drop: ``latest``: a frame that is still waiting when the next one comes is left out; ``none``: reading waits.
        report: Counts what was read and dropped, the frames after the last that was explained included.

    Yields:
        The explained frames, in order.

    Raises:
        ArrayError: `budget_ms` is not above 0, goes with ``none``, or `drop` is another word.
        CfcamError: What `explain` or `frames` raise.
    """
    if drop not in ("latest", "none"):
        raise ArrayError(f"stream: drop: expected 'latest' or 'none', got {drop!r}")
    if budget_ms is not None and not budget_ms > 0:
        raise ArrayError(f"stream: budget_ms: expected a number above 0, got {budget_ms}")
    if budget_ms is not None and drop == "none":
        raise ArrayError("stream: a budget leaves frames out: take drop 'latest', or no budget")
    return _explained(explain, frames, budget_ms, drop, VideoReport() if report is None else report)


def _explained(
    explain: Callable[[Any], Explanation],
    frames: Iterable[Any],
    budget_ms: float | None,
    drop: Drop,
    report: VideoReport,
) -> Generator[Streamed, None, None]:
    waiting = _Waiting(drop)
    threading.Thread(target=waiting.fill, args=(frames,), daemon=True, name="cfcam frames").start()
    done, before = 0, 0
    try:
        while (item := waiting.take()) is not None:
            index, frame, came = item
            if budget_ms is not None and (time.perf_counter() - came) * 1000 > budget_ms:
                continue
            explanation = explain(frame)
            dropped, before = index - before, index + 1
            done += 1
            report.read, report.dropped = index + 1, index + 1 - done
            yield Streamed(index, frame, explanation, dropped, (time.perf_counter() - came) * 1000)
    finally:
        waiting.stop()
        report.read, report.dropped = waiting.count, waiting.count - done


def annotate_video(
    explain: Explain,
    source: str,
    output: str | os.PathLike[str],
    *,
    target: Any = None,
    follow: int | None = None,
    smooth: float = 0.0,
    budget_ms: float | None = None,
    drop: Drop = "none",
    every: int = 1,
    json_lines: str | os.PathLike[str] | None = None,
    progress: Callable[[VideoReport], None] | None = None,
) -> VideoReport:
    """Write a video with the map on every frame.

    Args:
        explain: Makes an explanation of an upright RGB image and a class, None for the top one.
        source: A file, an address (``rtsp://...``) or a device (``/dev/video0``), as FFmpeg opens it.
        output: An ``.mp4`` (H.264), whole or absent. Odd sizes lose a row or column; frames of another size than the
            first are resized to it. Sound is left out. Where the source is no file and does not say how long it is,
            stopping the caller (``KeyboardInterrupt`` and the like) is its end, and the output is whole.
        target: The class for all frames; None for each frame's top class.
        follow: Keep a class until another was the top one in that many explained frames in succession.
        smooth: Share of the map before in the one that is shown, in [0, 1); a smoothed map is not this frame's alone.
        budget_ms: As in `explain_frames`.
        drop: As in `explain_frames`; with ``latest`` a file is read at its own speed.
        every: Explain every n-th frame alone; the others do not count as read.
        json_lines: A file with one JSON object per shown frame.
        progress: Called after every frame.

    Returns:
        The counts.

    Raises:
        ArrayError: A setting out of its range.
        ImageError: There is no video, or no frame in it.
        OutputError: The output cannot be written, or does not end in ``.mp4``.
        MissingDependencyError: PyAV is not installed.
        CfcamError: What `explain` raises.
    """
    if not os.fspath(output).lower().endswith(".mp4"):
        raise OutputError(f"{os.fspath(output)}: expected a name that ends in .mp4")
    for name, value, good in (("smooth", smooth, 0 <= smooth < 1), ("every", every, every >= 1)):
        if not good:
            raise ArrayError(f"stream: {name}: out of its range: {value}")
    if is_same(source, output):
        raise OutputError(f"{os.fspath(output)}: is the video that is read: give another name")
    if json_lines is not None and os.path.abspath(json_lines) == os.path.abspath(output):
        raise OutputError(f"{os.fspath(output)}: cannot be video and lines at once: give the lines another name")
    report, view = VideoReport(), _View(explain, target, follow, smooth)
    started = time.perf_counter()
    paced = drop == "latest" and os.path.isfile(source)
    frames = read_video(os.fspath(source), report, every=every, paced=paced)
    explained = explain_frames(view, frames, budget_ms=budget_ms, drop=drop, report=report)
    with ExitStack() as stack:
        place = stack.enter_context(atomic_path(output))
        lines = None
        if json_lines is not None:
            part = stack.enter_context(atomic_path(json_lines))
            lines = stack.enter_context(open(part, "w", encoding="utf-8"))
        writer = stack.enter_context(_Writer(place))
        try:
            for one in explained:
                report.resized += writer.add(label_frame(one.explanation), one.frame)
                report.shown += 1
                report.ages_ms.append(one.age_ms)
                report.seconds = time.perf_counter() - started
                if lines is not None:
                    seconds = float(one.frame.pts * one.frame.time_base)
                    said = {"frame": one.index, "seconds": round(seconds, 6), "dropped": one.dropped}
                    said |= {"damaged": one.frame.damaged, "age_ms": round(one.age_ms, 3), **one.explanation.to_dict()}
                    lines.write(json.dumps(utf8(said), ensure_ascii=False, allow_nan=False) + "\n")
                if progress is not None:
                    progress(report)
        except BaseException as stop:  # Ctrl-C, or a signal that the caller makes an exception of
            if isinstance(stop, Exception) or not report.shown or report.expected or os.path.isfile(source):
                raise
            report.stopped = True  # there is no other end to a camera: what came until now is whole
            explained.close()
            report.dropped = report.read - report.shown  # the frame at hand is one of them
    return report


class _View:
    """Explains frame after frame: which class, and how much of the map before stays."""

    def __init__(self, explain: Explain, target: Any, follow: int | None, smooth: float) -> None:
        self._explain, self._target, self._follow, self._smooth = explain, target, follow, smooth
        self._others = 0
        self._before: Explanation | None = None

    def __call__(self, frame: VideoPhoto) -> Explanation:
        found = self._explain(frame.image, self._target)
        if self._follow is not None and len(found.probabilities):
            top = int(found.probabilities.argmax())
            self._others = self._others + 1 if top != found.target else 0
            if self._target is None or self._others >= self._follow:
                self._target, self._others = top, 0
        before, self._before = self._before, found
        if not self._smooth or before is None or before.target != found.target or before.empty or found.empty:
            return found
        mixed = self._smooth * before.map + (1 - self._smooth) * found.map
        self._before = replace(found, map=mixed.astype(np.float32))
        return self._before


class _Writer:
    """Encodes in a thread of its own, so that the next frame is explained meanwhile."""

    def __init__(self, path: os.PathLike[str]) -> None:
        self._container = import_av().open(os.fspath(path), "w", format="mp4")
        self._queue: queue.Queue[Any] = queue.Queue(2)
        self._error: BaseException | None = None
        self._size: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="cfcam encoder")
        self._thread.start()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._queue.put(_END)
        self._thread.join()
        if self._error is not None and kind is None:
            raise OutputError(f"the video cannot be encoded ({self._error})") from self._error

    def add(self, picture: Image.Image, photo: VideoPhoto) -> bool:
        """Encode a picture; whether it had to be resized. Raises `OutputError`."""
        if self._error is not None:
            raise OutputError(f"the video cannot be encoded ({self._error})") from self._error
        self._size = self._size or picture.size
        other = picture.size != self._size
        self._queue.put((picture.resize(self._size) if other else picture, photo))
        return other

    def _run(self) -> None:
        stream = None
        try:
            while (item := self._queue.get()) is not _END:
                picture, photo = item
                if stream is None:
                    stream = self._container.add_stream("libx264", options={"preset": "veryfast", "crf": "20"})
                    stream.width, stream.height = (max(2, side - side % 2) for side in picture.size)
                    stream.pix_fmt = "yuv420p"
                    stream.codec_context.time_base = photo.time_base
                if picture.size != (stream.width, stream.height):
                    picture = picture.crop((0, 0, stream.width, stream.height))
                frame = import_av().VideoFrame.from_image(picture)
                frame.pts, frame.time_base = photo.pts, photo.time_base
                self._container.mux(stream.encode(frame))
            if stream is not None:
                self._container.mux(stream.encode())
            self._container.close()
        except BaseException as error:
            self._error = error
            while self._queue.get() is not _END:  # nobody may wait for a place in the queue
                pass


def label_frame(explanation: Explanation) -> Image.Image:
    """The frame under its map, with the class in the corner."""
    from .photos.drawing import label_on

    words = f"{explanation.label}  {explanation.measured}"
    return label_on(explanation.overlay(None, legend=False), words if not explanation.empty else f"{words}  (no map)")
