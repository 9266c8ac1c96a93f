"""Writing exported files: the same bytes of a model, its spec, all files or none."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import numpy as np
import onnx
import onnx_classifiers
import onnxruntime as ort
import pytest
import torch
from cfcam.export import export_onnx, writing
from cfcam.export.graph import loading
from cfcam.export.writing import set_spec, spec_of, staging_folder, state_dict_sha256, tool_versions, write_model
from cfcam.runtime.errors import OutputError
from onnx import ModelProto
from onnx_classifiers import exported


def saved(folder: Path, model: ModelProto) -> Path:
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_a_spec_takes_the_place_of_an_older_one_and_of_nothing_else() -> None:
    model, spec = exported(onnx_classifiers.plain())
    assert spec_of(model) is None
    model.metadata_props.add(key="author", value="somebody")
    set_spec(model, spec)
    set_spec(model, spec.with_method("gradcam", {}))
    assert model.metadata_props[0].key == "author"
    assert len(model.metadata_props) == 2
    found = spec_of(model)
    assert found is not None
    assert (found.method.name, found.layers) == ("gradcam", spec.layers)
    assert model.producer_name == "cfcam"


@pytest.mark.parametrize("weights", [0, 3, 300, 70_000])
def test_what_is_written_weight_by_weight_is_the_model(weights: int, tmp_path: Path) -> None:
    """Weights of every length that the wire format writes in one, two or three bytes."""
    model = onnx_classifiers.plain()
    model.graph.initializer.add().CopyFrom(onnx.numpy_helper.from_array(np.arange(weights, dtype=np.int8), "more"))
    write_model(model, tmp_path / "x.onnx")
    assert onnx.load(tmp_path / "x.onnx") == model
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.onnx"]


def test_above_two_gigabytes_the_weights_lie_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (writing, loading):
        monkeypatch.setattr(module, "INLINE_LIMIT", 3000)
    export_onnx(
        saved(tmp_path, onnx_classifiers.plain()), tmp_path / "out" / "a.cam.onnx", layer="middle", with_tail=True
    )
    found = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert found == ["a.cam.onnx", "a.cam.onnx.data", "a.tail.onnx", "a.tail.onnx.data"]
    feeds = {"image": np.zeros((2, 3, 32, 32), np.float32), "cam_target": np.array([3, 1])}
    classes = session(tmp_path / "out" / "a.cam.onnx").run(["cam_class"], feeds)[0]
    np.testing.assert_array_equal(np.asarray(classes), [3, 1])


def test_versions_of_what_is_installed() -> None:
    assert tool_versions("onnx", "no-such-package") == {
        "cfcam": importlib.metadata.version("cfcam"),
        "onnx": importlib.metadata.version("onnx"),
    }


def test_files_appear_together_and_the_main_one_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    true = writing.os.replace
    monkeypatch.setattr(writing.os, "replace", lambda a, b: (moved.append(Path(b).name), true(a, b)))
    output = tmp_path / "new" / "a.onnx"
    with staging_folder(output) as folder:
        for name in ("b.onnx", "a.onnx", "a.onnx.data"):
            (folder / name).write_text(name)
        assert not output.exists()
    assert sorted(path.name for path in output.parent.iterdir()) == ["a.onnx", "a.onnx.data", "b.onnx"]
    assert moved[-1] == "a.onnx"


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    output = tmp_path / "a.onnx"
    output.write_text("before")

    def fail(folder: Path) -> None:
        (folder / "a.onnx").write_text("after")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), staging_folder(output) as folder:
        fail(folder)
    assert output.read_text() == "before"
    assert list(tmp_path.iterdir()) == [output]


def test_an_error_names_the_place_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder, a file name was expected"), staging_folder(tmp_path):
        pass
    with pytest.raises(OutputError) as caught, staging_folder(tmp_path / "a.onnx") as folder:
        raise OutputError(f"{folder}/a.onnx: the disk is full")
    assert str(caught.value) == f"{tmp_path}/a.onnx: the disk is full"
    file = tmp_path / "file"
    file.touch()
    with (
        pytest.raises(OutputError, match=r"file/a\.onnx: cannot be written \("),
        staging_folder(file / "a.onnx"),
    ):
        pass


def test_the_hash_of_a_state_is_of_names_shapes_types_and_bytes() -> None:
    values = np.array([[1.5, -2.0], [0.25, 8.0]], np.float32)
    # A bfloat16 is the upper half of a float32: 1.5 is 3FC0.
    state = {"b": torch.tensor([1.5], dtype=torch.bfloat16), "a": torch.from_numpy(values).T, "extra": {"no": "tensor"}}
    expected = b"a\0[2, 2]\0float32\0" + values.T.tobytes() + b"b\0[1]\0bfloat16\0\xc0\x3f"
    assert state_dict_sha256(state) == hashlib.sha256(expected).hexdigest()
