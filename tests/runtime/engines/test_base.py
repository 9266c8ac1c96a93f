"""What a backend has to be."""

from __future__ import annotations

import pytest
from cfcam.runtime import open_engine
from cfcam.runtime.engines.base import Engine, EngineInfo


def test_a_batch_of_any_size_is_the_default():
    info = EngineInfo("library 1.0", "cpu", ("x",), ("y",))
    assert (info.batch, info.min_batch, info.max_batch) == (None, 1, None)


def test_a_backend_has_what_the_protocol_asks_for_and_is_closed_by_with(tiny_path):
    asked = {name for name in vars(Engine) if not name.startswith("_")} | {"__enter__", "__exit__"}
    assert asked >= {"describe", "infer", "close"}
    with open_engine(tiny_path("logits"), threads=1) as engine:
        assert all(callable(getattr(engine, name)) for name in asked)
        assert engine.describe().provider == "cpu"
    with pytest.raises(Exception, match="closed"):
        engine.infer({})
