"""What a frame of a video costs, stage by stage, and how memory grows.

    OMP_NUM_THREADS=1 python benchmarks/stream.py model.cam.onnx video.mp4

CPU milliseconds of the whole process per frame (other work on the machine disturbs them less than wall time): of one
frame the least of 25 calls, of the video the least of three runs. Resident memory needs Linux.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cfcam.runtime import Explainer
from cfcam.runtime.stream import annotate_video, label_frame
from cfcam.runtime.videos import VideoReport, import_av, read_video
from PIL import Image


def cpu_ms(work: Callable[[], object], times: int) -> float:
    """The least CPU time of `times` calls, in ms."""
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append((time.process_time() - started) * 1000)
    return min(found)


def encode(pictures: list[Image.Image], path: Path) -> None:
    """As `annotate_video` does, without the rest."""
    with import_av().open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(import_av().VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def resident_mib() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("video")
    parser.add_argument("--whole-only", action="store_true", help="one run of the whole video, for its memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Explainer(options.model, threads=1) as explainer:
        marks: dict[int, float] = {}

        def mark(report: VideoReport) -> None:
            if report.shown == 100 or report.shown % 1000 == 0:
                marks[report.shown] = round(resident_mib(), 1)

        def whole() -> VideoReport:
            return annotate_video(explainer.explain, options.video, Path(folder) / "out.mp4", progress=mark)

        if options.whole_only:
            print(whole().to_dict(), marks, sep="\n")
            return
        photos = []
        for photo in read_video(options.video, VideoReport()):
            photos.append(photo.image)
            if len(photos) == 60:
                break
        count = len(list(read_video(options.video, VideoReport())))
        explanation = explainer.explain(photos[0])
        pictures = [label_frame(explainer.explain(photo)) for photo in photos]
        stages = {
            "read (decode, to RGB)": cpu_ms(lambda: list(read_video(options.video, VideoReport())), 3) / count,
            "explain": cpu_ms(lambda: explainer.explain(photos[0]), 25),
            "draw": cpu_ms(lambda: label_frame(explanation), 25),
        }
        stages["without encoding"] = sum(stages.values())
        stages["encode"] = cpu_ms(lambda: encode(pictures, Path(folder) / "encoded.mp4"), 3) / len(pictures)
        stages["annotate_video"] = cpu_ms(whole, 3) / count
        for name, milliseconds in stages.items():
            print(f"{name:24} {milliseconds:6.1f} ms")


if __name__ == "__main__":
    main()
