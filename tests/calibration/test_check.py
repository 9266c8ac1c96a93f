"""`check_file`: right files of both routes pass, and every way of being wrong is caught by the row that is about it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from broken_files import BREAKS, broken
from cfcam.calibration.check import CheckReport, CheckRow, check_file
from cfcam.export import export_onnx
from cfcam.export.graph import load_model
from cfcam.export.reverse import differentiate
from cfcam.export.writing import set_spec, write_model
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.contract.spec import CamSpec, InputSpec, LayerSpec, OutputSpec, SourceSpec
from cfcam.runtime.errors import ArrayError, CfcamError, EngineError, MissingDependencyError, ModelFileError
from onnx import ModelProto, TensorProto, helper, numpy_helper
from shared_data import shared_path
from tensorrt_required import require_tensorrt

DIFFERENCES = "gradient in float64 against differences"
TWICE = "weights above 1 KB that are stored twice"
TABLE = "operators that TensorRT refuses (table)"
PARSER = "TensorRT's own parser"

#: Break -> rows that must fail.
CAUGHT_BY = {
    "frozen": {DIFFERENCES, "gradient moves with the class, against exact"},
    "sign_flipped": {DIFFERENCES},
    "scaled": {DIFFERENCES},
    "channels_swapped": {DIFFERENCES},
    "transposed": {DIFFERENCES},
    "another_class": {DIFFERENCES},
    "wrong_class_named": {"explained class is the one asked for"},
    "target_ignored": {"explained class is the one asked for"},
    "batch_frozen": {"a batch against its singles, share of the allowed error"},
    "activations_doubled": {"the layer is a value that leads to the scores"},
    "weight_twice": {TWICE},
    "not_a_number": {DIFFERENCES},
}


CLASSES = 7


def plain_net() -> ModelProto:
    """Three convolutions with a ReLU each ("early", "middle", "last"), pooling, a linear layer: 32x32 images."""
    random = np.random.default_rng(6)
    make = helper.make_node
    sizes = {"early": (3, 8, 2), "middle": (8, 12, 2), "last": (12, 16, 1)}
    constants = {"matrix": random.standard_normal((CLASSES, 16)) / 4}
    nodes, x = [], "image"
    for name, (inside, out, stride) in sizes.items():
        constants[f"{name}_w"] = random.standard_normal((out, inside, 3, 3)) / np.sqrt(inside * 9 / 2)
        constants[f"{name}_b"] = random.standard_normal(out) / 4
        weights = [f"{name}_w", f"{name}_b"]
        nodes.append(make("Conv", [x, *weights], [f"{name}_conv"], strides=[stride, stride], pads=[1, 1, 1, 1]))
        nodes.append(make("Relu", [f"{name}_conv"], [name]))
        x = name
    nodes += [
        make("GlobalAveragePool", [x], ["pooled"]),
        make("Flatten", ["pooled"], ["features"]),
        make("Gemm", ["features", "matrix"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def export(model: ModelProto, layer: str, path: Path) -> None:
    """Write `model` with its gradients inside, unproved."""
    made = differentiate(model, layer)
    height, width = (int(side or 0) for side in made.layer.grid)
    spec = CamSpec(
        input=InputSpec(name="image", height=32, width=32, scale=1 / 127.5, mean=(1.0,) * 3, std=(1.0,) * 3),
        output=OutputSpec(name="logits", score="logits", classes=CLASSES),
        layers=(
            LayerSpec(
                name=layer, value=made.value, channels=made.layer.channels, grid=(height, width), pooled=made.pooled
            ),
        ),
        source=SourceSpec(kind="onnx", name="net", sha256="0" * 64),
    )
    set_spec(made.model, spec)
    write_model(made.model, path)


def failing(report: CheckReport) -> set[str]:
    return {row.name for row in report.failures}


def by_name(report: CheckReport) -> dict[str, CheckRow]:
    return {row.name: row for row in report.rows}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Exported by the ONNX route, in a middle and in the last layer; and the plain model."""
    folder = tmp_path_factory.mktemp("check")
    write_model(plain_net(), folder / "plain.onnx")
    found = {"plain": folder / "plain.onnx"}
    for layer in ("middle", "last"):
        found[layer] = folder / f"{layer}.cam.onnx"
        export(plain_net(), layer, found[layer])
    return found


@pytest.fixture(scope="module")
def traced(made_once) -> Path:
    """A middle layer of a PyTorch model, by the traced route."""
    pytest.importorskip("torch")
    from cfcam.export import export_torch
    from small_nets import ConvNet, seeded

    def make(folder: Path) -> None:
        export_torch(seeded(ConvNet()), 64, folder / "net.cam.onnx", layer="act:1", keep_plain=folder / "plain.onnx")

    return made_once("traced", make) / "net.cam.onnx"


