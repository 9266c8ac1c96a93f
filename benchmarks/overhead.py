"""How much an explained inference costs beside a plain one, in ONNX Runtime on the CPU.

For each network the plain export and the explained file run interleaved in shuffled order,
and ratios are taken within a round, so that a machine that slows down slows both. The A/A
column is plain against plain: outside 0.98 to 1.02 the row is void and is measured again.
``bound`` is what the counted work allows: multiply-adds of the explained graph over those of
the plain one, or bytes of weights read, whichever is larger.

    python benchmarks/overhead.py                      # one table, Markdown
    python benchmarks/overhead.py resnet18 --rounds 60
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from cfcam.cli.timing import Comparison, compare
from cfcam.export import export_torch, preset
from onnx import shape_inference

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from torchvision_compat import import_torchvision

NETWORKS = [
    "efficientnet_lite0",
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "squeezenet1_0",
    "vgg11",
]

_CONTRACTIONS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def build(name: str) -> torch.nn.Module:
    """The network with random weights (they do not change the cost), or the pretrained Lite0."""
    if name == "efficientnet_lite0":
        from cfcam.cli.demo import load_lite0

        return load_lite0()
    torch.manual_seed(0)
    return getattr(import_torchvision().models, name)(weights=None)


def work(path: Path) -> tuple[float, float]:
    """(multiply-adds of one image, bytes of weights read) of a file's contractions and gathers."""
    model = shape_inference.infer_shapes(onnx.load(path))
    shapes: dict[str, list[int]] = {i.name: list(i.dims) for i in model.graph.initializer}
    weights = set(shapes)
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        shapes[value.name] = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
    additions, read = 0.0, 0.0
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in weights:
            read += 4 * np.prod(shapes[node.input[0]][1:])
        if node.op_type not in _CONTRACTIONS or len(node.input) < 2:
            continue
        source, weight, result = (shapes.get(n, []) for n in (node.input[0], node.input[1], node.output[0]))
        if node.input[1] in weights:
            read += 4 * np.prod(weight)
        if node.op_type == "Conv":
            additions += np.prod(result) * np.prod(weight[1:])
        elif node.op_type == "ConvTranspose":
            additions += np.prod(source) * np.prod(weight[1:])
        elif weight:
            additions += np.prod(result) * (source[-1] if source else 1)
    return float(additions), float(read)


def bound(plain: Path, explained: Path) -> float:
    """The larger of the two ratios of counted work."""
    (adds0, read0), (adds1, read1) = work(plain), work(explained)
    return max(adds1 / adds0, read1 / read0)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    versions = f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}"
    print(f"{processor()}, {os.cpu_count()} cores, {versions}")
    print(f"`python benchmarks/overhead.py --rounds {arguments.rounds}`, {time.strftime('%Y-%m-%d')}\n")
    print("| network | layer | bound | one thread | A/A | two threads | A/A |")
    print("|---|---|---|---|---|---|---|")
    whole = None
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.networks:
            explained, plain = Path(folder) / f"{name}.cam.onnx", Path(folder) / f"{name}.plain.onnx"
            options = preset("lite" if name == "efficientnet_lite0" else "torchvision")
            report = export_torch(build(name), 224, explained, preprocessing=options, keep_plain=plain)
            one, two = (measure(plain, explained, threads, arguments.rounds) for threads in (1, 2))
            limit = bound(plain, explained)
            print(f"| {name} | {report.spec.layer.name} | {limit:.3f} | {cell(one)} | {cell(two)} |", flush=True)
            if name == "efficientnet_lite0":
                whole = whole_explain(explained, plain, arguments.rounds)
    if whole is not None:
        print(f"\nWhole `explain` (photo decoded before) / plain inference, efficientnet_lite0, one thread: {whole}")
    print(f"`import cfcam.runtime`: {import_milliseconds():.1f} ms")


if __name__ == "__main__":
    main()
