"""What an export costs: seconds, and peak memory above that after imports, as multiples of the model.

Every export runs in a process of its own, proof included; the peak is the kernel's (VmHWM, Linux).
Limits: ResNet-50 in 10 s and 3 times the model from ONNX, in 40 s and 6 times from PyTorch.
Exit code 1 when one is missed.

    python benchmarks/export_cost.py
    python benchmarks/export_cost.py mobilenet_v2 --sources onnx
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: Source -> most seconds, most memory in multiples of the model. Of ResNet-50.
LIMITS = {"onnx": (10.0, 3.0), "torch": (40.0, 6.0)}


def memory(which: str) -> int:
    """Bytes: ``VmRSS`` now, ``VmHWM`` at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


def forget_the_peak() -> None:
    """Let VmHWM start from here."""
    from cfcam.export.proof.session import release_memory

    release_memory()
    Path("/proc/self/clear_refs").write_text("5")


def export_one(source: str, network: str, folder: Path) -> dict[str, Any]:
    """Export in this process; what `main` prints of it. The model is in `folder` already.

    A tiny model goes first: much is imported only when the first export needs it.
    """
    output = folder / "explained.cam.onnx"
    if source == "onnx":
        from cfcam.export import export_onnx

        export_onnx(folder / "tiny.onnx", output)
        forget_the_peak()
        before, started = memory("VmRSS"), time.perf_counter()
        report = export_onnx(folder / "plain.onnx", output)
    else:
        import torch
        from cfcam.export import export_torch
        from overhead import NETWORKS, SIZE

        export_torch(tiny(), 32, output)
        with torch.device("meta"):  # the weights' memory belongs to what is counted
            module = NETWORKS[network][0]().eval()
        forget_the_peak()
        before, started = memory("VmRSS"), time.perf_counter()
        module.load_state_dict(torch.load(folder / "weights.pt", weights_only=True, mmap=True), assign=True)
        report = export_torch(module, SIZE, output)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "memory": memory("VmHWM") - before, "stages": report.seconds}


def tiny() -> Any:
    """A classifier with two convolutions."""
    from torch import nn

    layers = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()


def prepare(network: str, folder: Path) -> int:
    """Write the model into `folder` in both forms; returns the bytes of its weights."""
    import torch
    from cfcam.export import export_torch
    from overhead import SIZE, build

    module = build(network)
    torch.save(module.state_dict(), folder / "weights.pt")
    export_torch(module, SIZE, folder / "first.cam.onnx", keep_plain=folder / "plain.onnx")
    export_torch(tiny(), 32, folder / "first.cam.onnx", keep_plain=folder / "tiny.onnx")
    return sum(t.numel() * t.element_size() for t in module.state_dict().values())


def in_a_process(*arguments: str) -> dict[str, Any]:
    """What this script prints when it runs with `arguments`."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["resnet50"], metavar="NETWORK")
    parser.add_argument("--sources", default="onnx,torch")
    parser.add_argument("--inside", nargs=2, metavar=("JOB", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        job, folder = arguments.inside
        (network,) = arguments.networks
        found = (
            {"bytes": prepare(network, Path(folder))} if job == "prepare" else export_one(job, network, Path(folder))
        )
        print(json.dumps(found))
        return 0
    from overhead import processor  # not above: the export from ONNX runs without PyTorch

    print(f"{processor()}, {os.cpu_count()} cores; `python benchmarks/export_cost.py`, {time.strftime('%Y-%m-%d')}\n")
    print("| network | from | model MB | seconds | memory / model | slowest passes |")
    print("|---|---|---|---|---|---|")
    missed = 0
    for network in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            size = in_a_process(network, "--inside", "prepare", folder)["bytes"]
            for source in arguments.sources.split(","):
                found = in_a_process(network, "--inside", source, folder)
                most_seconds, most_memory = LIMITS[source]
                ratio = found["memory"] / size
                over = [found["seconds"] > most_seconds, ratio > most_memory]
                missed += sum(over) if network == "resnet50" else 0
                passes = sorted(found["stages"].items(), key=lambda item: -item[1])[:3]
                print(
                    f"| {network} | {source} | {size / 1e6:.0f} | {found['seconds']:.1f}{' missed' * over[0]} | "
                    f"{ratio:.2f}{' missed' * over[1]} | {', '.join(f'{n} {s:.1f}' for n, s in passes)} |",
                    flush=True,
                )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
