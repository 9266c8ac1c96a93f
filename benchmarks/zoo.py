"""Every architecture of the zoo, exported and judged: the table in docs/results/zoo.md.

Each architecture runs in a process of its own, so that one that crashes or hangs is a row and
not the end. Results are kept in build/zoo/ and used again as long as the exporter has not
changed, so that an interrupted run goes on where it stopped; failures are always tried again.
Exit code 1 when any row failed.

    python benchmarks/zoo.py -j 2 --output docs/results/zoo.md     # what `make zoo` does
    python benchmarks/zoo.py --only resnet50 vgg11 --no-timing   # some of them, to the terminal
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zoo_measure import Layer, measure_network
from zoo_networks import NETWORKS, Network, find

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = _ROOT / "build" / "zoo"
_VERSIONS = ("torch", "torchvision", "timm", "transformers", "onnx", "onnxruntime", "tensorrt-rtx-cu13")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.list:
        for network in NETWORKS:
            print(f"{network.name:28} {network.family}")
        return 0
    try:
        networks = [find(name) for name in options.only] or NETWORKS
    except KeyError as error:
        raise SystemExit(error.args[0]) from None
    if options.worker:
        return _work(networks[0], options)
    _RESULTS.mkdir(parents=True, exist_ok=True)
    rows = _run_all(networks, options)
    text = table(rows)
    print(text)
    if options.output:
        page = _page(text, rows)
        options.output.with_suffix(".part").write_text(page)
        options.output.with_suffix(".part").replace(options.output)
    failed = {row.network for row in rows if row.error}
    print(f"\n{len(networks) - len(failed)} of {len(networks)} architectures passed", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="architectures; default: all")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="architectures at a time")
    parser.add_argument("--rounds", type=int, default=20, help="of the timing; default: %(default)s")
    parser.add_argument("--no-timing", action="store_const", const=0, dest="rounds", help="leave the overhead out")
    parser.add_argument("--timeout", type=int, default=900, metavar="SECONDS", help="for one architecture")
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    parser.add_argument("--any-source", action="store_true", help="use results of earlier states of the exporter too")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--worker", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    return parser


def _run_all(networks: Sequence[Network], options: argparse.Namespace) -> list[Layer]:
    fingerprint = _fingerprint()
    lock, done = threading.Lock(), 0

    def one(network: Network) -> list[Layer]:
        nonlocal done
        rows = None if options.fresh else _kept(network, fingerprint, options)
        again = rows is not None
        started = time.monotonic()
        if rows is None:
            rows = _in_a_process(network, fingerprint, options)
        errors = [row.error for row in rows if row.error]
        with lock:
            done += 1
            state = f"FAILED ({'; '.join(errors)})" if errors else "ok"
            took = "kept" if again else f"{time.monotonic() - started:.0f} s"
            print(f"[{done}/{len(networks)}] {network.name}: {state}, {took}", file=sys.stderr, flush=True)
        return rows

    with ThreadPoolExecutor(options.jobs) as pool:
        return [row for rows in pool.map(one, networks) for row in rows]


def _in_a_process(network: Network, fingerprint: str, options: argparse.Namespace) -> list[Layer]:
    result = _RESULTS / f"{network.name}.json"
    part = result.with_suffix(".part")
    part.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--only", network.name, "--worker", str(part)]
    command += ["--rounds", str(options.rounds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    reason = "the process ended without a result"
    with (_RESULTS / f"{network.name}.log").open("w") as log:
        try:
            code = subprocess.run(command, stdout=log, stderr=log, timeout=options.timeout, env=environment).returncode
            if code < 0:
                reason = f"the process was ended by signal {-code}"
        except subprocess.TimeoutExpired:
            reason = f"no result within {options.timeout} s"
    if not part.exists():
        positions = (("last", network.last or ""), ("middle", network.middle))
        return [Layer(network.name, network.family, position, layer, error=reason) for position, layer in positions]
    found = json.loads(part.read_text())
    part.unlink()
    kept = {"source": fingerprint, "rounds": options.rounds, "rows": found}
    part.write_text(json.dumps(kept, indent=1))
    part.replace(result)
    return [Layer.from_dict(row) for row in found]


def _work(network: Network, options: argparse.Namespace) -> int:
    """What runs in the process of one architecture."""
    with TemporaryDirectory(prefix="zoo-") as folder:
        rows = measure_network(
            network, Path(folder), rounds=options.rounds, progress=lambda text: print(text, flush=True)
        )
    part = options.worker.with_suffix(".half")
    part.write_text(json.dumps([row.to_dict() for row in rows]))
    part.replace(options.worker)
    return 0


def _kept(network: Network, fingerprint: str, options: argparse.Namespace) -> list[Layer] | None:
    """The result of an earlier run, when it answers the same question and nothing failed in it."""
    try:
        kept = json.loads((_RESULTS / f"{network.name}.json").read_text())
        rows = [Layer.from_dict(row) for row in kept["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fresh = options.any_source or kept["source"] == fingerprint
    return rows if fresh and kept["rounds"] >= options.rounds and not any(row.error for row in rows) else None


def _fingerprint() -> str:
    """Of everything that a result depends on in this repository."""
    digest = hashlib.sha256()
    sources = [*(_ROOT / "export").rglob("*.py"), *Path(__file__).parent.glob("zoo_*.py")]
    sources += [_ROOT / "tests" / "calibrated.py"]
    for path in sorted(sources):
        digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def table(rows: Iterable[Layer]) -> str:
    """The rows as Markdown, one line per layer."""
    lines = [
        "| architecture | family | layer | C x H x W | export s | float64 error | float32 share | differences "
        "| TensorRT | overhead | A/A |",
        "|---|---|---|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    for row in rows:
        shape = "" if row.shape is None else " x ".join(map(str, row.shape))
        start = [row.network, row.family, f"{row.layer} ({row.position})", shape]
        lines.append("| " + " | ".join([*start, *_cells(row)]) + " |")
    failures = [f"- {row.network}, {row.position} layer: {row.error}" for row in rows if row.error]
    return "\n".join([*lines, "", *(["Failed:", "", *failures] if failures else ["No row failed."])])


def _cells(row: Layer) -> list[str]:
    if row.error is not None:
        return ["**failed**", "", "", "", "", "", ""]
    void = "" if row.control is None or 0.98 <= row.control <= 1.02 else " (void)"
    overhead = "" if row.ratio is None else f"{row.ratio:.2f} ± {row.spread:.2f}"
    return [
        _figure(row.seconds, ".0f"),
        _figure(row.float64, ".1e"),
        _figure(row.share, ".2f"),
        _figure(row.differences, ".1e"),
        row.tensorrt or "not tried",
        overhead,
        _figure(row.control, ".3f") + void,
    ]


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _page(text: str, rows: Sequence[Layer]) -> str:
    from overhead import processor

    networks = {row.network for row in rows}
    tools = ", ".join(f"{name} {found}" for name in _VERSIONS if (found := _version(name)))
    return f"""# The zoo: which architectures export, and how exactly

Written by `make zoo`; do not edit. {len(networks)} architectures, {time.strftime("%Y-%m-%d")}, {processor()},
{os.cpu_count()} cores, Python {platform.python_version()}, {tools}.

Weights are random and calibrated on photos, so that every branch counts (`tests/calibrated.py`); inputs are 96 to
224 pixels wide. Every file was written only after its proof held on five photos.

- **float64 error**: the largest error of the gradient in double precision, over its maximum: the exporter's passes
  on the part behind the layer, against PyTorch's autograd (limit 1e-8).
- **float32 share**: the file's gradient in ONNX Runtime against the one in double precision, as a share of what it may
  be off by, which is three times what float32 itself is off by. The median photo; 1 is the limit.
- **differences**: the file's gradient in double precision against finite differences of its scores (limit 1e-4).
- **TensorRT**: what its parser (TensorRT for RTX, without a GPU) says of the file.
- **overhead**: explained over plain inference in ONNX Runtime on one thread, with half the range between the
  quartiles. A/A is plain over plain, and a row in which it leaves 0.98 to 1.02 is void. Inputs are small, so heads
  weigh more here than at full size (docs/results/performance.md).

{text}
"""


def _version(name: str) -> Any:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
