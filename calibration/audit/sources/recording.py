"""Images in MCAP recordings, as ROS 2 and Foxglove write them."""

from __future__ import annotations

import base64
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....runtime.errors import MissingDependencyError, one_line
from ....runtime.shown import shown
from ..errors import AuditError
from .photo import Photo

__all__ = ["Recording"]

#: Types of messages that hold the bytes of an image file, and pixels.
_COMPRESSED = ("sensor_msgs/msg/CompressedImage", "foxglove.CompressedImage", "foxglove_msgs/msg/CompressedImage")
_RAW = ("sensor_msgs/msg/Image", "foxglove.RawImage", "foxglove_msgs/msg/RawImage")
#: Encodings of pixels: how many channels, and in which order they are RGB.
_PIXELS = {"rgb8": (3, (0, 1, 2)), "bgr8": (3, (2, 1, 0)), "mono8": (1, (0, 0, 0))}


@dataclass(frozen=True)
class Recording:
    """The images of all topics of an MCAP file, called ``FILE#TOPIC@SECONDS``, by the time at which they were logged.

    Attributes:
        path: Of the file.
        every: Only every n-th image of each topic.
    """

    path: Path
    every: int = 1
    remarks: Sequence[str] = ()

    def names(self) -> Sequence[str]:
        """Names by topic and time. Raises `AuditError`."""
        return [name for name, *_ in self._messages()]

    def photos(self, names: Collection[str]) -> Iterator[Photo]:
        """Images as the bytes of files or, where they were recorded raw, as pixels."""
        left = set(names)
        decoders = _decoders()
        for name, schema, channel, message in self._messages():
            if name not in left:
                continue
            left.remove(name)
            yield _photo(name, schema, channel, message, decoders)
            if not left:
                return

    def _messages(self) -> Iterator[tuple[str, Any, Any, Any]]:
        reader_of = _mcap().make_reader
        counts: Counter[str] = Counter()
        names: Counter[str] = Counter()
        with self._reading():
            file = self.path.open("rb")
        with file:
            with self._reading():
                reader = reader_of(file, validate_crcs=True)
                messages = reader.iter_messages(self._topics(reader))
            while True:
                with self._reading():
                    entry = next(messages, None)
                if entry is None:
                    return
                schema, channel, message = entry
                seconds, nanoseconds = divmod(message.log_time, 10**9)
                name = f"{self.path}#{channel.topic}@{seconds}.{nanoseconds:09}"
                names[name] += 1  # also of those that are left out: `every` must not change what a message is called
                counts[channel.topic] += 1
                if (counts[channel.topic] - 1) % self.every:
                    continue
                yield name if names[name] == 1 else f"{name}#{names[name]}", schema, channel, message

    def _topics(self, reader: Any) -> list[str]:
        summary = reader.get_summary()
        if summary is None:
            raise AuditError(f"{self.path}: has no summary at its end, so it was cut off: record or repair it")
        types = {
            channel.topic: "" if (schema := summary.schemas.get(channel.schema_id)) is None else schema.name
            for channel in summary.channels.values()
        }
        found = [topic for topic, kind in types.items() if kind in (*_COMPRESSED, *_RAW)]
        if not found:
            others = ", ".join(f"{shown(topic)} ({shown(kind)})" for topic, kind in sorted(types.items())[:10])
            raise AuditError(
                f"{self.path}: has no topic with images of a known type ({', '.join((*_COMPRESSED, *_RAW))}); it has "
                f"{others or 'none'}"
            )
        statistics = summary.statistics
        counts = {} if statistics is None else statistics.channel_message_counts
        topics = {number: channel.topic for number, channel in summary.channels.items()}
        if statistics is not None and not any(count for number, count in counts.items() if topics.get(number) in found):
            raise AuditError(f"{self.path}: has no message on its topics with images: {', '.join(map(shown, found))}")
        return found

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise AuditError(f"{self.path}: there is no such file: give the path of a recording") from error
        except AuditError:
            raise
        except Exception as error:  # of a damaged file, the reader raises whatever its compression does
            raise AuditError(
                f"{self.path}: cannot be read as an MCAP recording ({one_line(error)}): it is none, damaged or cut off"
            ) from error


def _photo(name: str, schema: Any, channel: Any, message: Any, decoders: Sequence[Any]) -> Photo:
    try:
        decoded = _decoded(schema, channel.message_encoding, message.data, decoders)
        if decoded is None:
            how = f"{channel.message_encoding} with a schema in {schema.encoding or 'no language'}"
            return Photo(name, error=f"the recording holds it as {shown(how)}, which is not read")
        if schema.name in _COMPRESSED:
            return Photo(name, bytes(decoded["data"]))
        pixels = _pixels(decoded)
    except (ValueError, KeyError, TypeError, struct.error, AttributeError, _mcap().McapError) as error:
        return Photo(name, error=f"its message is damaged ({one_line(error)})")
    if isinstance(pixels, str):
        return Photo(name, error=f"its pixels are {shown(pixels)}, expected one of {', '.join(_PIXELS)}")
    return Photo(name, pixels)


def _decoded(schema: Any, encoding: str, data: bytes, decoders: Sequence[Any]) -> dict[str, Any] | None:
    if encoding == "json":
        import json

        found = json.loads(data)
        return found | {"data": base64.b64decode(found["data"], validate=True)}
    for factory in decoders:
        decoder = factory.decoder_for(encoding, schema)
        if decoder is not None:
            fields = ("data",) if schema.name in _COMPRESSED else ("data", "encoding", "height", "width", "step")
            found = decoder(data)
            return {field: getattr(found, field) for field in fields}
    return None


def _pixels(image: dict[str, Any]) -> NDArray[np.uint8] | str:
    """uint8 (H, W, 3) in RGB, or the encoding that is not known."""
    height, width, step = (int(image[name]) for name in ("height", "width", "step"))
    if image["encoding"] not in _PIXELS:
        return str(image["encoding"])
    channels, order = _PIXELS[image["encoding"]]
    if height < 1 or width < 1 or step < width * channels:
        raise ValueError(f"{width} x {height} pixels in lines of {step} bytes")
    lines = np.frombuffer(image["data"], np.uint8, count=height * step).reshape(height, step)
    return np.ascontiguousarray(lines[:, : width * channels].reshape(height, width, channels)[:, :, list(order)])


def _mcap() -> Any:
    try:
        import mcap.exceptions
        import mcap.reader
    except ImportError as error:
        raise MissingDependencyError(f"recordings need mcap ({error}): install cfcam[fleet]") from error
    from types import SimpleNamespace

    return SimpleNamespace(make_reader=mcap.reader.make_reader, McapError=mcap.exceptions.McapError)


def _decoders() -> Sequence[Any]:
    try:
        import mcap_protobuf.decoder
        import mcap_ros2.decoder
    except ImportError as error:
        raise MissingDependencyError(f"recordings need {error.name}: install cfcam[fleet]") from error
    return mcap_ros2.decoder.DecoderFactory(), mcap_protobuf.decoder.DecoderFactory()
