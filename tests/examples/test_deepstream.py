"""The configuration for DeepStream's nvinfer against what NVIDIA documents, and the file that goes with it.

Nothing here runs DeepStream: keys, types of values and the tensors' types and shapes are what can be held without it.
"""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_classifiers
import pytest
from cfcam.cli.app import app
from cfcam.runtime.contract.modelfile import read_model_info
from typer.testing import CliRunner

_FOLDER = Path(__file__).resolve().parents[2] / "examples" / "deepstream"


def _one_of(*allowed: int) -> Callable[[str], bool]:
    return lambda text: text in {str(value) for value in allowed}


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


_BOOL = _one_of(0, 1)
_COUNT = _matches(r"[1-9]\d*")
_FILE = _matches(r"[\w./-]+")
_FLOAT = _matches(r"\d+(\.\d+)?")

#: Keys of the group [property], as the page "Gst-nvinfer" of NVIDIA's DeepStream documentation and the published source
#: of the element have them: what a value may be. Those are listed that a classifier whose tensors are read by the
#: application can have a use for.
DOCUMENTED = {
    "gpu-id": _matches(r"\d+"),
    "gie-unique-id": _COUNT,
    "process-mode": _one_of(1, 2),  # whole frames, objects
    "network-type": _one_of(0, 1, 2, 3, 100),  # detector, classifier, segmentation, instances, other
    "output-tensor-meta": _BOOL,
    "onnx-file": _FILE,
    "model-engine-file": _FILE,
    "labelfile-path": _FILE,
    "batch-size": _COUNT,
    "network-mode": _one_of(0, 1, 2),  # FP32, INT8, FP16
    "infer-dims": _matches(r"[1-9]\d*;[1-9]\d*;[1-9]\d*"),  # channels; height; width
    "network-input-order": _one_of(0, 1),  # NCHW, NHWC
    "model-color-format": _one_of(0, 1, 2),  # RGB, BGR, GRAY
    "net-scale-factor": _FLOAT,
    "offsets": _matches(r"\d+(\.\d+)?(;\d+(\.\d+)?)*"),
    "maintain-aspect-ratio": _BOOL,
    "symmetric-padding": _BOOL,
    "scaling-filter": _matches(r"\d+"),
    "scaling-compute-hw": _one_of(0, 1, 2),
    "interval": _matches(r"\d+"),
    "workspace-size": _COUNT,
    "tensor-meta-pool-size": _COUNT,
    "output-blob-names": _matches(r"[^;]+(;[^;]+)*"),
    "operate-on-gie-id": _matches(r"-?\d+"),
}
#: `NvDsInferDataType`: FLOAT, HALF, INT8, INT32.
TYPES = {"float32", "float16", "int8", "int32"}


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=True, comment_prefixes=("#",), delimiters=("=",))
    parser.read_string((_FOLDER / "nvinfer_cam.txt").read_text("utf-8"))
    assert parser.sections() == ["property"]
    return dict(parser["property"])


def test_keys_and_values_are_documented(written: dict[str, str]) -> None:
    assert [key for key in written if key not in DOCUMENTED] == []
    assert [f"{key}={value}" for key, value in written.items() if not DOCUMENTED[key](value)] == []


def test_what_the_file_needs_is_asked_for(written: dict[str, str]) -> None:
    needed = {
        "network-type": "100",  # no parser
        "output-tensor-meta": "1",
        "network-mode": "0",  # float32
        "network-input-order": "0",
        "net-scale-factor": "1.0",  # pixels as they are
        "maintain-aspect-ratio": "0",  # stretch
    }
    assert {key: written.get(key) for key in needed} == needed
    assert "offsets" not in written


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's own command makes of a small classifier."""
    folder = tmp_path_factory.mktemp("deepstream")
    onnx.save(onnx_classifiers.make("plain"), folder / "model.onnx")
    command = re.search(r"^cfcam (export .*)$", (_FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    assert command is not None
    words = [str(folder / word) if word.endswith(".onnx") else word for word in shlex.split(command[1])]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return folder / words[words.index("-o") + 1]


def test_the_product_has_tensors_that_nvinfer_knows(product: Path, written: dict[str, str]) -> None:
    info = read_model_info(product)
    assert product.name == written["onnx-file"]
    (image,) = info.inputs
    assert (image.dtype, len(image.shape or ())) == ("float32", 4)
    strange = [value.name for value in info.outputs if value.dtype not in TYPES or len(value.shape or ()) < 2]
    assert strange == []
    open_sizes = [value.name for value in info.outputs if not all(isinstance(n, int) for n in (value.shape or ())[1:])]
    assert open_sizes == []  # the batch alone is free


def test_the_page_names_the_tensors_that_there_are(product: Path) -> None:
    rows = re.findall(r"^\| `(cam_\w+)` \| (\w+) \|", (_FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    called = {"FLOAT": "float32", "INT32": "int32"}
    outputs = {value.name: value.dtype for value in read_model_info(product).outputs}
    assert {name: called[kind] for name, kind in rows} == {n: t for n, t in outputs.items() if n.startswith("cam_")}
