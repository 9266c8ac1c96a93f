"""`BuilderOptions`: what TensorRT's builder is told, as it stands in a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import EngineError

__all__ = ["BuilderOptions"]


@dataclass(frozen=True, kw_only=True)
class BuilderOptions:
    """How an engine is to be built.

    Args:
        optimization_level: 0 to 5, how long TensorRT looks for fast kernels.
        workspace_mb: Scratch memory that it may use, MiB; None leaves it to TensorRT.
        version_compatible: The engine runs in later versions too, a little slower (`tensorrt` only).
        hardware_compatibility: ``ampere_plus``: it runs on all GPUs from compute capability 8.0 on, slower;
            ``same_compute_capability``: on all GPUs of the builder's. Not on Jetson and DRIVE (`tensorrt` only).
        refittable: Its weights can be exchanged later.
        sparsity: Use sparse kernels where weights have two zeros among four.
        tactic_sources: Where kernels may come from; None leaves it to TensorRT, which disables those of other
            libraries since version 10.
        detailed_profiling: Profilers and the engine inspector see each layer's parameters, not its name alone.
        dla: Run on a deep learning accelerator what it takes, the rest on the GPU (`tensorrt` on Orin only).
    """

    optimization_level: int = 3
    workspace_mb: int | None = None
    version_compatible: bool = False
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    refittable: bool = False
    sparsity: bool = False
    tactic_sources: (
        tuple[Literal["edge_mask_convolutions", "jit_convolutions", "cublas", "cublas_lt", "cudnn"], ...] | None
    ) = None
    detailed_profiling: bool = False
    dla: bool = False

    def check(self, package: str) -> None:
        """Raise `EngineError` for what the TensorRT package of that name does not have."""
        for name in ("version_compatible", "hardware_compatibility", "dla"):
            if package == "tensorrt_rtx" and getattr(self, name) not in (False, "none"):
                raise EngineError(f"builder.{name}: {package} does not have it: leave it out, or take tensorrt")
