"""Session workarounds: what ONNX Runtime has to be told about some files lest it run them wrongly."""

from __future__ import annotations

import logging
from pathlib import Path

from ...contract.modelfile import has_float16_scales

__all__ = ["session_workarounds"]

_log = logging.getLogger(__name__)


def session_workarounds(path: Path) -> dict[str, str]:
    """Session entries that the file at `path` needs, whoever wrote it.

    INT8 with float16 around it: what fuses QuantizeLinear / DequantizeLinear pairs into integer kernels (1.32, on
    the CPU) takes their float16 scales for float32 ones, and gives other classes. They have to run as they stand.

    Args:
        path: An ONNX file.

    Returns:
        Session configuration entries by ONNX Runtime's own names; empty for most files.
    """
    if not has_float16_scales(path):
        return {}
    _log.info("%s: has float16 scales, so its QuantizeLinear / DequantizeLinear pairs are not fused", path)
    return {"session.disable_quant_qdq": "1"}
