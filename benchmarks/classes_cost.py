"""What explaining K classes of an image costs beside one, from one inference, and with the maps.

    OMP_NUM_THREADS=1 python benchmarks/classes_cost.py [NETWORK ...] [--classes 5] [--rounds 60] [--fused cpu|static]

Ratios to one class by the same file: ``file`` is an inference alone (all outputs), ``explain`` has the maps too (from a
prepared tensor), ``one by one`` explains the same classes one by one. CPU time of the process in interleaved rounds,
the ratio of medians; A/A is one class against itself. With ``--fused`` the file makes the maps itself, so that they are
part of ``file``. Exit code 1 when the goal for the file is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cfcam.export import export_torch, preset
from cfcam.runtime import Explainer
from cfcam.runtime.bench.sampling import sample
from explain_cost import print_table, session
from overhead import SIZE, build

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from calibrated import photo_batch

NETWORKS = ("efficientnet_lite0", "resnet18")
GOAL = 1.06


def row(name: str, count: int, rounds: int, form: str | None) -> tuple[str, bool]:
    """One line of the table, and whether the goal was missed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.cam.onnx"
        kind = preset("lite" if name == "efficientnet_lite0" else "torchvision")
        fused = {} if form is None else {"fused": True, "fused_form": form}
        export_torch(build(name), SIZE, path, preprocessing=kind, classes_per_image="free", **fused)
        image = np.ascontiguousarray(photo_batch(1, SIZE).numpy())
        opened = session(path)
        entry = opened.get_inputs()[0].name
        ranks = [-1 - rank for rank in range(count)]

        def run(classes: list[int]) -> Callable[[], object]:
            feed = {entry: image, "cam_target": np.array([classes])}
            return lambda: opened.run(None, feed)

        with Explainer(path, threads=1) as explainer:
            prepared = explainer.prepare(image[0])
            best = [one.target for one in explainer.explain_top(prepared, count)]
            runs: dict[str, Callable[[], object]] = {
                "file": run([-1]),
                "file again": run([-1]),
                "file K": run(ranks),
                "explain": lambda: explainer.explain(prepared),
                "explain again": lambda: explainer.explain(prepared),
                "explain K": lambda: explainer.explain_top(prepared, count),
                "one by one": lambda: [explainer.explain(prepared, target) for target in best],
            }
            for call in runs.values():
                call()
            taken = sample(runs, rounds=rounds, clock=time.process_time_ns)
    middle = {key: float(np.median(values)) for key, values in taken.items()}
    ratio = middle["file K"] / middle["file"]
    cells = (
        f"{middle['file']:.1f}",
        f"{middle['file again'] / middle['file']:.3f}",
        f"{ratio:.3f}",
        f"{GOAL}",
        f"{middle['explain']:.1f}",
        f"{middle['explain again'] / middle['explain']:.3f}",
        f"{middle['explain K'] / middle['explain']:.2f}",
        f"{middle['one by one'] / middle['explain']:.2f}",
    )
    return f"| {name} | {' | '.join(cells)} |", ratio > GOAL


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--classes", type=int, default=5, metavar="K")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--fused", choices=("cpu", "static"), metavar="cpu|static")
    options = parser.parse_args()
    timed = ("file, ms", "A/A", "file, K classes", "goal", "explain, ms", "A/A", "explain, K classes", "one by one")
    rows = (row(name, options.classes, options.rounds, options.fused) for name in options.networks)
    return print_table(("network", *timed), rows)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
