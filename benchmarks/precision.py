"""What float16 and INT8 do to explanations: several networks, last and middle layer, through the gate.

    python benchmarks/precision.py --output docs/results/precision_table.md
    python benchmarks/precision.py --networks mobilenet_v1 --forms float16,int8 --methods gradcam

Half of the shared photos calibrate, the others judge. Everything runs in ONNX Runtime on the CPU, which keeps
weights in float16 and computes in float32 between its casts; ``float16-rounded`` is a float32 graph in which every
value that the float16 file holds in float16 is rounded to it, as a GPU would store it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cfcam.calibration.repeated_weights import repeated_weights
from cfcam.calibration.verify import verify
from cfcam.export import export_torch, preset
from cfcam.export.errors import ProofError
from cfcam.export.graph import Graph, open_graph, tensor_bytes
from cfcam.export.precision import Plan, lower
from cfcam.export.writing import set_spec
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt.build import build_engine
from cfcam.runtime.files import write_bytes
from cfcam.runtime.photos.preprocess import prepare
from evidence_networks import FILES, LAYERS, NETWORKS
from evidence_photos import photos
from onnx import TensorProto, helper, numpy_helper

INT8 = Plan(precision="int8")
#: What is measured. The first word of a name tells the precision; the rest says what differs.
FORMS: dict[str, Plan] = {
    "float16": Plan(precision="float16"),
    "float16-nearest": Plan(precision="float16", correct_bias=False),
    "float16-rounded": Plan(precision="float16"),
    "int8": INT8,
    "int8-percentile": Plan(precision="int8", calibrator="percentile", percentile=99.99),
    "int8-entropy": Plan(precision="int8", calibrator="entropy"),
    "int8-uncorrected": Plan(precision="int8", correct_bias=False),
    "int8-first": Plan(precision="int8", float_first=False),
    "int8-symmetric": Plan(precision="int8", symmetric=True),
    "int8-symmetric-half": Plan(precision="int8", symmetric=True, rest="float16"),
}
#: One without a pretrained file here: its weights are drawn, and adjusted so that its layers stay awake.
DRAWN = "resnet18"


def file_of(network: str, layer: str) -> Path:
    """The explained float32 file."""
    if network != DRAWN:
        return NETWORKS[network].file(layer)
    path = FILES / f"{DRAWN}.{layer}.cam.onnx"
    if not path.exists():
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
        from calibrated import calibrate, photo_batch
        from torchvision_compat import import_torchvision

        module = calibrate(import_torchvision().models.resnet18(weights=None).eval(), photo_batch(8))
        name = None if layer == "last" else "layer3"
        export_torch(module, 224, path, layer=name, preprocessing=preset("torchvision"), name=DRAWN)
    return path


def halves() -> tuple[list[Path], list[Path]]:
    """Photos that calibrate, photos that judge."""
    every = [photo.path for photo in photos()]
    return every[1::2], every[0::2]


def batches(path: Path, images: Sequence[Path]) -> Iterator[np.ndarray]:
    spec = read_spec(path).input
    for image in images:
        yield prepare(image, spec).tensor[None]


def rounded(source: Path, output: Path) -> None:
    """The float16 file `source` as a float32 one whose values are rounded where those are float16."""
    graph, _ = open_graph(onnx.load(source))
    inferred = onnx.shape_inference.infer_shapes(graph.to_model(), data_prop=True)
    half = {v.name for v in inferred.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes = []
    for node in graph.nodes:
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16:
            node.attribute[0].i = TensorProto.FLOAT
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in half:
                node.output[place] = f"{name}_exact"
                nodes.append(helper.make_node("Cast", [f"{name}_exact"], [f"{name}_half"], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    graph.nodes = nodes
    for name, tensor in list(graph.constants.items()):
        if tensor.data_type == TensorProto.FLOAT16:
            graph.add_constant(name, numpy_helper.to_array(tensor).astype(np.float32))
    model = graph.to_model()
    del model.graph.value_info[:]
    set_spec(model, read_spec(source))
    onnx.save(model, output)


def computed_in(path: Path) -> Counter[str]:
    """How many nodes ONNX Runtime's CPU really computes in each type, casts left out."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "ran.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = Graph(onnx.load(options.optimized_model_filepath))
    names: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
    found: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op_type in ("Cast", "Constant", "QuantizeLinear", "DequantizeLinear"):
            continue
        kind = graph.elem_type(node.output[0]) or 0
        integer = node.op_type.startswith("QLinear") or kind in (TensorProto.INT8, TensorProto.UINT8)
        found["integer" if integer else names.get(kind, "other")] += 1
    return found


