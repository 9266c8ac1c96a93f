"""Whether NVIDIA's driver sees a GPU, asked with nothing but the standard library.

Run as a program it prints the reason and exits with 1 where there is none: `make gpu` asks before it installs anything.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["why_no_gpu"]


def why_no_gpu() -> str | None:
    """None where there is a GPU."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return f"NVIDIA's driver is not installed ({library} is missing)"
    count = ctypes.c_int()
    if status := cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return f"NVIDIA's driver cannot start (CUDA error {status})"
    return None if count.value else "NVIDIA's driver sees no GPU"


if __name__ == "__main__":
    reason = why_no_gpu()
    if reason is not None:
        print(reason)
    sys.exit(reason is not None)
