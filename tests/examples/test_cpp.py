"""The example in C++: compiled, and its map compared with ONNX Runtime's in Python, bit for bit."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import onnx_classifiers  # noqa: E402
import onnxruntime  # noqa: E402
from cfcam.export import export_onnx  # noqa: E402
from cfcam.export.sources.preprocessing import preset  # noqa: E402
from PIL import Image  # noqa: E402

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cpp" / "explain.cpp"
_LIBRARIES = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed"),
    pytest.mark.skipif(not _LIBRARIES, reason="this onnxruntime brings no libonnxruntime.so"),
]


def _said_of_itself(source, path, old, new):
    """The same file with another text in its CamSpec."""
    model = onnx.load(source)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "cfcam.spec")
    assert entry.value.count(old) == 1
    entry.value = entry.value.replace(old, new)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cpp")
    words = ["g++", "-std=c++17", "-Wall", "-Wextra", str(_EXAMPLE), "-o", str(folder / "explain"), "-ldl"]
    compiled = subprocess.run(words, capture_output=True, text=True)
    assert (compiled.returncode, compiled.stderr) == (0, "")
    onnx.save(onnx_classifiers.make("plain"), folder / "net.onnx")
    path = folder / "net.app.cam.onnx"
    preprocessing = preset("torchvision").override(mode="stretch")
    form = {"fused": True, "fold_preprocessing": "uint8-nhwc", "fixed_target": "top"}
    export_onnx(folder / "net.onnx", path, preprocessing=preprocessing, **form)
    _said_of_itself(path, folder / "bgr.cam.onnx", '"color": "rgb"', '"color": "bgr"')
    _said_of_itself(path, folder / "gray.cam.onnx", '"color": "rgb"', '"color": "gray"')
    _said_of_itself(
        path, folder / "shorter.cam.onnx", '"mode": "stretch", "size": null', '"mode": "shorter", "size": 37'
    )
    _said_of_itself(path, folder / "bicubic.cam.onnx", '"bilinear"', '"bicubic"')
    random = np.random.default_rng(0)
    for name, (width, height) in {"whole": (32, 32), "wide": (90, 61), "tall": (20, 200)}.items():
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{name}.ppm")
    (folder / "cut.ppm").write_bytes((folder / "wide.ppm").read_bytes()[:-1])
    (folder / "deep.ppm").write_bytes(b"P6 1 1 65535 abcdef")
    (folder / "huge.ppm").write_bytes(b"P6 99999999999 1 255 ")
    pixels = (folder / "whole.ppm").read_bytes()[-3072:]
    (folder / "noted.ppm").write_bytes(b"P6\n# by hand\n32 # wide\n32\n255\n" + pixels)
    return folder


def _run(folder, file, photo, result, library=_LIBRARIES[:1]):
    words = [folder / "explain", folder / file, folder / photo, result, *library]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("file", "photo"),
    [
        ("net.app.cam.onnx", "whole.ppm"),
        ("net.app.cam.onnx", "noted.ppm"),
        ("net.app.cam.onnx", "wide.ppm"),  # smaller both ways
        ("net.app.cam.onnx", "tall.ppm"),  # wider, and much lower
        ("bgr.cam.onnx", "wide.ppm"),
        ("shorter.cam.onnx", "whole.ppm"),  # has the input's size already
    ],
)
def test_the_map_is_that_of_onnx_runtime_in_python(folder, tmp_path, file, photo):
    run = _run(folder, file, photo, tmp_path / "map.pfm")
    assert (run.returncode, run.stderr) == (0, "")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
    with Image.open(folder / photo) as opened:
        size = opened.size
        pixels = np.asarray(opened.resize((32, 32), Image.Resampling.BILINEAR))
    pixels = pixels[..., ::-1] if file.startswith("bgr") else pixels
    heat, chosen = session.run(["cam_map", "cam_class"], {"image": np.ascontiguousarray(pixels[None])})
    heat = np.asarray(heat)[0]
    assert heat.max() == 1
    with Image.open(tmp_path / "map.pfm") as picture:
        np.testing.assert_array_equal(np.asarray(picture), heat)
    found = [int(number) for number in re.findall(r"\d+", run.stdout)]
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    place = int((column + 0.5) * size[0] / 32), int((row + 0.5) * size[1] / 32)
    assert found == [int(np.asarray(chosen)[0, 0]), *place, *size]


def test_a_picture_of_the_map(folder, tmp_path):
    for name in ("map.pfm", "map.pgm"):
        assert _run(folder, "net.app.cam.onnx", "wide.ppm", tmp_path / name).returncode == 0
    with Image.open(tmp_path / "map.pfm") as exact, Image.open(tmp_path / "map.pgm") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.floor(255 * np.asarray(exact) + np.float32(0.5)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.pfm", "map.pgm"]


@pytest.mark.parametrize(
    ("file", "photo", "said"),
    [
        ("net.onnx", "wide.ppm", "export the model again with `--fused"),
        ("gray.cam.onnx", "whole.ppm", "explain with `cfcam explain`"),
        ("shorter.cam.onnx", "wide.ppm", "90 x 61 pixels and the file takes 32 x 32"),
        ("bicubic.cam.onnx", "wide.ppm", "`--resize stretch --interpolation bilinear`"),
        ("wide.ppm", "wide.ppm", "cannot be opened"),
        ("net.app.cam.onnx", "no.ppm", "cannot be read"),
        ("net.app.cam.onnx", "net.onnx", "no binary PPM"),
        ("net.app.cam.onnx", "cut.ppm", "is cut off"),
        ("net.app.cam.onnx", "deep.ppm", "other than 8 bits"),
        ("net.app.cam.onnx", "huge.ppm", "damaged header"),
    ],
)
def test_mistakes_are_said_in_a_line(folder, tmp_path, file, photo, said):
    run = _run(folder, file, photo, tmp_path / "map.pgm")
    assert (run.returncode, run.stdout) == (1, "")
    assert said in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_mistakes_around_it(folder, tmp_path):
    run = _run(folder, "net.app.cam.onnx", "whole.ppm", tmp_path / "no" / "map.pgm")
    assert (run.returncode, "cannot be written" in run.stderr) == (1, True)
    run = _run(folder, "net.app.cam.onnx", "whole.ppm", tmp_path / "map.pgm", [tmp_path / "none.so"])
    assert (run.returncode, "give the path of libonnxruntime.so" in run.stderr) == (1, True)
    run = subprocess.run([str(folder / "explain")], capture_output=True, text=True)
    assert (run.returncode, "usage" in run.stderr) == (2, True)
