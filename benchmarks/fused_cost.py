"""What the heatmap inside the graph costs beside a plain inference: one thread, from a prepared tensor, both forms.

Every round runs in shuffled order: the plain export, the same again (A/A), and the fused file in its two forms. Ratios
are taken within a round and their medians printed; a row whose A/A is outside .98 to 1.02 is measured again, three
times at most, and is void then. A batch of 32 is compared in the form ``cpu``: time per image with that of one image
alone, and the peak memory of a process that runs it once with that of one which runs the plain file.

    python benchmarks/fused_cost.py                      # four networks, some five minutes
    python benchmarks/fused_cost.py mobilenet_v2 --rounds 80
    python benchmarks/fused_cost.py efficientnet_lite0 mobilenet_v2 --rule   # what follows the inference, by itself
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cfcam.runtime.bench.sampling import sample
from explain_cost import files, measure, print_table, session
from overhead import SIZE
from peers_start import peak_mib

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from calibrated import photo_batch

#: Network -> the most that the form ``cpu`` may cost, over plain inference.
GOALS = {"resnet18": 1.03, "resnet50": 1.05, "efficientnet_lite0": 1.15, "mobilenet_v2": 1.25}
#: The most that the form ``static`` may cost.
STATIC_GOALS = {"efficientnet_lite0": 1.4}
BATCH = 32
#: The most that a batch may cost per image over one image alone, and the most memory over plain inference, in MiB.
BATCH_GOAL, MEMORY_GOAL = 1.1, 64


def row(name: str, rounds: int) -> tuple[str, bool]:
    """One line of the table, and whether a goal was missed."""
    from cfcam.export import export_onnx, preset

    kind = preset("lite" if name == "efficientnet_lite0" else "torchvision")
    with tempfile.TemporaryDirectory() as folder:
        plain, _ = files(name, Path(folder))
        fused = {form: Path(folder) / f"{form}.cam.onnx" for form in ("static", "cpu")}
        for form, path in fused.items():
            export_onnx(plain, path, preprocessing=kind, fused=True, fused_form=form)
        opened = {"plain": call(plain), "again": call(plain), **{form: call(path) for form, path in fused.items()}}
        runs = {label: (lambda run=run: run(1)) for label, run in opened.items()}
        warm(runs)
        texts, steady, middle = measure(runs, rounds)
        alone, batch = opened["cpu"], {"one": lambda: opened["cpu"](1), "batch": lambda: opened["cpu"](BATCH)}
        alone(BATCH)
        taken = sample(batch, rounds=max(3, rounds // BATCH))
        plain_ms = float(np.median(sample({"": runs["plain"]}, rounds=9)[""]))
        per_image = statistics.median(taken["batch"]) / BATCH / statistics.median(taken["one"])
        more = peak(fused["cpu"]) - peak(plain)
    goal = STATIC_GOALS.get(name)
    missed = steady and (middle["cpu"] > GOALS[name] or (goal is not None and middle["static"] > goal))
    line = (
        f"| {name} | {plain_ms:.1f} | {texts['again']}{'' if steady else ' (void)'} | {texts['static']} "
        f"| {goal or ''} | {texts['cpu']} | {GOALS[name]} | {per_image:.2f} | {more:.0f} |"
    )
    return line, missed or per_image > BATCH_GOAL or more > MEMORY_GOAL


def rule_row(name: str, rounds: int) -> tuple[str, bool]:
    """One line: the least CPU time of the rule by numpy on the host and by ONNX Runtime in the form ``cpu``."""
    from cfcam.export.fused.plan import plan_fused
    from cfcam.export.fused.rule import rule_graph
    from cfcam.runtime import cam_map
    from cfcam.runtime.contract.modelfile import read_spec

    with tempfile.TemporaryDirectory() as folder:
        _, explained = files(name, Path(folder))
        spec = read_spec(explained)
        opened = session(explained)
        feed = {spec.input.name: np.ascontiguousarray(photo_batch(1, SIZE).numpy()), spec.target: np.array([-1])}
        names = [one.name for one in opened.get_outputs()]
        values: dict[str, Any] = dict(zip(names, opened.run(names, feed), strict=True))
        (Path(folder) / "rule.onnx").write_bytes(rule_graph(plan_fused(spec, "cpu")).to_model().SerializeToString())
        rule = session(Path(folder) / "rule.onnx")
    inputs = {one.name: values[one.name] for one in rule.get_inputs()}
    a, g = values["cam_activations"], values["cam_gradients"]
    detail, rivals = values.get("cam_detail"), values.get("cam_rivals")
    runs: dict[str, Callable[[], object]] = {
        "numpy": lambda: cam_map(a, g, settings={"last": True}, size=SIZE, detail=detail, rivals=rivals),
        "rule": lambda: rule.run(None, inputs),
    }
    warm(runs)
    least = {label: taken.min() for label, taken in sample(runs, rounds=rounds, clock=time.process_time_ns).items()}
    return f"| {name} | {least['numpy']:.1f} | {least['rule']:.1f} |", False


def call(path: Path) -> Callable[[int], object]:
    """A function that runs a file on so many images."""
    opened = session(path)
    image = np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE), dtype=np.float32)
    first, *others = (one.name for one in opened.get_inputs())

    def run(count: int) -> object:
        feed: dict[str, Any] = {first: np.repeat(image, count, axis=0)}
        feed.update({name: np.full(count, -1, np.int64) for name in others})
        return opened.run(None, feed)

    return run


def warm(runs: dict[str, Callable[[], object]]) -> None:
    for _ in range(3):
        for run in runs.values():
            run()


def peak(path: Path) -> float:
    """MiB of a process that runs a file on one batch, at its peak."""
    done = subprocess.run([sys.executable, __file__, "--peak", str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(GOALS), metavar="NETWORK")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--rule", action="store_true", help="the rule alone, by numpy and by ONNX Runtime")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        call(options.peak)(BATCH)
        print(peak_mib())
        return 0
    unknown = set(options.networks) - set(GOALS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(GOALS)}")
    if options.rule:
        heads = ["network", "rule by numpy, ms of CPU", "by ONNX Runtime, form cpu"]
        return print_table(heads, (rule_row(name, options.rounds) for name in options.networks))
    heads = [
        "network", "plain, ms", "A/A", "static", "goal", "cpu", "goal", f"batch of {BATCH}, per image over one",
        "its MiB over plain",
    ]  # fmt: skip
    return print_table(heads, (row(name, options.rounds) for name in options.networks))


if __name__ == "__main__":
    sys.exit(main())
