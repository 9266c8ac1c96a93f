"""A file with a fixed target as it is written, against its view, which is told the class.

All other checks are of the view, for any class. What is left to show is that the file itself takes the image alone,
explains the class that it says, gives out what the view gives out for that class, and has no other types than those
that its hosts know.
"""

from __future__ import annotations

import numpy as np

from ...runtime.contract.spec import CamSpec
from .exported_file import ExportedFile
from .results import Check, image_errors
from .session import Session

__all__ = ["fixed_target"]

_SIMPLE = "added outputs that are neither float32 nor int32, or have no size"
#: Types of what the exporter adds.
_TYPES = ("float32", "int32")
#: Between two graphs that ONNX Runtime puts together in other groups.
_LIMIT, _COARSE = 1e-5, 2e-3


def fixed_target(file: ExportedFile, spec: CamSpec) -> list[Check]:
    """The checks. spec: what the file says."""
    fixed = spec.fixed_target
    assert fixed is not None
    session = Session(str(file.path))
    others = [name for name in session.inputs if name != spec.input.name]
    if others:
        return [Check(f"inputs beside the image ({', '.join(others)})", len(others), 0)]
    found = session.run_in_batches({spec.input.name: file.images}, file.batch or len(file.images))
    asked = np.full(len(file.images), fixed.index, np.int64)
    feeds = {spec.input.name: file.images, spec.target: asked}
    seen = file.session.run_in_batches(feeds, file.batch or len(file.images))
    added = {name: np.asarray(found[name]) for name in spec.added_outputs}
    strange = [
        f"{name} {value.dtype.name} {value.shape}"
        for name, value in added.items()
        if value.dtype.name not in _TYPES or value.ndim < 2
    ]
    wrong = sum(int((value != seen[name]).sum()) for name, value in added.items() if value.dtype.kind != "f")
    checks = [
        Check(_SIMPLE, len(strange), 0, note=", ".join(strange)),
        Check("classes, counts and flags of the file that are not its view's", wrong, 0),
    ]
    limit = _COARSE if file.coarse or file.coarse_before or spec.fused is not None else _LIMIT
    for name, value in added.items():
        if value.dtype.kind == "f":
            error = float(np.median(image_errors(value, np.asarray(seen[name]))))
            checks.append(Check(f"'{name}' of the file against its view's (median image)", error, limit))
    return checks