def break_file(path: Path, how: str, folder: Path) -> Path:
    write_model(broken(load_model(path), how), folder / f"{how}.cam.onnx")
    return folder / f"{how}.cam.onnx"


@pytest.mark.parametrize("layer", ["middle", "last"])
def test_a_right_file_passes(files, layer):
    steps: list[str] = []
    report = check_file(files[layer], source=files["plain"], progress=steps.append)
    assert report, report.failures
    names = set(by_name(report))
    assert {DIFFERENCES, TWICE, TABLE, "output 'logits' against the plain model"} <= names
    moves = "gradient moves with the image, against exact"
    same = "gradient is the same for every image, as it should"
    assert (moves in names, same in names) == (layer == "middle", layer == "last")
    assert report.images >= 5
    assert steps == list(report.seconds)
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["ok"] is True
    assert document["model"]["layer"] == layer
    assert {row["status"] for row in document["checks"]} <= {"ok", "warning"}


@pytest.mark.parametrize("layer", ["middle", "last"])
@pytest.mark.parametrize("how", CAUGHT_BY)
def test_a_broken_file_is_caught_by_the_right_row(files, tmp_path, how, layer):
    report = check_file(break_file(files[layer], how, tmp_path))
    if (how, layer) == ("transposed", "last"):
        assert report, "this gradient is constant over the grid: nothing was changed"
        return
    assert not report
    assert CAUGHT_BY[how] <= failing(report), failing(report)
    if how == "weight_twice":
        assert failing(report) == {TWICE}, "everything else is right"
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["ok"] is False


@pytest.mark.slow
def test_a_file_of_the_traced_route(traced, tmp_path):
    report = check_file(traced, source=traced.with_name("plain.onnx"))
    assert report, report.failures
    assert "gradient moves with the image, against exact" in by_name(report)
    for how in ("frozen", "sign_flipped", "scaled", "channels_swapped", "another_class", "batch_frozen"):
        report = check_file(break_file(traced, how, tmp_path))
        assert CAUGHT_BY[how] <= failing(report), (how, failing(report))


def test_plain_outputs_that_changed_are_caught_with_the_source_at_hand(files, tmp_path):
    path = break_file(files["last"], "score_perturbed", tmp_path)
    assert "output 'logits' against the plain model" in failing(check_file(path, source=files["plain"]))


def test_the_shown_probability_is_compared_with_that_of_the_source(tmp_path):
    """Probabilities that a file takes for logits would get a second softmax."""
    row = "probability as the source gives it"
    model = plain_net()
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["probs"], axis=1))
    model.graph.output[0].name = "probs"
    write_model(model, tmp_path / "net.onnx")
    path = export_onnx(tmp_path / "net.onnx", tmp_path / "x.cam.onnx").path
    assert by_name(check_file(path, source=tmp_path / "net.onnx"))[row].status == "ok"
    assert row not in by_name(check_file(path))
    exported, spec = load_model(path), read_spec(path)
    set_spec(exported, replace(spec, output=replace(spec.output, kind="logits")))
    write_model(exported, tmp_path / "wrong.cam.onnx")
    assert row in failing(check_file(tmp_path / "wrong.cam.onnx", source=tmp_path / "net.onnx"))


def test_an_output_that_is_gone_is_caught(files, tmp_path):
    source = load_model(files["plain"])
    source.graph.node.append(helper.make_node("Relu", ["logits"], ["positive"]))
    source.graph.output.append(helper.make_tensor_value_info("positive", 1, ["N", CLASSES]))
    write_model(source, tmp_path / "more.onnx")
    report = check_file(files["last"], source=tmp_path / "more.onnx")
    assert failing(report) == {"output 'positive' against the plain model"}


def test_the_tails_own_file(files, tmp_path):
    from cfcam.export.onnx_export import export_onnx

    path, tail = tmp_path / "net.cam.onnx", tmp_path / "net.tail.onnx"
    export_onnx(files["plain"], path, layer="middle", with_tail=True)
    report = check_file(path)
    assert report, report.failures
    assert by_name(report)["scores of the tail's own file"].status == "ok"
    tail.write_bytes(tail.read_bytes() + b"\0")
    assert failing(check_file(path)) == {"tail's own file 'net.tail.onnx'"}
    tail.unlink()
    report = check_file(path)
    assert report, "the file itself is right"
    assert by_name(report)["tail's own file 'net.tail.onnx'"].status == "warning"


def test_what_tensorrt_refuses_is_a_warning(files, tmp_path):
    report = check_file(break_file(files["middle"], "scatter_with_reduction", tmp_path))
    assert report, "the file is right; it does not run everywhere"
    rows = {row.name: row for row in report.rows if row.status == "warning"}
    assert "ScatterElements" in rows[TABLE].note
    assert "reduction 'add'" in rows[TABLE].note


