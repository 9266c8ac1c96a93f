"""Preprocessing inside the graph: with pixels in, what comes out is what the unfolded file makes of numpy's work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_classifiers
import onnxruntime
import pytest
from cfcam.calibration.check import check_file
from cfcam.calibration.measures import EngineAccess, Jpeg
from cfcam.export import ExportError, export_onnx
from cfcam.export.pixels import folded_spec
from cfcam.export.sources.preprocessing import Preprocessing, preset
from cfcam.runtime import Explainer, read_spec
from cfcam.runtime.contract.spec import FoldedSpec
from onnx import numpy_helper
from PIL import Image

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
#: Order of the model's channels, layout of the model itself, and what is asked for.
CASES = [
    ("plain", "rgb", "float"),
    ("plain", "bgr", "uint8"),
    ("keras", "rgb", "uint8-nhwc"),
]
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)


def run(path: Path, **feeds: Any) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return {o.name: np.asarray(v) for o, v in zip(session.get_outputs(), session.run(None, feeds), strict=True)}


def exported(folder: Path, net: str, **options: Any) -> Path:
    onnx.save(onnx_classifiers.make(net), folder / "net.onnx")
    name = f"{options.get('fold_preprocessing', 'base')}.cam.onnx"
    return Path(export_onnx(folder / "net.onnx", folder / name, **options).path)


@pytest.mark.parametrize(("net", "color", "asked"), CASES)
def test_the_same_as_numpy_and_the_unfolded_file(tmp_path: Path, net: str, color: Any, asked: Any) -> None:
    preprocessing = preset("torchvision").override(color=color)
    base = exported(tmp_path, net, preprocessing=preprocessing)
    folded = exported(tmp_path, net, preprocessing=preprocessing, fold_preprocessing=asked)
    pixels = PIXELS[:1] if net == "keras" else PIXELS
    target = np.full(len(pixels), 2, np.int64)
    order = slice(None, None, -1 if color == "bgr" else 1)
    x = (pixels / 255 - MEAN[order, None, None]) / STD[order, None, None]
    x = (x.transpose(0, 2, 3, 1) if net == "keras" else x).astype(np.float32)
    expected = run(base, image=x, cam_target=target)
    dtype = np.float32 if asked == "float" else np.uint8
    fed = pixels.transpose(0, 2, 3, 1) if asked == "uint8-nhwc" else pixels
    found = run(folded, image=np.ascontiguousarray(fed, dtype), cam_target=target)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6 * max(1e-3, float(np.abs(value).max())))
    spec = read_spec(folded).input
    assert (spec.dtype, spec.layout) == (np.dtype(dtype).name, "NHWC" if asked == "uint8-nhwc" else "NCHW")
    assert spec.folded == FoldedSpec(scale=1 / 255, mean=tuple(MEAN[order]), std=tuple(STD[order]))
    np.testing.assert_allclose(spec.blank, 255 * MEAN[order])


def test_a_padded_photo_and_a_probe_have_the_same_mean_colour(tmp_path: Path) -> None:
    """Where there is no photo, and what a probe puts in the place of pixels: not black, but what becomes zero."""
    preprocessing = preset("torchvision").override(mode="pad")
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 70, 3)).astype(np.uint8))
    base = exported(tmp_path, "plain", preprocessing=preprocessing)
    paths = [exported(tmp_path, "plain", preprocessing=preprocessing, fold_preprocessing=a) for a in ("float", "uint8")]
    with Explainer(base) as one, Explainer(paths[0]) as other, Explainer(paths[1]) as third:
        for method in ("cfcam", "scorecam"):
            a, b = one.explain(photo, 1, method), other.explain(photo, 1, method)
            np.testing.assert_allclose(b.map, a.map, atol=2e-6)
            np.testing.assert_allclose(b.probabilities, a.probabilities, atol=1e-6)
        # Measures see images in which 0 is the mean colour, whatever the file takes.
        (images, frames), (unfolded, _) = EngineAccess(other).load([photo]), EngineAccess(one).load([photo])
        assert not images[:, :, 0].any()
        assert not unfolded[:, :, 0].any()
        np.testing.assert_allclose(EngineAccess(other).predict(images), EngineAccess(one).predict(unfolded), atol=1e-6)
        jpeg = [
            Jpeg(90, access.input).apply(x)
            for access, x in ((EngineAccess(other), images), (EngineAccess(one), unfolded))
        ]
        scale = 255 * STD[:, None, None]
        np.testing.assert_allclose(jpeg[0], jpeg[1] * scale, atol=1e-3)
        assert frames[0] == one.prepare(photo).frame
        border = third.prepare(photo).tensor[:, 0, 0]
        assert border.tolist() == np.rint(255 * MEAN).tolist()


def test_a_check_gives_the_plain_model_what_the_graph_makes_of_pixels(tmp_path: Path) -> None:
    folded = exported(tmp_path, "keras", preprocessing=preset("torchvision"), fold_preprocessing="uint8")
    name = "output 'probabilities' against the plain model"
    rows = {row.name: row.status for row in check_file(folded, source=tmp_path / "net.onnx").rows}
    assert rows[name] == "ok"
    assert "failed" not in rows.values()
    model = onnx.load(folded)
    wrong = next(node.input[1] for node in model.graph.node if node.op_type == "Mul" and node.name == "image_mul")
    for tensor in model.graph.initializer:
        if tensor.name == wrong:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.001), wrong))
    onnx.save(model, folded)
    assert {row.name: row.status for row in check_file(folded, source=tmp_path / "net.onnx").rows}[name] == "failed"


def test_a_file_that_states_its_range_states_the_new_one(tmp_path: Path) -> None:
    model = onnx_classifiers.make("plain")
    model.metadata_props.add(key="Image.NominalPixelRange", value="Normalized_0_1")
    onnx.save(model, tmp_path / "net.onnx")
    path = tmp_path / "net.cam.onnx"
    report = export_onnx(tmp_path / "net.onnx", path, fold_preprocessing="uint8")  # which says what there is to fold
    assert report.spec.input.folded == FoldedSpec(scale=1 / 255, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert {entry.key: entry.value for entry in onnx.load(path).metadata_props}["Image.NominalPixelRange"] == (
        "NominalRange_0_255"
    )
    assert onnx.load(tmp_path / "net.onnx").metadata_props[0].value == "Normalized_0_1"


def test_what_is_not_to_be_folded(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"nobody says how pixels become input 'image'.*--preset"):
        exported(tmp_path, "plain", fold_preprocessing="float")
    pixels = Preprocessing(scale=1.0, mean=(0.0,), std=(1.0,))
    with pytest.raises(ExportError, match="takes pixels as they are"):
        exported(tmp_path, "plain", fold_preprocessing="float", preprocessing=pixels)
    spec = pixels.input_spec("x", 8, 8)
    assert folded_spec(spec, "uint8").dtype == "uint8"  # which is another type, if nothing else
    with pytest.raises(ExportError, match="'x' is uint8, so the model takes pixels and normalises them itself"):
        folded_spec(replace(spec, dtype="uint8"), "float")
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".cam.onnx")]
