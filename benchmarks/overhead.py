"""How much an explained inference costs beside a plain one, in ONNX Runtime on the CPU.

For each network the plain export and the explained file run interleaved in shuffled order,
and ratios are taken within a round, so that a machine that slows down slows both. The A/A
column is plain against plain: outside 0.98 to 1.02 the row is void and is measured again.
``bound`` is the least that counted multiply-adds and bytes allow (see counted.py), ``counted``
is what the written graph comes to. Exit code 1 when a limit is missed.

    python benchmarks/overhead.py                      # last layers, Markdown
    python benchmarks/overhead.py --layers last,middle
    python benchmarks/overhead.py resnet18 --rounds 60 --two-threads
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from cfcam.export import export_torch, preset
from cfcam.export.reverse.candidates import choose_layer
from cfcam.export.reverse.opening import open_model
from cfcam.export.reverse.score import find_score
from cfcam.export.traced.capture import capture
from cfcam.export.traced.names import Names
from counted import adjoint, executed, total
from timing import Comparison, compare

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from calibrated import calibrate, photo_batch
from torchvision_compat import import_torchvision

LAYERS = ("last", "middle")
SIZE = 224


def _torchvision(name: str) -> Callable[[], torch.nn.Module]:
    return lambda: getattr(import_torchvision().models, name)(weights=None)


def _lite0() -> torch.nn.Module:
    from cfcam.cli.demo import load_lite0

    return load_lite0()


def _vit_tiny() -> torch.nn.Module:
    import_torchvision()  # timm imports it
    import timm

    return timm.create_model("vit_tiny_patch16_224", pretrained=False)


#: Name -> how it is built, and its middle layer: the last value of the last stage but one or so.
NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], str]] = {
    "efficientnet_lite0": (_lite0, "_blocks.10"),
    "resnet18": (_torchvision("resnet18"), "layer3"),
    "resnet50": (_torchvision("resnet50"), "layer3"),
    "mobilenet_v2": (_torchvision("mobilenet_v2"), "features.13"),
    "mobilenet_v3_large": (_torchvision("mobilenet_v3_large"), "features.12"),
    "squeezenet1_0": (_torchvision("squeezenet1_0"), "features.7"),
    "regnet_y_400mf": (_torchvision("regnet_y_400mf"), "trunk_output.block3"),
    "vgg11": (_torchvision("vgg11"), "features.15"),
    "convnext_tiny": (_torchvision("convnext_tiny"), "features.5"),
    "vit_tiny": (_vit_tiny, "blocks.7"),
}


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def build(name: str) -> torch.nn.Module:
    """The network with random weights (they do not change the cost), calibrated on photos; or the pretrained Lite0."""
    torch.manual_seed(0)
    module = NETWORKS[name][0]()
    return module if name == "efficientnet_lite0" else calibrate(module, photo_batch(4, SIZE))


@dataclass
class Row:
    """One file: its network and layer, and what it is compared with."""

    network: str
    layer: str
    plain: Path
    explained: Path
    bound: float
    counted: float
    limit: float

    def __str__(self) -> str:
        return f"| {self.network} | {self.layer} | {self.bound:.3f} | {self.counted:.3f} |"


def rows(name: str, layers: list[str], folder: Path) -> Iterator[Row]:
    """Export the network for each layer."""
    module = build(name)
    plain = folder / f"{name}.plain.onnx"
    options = preset("lite" if name == "efficientnet_lite0" else "torchvision")
    for which in layers:
        layer = None if which == "last" else NETWORKS[name][1]
        explained = folder / f"{name}.{which}.cam.onnx"
        report = export_torch(module, SIZE, explained, layer=layer, preprocessing=options, keep_plain=plain)
        forward = total(executed(plain))
        back = adjoint(plain, _name_in_plain(plain, module, layer), report.spec.output.score)
        bound = 1 + total(back) / forward
        if which == "middle":
            limit = 1.25 * bound
        else:  # a linear head behind a pooling needs no multiply-adds: one row of it is the gradient
            limit = 1.05 * bound if any(work.multiply_adds for work in back) else 1.03
        yield Row(name, report.spec.layer.name, plain, explained, bound, total(executed(explained)) / forward, limit)


def _name_in_plain(plain: Path, module: torch.nn.Module, layer: str | None) -> str:
    """What the layer's value is called in the plain export; the explained file may have renamed it."""
    graph, _ = open_model(onnx.load(plain))
    score = find_score(graph)
    if layer is None:
        return choose_layer(graph, score, None).name
    return Names(capture(module, torch.empty(1, 3, SIZE, SIZE)), graph, score.value).value(layer)


