"""What ONNX Runtime has to be told about some files lest it run them wrongly."""

from __future__ import annotations

from pathlib import Path

from ...contract.modelfile import read_spec
from ...contract.spec import INT8_IN_HALF
from ...errors import CfcamError

__all__ = ["quirks"]


def quirks(path: Path) -> dict[str, str]:
    """Session entries for the file at `path`; nothing for a file that says nothing of itself.

    INT8 with float16 around it: what fuses QuantizeLinear / DequantizeLinear pairs into integer kernels (1.32, on
    the CPU) takes their float16 scales for float32 ones, and gives other classes. They have to run as they stand.
    """
    try:
        precision = read_spec(path).precision
    except CfcamError:
        return {}
    return {"session.disable_quant_qdq": "1"} if precision == INT8_IN_HALF else {}
