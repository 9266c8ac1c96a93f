"""What may be asked of TensorRT's builder."""

from __future__ import annotations

from typing import Any

import pytest
from cfcam.runtime.engines.tensorrt.options import BuilderOptions
from cfcam.runtime.errors import EngineError


@pytest.mark.parametrize(
    "asked", [{"version_compatible": True}, {"hardware_compatibility": "ampere_plus"}, {"dla": True}]
)
def test_what_only_tensorrt_has(asked: dict[str, Any]) -> None:
    options = BuilderOptions(**asked)
    options.check("tensorrt")
    with pytest.raises(EngineError, match=rf"builder\.{next(iter(asked))}: tensorrt_rtx does not have it"):
        options.check("tensorrt_rtx")
