"""Videos and cameras, read as upright photos with their times; what was damaged or missing is counted."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ImageError, MissingDependencyError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["VideoPhoto", "VideoReport", "import_av", "is_same", "named", "read_video"]

#: Seconds that an address may stay silent, when it is opened and between two packets.
_PATIENCE = 10.0

#: Seconds that may be missing at the end: containers round, and estimate, how long they are.
_ROUNDED = 0.5

#: Ages that a report keeps, so that a camera may run for months.
_AGES = 100_000


@dataclass(frozen=True)
class VideoPhoto:
    """A decoded frame: upright, with its time, and whether some of it was lost."""

    image: Image.Image
    pts: int
    time_base: Fraction
    damaged: bool = False


@dataclass
class VideoReport:
    """What became of a video.

    Attributes:
        read: Frames that came.
        shown: Frames that were explained and written.
        dropped: Frames left out; read = shown + dropped.
        resized: Shown frames of another size than the first.
        damaged: Frames that could not be decoded, or only with parts made up.
        expected: Frames that the container promises; None where it does not say.
        ages_ms: Milliseconds from a frame's arrival to its explanation, of the last 100,000 that were shown.
        seconds: How long it took.
        ended_early: Why the end is missing, or None.
        stopped: Whether a source that never ends was stopped, by Ctrl-C say.
    """

    read: int = 0
    shown: int = 0
    dropped: int = 0
    resized: int = 0
    damaged: int = 0
    expected: int | None = None
    ages_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_AGES))
    seconds: float = 0.0
    ended_early: str | None = None
    stopped: bool = False

    @property
    def frames_per_second(self) -> float:
        """Shown frames per second of wall time."""
        return self.shown / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with the median and 99th percentile of the ages."""
        p50, p99 = np.percentile(self.ages_ms, [50, 99]) if self.ages_ms else (0.0, 0.0)
        return {
            "read": self.read,
            "shown": self.shown,
            "dropped": self.dropped,
            "resized": self.resized,
            "damaged": self.damaged,
            "frames_per_second": round(self.frames_per_second, 2),
            "age_ms_p50": round(float(p50), 2),
            "age_ms_p99": round(float(p99), 2),
            "ended_early": self.ended_early,
            "stopped": self.stopped,
        }


def named(source: str) -> str:
    """`source` as messages may show it: of an address without password and query, which may hold secrets."""
    if "://" not in source:
        return source
    return re.sub(r"//[^/]*@", "//", source.partition("?")[0])


