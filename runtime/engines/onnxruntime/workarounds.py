"""Session workarounds: what ONNX Runtime has to be told about some files lest it run them wrongly."""

from __future__ import annotations

import functools
import logging
import platform
from pathlib import Path

from ...contract.modelfile import has_float16_scales

__all__ = ["processor_workarounds", "session_workarounds"]

_log = logging.getLogger(__name__)

#: QuantizeLinear / DequantizeLinear pairs run as they stand, in place of integer kernels.
_UNFUSED = {"session.disable_quant_qdq": "1"}
_CPUINFO = Path("/proc/cpuinfo")
#: With one of these an x86 processor adds products of uint8 and int8 in 32 bits.
_EXACT_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}


@functools.cache
def _saturates() -> bool:
    """Whether sums of uint8 times int8 saturate on this processor; False where nothing says so."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return bool(flags) and not flags & _EXACT_INT8


def processor_workarounds() -> dict[str, str]:
    """Session entries that any file with quantisers needs on this processor.

    ONNX Runtime's integer kernels on x86 without VNNI add products of uint8 and int8 in pairs that saturate at 16
    bits: the same file gives another map there than everywhere else. As they stand the pairs are right, and somewhat
    slower than float32. (`session.x64quantprecision`, which is meant for this, fails where two operators share a
    weight, as they do in every exported file; 1.32.)

    Returns:
        Session configuration entries by ONNX Runtime's own names; they change nothing in files without quantisers.
    """
    return dict(_UNFUSED) if _saturates() else {}


def session_workarounds(path: Path) -> dict[str, str]:
    """Session entries that the file at `path` needs, whoever wrote it.

    INT8 with float16 around it: what fuses QuantizeLinear / DequantizeLinear pairs into integer kernels (1.32, on
    the CPU) takes their float16 scales for float32 ones, and gives other classes. They have to run as they stand.

    Args:
        path: An ONNX file.

    Returns:
        Session configuration entries by ONNX Runtime's own names: those of the processor for most files.
    """
    if not has_float16_scales(path):
        return processor_workarounds()
    _log.info("%s: has float16 scales, so its QuantizeLinear / DequantizeLinear pairs are not fused", path)
    return dict(_UNFUSED)
