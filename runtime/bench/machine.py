"""What a measurement was taken on: without it a time means nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["BUSY", "describe_machine", "load", "versions"]

#: Share of the cores that others keep busy from which times are not to be trusted.
BUSY = 0.3

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_ON_GPU = {"cuda", "tensorrt", "tensorrt_rtx", "rtx"}
#: As in ``nvidia-smi --help-query-gpu``: MHz, watts, degrees Celsius, MiB.
_GPU_FIELDS = {
    "name": "name",
    "driver": "driver_version",
    "clock_mhz": "clocks.sm",
    "max_clock_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem",
    "power_limit_w": "power.limit",
    "temperature_c": "temperature.gpu",
    "memory_used_mib": "memory.used",
}


def describe_machine(provider: str) -> dict[str, Any]:
    """Processor, cores, clocks, memory, system; GPUs where `provider` runs on one. None is what cannot be read."""
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "board": _text(Path("/proc/device-tree/model")),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "governor": _text(_CPU / "scaling_governor"),
        "clock_mhz": _number(_text(_CPU / "scaling_cur_freq"), 1000) or _number(_cpuinfo("cpu MHz")),
        "max_clock_mhz": _number(_text(_CPU / "cpuinfo_max_freq"), 1000),  # kHz, both files
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "gpus": _gpus() if provider in _ON_GPU else None,
    }


def load() -> float | None:
    """Processes that were running or waiting over the last minute, on average."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):  # Windows
        return None


def versions(backend: str) -> dict[str, str]:
    """Of everything that takes part. backend: what the engine says of itself."""
    found = {"backend": backend, "python": platform.python_version()}
    for name in ("cfcam", "numpy", "scipy", "scikit-learn", "Pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _cpuinfo(key: str) -> str | None:
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _number(text: str | None, unit: float = 1) -> float | None:
    return None if text is None else float(text) / unit


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _gpus() -> list[dict[str, str]] | None:
    """What ``nvidia-smi`` says; None where there is no such program (as on older Jetsons), or it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, f"--query-gpu={','.join(_GPU_FIELDS.values())}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return [dict(zip(_GPU_FIELDS, map(str.strip, line.split(",")), strict=False)) for line in text.splitlines() if line]


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip(" \n\0") or None
    except OSError:
        return None
