"""One map by one tool in a fresh process, and what that took: CPU time, wall time and peak memory.

python benchmarks/peers_start.py "cfcam, two-stage" mobilenet_v2 FOLDER     # says its peak in MiB
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["first_map", "peak_mib"]


def first_map(tool: str, network: str, folder: Path, rounds: int) -> dict[str, float] | None:
    """Least CPU seconds, wall seconds and peak MiB of `rounds` processes from their start to their end.

    None where the tool does not take the network. Needs a Unix, whose kernel counts for each process.
    """
    command = [sys.executable, __file__, tool, network, str(folder)]
    found: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode == 3:
            return None
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
        wall = time.perf_counter() - started
        found.append((used.ru_utime + used.ru_stime, wall, float(said.split()[-1])))
    cpu, wall, peak = (min(values) for values in zip(*found, strict=True))
    return {"cpu_s": cpu, "wall_s": wall, "peak_mib": peak}


def peak_mib() -> float:
    """Of this process. What `getrusage` says counts the parent's memory too, from between fork and exec."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> int:
    """Make the map, and say how much memory that took."""
    from peers_tools import TOOLS, NotFor

    tool, network, folder = sys.argv[1:]
    try:
        TOOLS[tool](network, Path(folder))()
    except NotFor:
        return 3
    print(peak_mib())
    return 0


if __name__ == "__main__":
    sys.exit(main())
