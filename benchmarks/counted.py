"""Multiply-adds and bytes of what ONNX Runtime really executes, and what the gradient needs at least.

What is executed is taken from ONNX Runtime's own profile, after its fusions, its folding of constants
and its choice of layouts, so that a graph is not charged for what the engine removes. The time that
the counted work allows is a roofline (Williams et al. 2009): per node the larger of multiply-adds and
bytes, each at its rate.

    python benchmarks/counted.py MODEL.onnx            # the costliest operators of a file
    python benchmarks/counted.py A.cam.onnx B.cam.onnx # of two, side by side
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cfcam.export.graph import Graph

__all__ = ["Work", "adjoint", "bound", "executed", "total"]

#: Rates of one core of the machine on which the published figures were taken (convolutions and additions
#: of ResNet-50). Only their quotient matters: two multiply-adds in the time of a byte.
MULTIPLY_ADDS_PER_SECOND = 45e9
BYTES_PER_SECOND = 22e9

Shape = Sequence[int]

_CONVOLUTIONS = {"Conv", "FusedConv", "NhwcFusedConv"}
_PRODUCTS = {"Gemm", "MatMul", "FusedGemm", "FusedMatMul", "TransposeMatMul"}
#: Another view of the same memory, or the size of it: no work.
_FREE = {"Shape", "Size", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"}
#: Their gradient is that of their result.
_PASSING = _FREE | {"Add", "Sub", "Sum", "Cast"}
_POOLED = {"GlobalAveragePool", "ReduceMean", "ReduceSum"}
#: Their adjoint moves values and does not look at them.
_MOVING = {"Concat", "Split", "Slice", "Pad", "Transpose", "AveragePool", "Expand", "Gather"}


@dataclass(frozen=True)
class Work:
    """One node: multiply-adds, bytes read and written, and how long it took in the profiled run."""

    name: str
    operator: str
    multiply_adds: float
    moved: float
    seconds: float = 0.0

    @property
    def allowed(self) -> float:
        """Seconds that the counted work takes at the rates above."""
        return max(self.multiply_adds / MULTIPLY_ADDS_PER_SECOND, self.moved / BYTES_PER_SECOND)


def total(works: Iterable[Work]) -> float:
    """Seconds that the counted work takes, all nodes together."""
    return sum(work.allowed for work in works)


def executed(model: Path | str, batch: int = 1, *, runs: int = 1) -> list[Work]:
    """What one inference of `model` executes, in order.

    seconds: the shortest of `runs`, one thread.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights have no shape in the profile
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        random = np.random.default_rng(0)
        feeds: dict[str, Any] = {}
        for entry in session.get_inputs():
            shape = [size if isinstance(size, int) else batch for size in entry.shape]
            floats = "float" in entry.type
            feeds[entry.name] = random.standard_normal(shape).astype(np.float32) if floats else -np.ones(shape, "int64")
        for _ in range(runs):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    found: dict[str, Work] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        name, arguments = event["name"].removesuffix("_kernel_time"), event["args"]
        key, seconds = arguments["node_index"], event["dur"] / 1e6
        if key in found:
            seconds = min(seconds, found[key].seconds)
        found[key] = _work(name, arguments, seconds)
    return list(found.values())


def _shapes(arguments: dict[str, Any], which: str) -> list[list[int]]:
    return [shape for entry in arguments[which] for shape in entry.values()]


def _work(name: str, arguments: dict[str, Any], seconds: float) -> Work:
    operator = arguments["op_name"]
    sources, results = _shapes(arguments, "input_type_shape"), _shapes(arguments, "output_type_shape")
    written = float(arguments["output_size"])
    moved = float(arguments["activation_size"]) + float(arguments["parameter_size"]) + written
    if operator in _FREE:
        moved = 0.0
    elif operator in ("Gather", "GatherElements", "Slice", "Split"):
        moved = 2 * written  # what is left out is not read
    elif operator in _PRODUCTS and len(sources) > 2:
        moved += written  # the bias is written first, and then added to
    return Work(name, operator, _multiply_adds(operator, sources, results), moved, seconds)


def _multiply_adds(operator: str, sources: Sequence[Shape], results: Sequence[Shape]) -> float:
    if operator in _CONVOLUTIONS:
        return math.prod(results[0]) * math.prod(sources[1][1:])
    if operator == "ConvTranspose":
        return math.prod(sources[0]) * math.prod(sources[1][1:])
    if operator in _PRODUCTS:
        # rows * depth times depth * columns over rows * columns: depth squared; batches cancel but for one.
        batches = math.prod(results[0][:-2]) if min(len(sources[0]), len(sources[1])) > 2 else 1
        squared = math.prod(sources[0]) * math.prod(sources[1]) / max(math.prod(results[0]) * batches, 1)
        return math.prod(results[0]) * math.sqrt(squared)
    return 0.0


