"""Reading an ONNX file's head, against what was written and against damage."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from cfcam.runtime.contract.modelfile import ValueInfo, file_sha256, read_model_info, read_spec
from cfcam.runtime.contract.spec import METADATA_KEY, SCHEMA
from cfcam.runtime.errors import CfcamError, ImageError, ModelFileError, SpecError
from shared_data import shared_path
from tiny_model import VARIANTS


def test_head_of_the_tiny_model(tiny_path):
    info = read_model_info(tiny_path("logits"))
    assert (info.ir_version, info.opset, info.opsets) == (9, 18, {"": 18})
    assert info.producer == "cfcam-tests"
    assert info.bytes == tiny_path("logits").stat().st_size
    assert info.inputs == (
        ValueInfo("image", "float32", ("N", 3, 32, 48)),
        ValueInfo("cam_target", "int64", ("N",)),
    )
    assert [v.name for v in info.outputs] == ["scores", "cam_activations", "cam_gradients", "cam_class"]
    assert info.outputs[1].shape == ("N", 8, 8, 12)
    assert info.metadata.keys() == {METADATA_KEY}


@pytest.mark.parametrize("name", [name for name, model in VARIANTS.items() if model.metadata])
def test_spec_survives_the_file(tiny_path, name):
    assert read_spec(tiny_path(name)) == VARIANTS[name].spec


def test_a_foreign_model(tmp_path):
    path = shared_path("models/mobilenet_v2_1.0_224.onnx")
    info = read_model_info(path)
    assert info.opset == 13
    assert [v.dtype for v in info.inputs] == ["float32"]  # weights are not counted as inputs
    assert info.inputs[0].shape == ("N", 3, 224, 224)
    with pytest.raises(ModelFileError, match=r"mobilenet_v2_1\.0_224\.onnx was not made by `cfcam export`.*-o mobile"):
        read_spec(path)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_weights_are_seeked_over_even_beyond_4_gigabytes(tmp_path):
    # ir_version, then a graph that is one 5 GB weight (a hole on disk), then the operator set.
    weight = 5 * 2**30
    raw = bytes([0x4A]) + _varint(weight)  # TensorProto.raw_data
    tensor = bytes([0x42, 1]) + b"w"
    initializer = bytes([0x2A]) + _varint(len(tensor) + len(raw) + weight)
    inputs = bytes([0x5A, 3, 0x0A, 1]) + b"w" + bytes([0x5A, 3, 0x0A, 1]) + b"x"
    graph_size = len(initializer) + len(tensor) + len(raw) + weight + len(inputs)
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.write(bytes([0x08, 9, 0x3A]) + _varint(graph_size) + initializer + tensor + raw)
        file.seek(weight, 1)
        file.write(inputs + bytes([0x42, 2, 0x10, 18]))
    info = read_model_info(path)
    assert info.opset == 18
    assert [v.name for v in info.inputs] == ["x"]
    assert info.bytes > weight


def test_bad_paths(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        read_model_info(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="is a folder"):
        read_model_info(tmp_path)
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelFileError, match="is empty"):
        read_model_info(tmp_path / "empty.onnx")
    with pytest.raises(ModelFileError, match="cannot be read"):
        file_sha256(tmp_path / "none.onnx")
    with pytest.raises(ImageError, match=r"none\.jpg: cannot be read"):
        file_sha256(tmp_path / "none.jpg", ImageError)


@pytest.mark.parametrize(
    "data",
    [b"This is a text file, not a model.\n" * 20, b"\x89PNG\r\n\x1a\n" + bytes(500), bytes(1000), b"\xff" * 64, b"{}"],
    ids=["text", "png", "zeros", "ones", "json"],
)
def test_not_onnx(tmp_path, data):
    path = tmp_path / "x.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="not an ONNX model"):
        read_model_info(path)


def test_every_truncation_is_an_error(tiny_path, tmp_path):
    data = tiny_path("logits").read_bytes()
    path = tmp_path / "cut.cam.onnx"
    for size in (1, 2, 3, 50, len(data) // 2, len(data) - 2000, len(data) - 40, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(ModelFileError, match=r"truncated|not an ONNX|not made by"):
            read_spec(path)


def test_a_truncated_file_is_called_truncated(tiny_path, tmp_path):
    path = tmp_path / "cut.cam.onnx"
    path.write_bytes(tiny_path("logits").read_bytes()[:2000])
    with pytest.raises(ModelFileError, match=r"truncated or damaged.*2000 bytes"):
        read_spec(path)


def test_a_cut_in_a_field_that_is_skipped_is_noticed(tiny_path, tmp_path):
    path = tmp_path / "cut.cam.onnx"
    function = bytes([0xCA, 0x01, 100])  # field 25, 100 bytes long, of which three are there
    path.write_bytes(tiny_path("logits").read_bytes() + function + b"abc")
    with pytest.raises(ModelFileError, match=r"truncated or damaged.*100 bytes starts .*, 3 are there"):
        read_spec(path)


def test_mutations_never_escape_the_error_family(tiny_path, tmp_path):
    data = tiny_path("logits").read_bytes()
    path = tmp_path / "mutated.cam.onnx"
    draw = random.Random(3)
    refused = 0
    for _ in range(300):
        mutated = bytearray(data)
        for _ in range(draw.choice([1, 4, 40])):
            mutated[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(mutated)
        try:
            read_spec(path)
        except CfcamError:
            refused += 1
    assert refused > 50  # most single bytes hit weights, which are not read


def test_spec_that_disagrees_with_the_graph(tiny_path, tmp_path):
    data = tiny_path("logits").read_bytes()
    path = tmp_path / "renamed.cam.onnx"
    # Same length, so that the wire stays valid; the graph keeps its name.
    path.write_bytes(data.replace(b'"chosen": "cam_class"', b'"chosen": "cam_clasz"'))
    with pytest.raises(ModelFileError, match="names the output 'cam_clasz'"):
        read_spec(path)


def test_spec_errors_name_the_file(tiny_path, tmp_path):
    path = tmp_path / "newer.cam.onnx"
    ours = f'"schema": "{SCHEMA}"'.encode()
    path.write_bytes(tiny_path("logits").read_bytes().replace(ours, b'"schema": "7.0"'))
    with pytest.raises(SpecError, match=r"newer\.cam\.onnx: CamSpec schema 7\.0 is newer"):
        read_spec(path)


def test_sha256(tiny_path):
    path: Path = tiny_path("logits")
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
