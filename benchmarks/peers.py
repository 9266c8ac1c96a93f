"""cfcam beside what users would take instead: time per map, start, memory, installed size, and how its cost grows.

    make bench                                                   # everything, about an hour on a quiet machine
    OMP_NUM_THREADS=1 python benchmarks/peers.py --parts time --networks mobilenet_v2 --rounds 8 --shared

One thread each. Times are CPU time of the process, interleaved: the least of all rounds, because whatever else runs on
the machine only adds to it, over the least of plain inference; A/A is plain against plain. Every part is kept in the
results file as soon as it is measured, and the page is written from all that is there: a part, or a network in it, can
be measured again alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peers_growth
import peers_openvino
from cfcam.runtime.bench.sampling import sample
from cfcam.runtime.engines.onnxruntime.workarounds import processor_workarounds
from peers_page import write_page
from peers_sizes import installed_mib
from peers_start import first_map
from peers_tools import NETWORKS, SLOW, TOOLS, NotFor, image_of

_ROOT = Path(__file__).resolve().parents[1]
PARTS = ("time", "openvino", "slow", "start", "sizes", "growth")
#: What is installed for each, next to the network's own library.
INSTALLED = {
    "plain ONNX Runtime": ["onnxruntime"],
    "cfcam, fused": ["onnxruntime"],
    "cfcam, two-stage": ["cfcam[cpu]"],
    "pytorch-grad-cam": ["grad-cam"],
    "torch-cam": ["torchcam"],
    "Captum": ["captum"],
}
_PLAIN = next(iter(TOOLS))


def files(network: str, folder: Path) -> None:
    """The plain and the explained file, the fused ones and the INT8 one, where they are not there yet."""
    from cfcam.export import ExportError, export_onnx, export_torch, preset
    from cfcam.export.precision import Plan, lower
    from overhead import SIZE, build

    kind = preset("lite" if network == "efficientnet_lite0" else "torchvision")
    plain, explained, integers = (folder / f"{network}.{ending}" for ending in ("onnx", "cam.onnx", "int8.cam.onnx"))
    if not plain.exists() or not explained.exists():
        export_torch(build(network), SIZE, explained, preprocessing=kind, keep_plain=plain)
    for form in ("cpu", "static"):
        path = folder / f"{network}.{form}.cam.onnx"
        if not path.exists():
            export_onnx(plain, path, preprocessing=kind, fused=True, fused_form=form)
    if not integers.exists():
        batches = [image_of(SIZE, 4)]  # noise: the figures are times, not maps
        try:
            lower(explained, integers, Plan(precision="int8"), batches, ranges=folder / f"{network}.ranges")
        except ExportError as error:
            print(f"{network}: no INT8 file: {error}", file=sys.stderr)


def measure_time(network: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Every tool that is not slow, over plain inference."""
    runs: dict[str, Callable[[], object]] = {}
    refused: dict[str, str] = {}
    for label, tool in TOOLS.items():
        if label in SLOW:
            continue
        try:
            runs[label] = tool(network, folder)
        except NotFor as error:
            refused[label] = str(error)
    runs["again"] = runs[_PLAIN]
    for run in runs.values():
        run()
        run()
    taken = sample(runs, rounds=rounds, clock=time.process_time_ns)
    least = {label: float(values.min()) for label, values in taken.items()}
    ratios = {label: value / least[_PLAIN] for label, value in least.items() if label != _PLAIN}
    return {
        "plain_ms": least[_PLAIN],
        "control": ratios.pop("again"),
        "ratios": ratios,
        "refused": refused,
    }


def measure_slow(network: str, folder: Path) -> dict[str, float | str]:
    """CPU seconds of one map by each of the slow tools, or why it has none."""
    found: dict[str, float | str] = {}
    for label in SLOW:
        try:
            run = TOOLS[label](network, folder)
        except NotFor as error:
            found[label] = str(error)
            continue
        started = time.process_time()
        run()
        found[label] = time.process_time() - started
    return found


def _machine(shared: bool) -> str:
    """Machine, versions, day and command, as they stand above a table."""
    from overhead import processor

    names = ("onnxruntime", "numpy", "torch", "grad-cam", "torchcam", "captum")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    slow = " without integer kernels (VNNI)" if processor_workarounds() else ""
    what = f"{processor()}{slow}, {os.cpu_count()} cores{', a shared machine' if shared else ''}"
    arguments = [f'"{part}"' if " " in part else part for part in _without_places(sys.argv[1:])]
    command = " ".join(["python benchmarks/peers.py", *arguments])
    return f"{what}; {versions}; {time.strftime('%Y-%m-%d')}; `{command}`"


def _without_places(arguments: list[str]) -> list[str]:
    """The arguments but for where files and the page are kept, which changes nothing."""
    skipped = ("--files", "--results", "--page", "--openvino")
    return [
        part
        for before, part in zip(["", *arguments], arguments, strict=False)
        if part not in skipped and before not in skipped
    ]


def main() -> int:
    """Measure, keep, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of the parts time, openvino, slow and start")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--starts", type=int, default=5, help="processes of the part start")
    parser.add_argument(
        "--sizes",
        type=lambda text: [int(part) for part in text.split(",")],
        default=list(peers_growth.SIZES),
        help="sides of the images of the part growth (each needs an export of its own)",
    )
    parser.add_argument("--shared", action="store_true", help="say on the page that others used the machine meanwhile")
    parser.add_argument("--files", type=Path, default=_ROOT / "build" / "bench", help="folder of the exported files")
    parser.add_argument(
        "--openvino", type=Path, default=_ROOT / ".venv-openvino", help="environment with openvino_xai and onnxruntime"
    )
    parser.add_argument("--results", type=Path, default=_ROOT / "build" / "bench" / "results.json")
    parser.add_argument("--page", type=Path, default=_ROOT / "docs" / "results" / "benchmarks.md")
    options = parser.parse_args()
    parts, networks = options.parts.split(","), options.networks.split(",")
    if unknown := (set(parts) - set(PARTS)) | (set(networks) - set(NETWORKS)):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    options.files.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(options.results.read_text()) if options.results.exists() else {}

    def keep(part: str, found: dict[str, Any], network: str | None = None) -> None:
        entry = results.setdefault(part, {"found": {}, "how": {}})
        if network is None:
            entry["found"] = found
        else:
            entry["found"][network] = found
        entry["how"][network or ""] = _machine(options.shared)
        options.results.write_text(json.dumps(results, indent=1))
        print(f"{part}{'' if network is None else ' ' + network}: done", file=sys.stderr, flush=True)

    if "sizes" in parts:
        keep("sizes", {name: installed_mib(packages) for name, packages in INSTALLED.items()})
    for network in networks:
        if {"time", "openvino", "slow", "start"} & set(parts):
            files(network, options.files)
        if "start" in parts:
            found = {
                label: first_map(label, network, options.files, options.starts) for label in TOOLS if label not in SLOW
            }
            keep("start", found, network)
        if "time" in parts:
            keep("time", measure_time(network, options.files, options.rounds), network)
        if "openvino" in parts:
            python, model = options.openvino / "bin" / "python", options.files / f"{network}.onnx"
            found = peers_openvino.measured(python, model, options.rounds, tokens=network == "vit_tiny")
            keep("openvino", found, network)
        if "slow" in parts:
            keep("slow", measure_slow(network, options.files), network)
    if "growth" in parts:
        keep("growth", peers_growth.measure(options.files, options.rounds, options.sizes))
    write_page(results, options.page)
    print(options.page)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
