"""Documents that are read: specs, manifests, configurations, labels, boxes, results."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

from cfcam.calibration.build.config_files import config_names, parse_config
from cfcam.calibration.evaluate import read_boxes
from cfcam.export.sources.labels import check_texts, read_labels
from cfcam.runtime import CamSpec, Manifest
from cfcam.runtime.bench.comparing import ResultError, compare
from cfcam.runtime.bench.document import SCHEMA
from cfcam.runtime.json_reader import read_json
from tiny_model import VARIANTS, WITH_TAIL

from .common import odd_json, refused_cleanly, spoil_bytes, spoil_json

__all__ = ["boxes", "labels", "manifest", "result", "spec", "yaml"]


def _texts(document: Any, chance: random.Random) -> bytes:
    text = spoil_json(document, chance).encode("utf-8", "surrogatepass")
    return spoil_bytes(text, chance) if chance.random() < 0.2 else text


def _spec(chance: random.Random) -> dict[str, Any]:
    models = {**VARIANTS, **WITH_TAIL}
    document = models[chance.choice(sorted(models))].spec.to_dict()
    if chance.random() < 0.5:
        document["tail"] = {"file": "x.tail.onnx", "sha256": "0" * 64, "inputs": ["cam_activations"], "score": "scores"}
    return document


def spec(chance: random.Random, folder: Path) -> None:
    """What is read can be written, and is read again as the same."""
    text = _texts(_spec(chance), chance).decode("utf-8", "replace")
    with refused_cleanly():
        found = CamSpec.from_json(text)
        assert CamSpec.from_json(found.to_json()) == found
        found.to_json().encode()


def manifest(chance: random.Random, folder: Path) -> None:
    """Likewise, from a file."""
    document = {
        "schema": "1.0",
        "product": {"file": "x.onnx", "sha256": "0" * 64, "bytes": 3},
        "source": {"file": "y.onnx", "sha256": "0" * 64},
        "backend": {"name": "onnxruntime", "version": "1.20.0"},
        "precision": "int8",
        "config": {"builder": {"version_compatible": True}},
        "engine": {"provider": "cpu", "threads": 2, "session": {"a": 1}},
        "spec": _spec(chance),
        "gate": {"passed": True},
        "created": "2026-11-24T12:00:00Z",
    }
    product = folder / "x.onnx"
    Manifest.place(product).write_bytes(_texts(document, chance))
    with refused_cleanly():
        found = Manifest.read(product)
        assert found is not None
        _ = found.passed, found.is_engine, found.is_version_compatible, found.cam_spec, found.engine_options
        json.dumps(found.to_dict(), allow_nan=False)
        found.check(product, machine=False)


@functools.cache
def _configs() -> list[str]:
    folder = Path(__file__).parents[2] / "configs"
    return [(folder / f"{name}.yaml").read_text("utf-8") for name in config_names()]


def yaml(chance: random.Random, folder: Path) -> None:
    """A configuration with an odd value, an odd line, or spoilt bytes."""
    lines = chance.choice(_configs()).splitlines()
    odd = [
        *("&a [*a]", "*a", "!!python/name:os.system", "!!binary x", ".inf", ".nan", "0x_", "2020-99-99", "=", "<<"),
        *("1:61", "0b", "~", "'", '"', "|", "- - -", "{a: {b: ", "yes", "9" * 5000, "[" * 500),
    ]
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(len(lines))
        key = lines[at].partition(":")[0]
        value = chance.choice(odd) if chance.random() < 0.6 else odd_json(chance)
        lines[at] = chance.choice([f"{key}: {value}", value, f"{lines[at]}\n{lines[at]}", f"{key}: {key}"])
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    text = (spoil_bytes(data, chance) if chance.random() < 0.3 else data).decode("utf-8", "replace")
    with refused_cleanly():
        parse_config(text, "x.yaml")


def labels(chance: random.Random, folder: Path) -> None:
    """Every label that is read can be written."""
    document = chance.choice(
        [
            ["cat", "dog", "bird"],
            {"0": "cat", "1": "dog"},
            {"id2label": {"0": "cat", "1": "dog"}},
            {"0": ["n01", "cat"], "1": ["n02", "dog"]},
            "cat\ndog\n",
        ]
    )
    data = spoil_bytes(document.encode(), chance) if isinstance(document, str) else _texts(document, chance)
    (folder / "labels.txt").write_bytes(data)
    with refused_cleanly():
        found = read_labels(folder / "labels.txt", chance.choice([0, 1, 10**9, -1]))
        check_texts(found)
        assert all(label.encode() and label.strip() for label in found)


def boxes(chance: random.Random, folder: Path) -> None:
    """Every box that is read lies on its photo."""
    listed = [{"file": "a.jpg", "boxes": [[0, 0, 0.5, 1], [0.1, 0.2, 0.3, 0.4]], "target": "cat", "imagenet_idx": 3}]
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 10}],
        "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}],
    }
    table = "file,x0,y0,x1,y1,target\na.jpg,0,0,.5,1,cat\n"
    if chance.random() < 0.3:
        cells = ["x" * 200_000, "nan", "inf", "", '"', "1e999", "-1", "0,0,0", "\0", "\r", "٣", "a.jpg", '"a\nb"']
        path, data = folder / "boxes.csv", table.replace(chance.choice(["0", ".5", "a.jpg"]), chance.choice(cells), 1)
        path.write_bytes(spoil_bytes(data.encode(), chance) if chance.random() < 0.5 else data.encode())
    else:
        path = folder / "boxes.json"
        path.write_bytes(_texts(chance.choice([listed, coco]), chance))
    with refused_cleanly():
        found = read_boxes(path)
        for name, one in found.each.items():
            assert isinstance(name, str)
            assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in one.boxes)
            one.identity().encode()
        found.without_photo(["b.jpg"])


def result(chance: random.Random, folder: Path) -> None:
    """Two results of a measurement, one of them spoilt."""
    points = {"p50": 1.0, "p90": 2.0, "p95": 2.5, "p99": 3.0, "max": 4.0, "min": 0.5, "mean": 1.5, "n": 10, "std": 0.1}
    document = {
        "schema": SCHEMA,
        **{section: {"a": "x"} for section in ("model", "engine", "what", "image", "versions")},
        "machine": {"cpu": "x", "cores": 2, "gpus": [{"name": "g"}]},
        "latency_ms": {"explain": points, "map": points},
        "stages_ms": {"decode": points},
        "memory": {"high_water": 10**8},
        "open_ms": 12.5,
        "ratio": {"median": 1.1},
    }
    compare(document, document)
    (folder / "a.json").write_bytes(_texts(document, chance))
    with refused_cleanly():
        compare(read_json(folder / "a.json", ResultError), document).to_dict()