def adjoint(plain: Path | str, layer: str, score: str) -> list[Work]:
    """What going back from `score` to the value `layer` needs at least, by nodes of the plain graph.

    As many multiply-adds as forward for every contraction with weights, twice as many where both
    factors depend on the layer; one row of a linear head; batch norms fold into convolutions; what is
    saved for a non-linearity is read once; a gradient that is constant over the grid is one number.
    """
    graph = Graph(onnx.load(str(plain)))
    path = (graph.descendants([layer]) & graph.ancestors([score])) - {layer}
    heads = _heads(graph, score)
    readers: dict[str, int] = defaultdict(int)
    found: list[Work] = []

    def shape(name: str) -> Shape:
        return [size if isinstance(size, int) else 1 for size in graph.shape(name) or ()]

    for node in graph.nodes:
        if node.output[0] not in path:
            continue
        behind = [name for name in node.input if name in path or name == layer]
        sources, result = [shape(name) for name in node.input if name], shape(node.output[0])
        into, out = 4.0 * sum(math.prod(shape(name)) for name in behind), 4.0 * math.prod(result)
        operator = node.op_type
        additions = len(behind) * _multiply_adds(operator, sources, [result])
        moved = 3 * into
        if node.output[0] in heads:
            additions, moved = 0.0, 2 * into
        elif additions:
            moved = len(behind) * (4.0 * sum(math.prod(s) for s in sources) + out)
        elif operator in _PASSING or (operator == "BatchNormalization" and _after_convolution(graph, node)):
            moved = 0.0
        elif operator in _POOLED:
            moved = into if layer in behind else 0.0
        elif operator == "MaxPool":
            moved = 2 * into + 2 * out
        elif operator in _MOVING:
            moved = into + out
        elif operator in ("Mul", "Div"):
            moved = into + 2 * len(behind) * out
        found.append(Work(node.output[0], operator, additions, moved))
        for name in behind:
            readers[name] += 1
            if readers[name] > 1:  # gradients of two readers meet in a sum
                found.append(Work(name, "Add", 0.0, 12.0 * math.prod(shape(name))))
    return found


def bound(plain: Path | str, layer: str, score: str) -> float:
    """The least that explained over plain inference can be, by counted work."""
    return 1 + total(adjoint(plain, layer, score)) / total(executed(plain))


def _heads(graph: Graph, score: str) -> set[str]:
    """The product with weights that is the score itself, but for a bias or another view of it."""
    node = graph.producers.get(score)
    while node is not None and node.op_type in _FREE | {"Add"}:
        node = next((graph.producers[name] for name in node.input if name in graph.producers), None)
    return set() if node is None or node.op_type not in ("Gemm", "MatMul", "Conv") else {node.output[0]}


def _after_convolution(graph: Graph, node: onnx.NodeProto) -> bool:
    before = graph.producers.get(node.input[0])
    return before is not None and before.op_type in ("Conv", "ConvTranspose", "Gemm")


def _print_table(files: list[Path], runs: int) -> None:
    every = [executed(path, runs=runs) for path in files]
    operators = {work.operator for works in every for work in works}
    costs = {operator: max(total(_of(works, operator)) for works in every) for operator in operators}
    print("| operator |" + " nodes | M multiply-adds | MB | counted µs | measured µs |" * len(files))
    print("|---|" + "---|" * 5 * len(files))
    for operator in [*sorted(costs, key=costs.__getitem__, reverse=True), None]:
        cells = []
        for chosen in (_of(works, operator) for works in every):
            additions, moved = sum(w.multiply_adds for w in chosen), sum(w.moved for w in chosen)
            times = 1e6 * total(chosen), 1e6 * sum(w.seconds for w in chosen)
            cells.append(
                f" {len(chosen)} | {additions / 1e6:.1f} | {moved / 1e6:.2f} | {times[0]:.0f} | {times[1]:.0f} |"
            )
        print(f"| {operator or '**all**'} |" + "".join(cells))


def _of(works: list[Work], operator: str | None) -> list[Work]:
    return [work for work in works if operator in (None, work.operator)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    _print_table(arguments.files, arguments.runs)


if __name__ == "__main__":
    main()
