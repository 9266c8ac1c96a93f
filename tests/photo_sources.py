"""Photos in everything that holds photos: videos, recordings, tables, archives."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["make_archive", "make_recording", "make_video", "pixels", "png"]

_HEADER = "builtin_interfaces/Time stamp\nstring frame_id\n"
_ROS = {
    "sensor_msgs/msg/CompressedImage": "std_msgs/Header header\nstring format\nuint8[] data\n",
    "sensor_msgs/msg/Image": (
        "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\n"
        "uint8[] data\n"
    ),
    "std_msgs/msg/String": "string data\n",
}
_NESTED = (
    f"{'=' * 80}\nMSG: std_msgs/Header\n{_HEADER}{'=' * 80}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
)


def pixels(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 (height, width, 3): patches of 8 pixels in random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return small.repeat(8, 0).repeat(8, 1)


def png(image: np.ndarray) -> bytes:
    """The bytes of a file."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


def make_video(path: Path, images: Sequence[np.ndarray], rate: int = 10) -> Path:
    """A video without losses of `images`, all of one size."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "bgr0"
        for image in images:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def make_recording(path: Path, messages: Sequence[tuple[str, str, int, dict]]) -> Path:
    """A recording of ROS 2 messages. messages: topic, type, nanoseconds, and the fields behind the header."""
    from mcap_ros2.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file)
        schemas = {
            kind: writer.register_msgdef(kind, text + _NESTED * ("Header" in text)) for kind, text in _ROS.items()
        }
        for topic, kind, time, fields in messages:
            head = {"header": {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": "c"}} if "Image" in kind else {}
            writer.write_message(topic, schemas[kind], head | fields, log_time=time, publish_time=time)
        writer.finish()
    return path


def make_archive(path: Path, members: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    """A tar archive."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
