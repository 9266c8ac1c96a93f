"""Opening engines: what is refused, and what a manifest decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.opening import open_engine
from cfcam.runtime.errors import EngineError, ManifestError, ModelFileError


def test_bad_requests(tiny_path, tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        open_engine(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="folder"):
        open_engine(tmp_path)
    with pytest.raises(EngineError, match="unknown provider 'gpu': expected one of cpu, cuda"):
        open_engine(tiny_path("logits"), "gpu")
    with pytest.raises(EngineError, match="threads"):
        open_engine(tiny_path("logits"), threads=0)


def feed(n: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    image = np.random.default_rng([n, seed]).standard_normal((n, 3, 32, 48)).astype(np.float32)
    return {"image": image, "cam_target": np.full(n, -1, np.int32)}


def test_an_onnx_product_opens_as_its_manifest_says(tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    model = tiny_path("logits")
    path = tmp_path / "tiny.int8.onnx"
    path.write_bytes(model.read_bytes())
    manifest = Manifest(
        product=ProductRecord.of(path),
        source=FileRecord.of(model),
        backend=BackendRecord(name="onnxruntime", version="1.0", provider="cpu"),
        precision="int8",
        engine={"provider": "qnn", "threads": 1},
        spec=read_spec(model).to_dict(),
        created="2026-11-24T12:00:00Z",
    )
    manifest.write(path)
    with pytest.raises(EngineError, match="'qnn' is not in this onnxruntime"):
        Explainer(path)
    with Explainer(path, provider="cpu") as explainer, Explainer(model, options={"threads": 1}) as plain:
        assert explainer.manifest == manifest
        assert plain.manifest is None
        assert np.array_equal(explainer.maps(feed()["image"]), plain.maps(feed()["image"]))
        assert explainer.warm_up() > 0
        with pytest.raises(ValueError, match="warm_up: n: expected a whole number from 1"):
            explainer.warm_up(0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ManifestError, match="copy both again"):
        Explainer(path, provider="cpu")
    (tmp_path / "made.plan").write_bytes(b"whatever")
    with pytest.raises(ModelFileError, match="is a TensorRT engine"):
        Explainer(tmp_path / "made.plan")
