"""A few hundred damaged models: each is refused with a sentence, or the damage was harmless."""

from __future__ import annotations

import collections
import random
from pathlib import Path

import pytest
from onnx import ModelProto
from onnx_fuzz import damaged_bytes, damaged_graphs, try_all
from onnx_nets import (
    classifier,
    deep_head,
    gated_head,
    keras_classifier,
    quantised_classifier,
    restart,
    token_classifier,
)

SOURCES = {
    "convolutions": lambda: classifier(gated_head),
    "two linear layers, opset 11": lambda: classifier(deep_head, opset=11),
    "tokens": token_classifier,
    "quantised": quantised_classifier,
    "channels last": lambda: keras_classifier(optimised=False),
}


def _write(folder: Path, source: ModelProto, seed: int) -> int:
    """Damaged copies in ``folder/models``, and beside it what they must not reach."""
    models = folder / "models"
    models.mkdir()
    (models / "sub").mkdir()
    (folder / "out").mkdir()
    (models / "data.bin").write_bytes(bytes(40000))
    (folder / "secret.bin").write_bytes(bytes(40000))
    (models / "link.bin").symlink_to(folder / "secret.bin")
    rng = random.Random(seed)
    damaged = [*damaged_bytes(source.SerializeToString(), rng, 36), *damaged_graphs(source, rng, 74)]
    for name, data in damaged:
        (models / f"{name}.onnx").write_bytes(data)
    return len(damaged)


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("name", SOURCES)
def test_damaged_models(name: str, seed: int, tmp_path: Path, summary_line) -> None:
    restart()
    count = _write(tmp_path, SOURCES[name](), seed)
    before = sorted(p.name for p in (tmp_path / "models").iterdir())
    results = try_all(tmp_path / "models")
    kinds = collections.Counter(r["kind"] for r in results)
    summary_line(f"damaged models ({name}): {count} tried, {dict(kinds)}")
    odd = [r for r in results if r["kind"] not in ("refused", "done", "exported", "done, source does not run")]
    assert not odd
    assert len(results) == count
    # A sentence: one line, not the bare complaint of a library.
    assert all(0 < len(r["message"]) < 1500 and "\n" not in r["message"] for r in results if r["kind"] == "refused")
    # What lies outside of the folder was not taken for a weight.
    elsewhere = [r for r in results if r["name"].startswith("external_elsewhere")]
    assert len(elsewhere) >= 2
    assert {r["kind"] for r in elsewhere} == {"refused"}
    # The file itself is not bad, and nothing was written.
    assert kinds["refused"] > count // 2
    assert kinds["done"] >= 2
    assert list((tmp_path / "out").iterdir()) == []
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == before
