"""Insertion - deletion of the probes on the held-out photos, against `cfcam` over two layers: one network, last layer.

    python benchmarks/evidence_probes.py                 # all 30 photos: Score-CAM alone takes some seven minutes
    python benchmarks/evidence_probes.py --photos 3

`python benchmarks/evidence.py test mobilenet_v2` must have been run: its figures are what the probes are compared with.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np
from cfcam.calibration.measures import EngineAccess, insertion_deletion
from cfcam.calibration.statistics import TooFewPhotosError, paired_difference
from cfcam.export import export_onnx, preset
from cfcam.runtime import Explainer
from evidence import STEPS
from evidence_networks import FILES, NETWORKS, SHARED
from evidence_photos import photos, tensors

NETWORK = "mobilenet_v2"
PROBES = ("gradcam", "ablationcam", "reciprocam", "scorecam")
OURS = ("cfcam [last+middle]", "cfcam [last]")


def figures(method: str, explainer: Explainer, chosen: Sequence[int]) -> tuple[dict[str, float], float]:
    """Photo -> insertion - deletion of the top class's map, and the median milliseconds of a map."""
    seen, access = tensors(NETWORKS[NETWORK], "last"), EngineAccess(explainer, method)
    found, times = {}, []
    for i in chosen:
        image, target = seen.images[i : i + 1], seen.top[i : i + 1]
        started = time.perf_counter()
        maps = access.explain(image, target)
        times.append((time.perf_counter() - started) * 1000)
        curves = insertion_deletion(access.predict, image, target, maps, steps=STEPS)
        area = curves.area(curves.insertion) - curves.area(curves.deletion)
        found[photos()[i].path.name] = float(area[0])
    return found, float(np.median(times))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, metavar="N")
    options = parser.parse_args()
    path = FILES / f"{NETWORK}.tailed.cam.onnx"
    if not path.exists():
        model = SHARED / "models" / "mobilenet_v2_1.0_224.onnx"
        export_onnx(model, path, preprocessing=preset("tf"), label_offset=1, with_tail=True)
    kept = json.loads((FILES / f"{NETWORK}.test.figures.json").read_text())
    chosen = [number for number, photo in enumerate(photos()) if not photo.tune][: options.photos]
    print("| method | insertion_deletion | ms | " + " | ".join(f"{ours}, less it" for ours in OURS) + " |")
    print("|---|---|---|" + "---|" * len(OURS))
    with Explainer(path, threads=1) as explainer:
        for method in PROBES:
            found, ms = figures(method, explainer, chosen)
            cells = []
            for ours in OURS:
                other = kept[ours]["insertion_deletion"]
                try:
                    gain = paired_difference([other[name] for name in found], list(found.values()))
                    cells.append(f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")
                except TooFewPhotosError:
                    cells.append("too few photos")
            print(
                f"| {method} | {np.mean(list(found.values())):.3f} | {ms:.0f} | " + " | ".join(cells) + " |", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
