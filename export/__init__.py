"""A classifier in, one self-describing ONNX file with its gradients inside out.

Names are loaded on first use: `export_torch` imports PyTorch, the rest does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..runtime import moved  # noqa: F401 - answers for modules that moved

if TYPE_CHECKING:
    from .errors import ExportError, LayerError, ProofError, UnsupportedOperatorError
    from .onnx_export import export_onnx
    from .proof.results import Check, Proof
    from .report import ExportReport
    from .sources.preprocessing import Preprocessing, preset
    from .torch_export import export_torch

__all__ = [
    "Check",
    "ExportError",
    "ExportReport",
    "LayerError",
    "Preprocessing",
    "Proof",
    "ProofError",
    "UnsupportedOperatorError",
    "export_onnx",
    "export_torch",
    "preset",
]

_WHERE = {
    "Check": "proof.results",
    "ExportError": "errors",
    "ExportReport": "report",
    "LayerError": "errors",
    "Preprocessing": "sources.preprocessing",
    "Proof": "proof.results",
    "ProofError": "errors",
    "UnsupportedOperatorError": "errors",
    "export_onnx": "onnx_export",
    "export_torch": "torch_export",
    "preset": "sources.preprocessing",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    except ModuleNotFoundError as error:
        extras = {"torch": "export", "onnxscript": "export", "onnx": "onnx"}
        missing = (error.name or "").split(".")[0]
        if missing not in extras:
            raise
        from ..runtime.errors import MissingDependencyError

        raise MissingDependencyError(
            f"{name} needs {missing}: install cfcam[{extras[missing]}], with cfcam[cpu] or cfcam[gpu] for its proofs"
        ) from error


def __dir__() -> list[str]:
    return __all__