def measured(network: str, layer: str, form: str, methods: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """One row per method."""
    source, plan = file_of(network, layer), FORMS[form]
    calibrating, judging = halves()
    path = folder / f"{network}.{layer}.{form}.onnx"
    ranges = folder / f"{network}.{layer}.{plan.calibrator}.{plan.symmetric}"
    images = None if form.endswith("nearest") else batches(source, calibrating)
    made = lower(source, path, plan, images, ranges=ranges if plan.quantised else None)
    common: dict[str, Any] = {"network": network, "layer": layer, "form": form, "photos": len(judging)}
    common["seconds"] = round(sum(made.seconds.values()), 1)
    common["size"] = path.stat().st_size / source.stat().st_size
    model, spec = onnx.load(path), read_spec(path)
    added = spec.added_outputs
    common["stored_twice"] = len(repeated_weights(model, [o.name for o in model.graph.output if o.name not in added]))
    common["weights_bytes"] = sum(tensor_bytes(tensor) for tensor in model.graph.initializer)
    if form == "float16-rounded":
        rounded(path, path)
    else:
        common["computed_in"] = dict(computed_in(path))
        try:
            common["engine_bytes"] = len(build_engine(path, batch=(1, 1, 4), compute_capability="8.6"))
        except Exception as error:
            common["engine_error"] = str(error)[:300]
    rows = []
    for method in methods:
        report = verify(path, source, judging, method=method, pictures=0)
        place = report.places[0]
        rows.append({
            **common,
            "method": method,
            "top1": [report.top1.agreeing, report.top1.count, report.top1.low, report.top1.high],
            **{name: one.candidate for name, one in place.measures.items()},
            **{f"{name}_score": one.score for name, one in place.measures.items() if one.score is not None},
            **{f"{name}_other_class": one.other for name, one in place.measures.items() if one.score is not None},
            "jitter_score": 1 - (1 - place.measures["spearman"].jitter) / (1 - place.measures["spearman"].other),
            "clusters": place.clusters,
            "kept": place.kept,
            "lost": place.lost,
        })  # fmt: skip
        print(_line(rows[-1]), flush=True)
    path.unlink()
    return rows


def _line(row: dict[str, Any]) -> str:
    return (
        f"| {row['network']} | {row['layer']} | {row['form']} | {row['method']} | {row['top1'][0]}/{row['top1'][1]} "
        f"| {row['spearman']:.4f} | {row['spearman_score']:.3f} | {row['pearson_score']:.3f} | {row['iou_score']:.3f} "
        f"| {row['jitter_score']:.3f} | {row['moved']:.0%} | {row['kept']:.2f} | {row['size']:.3f} |"
    )


HEAD = (
    "| network | layer | form | rule | top-1 | Spearman | score | Pearson score | IoU score | jitter's score "
    "| peaks moved | class sensitivity kept | file |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join([*NETWORKS, DRAWN]))
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--methods", default="cfcam,gradcam")
    parser.add_argument("--output", type=Path, help="Markdown file to write; the figures go beside it as JSON.")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(HEAD)
    with tempfile.TemporaryDirectory() as name:
        for network in asked.networks.split(","):
            for layer in asked.layers.split(","):
                for form in asked.forms.split(","):
                    try:
                        rows += measured(network, layer, form, asked.methods.split(","), Path(name))
                    except ProofError as error:
                        print(f"{network}, {layer}, {form}: {error}", file=sys.stderr, flush=True)
                if asked.output is not None:
                    lines = [HEAD, *map(_line, rows), ""]
                    write_bytes(asked.output, "\n".join(lines).encode())
                    write_bytes(asked.output.with_suffix(".json"), json.dumps(rows, indent=1).encode())


if __name__ == "__main__":
    main()