def test_tensorrts_own_parser_has_a_row(files, tmp_path):
    require_tensorrt()
    row = by_name(check_file(files["last"]))[PARSER]
    assert row.status == "ok"
    assert "accepted" in row.note
    row = by_name(check_file(break_file(files["last"], "scatter_with_reduction", tmp_path)))[PARSER]
    assert row.status == "warning"
    assert "refused" in row.note


@pytest.mark.parametrize(
    ("error", "words"), [(MissingDependencyError("not installed"), None), (EngineError("no GPU"), "no GPU")]
)
def test_a_parser_that_cannot_be_asked(files, monkeypatch, error, words):
    def parse_onnx(path):
        raise error

    monkeypatch.setattr("cfcam.runtime.engines.tensorrt.build.parse_onnx", parse_onnx)
    report = check_file(files["last"])
    assert report, "nothing is wrong with the file"
    notes = [row.note for row in report.rows if row.name == PARSER]
    assert notes == [] if words is None else words in notes[0]


def test_copies_among_the_plain_models_own_weights_are_a_warning(files, tmp_path):
    """Until the plain model shows that it has them too, or has them not."""
    model, source = load_model(files["last"]), load_model(files["plain"])
    for proto in (model, source):
        weight = max(proto.graph.initializer, key=lambda t: int(np.prod(t.dims)))
        proto.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(weight), "again"))
        first = next(n for n in proto.graph.node if n.op_type == "Conv")
        nodes = [
            helper.make_node("ReduceMin", ["again"], ["least"], keepdims=0),
            helper.make_node("Mul", ["least", "null"], ["nothing"]),
            helper.make_node("Add", ["image", "nothing"], ["same"]),
        ]
        proto.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "null"))
        first.input[0] = "same"
        rest = list(proto.graph.node)
        del proto.graph.node[:]
        proto.graph.node.extend([*nodes, *rest])
        onnx.checker.check_model(proto)
    write_model(model, tmp_path / "x.cam.onnx")
    write_model(source, tmp_path / "x.onnx")
    report = check_file(tmp_path / "x.cam.onnx")
    assert report
    assert [row.status for row in report.rows if "plain model itself" in row.name] == ["warning"]
    assert not [r for r in check_file(tmp_path / "x.cam.onnx", source=tmp_path / "x.onnx").rows if "itself" in r.name]
    assert failing(check_file(tmp_path / "x.cam.onnx", source=files["plain"])) == {TWICE}


@pytest.mark.parametrize("name", ["softmax", "nhwc", "fixed-batch", "binary", "sigmoid", "float16"])
def test_other_forms_of_files(tiny_path, name):
    report = check_file(tiny_path(name))
    assert report, report.failures


def test_photos(files):
    from cfcam.runtime.contract.modelfile import read_spec
    from cfcam.runtime.photos.images import find_images, open_image
    from cfcam.runtime.photos.preprocess import prepare

    spec = read_spec(files["middle"]).input
    photos = find_images([shared_path("data/photos")])[:4]
    batch = np.stack([prepare(open_image(photo), spec).tensor for photo in photos])
    report = check_file(files["middle"], batch, source=files["plain"])
    assert report, report.failures
    assert report.images == 4


def test_photos_for_a_fixed_batch_are_filled_up(tiny_path):
    from cfcam.export.proof.images import structured_images
    from cfcam.runtime.contract.modelfile import read_spec

    path = tiny_path("fixed-batch")
    report = check_file(path, structured_images(read_spec(path).input, 3))
    assert report, report.failures
    assert report.images == 4


def test_errors(files, tiny_path, tmp_path):
    with pytest.raises(ModelFileError, match="was not made by"):
        check_file(files["plain"])
    with pytest.raises(ArrayError, match="images"):
        check_file(files["last"], np.zeros((4, 3, 31, 32), np.float32))
    with pytest.raises(ModelFileError, match="takes 'image', 'cam_target'"):
        check_file(files["last"], source=files["last"])
    with pytest.raises(CfcamError):
        check_file(files["last"], source=tmp_path / "none.onnx")
    (tmp_path / "cut.cam.onnx").write_bytes(files["last"].read_bytes()[:-500])
    with pytest.raises(ModelFileError):
        check_file(tmp_path / "cut.cam.onnx")


def test_no_pytorch_is_needed(files):
    code = """
import sys
sys.modules["torch"] = None
from cfcam.calibration.check import check_file
print(bool(check_file(sys.argv[1])))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(files["middle"])], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_every_break_is_tried():
    assert set(BREAKS) == {*CAUGHT_BY, "score_perturbed", "scatter_with_reduction"}