def measure(plain: Path, explained: Path, threads: int, rounds: int, attempts: int = 4) -> Comparison:
    """Interleaved ratios; repeated while the A/A control is out of its range."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    sessions = [
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for path in (plain, explained)
    ]
    entry = sessions[0].get_inputs()[0]
    name = entry.name
    image = np.random.default_rng(0).standard_normal((1, *entry.shape[1:]), dtype=np.float32)
    target = np.array([-1])

    def run_plain() -> object:
        return sessions[0].run(None, {name: image})

    def run_explained() -> object:
        return sessions[1].run(None, {name: image, "cam_target": target})

    found = compare(run_plain, run_explained, rounds)
    for _ in range(attempts - 1):
        if found.steady:
            break
        found = compare(run_plain, run_explained, rounds)
    return found


def cell(found: Comparison) -> str:
    void = "" if found.steady else " (void)"
    return f"{found.ratio:.3f} ± {found.ratio_spread:.3f} | {found.control:.3f} ± {found.control_spread:.3f}{void}"


def whole_explain(path: Path, plain: Path, rounds: int) -> str:
    """`Explainer.explain` of a decoded photo, preprocessing and method included, over plain inference."""
    from cfcam.runtime import Explainer

    photo = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = 1
    runner = onnxruntime.InferenceSession(str(plain), session, providers=["CPUExecutionProvider"])
    image = np.zeros((1, 3, 224, 224), np.float32)
    name = runner.get_inputs()[0].name
    with Explainer(path, threads=1) as explainer:
        found = compare(lambda: runner.run(None, {name: image}), lambda: explainer.explain(photo), rounds)
    return f"{found.ratio:.2f} ± {found.ratio_spread:.2f} (A/A {found.control:.3f})"


def import_milliseconds(repeats: int = 7) -> float:
    """Median time of ``import cfcam.runtime`` in a fresh interpreter, without the interpreter's own start."""
    import subprocess

    code = "import time; t = time.perf_counter(); import cfcam.runtime; print(time.perf_counter() - t)"
    times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(repeats)]
    return 1000 * statistics.median(times)


def _choice(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if not set(chosen) <= set(known):
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}")
        return chosen

    return parse


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--layers", type=_choice(LAYERS), default=["last"], help="last,middle")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--two-threads", action="store_true", help="one more pair of columns")
    arguments = parser.parse_args()
    versions = f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}"
    print(f"{processor()}, {os.cpu_count()} cores, {versions}")
    print(f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d')}\n")
    more = "two threads | A/A |" if arguments.two_threads else ""
    print(f"| network | layer | bound | counted | one thread | A/A | share of bound | limit | {more}")
    print("|---" * (8 + 2 * arguments.two_threads) + "|")
    whole, missed = None, 0
    for name in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            for row in rows(name, arguments.layers, Path(folder)):
                one = measure(row.plain, row.explained, 1, arguments.rounds)
                too_slow = one.steady and one.ratio > row.limit
                missed += too_slow
                line = f"{row} {cell(one)} | {one.ratio / row.bound:.3f} | {row.limit:.3f}{' missed' * too_slow} |"
                if arguments.two_threads:
                    line += f" {cell(measure(row.plain, row.explained, 2, arguments.rounds))} |"
                print(line, flush=True)
                if whole is None and name == "efficientnet_lite0":
                    whole = whole_explain(row.explained, row.plain, arguments.rounds)
    if whole is not None:
        print(f"\nWhole `explain` (photo decoded before) / plain inference, efficientnet_lite0, one thread: {whole}")
    print(f"`import cfcam.runtime`: {import_milliseconds():.1f} ms")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
