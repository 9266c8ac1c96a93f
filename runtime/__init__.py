"""Explaining images with exported models: numpy, Pillow and an engine; no torch, no onnx.

>>> from cfcam.runtime import Explainer                                 # doctest: +SKIP
>>> with Explainer("dogs.cam.onnx") as explainer:                       # doctest: +SKIP
...     explanation = explainer.explain("two_dogs.jpg", target="Boston bull")
>>> explanation.save("why.png")                                         # doctest: +SKIP

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from . import moved  # noqa: F401 - answers for modules that moved

if TYPE_CHECKING:
    from .cam import cam_map
    from .contract.manifest import Manifest
    from .contract.modelfile import ModelInfo, file_sha256, read_model_info, read_spec
    from .contract.spec import CamSpec
    from .engines.base import Engine, EngineInfo
    from .engines.opening import open_engine
    from .engines.options import EngineOptions
    from .errors import (
        ArrayError,
        CfcamError,
        EngineError,
        ImageError,
        ManifestError,
        MethodError,
        MissingDependencyError,
        ModelFileError,
        OutputError,
        PhotoWarning,
        SpecError,
        TargetError,
    )
    from .explainer import Explainer
    from .explanation import Explanation
    from .inference import Tensors
    from .methods.base import CamResult
    from .methods.probing import Probing
    from .methods.registry import method_names, register_probe, register_rule
    from .photos.frame import Frame
    from .photos.images import find_images, open_image
    from .sess import Sess
    from .smoothing import Smoothing

    __version__: str

# Nothing is said unless the program that imports this asks for it.
logging.getLogger("cfcam").addHandler(logging.NullHandler())

__all__ = [
    "ArrayError",
    "CamResult",
    "CamSpec",
    "CfcamError",
    "Engine",
    "EngineError",
    "EngineInfo",
    "EngineOptions",
    "Explainer",
    "Explanation",
    "Frame",
    "ImageError",
    "Manifest",
    "ManifestError",
    "MethodError",
    "MissingDependencyError",
    "ModelFileError",
    "ModelInfo",
    "OutputError",
    "PhotoWarning",
    "Probing",
    "Sess",
    "Smoothing",
    "SpecError",
    "TargetError",
    "Tensors",
    "__version__",
    "cam_map",
    "file_sha256",
    "find_images",
    "method_names",
    "open_engine",
    "open_image",
    "read_model_info",
    "read_spec",
    "register_probe",
    "register_rule",
]

_MODULES = {
    "cam": ["cam_map"],
    "engines.base": ["Engine", "EngineInfo"],
    "engines.opening": ["open_engine"],
    "engines.options": ["EngineOptions"],
    "errors": [name for name in __all__ if name.endswith(("Error", "Warning"))],
    "explainer": ["Explainer"],
    "explanation": ["Explanation"],
    "photos.frame": ["Frame"],
    "photos.images": ["find_images", "open_image"],
    "inference": ["Tensors"],
    "contract.manifest": ["Manifest"],
    "methods.base": ["CamResult"],
    "methods.probing": ["Probing"],
    "methods.registry": ["method_names", "register_probe", "register_rule"],
    "contract.modelfile": ["ModelInfo", "file_sha256", "read_model_info", "read_spec"],
    "sess": ["Sess"],
    "smoothing": ["Smoothing"],
    "contract.spec": ["CamSpec"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cfcam")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
