"""Reading and writing models, and handing them to ONNX's helpers without their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cfcam.export.graph import (
    load_model,
    loading,
    normalise,
    save_model,
    tensor_bytes,
    without_weights,
)
from cfcam.runtime.errors import ModelFileError, OutputError
from onnx import ModelProto, TensorProto, numpy_helper
from small_graphs import linear


def test_save_and_load(tmp_path: Path) -> None:
    model = linear()
    save_model(model, tmp_path / "sub" / "a.onnx")
    assert load_model(tmp_path / "sub" / "a.onnx") == model
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["a.onnx"]


def test_large_models_get_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "INLINE_LIMIT", 1000)
    model = linear()
    save_model(model, tmp_path / "big.onnx")
    assert (tmp_path / "big.onnx").stat().st_size < 1000
    assert (tmp_path / "big.onnx.data").stat().st_size == 4800
    loaded = load_model(tmp_path / "big.onnx")
    np.testing.assert_array_equal(
        numpy_helper.to_array(loaded.graph.initializer[0]), numpy_helper.to_array(model.graph.initializer[0])
    )


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09\x12"])
def test_unreadable_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"x\.onnx: not "):
        load_model(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.onnx: no such file"):
        load_model(tmp_path / "none.onnx")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4800)
    folder = tmp_path / "model"
    folder.mkdir()
    model = linear()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (folder / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"x\.onnx: not a readable"):
        load_model(folder / "x.onnx")


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_model(linear(), tmp_path / "file" / "x.onnx")


def test_truncated_files_never_crash(tmp_path: Path) -> None:
    data = linear().SerializeToString()
    path = tmp_path / "x.onnx"
    for length in range(0, len(data) - 1, 97):
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            normalise(load_model(path))


def test_helpers_do_not_see_large_weights() -> None:
    seen: list[ModelProto] = []

    def look(slim: ModelProto) -> ModelProto:
        seen.append(slim)
        return slim

    result = without_weights(linear(), look)
    assert tensor_bytes(result.graph.initializer[0]) == 4800
    assert [i.name for i in result.graph.input] == ["x"]
    assert len(seen) == 1
