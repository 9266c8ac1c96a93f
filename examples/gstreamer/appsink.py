"""Frames of a GStreamer pipeline, explained as they come.

    python examples/gstreamer/appsink.py model.cam.onnx
    python examples/gstreamer/appsink.py model.cam.onnx "v4l2src device=/dev/video0"

The second argument is what gives the frames, in gst-launch's words; without it, 30 frames of a moving test picture.
It needs python3-gi, gir1.2-gst-plugins-base-1.0 and gstreamer1.0-plugins-base (Debian, Ubuntu); for v4l2src,
gstreamer1.0-plugins-good too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gi
import numpy as np
from PIL import Image

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

TEST_SOURCE = "videotestsrc pattern=ball is-live=true num-buffers=30 ! video/x-raw,width=638,height=480,framerate=10/1"

#: Nanoseconds after which one looks whether the pipeline has failed.
PATIENCE = 100_000_000


def frames(source: str) -> Iterator[Image.Image]:
    """RGB pictures until the pipeline ends. It drops none itself, so that `Explainer.stream` counts every one."""
    Gst.init(None)
    try:
        pipeline = Gst.parse_launch(f"{source} ! videoconvert ! video/x-raw,format=RGB ! appsink name=sink sync=false")
    except GLib.Error as error:
        raise SystemExit(f"the pipeline cannot be built: {error.message}") from error
    sink, bus = pipeline.get_by_name("sink"), pipeline.get_bus()
    pipeline.set_state(Gst.State.PLAYING)
    try:
        while True:
            sample = sink.emit("try-pull-sample", PATIENCE)
            if sample is not None:
                yield _picture(sample)
                continue
            failed = bus.pop_filtered(Gst.MessageType.ERROR)
            if failed is not None:
                raise SystemExit(f"the pipeline failed: {failed.parse_error()[0].message}")
            if sink.get_property("eos"):
                return
    finally:
        pipeline.set_state(Gst.State.NULL)


def _picture(sample: Gst.Sample) -> Image.Image:
    shape, buffer = sample.get_caps().get_structure(0), sample.get_buffer()
    width, height = shape.get_value("width"), shape.get_value("height")
    data = buffer.extract_dup(0, buffer.get_size())  # a copy: the buffer goes back to the pipeline
    rows = np.frombuffer(data, np.uint8).reshape(height, -1)[:, : 3 * width]  # rows are padded to a multiple of 4
    return Image.fromarray(rows.reshape(height, width, 3))


def main() -> None:
    """Print what is seen, and keep the last frame with its map as ``last.jpg``."""
    from cfcam.runtime import Explainer

    model, source = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else TEST_SOURCE
    last = None
    with Explainer(model) as explainer:
        for last in explainer.stream(frames(source)):
            print(f"frame {last.index}: {last.explanation.label} {last.explanation.measured}", end=", ")
            print(f"{last.dropped} dropped before it, {last.age_ms:.0f} ms old")
    if last is not None:
        last.explanation.overlay().save("last.jpg")


if __name__ == "__main__":
    main()
