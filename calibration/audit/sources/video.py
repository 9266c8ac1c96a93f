"""Frames of a video."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ....runtime.videos import VideoPhoto, VideoReport, read_video
from .photo import Photo

__all__ = ["VIDEO_SUFFIXES", "Video"]

#: Names that are taken for videos.
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"})


@dataclass
class Video:
    """The frames of a video file, called ``FILE#SECONDS``. Listing them decodes it once.

    Attributes:
        path: Of the file.
        every: Only every n-th frame.
    """

    path: Path
    every: int = 1
    remarks: Sequence[str] = field(default=(), init=False)

    def names(self) -> Sequence[str]:
        """Names by the frames' times. Raises `ImageError` where none can be decoded."""
        report = VideoReport()
        found = [name for name, _ in self._frames(report)]
        remarks = [] if report.ended_early is None else [f"{self.path}: {report.ended_early}"]
        if report.damaged:
            remarks.append(f"{self.path}: {report.damaged} frames are damaged, or could not be decoded")
        self.remarks = remarks
        return found

    def photos(self, names: Collection[str]) -> Iterator[Photo]:
        """Frames as upright RGB pixels; what comes behind the last of them is not decoded."""
        left = set(names)
        for name, frame in self._frames(VideoReport()) if left else ():
            if name in left:
                left.remove(name)
                yield Photo(name, np.asarray(frame.image.convert("RGB")))
            if not left:
                return

    def _frames(self, report: VideoReport) -> Iterator[tuple[str, VideoPhoto]]:
        for frame in read_video(str(self.path), report, every=self.every):
            yield f"{self.path}#{float(frame.pts * frame.time_base):.6f}", frame
