"""`EngineOptions`: how a model is to be run, as it stands in a configuration or a manifest."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ..checks import expect
from ..contract.records import Format, dump
from ..errors import EngineError
from ..shown import shown, shown_value

__all__ = ["PROVIDERS", "EngineOptions", "full_name", "short_name"]

#: Short name -> ONNX Runtime's execution provider. Those full names are accepted too.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rtx": "NvTensorRTRTXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}

_FORMAT = Format("engine options", EngineError)

#: No machine has more: a slip of the keyboard, which would otherwise end the process inside the backend.
_MOST_THREADS = 4096
_MOST_DEVICES = 1023


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How to run a model.

    Attributes:
        provider: A key of `PROVIDERS`, for ONNX Runtime; a TensorRT engine runs on nothing else.
        allow_fallback: Take the CPU when the provider cannot start.
        threads: For the operators on the CPU; None leaves it to the backend.
        device_id: Which GPU.
        io_binding: Keep inputs and outputs in buffers of the engine's own; None: if a CUDA graph needs it.
        graph_optimization: How far ONNX Runtime rewrites the graph.
        session: Further entries by ONNX Runtime's own names; numbers and booleans are written as text.
        provider_options: Likewise, for the provider.
        cache: Folder in which a provider that compiles keeps what it compiled (``tensorrt``: engines and timings;
            ``rtx`` and TensorRT for RTX engines: kernels).
        cuda_graph: Record the GPU's work once and replay it, for shapes that come again.

    Raises:
        EngineError: A value is out of range.

    >>> EngineOptions(provider="tensorrt", cache="engines", session={"session.intra_op.allow_spinning": 0})
    ... # doctest: +SKIP
    """

    provider: str = "cpu"
    allow_fallback: bool = False
    threads: int | None = None
    device_id: int = 0
    io_binding: bool | None = None
    graph_optimization: Literal["none", "basic", "extended", "all"] = "all"
    session: dict[str, Any] = field(default_factory=dict)
    provider_options: dict[str, Any] = field(default_factory=dict)
    cache: str | None = None
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.cache, os.PathLike):
            object.__setattr__(self, "cache", os.fspath(self.cache))
        _FORMAT.check_types(self)
        full_name(self.provider)
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise EngineError(f"threads: expected 1 to {_MOST_THREADS}, got {self.threads}")
        if not 0 <= self.device_id <= _MOST_DEVICES:
            raise EngineError(f"device_id: expected 0 to {_MOST_DEVICES}, got {self.device_id}")
        for name in ("session", "provider_options"):
            entries = {str(key): _text(f"{name}.{key}", value) for key, value in getattr(self, name).items()}
            object.__setattr__(self, name, entries)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EngineOptions:
        """Of a mapping, as JSON or YAML gives it; an unknown key is an error that names the nearest one."""
        expect("engine options", "data", data, Mapping, error=EngineError)
        known = [f.name for f in fields(cls)]
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(known)}"
                raise EngineError(f"engine options: unknown key '{shown(str(key))}': {hint}")
        return _FORMAT.load(cls, dict(data))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dump(self)

    def but(self, **changes: Any) -> EngineOptions:
        """A copy with other values.

        Args:
            **changes: New values by name; None leaves a value as it is.

        Returns:
            The copy.
        """
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def on(self, provider: str) -> EngineOptions:
        """The same for another provider.

        Args:
            provider: A key of `PROVIDERS`.

        Returns:
            A copy without what was meant for the provider before; the same object if it is no other.
        """
        if full_name(provider) == full_name(self.provider):
            return self
        return replace(self, provider=provider, provider_options={}, io_binding=None, cache=None, cuda_graph=False)


def full_name(provider: str) -> str:
    """ONNX Runtime's name of `provider`. Raises `EngineError` for an unknown short name."""
    full = PROVIDERS.get(provider.lower(), provider)
    if full not in PROVIDERS.values() and not full.endswith("ExecutionProvider"):
        raise EngineError(f"unknown provider '{provider}': expected one of {', '.join(PROVIDERS)}")
    return full


def short_name(provider: str) -> str:
    """The key in `PROVIDERS` of ONNX Runtime's name, or that name."""
    return next((short for short, full in PROVIDERS.items() if full == provider), provider)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise EngineError(f"engine options {name}: expected text, a number or a boolean, got {shown_value(value)}")
