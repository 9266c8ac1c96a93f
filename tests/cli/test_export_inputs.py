"""``cfcam export`` and what people's models take: channels, integers, metadata, and inputs beside the image."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from cfcam.calibration.check import check_file
from cfcam.cli import main
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.explainer import Explainer
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

_COLOURS = ("red", "green", "blue")


def _save(path, *, dtype=TensorProto.FLOAT, channels=3, nhwc=False, size=(32, 32), normalised=True, **metadata):
    """Scores are how much there is of each channel. normalised: the graph itself makes (p - 128) / 64 of p."""
    shift = 0.0 if dtype == TensorProto.INT8 else 128.0
    weights = {
        "shift": np.array(shift, np.float32),
        "width": np.array(64, np.float32),
        "w": np.repeat(np.eye(channels)[:, :, None], 16, axis=2).reshape(channels, channels, 4, 4) / 16,
        "fc": np.eye(channels),
        "b": np.zeros(channels),
    }
    nodes = [helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT)]
    value = "float"
    if normalised:
        nodes += [
            helper.make_node("Sub", [value, "shift"], ["less"]),
            helper.make_node("Div", ["less", "width"], ["n"]),
        ]
        value = "n"
    if nhwc:
        nodes.append(helper.make_node("Transpose", [value], ["first"], perm=[0, 3, 1, 2]))
        value = "first"
    nodes += [
        helper.make_node("Conv", [value, "w"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc", "b"], ["scores"]),
    ]
    shape = ["N", *size, channels] if nhwc else ["N", channels, *size]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", channels])],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, text in metadata.items():
        model.metadata_props.add(key=f"Image.{key}", value=text)
    onnx.save(model, path)
    return str(path)


@pytest.fixture
def photo(tmp_path):
    """Mid-grey, but for a tile of pure blue at the right."""
    pixels = np.full((32, 32, 3), 128, np.uint8)
    pixels[8:12, 24:28] = (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.INT8])
@pytest.mark.parametrize("nhwc", [False, True])
def test_integer_images(dtype, nhwc, photo, tmp_path, capsys):
    plain, made = _save(tmp_path / "net.onnx", dtype=dtype, nhwc=nhwc), tmp_path / "net.cam.onnx"
    assert main(["export", "--onnx", plain, "-o", str(made), "--resize", "stretch"]) == 0
    kind = "uint8" if dtype == TensorProto.UINT8 else "int8"
    assumed = "x = p was assumed" if kind == "uint8" else "x = p - 128 was assumed"
    err = capsys.readouterr().err
    assert f"input 'x' is {kind}" in err
    assert assumed in err
    with Explainer(made) as explainer:
        found = explainer.explain(photo, method="gradcam")
        # (255 - 128) / 64 over one of 64 tiles
        np.testing.assert_allclose(np.asarray(found.logits), [0, 0, 127 / 64 / 64], atol=1e-6)
        assert found.peak == pytest.approx((26 / 32, 10 / 32), abs=0.02)
        assert not explainer.explain(photo, 2, "layercam", smooth=3).empty
        assert not explainer.explain(photo, 2, "scorecam").empty
        explainer.warm_up(1)
    assert check_file(made)


def test_an_integer_input_refuses_a_preprocessing_that_it_cannot_hold(tmp_path, capsys):
    plain = _save(tmp_path / "net.onnx", dtype=TensorProto.UINT8)
    options = ["--scale", "1/255", "--mean", "0", "--std", "1"]
    assert main(["export", "--onnx", plain, "-o", str(tmp_path / "x.cam.onnx"), *options]) == 2
    assert "the input is uint8, but" in capsys.readouterr().err


def test_metadata_are_followed_and_shown(photo, tmp_path, capsys):
    plain = _save(
        tmp_path / "net.onnx", NominalPixelRange="NominalRange_0_255", BitmapPixelFormat="Bgr8", ColorSpaceGamma="SRGB"
    )
    made = str(tmp_path / "net.cam.onnx")
    assert main(["export", "--onnx", plain, "-o", made, "--resize", "stretch"]) == 0
    err = capsys.readouterr().err
    assert "Image.NominalPixelRange = NominalRange_0_255: x = p" in err
    assert "Image.BitmapPixelFormat = Bgr8: color bgr" in err
    with Explainer(made) as explainer:
        np.testing.assert_allclose(np.asarray(explainer.explain(photo).logits), [127 / 64 / 64, 0, 0], atol=1e-6)
    assert main(["inspect", made]) == 0
    out = capsys.readouterr().out
    assert "NominalRange_0_255" in out
    assert "Bgr8" in out
    assert (
        main(["export", "--onnx", plain, "-o", made, "--scale", "1", "--mean", "8", "--std", "1", "--color", "rgb"])
        == 0
    )
    assert capsys.readouterr().err.count("win") == 2
    assert (read_spec(made).input.mean, read_spec(made).input.color) == ((8,) * 3, "rgb")


def test_five_channels_with_their_numbers_and_range(tmp_path, capsys):
    plain, made = _save(tmp_path / "net.onnx", channels=5, normalised=False), str(tmp_path / "net.cam.onnx")
    numbers = ["--scale", "1/255", "--mean", ".1,.2,.3,.4,.5", "--std", "1,2,3,4,5", "--photo-range", "0:4000"]
    assert main(["export", "--onnx", plain, "-o", made, "--resize", "stretch", *numbers]) == 0
    pixels = np.random.default_rng(0).integers(0, 4001, (32, 32, 5)).astype(np.uint16)
    np.save(tmp_path / "photo.npy", pixels)
    x = (pixels.reshape(8, 4, 8, 4, 5) / 4000 - np.arange(1, 6) / 10).mean((1, 3)) / np.arange(1, 6)
    capsys.readouterr()
    command = ["explain", made, str(tmp_path / "photo.npy"), "--show-channels", "5,3,1", "-o", str(tmp_path / "x.png")]
    assert main([*command, "--top", "5", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    scores = np.maximum(x, 0).mean((0, 1))
    wanted = np.exp(scores) / np.exp(scores).sum()
    got = {one["target"]: one["probability"] for one in json.loads(out)["results"][0]["top"]}
    np.testing.assert_allclose([got[i] for i in range(5)], wanted, rtol=1e-4)
    assert main(["export", "--onnx", plain, "-o", made, "--mean", "1,2,3,4", "--std", "1"]) == 2
    assert "takes 5 channels, but mean and std have 4 numbers each" in capsys.readouterr().err
    assert main(["inspect", made]) == 0
    assert "0:4000" in capsys.readouterr().out


def test_a_wide_input_sees_the_whole_photo_in_its_place(tmp_path, capsys):
    """A marked tile at the right end is found there, in a photo of the input's shape and in two others."""
    plain, made = _save(tmp_path / "net.onnx", size=(32, 128)), str(tmp_path / "net.cam.onnx")
    assert main(["export", "--onnx", plain, "-o", made, "--scale", "1", "--mean", "0", "--std", "1"]) == 0
    assert read_spec(made).input.resize.mode == "fit"
    for width, height in ((256, 64), (64, 64), (512, 64)):
        pixels = np.full((height, width, 3), 100, np.uint8)
        pixels[height - 16 :, width - 16 :] = 255
        Image.fromarray(pixels).save(tmp_path / "photo.png")
        capsys.readouterr()
        assert main(["explain", made, str(tmp_path / "photo.png"), "-m", "gradcam", "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        x, y = json.loads(out)["results"][0]["peak"]
        assert (x * width, y * height) == pytest.approx((width - 8, height - 8), abs=8)


def test_a_second_input_is_fixed_on_the_command_line(tmp_path, capsys):
    plain = _save(tmp_path / "net.onnx", normalised=False)
    model = onnx.load(plain)
    model.graph.input.append(helper.make_tensor_value_info("offset", TensorProto.FLOAT, ["N", 3]))
    model.graph.node[-1].output[0] = "inner"
    model.graph.node.append(helper.make_node("Add", ["inner", "offset"], ["scores"]))
    onnx.save(model, plain)
    made = str(tmp_path / "net.cam.onnx")
    assert main(["export", "--onnx", plain, "-o", made]) == 2
    assert "--input offset=offset.npy" in capsys.readouterr().err
    assert main(["export", "--onnx", plain, "-o", made, "--input", "offset=1,2,3"]) == 0
    assert "input 'offset' (1, 3) is fixed" in capsys.readouterr().err
    with Explainer(made) as explainer:
        scores = explainer.tensors(np.full((4, 3, 32, 32), 0.5, np.float32)).logits
    np.testing.assert_allclose(np.asarray(scores), np.tile([1.5, 2.5, 3.5], (4, 1)), atol=1e-6)