def read_video(source: str, report: VideoReport, *, every: int = 1, paced: bool = False) -> Iterator[VideoPhoto]:
    """Read the first video stream.

    Args:
        source: A file, an address or a device, as FFmpeg opens it.
        report: Gets what was expected, damaged and missing.
        every: Only every n-th frame.
        paced: Give frames no sooner than their time stamps say, as a camera does.

    Yields:
        Upright frames; their time stamps grow.

    Raises:
        ImageError: It cannot be opened, has no video stream, or no frame can be decoded.
        MissingDependencyError: PyAV is not installed.
    """
    with _opened(source) as container:
        if not container.streams.video:
            raise ImageError(f"{named(source)}: has no video stream: give a video with pictures in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        report.expected = _expected(container, stream, every)
        begun = time.perf_counter()
        first: int | None = None
        last: int | None = None
        base = stream.time_base or Fraction(1, 1000)
        step = max(1, round(1 / (base * (stream.average_rate or 25))))
        for number, frame in enumerate(_decoded(container, stream, report)):
            if number % every:
                continue
            pts = frame.pts
            if pts is None or (last is not None and pts <= last):
                pts = 0 if last is None else last + step
            last = pts = int(pts)
            first = last if first is None else first
            if paced:
                time.sleep(max(0.0, float((pts - first) * base) - (time.perf_counter() - begun)))
            image = _picture(frame)
            if frame.rotation:  # degrees, counter-clockwise, as Pillow counts them
                image = image.rotate(frame.rotation, expand=True)
            yield VideoPhoto(image, pts, base, bool(frame.is_corrupt))
        if last is None:
            raise ImageError(f"{named(source)}: no frame can be decoded: it is empty or damaged, record it again")


def _picture(frame: Any) -> Image.Image:
    """The same as the frame's own `to_image`, which copies the pixels row by row: at 720p that took 7 ms more."""
    from PIL import Image

    plane = frame.reformat(format="rgb24").planes[0]
    if plane.line_size < 0:  # the last row comes first
        return frame.to_image()
    data: Any = memoryview(plane)
    return Image.frombuffer("RGB", (plane.width, plane.height), data, "raw", "RGB", plane.line_size, 1)


def _opened(source: str) -> Any:
    av = import_av()
    address = "://" in source
    # Over TCP where the server has it: UDP loses packets, and does not come through most firewalls.
    options = {"rtsp_flags": "prefer_tcp"} if source.startswith(("rtsp://", "rtsps://")) else {}
    try:
        return av.open(source, options=options, timeout=_PATIENCE if address else None)
    except (OSError, ValueError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, av.error.ExitError):
            reason = f"no answer for {_PATIENCE:g} seconds"
        if address:
            what = f"the stream cannot be opened ({reason}): check the address, and that its server is sending"
        elif source.startswith("/dev/"):
            what = f"the camera cannot be opened ({reason}): give a device that is there, such as those that "
            what += "`ls /dev/video*` lists, and that no other program holds"
        elif isinstance(error, FileNotFoundError):
            what = "there is no such file: give the path of a video"
        else:
            what = f"cannot be opened as a video ({reason}): it is none, or cut off; give one that a player plays"
        raise ImageError(f"{named(source)}: {what}") from error


def _expected(container: Any, stream: Any, every: int) -> int | None:
    """How many frames the container promises to give."""
    count = stream.frames
    if not count and container.duration and stream.average_rate:
        count = round(container.duration / import_av().time_base * stream.average_rate)
    return -(-count // every) if count else None


def _decoded(container: Any, stream: Any, report: VideoReport) -> Iterator[Any]:
    """All frames. What cannot be decoded is counted and left out; the report says whether the end is there."""
    av = import_av()
    packets, end, broken = 0, 0.0, False
    try:
        # All streams, because only the longest of them lasts as long as the container says.
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != stream.index:
                continue
            packets += packet.size > 0
            broken = packet.is_corrupt if packet.size else broken
            try:
                frames = packet.decode()
            except av.FFmpegError:
                report.damaged, broken = report.damaged + 1, True
                continue
            for frame in frames:
                report.damaged += frame.is_corrupt
                broken = broken or (frame.is_corrupt and not packet.size)  # the last frames come after all packets
                yield frame
    except av.FFmpegError as error:
        why = f"nothing came for {_PATIENCE:g} seconds" if isinstance(error, av.error.ExitError) else error.strerror
        report.ended_early = f"reading stopped after {packets} frames ({why})"
        return
    if container.format.name == "rtsp" and not container.duration:
        # A live source is never at its end by itself, and FFmpeg does not tell a farewell from a broken connection.
        report.ended_early = f"the source stopped sending after {packets} frames: it was stopped or cut off"
        return
    begins = (container.start_time or 0) / av.time_base
    lasts = (container.duration or 0) / av.time_base
    missing = lasts - (end - begins)
    # An edit list of MP4 and MOV leaves frames out on purpose: there, the time has to be short as well.
    fewer = packets < stream.frames and ("mov" not in container.format.name or missing > _ROUNDED / 5)
    # Nothing in a transport stream says how long it is, but it consists of packets of one of these sizes.
    torn = container.format.name == "mpegts" and container.size > 0 and all(container.size % n for n in (188, 192, 204))
    if broken or torn:
        report.ended_early = "the video ends within a frame"
    elif fewer:
        report.ended_early = f"the video ends after {packets} of {stream.frames} frames"
    elif missing > _ROUNDED:
        report.ended_early = f"the video ends after {end - begins:.2f} of {lasts:.2f} seconds"


def import_av() -> Any:
    """PyAV, or `MissingDependencyError`."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingDependencyError("videos need av: install cfcam[stream]") from error
    return av


def is_same(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Whether both paths lead to one file that is there."""
    return os.path.exists(first) and os.path.exists(second) and os.path.samefile(first, second)
