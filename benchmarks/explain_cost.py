"""What a whole explanation costs beside a plain inference: one thread, from a prepared tensor, DBSCAN included.

Every round runs in shuffled order: the plain export, the same again (A/A), the explained file with all its outputs,
and `Explainer.explain`. Ratios are taken within a round and their medians printed; a row whose A/A is outside .98 to
1.02 is measured again, three times at most, and is void then. ``host`` is what `explain` does besides its inference.

    python benchmarks/explain_cost.py                    # four networks, some two minutes
    python benchmarks/explain_cost.py resnet18 --rounds 80
    python benchmarks/explain_cost.py --profile          # where the host's milliseconds go
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from cfcam.export import export_torch, preset
from cfcam.runtime import Explainer
from cfcam.runtime.bench.sampling import sample
from overhead import SIZE, build, processor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from calibrated import photo_batch

#: Network -> the most that `explain` may cost, over plain inference.
GOALS = {"resnet18": 1.08, "resnet50": 1.08, "efficientnet_lite0": 1.15, "mobilenet_v2": 1.15}
#: The most that the explained file's own run may cost.
FILE_GOAL = 1.01
ATTEMPTS = 4


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def files(name: str, folder: Path) -> tuple[Path, Path]:
    """The plain export and the explained file."""
    plain, explained = folder / f"{name}.onnx", folder / f"{name}.cam.onnx"
    kind = preset("lite" if name == "efficientnet_lite0" else "torchvision")
    export_torch(build(name), SIZE, explained, preprocessing=kind, keep_plain=plain)
    return plain, explained


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> tuple[dict[str, str], bool, dict[str, float]]:
    """Ratios to plain by name, as text; whether plain is like itself; and the medians of the ratios."""
    ratios = _ratios(runs, rounds)
    for _ in range(ATTEMPTS - 1):
        if _steady(ratios):
            break
        ratios = _ratios(runs, rounds)
    texts = {}
    for name, values in ratios.items():
        low, middle, high = statistics.quantiles(values, n=4)
        texts[name] = f"{middle:.3f} ± {(high - low) / 2:.3f}"
    return texts, _steady(ratios), {name: statistics.median(values) for name, values in ratios.items()}


def _ratios(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    taken = sample(runs, rounds=rounds, clock=time.perf_counter_ns)
    return {name: (taken[name] / taken["plain"]).tolist() for name in runs if name != "plain"}


def _steady(ratios: dict[str, list[float]]) -> bool:
    return 0.98 <= statistics.median(ratios["again"]) <= 1.02


def row(name: str, rounds: int, profile: bool) -> tuple[str, bool]:
    """One line of the table, and whether a goal was missed."""
    with tempfile.TemporaryDirectory() as folder:
        plain, explained = files(name, Path(folder))
        image = np.ascontiguousarray(photo_batch(1, SIZE).numpy())
        first, second = session(plain), session(explained)
        feed = {first.get_inputs()[0].name: image}
        more = {second.get_inputs()[0].name: image, "cam_target": np.array([-1])}
        with Explainer(explained, threads=1) as explainer:
            prepared = explainer.prepare(image[0])
            runs: dict[str, Callable[[], object]] = {
                "plain": lambda: first.run(None, feed),
                "again": lambda: first.run(None, feed),
                "file": lambda: second.run(None, more),
                "explain": lambda: explainer.explain(prepared),
            }
            for _ in range(3):
                for run in runs.values():
                    run()
            if profile:
                _profile(name, runs["explain"])
            texts, steady, middle = measure(runs, rounds)
            plain_ms = 1000 * statistics.median(_seconds(runs["plain"]) for _ in range(9))
            host = plain_ms * (middle["explain"] - middle["file"])
            form = explainer.explain(prepared).form
    missed = steady and (middle["explain"] > GOALS[name] or middle["file"] > FILE_GOAL)
    line = (
        f"| {name} | {plain_ms:.1f} | {texts['again']}{'' if steady else ' (void)'} | {texts['file']} | {FILE_GOAL} "
        f"| {texts['explain']} | {GOALS[name]} | {host:.2f} | {'yes' if form and form.guided else 'no'} |"
    )
    return line, missed


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _profile(name: str, run: Callable[[], object], count: int = 60) -> None:
    """The functions that take longest, to stderr."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(count):
        run()
    profiler.disable()
    print(f"{name}, {count} explanations:", file=sys.stderr)
    pstats.Stats(profiler, stream=sys.stderr).strip_dirs().sort_stats("tottime").print_stats(22)


def print_table(heads: Sequence[str], rows: Iterable[tuple[str, bool]]) -> int:
    """Print the machine, the command, and each line when it is measured. rows: lines, and whether a goal was missed.

    Returns 1 if one was, and 0 otherwise.
    """
    print(f"{processor()}, {os.cpu_count()} cores, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
    print(f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d')}\n")
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    missed = 0
    for line, too_slow in rows:
        missed += too_slow
        print(line, flush=True)
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(GOALS), metavar="NETWORK")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.networks) - set(GOALS):
        parser.error(f"no goal for {', '.join(sorted(unknown))}: expected some of {', '.join(GOALS)}")
    heads = ("network", "plain, ms", "A/A", "file", "goal", "explain", "goal", "host, ms", "guided")
    return print_table(heads, (row(name, options.rounds, options.profile) for name in options.networks))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
