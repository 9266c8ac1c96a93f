"""Names of before, of modules and of what is in them: the old ones work for one more release, and say so.

Delete this module then, with what imports it and its test.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["old_names"]

#: Modules that the documentation had named -> their new places.
_MOVED = {
    "cfcam.runtime.adopting": "cfcam.runtime.engines.tensorrt.adopting",
    "cfcam.runtime.bench.subject": "cfcam.runtime.bench.timed_file",
    "cfcam.runtime.cuda": "cfcam.runtime.engines.tensorrt.cuda",
    "cfcam.runtime.drawing": "cfcam.runtime.photos.drawing",
    "cfcam.runtime.engine": "cfcam.runtime.engines.base",
    "cfcam.runtime.engine_options": "cfcam.runtime.engines.options",
    "cfcam.runtime.frame": "cfcam.runtime.photos.frame",
    "cfcam.runtime.images": "cfcam.runtime.photos.images",
    "cfcam.runtime.manifest": "cfcam.runtime.contract.manifest",
    "cfcam.runtime.modelfile": "cfcam.runtime.contract.modelfile",
    "cfcam.runtime.onnxruntime_binding": "cfcam.runtime.engines.onnxruntime.binding",
    "cfcam.runtime.onnxruntime_engine": "cfcam.runtime.engines.onnxruntime.engine",
    "cfcam.runtime.onnxruntime_options": "cfcam.runtime.engines.onnxruntime.options",
    "cfcam.runtime.preprocess": "cfcam.runtime.photos.preprocess",
    "cfcam.runtime.records": "cfcam.runtime.contract.records",
    "cfcam.runtime.spec": "cfcam.runtime.contract.spec",
    "cfcam.runtime.tensorrt_build": "cfcam.runtime.engines.tensorrt.build",
    "cfcam.runtime.tensorrt_contexts": "cfcam.runtime.engines.tensorrt.contexts",
    "cfcam.runtime.tensorrt_engine": "cfcam.runtime.engines.tensorrt.engine",
    "cfcam.runtime.tensorrt_flavours": "cfcam.runtime.engines.tensorrt.packages",
    "cfcam.runtime.tensorrt_io": "cfcam.runtime.engines.tensorrt.io",
    "cfcam.runtime.tensorrt_progress": "cfcam.runtime.engines.tensorrt.progress",
    "cfcam.export.proof_images": "cfcam.export.proof.images",
    "cfcam.export.repeated_weights": "cfcam.calibration.repeated_weights",
    "cfcam.export.tensorrt_table": "cfcam.calibration.tensorrt_table",
    "cfcam.calibration.building": "cfcam.calibration.build",
}


class _OldPlaces:  # a finder and a loader by what it can: importing their base classes takes 20 ms
    """Gives the module in the new place for an old one, a moved package's own modules included."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if _new_place(fullname) else None  # pyright: ignore[reportArgumentType]

    def create_module(self, spec: ModuleSpec) -> None:
        """As any other module is made."""

    def exec_module(self, module: ModuleType) -> None:
        new = importlib.import_module(_new_place(module.__name__))
        warnings.warn(
            f"{module.__name__} has moved: import {new.__name__}; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        sys.modules[module.__name__] = new  # Python hands out what it finds here


# First among Python's finders: a moved package's own finder would load its modules a second time.
sys.meta_path.insert(0, _OldPlaces())


def old_names(module: str, new: Mapping[str, Any]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that still knows its old names.

    Args:
        module: Its ``__name__``.
        new: Old name -> what it is now.

    Returns:
        A function that gives the object for an old name, with a `DeprecationWarning`, and raises `AttributeError` for
        any other.
    """

    def find(name: str) -> Any:
        if name not in new:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        renamed = getattr(new[name], "__name__", name)
        warnings.warn(f"{module}.{name} is now called {renamed}", DeprecationWarning, stacklevel=2)
        return new[name]

    return find


def _new_place(old: str) -> str:
    for place, new in _MOVED.items():
        if old == place or old.startswith(place + "."):
            return new + old[len(place) :]
    return ""
