"""`EngineOptions`: what is taken, and there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cfcam.runtime.engines.options import EngineOptions
from cfcam.runtime.errors import EngineError


def test_there_and_back() -> None:
    options = EngineOptions(
        provider="rtx", threads=2, session={"a": False, "b": 3}, provider_options={"c": True}, cache="x"
    )
    assert (options.session, options.provider_options) == ({"a": "0", "b": "3"}, {"c": "1"})
    assert EngineOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options
    assert options.but(provider="cpu", threads=None, allow_fallback=False).provider == "cpu"
    assert options.but(threads=None).threads == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"providr": "cpu"}, r"unknown key 'providr': did you mean 'provider'\?"),
        ({"zzz": 1}, "unknown key 'zzz': expected one of provider, allow_fallback, threads"),
        ({"provider": "gpu"}, "unknown provider 'gpu': expected one of cpu, cuda"),
        ({"threads": 0}, "threads: expected 1 to 4096, got 0"),
        ({"threads": "two"}, "engine options threads: expected int, got 'two'"),
        ({"device_id": -1}, "device_id: expected 0 to 1023"),
        ({"cuda_graph": 1}, "cuda_graph: expected bool, got 1"),
        ({"graph_optimization": "most"}, "graph_optimization: expected one of 'none', 'basic'"),
        ({"session": {"a": None}}, r"session\.a: expected text, a number or a boolean, got None"),
        ({"session": "a"}, "session: expected an object"),
    ],
)
def test_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        EngineOptions.from_dict(data)
