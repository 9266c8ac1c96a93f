"""Old places of modules that moved and that the documentation had named: importing one warns, and gives its new place.

They are kept for one release. Delete this module, its calls in `cfcam.runtime` and `cfcam.export`, and its test then.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["answer_old_names"]

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
#: What is called something else in its new place.
_RENAMED = {"cfcam.runtime.bench.subject": {"Subject": "TimedFile"}}


class _OldPlaces(MetaPathFinder, Loader):
    """Stands last among Python's finders, so that it is asked only for what nobody else has."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if _new_place(fullname) else None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        new = importlib.import_module(_new_place(old))
        warnings.warn(
            f"{old} has moved: import {new.__name__}; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        renamed = _RENAMED.get(old, {})
        module.__path__ = []  # so that submodules of a package that moved are looked for here
        module.__doc__ = new.__doc__

        def attribute(name: str) -> Any:
            return getattr(new, name if hasattr(new, name) else renamed.get(name, name))

        module.__dict__["__getattr__"] = attribute


def answer_old_names() -> None:
    """Make the old places importable in this process; once is enough, more often does no harm."""
    if not any(isinstance(finder, _OldPlaces) for finder in sys.meta_path):
        sys.meta_path.append(_OldPlaces())


def _new_place(old: str) -> str:
    for place, new in _MOVED.items():
        if old == place or old.startswith(place + "."):
            return new + old[len(place) :]
    return ""
