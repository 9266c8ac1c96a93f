"""The Python backend's models, on a stand-in for Triton's module; the real Triton is in tests/export/triton."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.errors import EngineError
from cfcam.runtime.triton_model import TritonModel, answer, refuse_numpy
from PIL import Image


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class Request:
    def __init__(self, outputs: Any = ("map", "class"), **inputs: np.ndarray) -> None:
        self._outputs, self._inputs = outputs, inputs

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, array) for name, array in self._inputs.items()]

    def requested_output_names(self) -> list[str]:
        return list(self._outputs)


class Response:
    def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
        self.found = {tensor.name(): tensor.as_numpy() for tensor in output_tensors}
        self.failed = error

    def has_error(self) -> bool:
        return self.failed is not None

    def error(self) -> Any:
        return SimpleNamespace(message=lambda: self.failed)


def make(path: Path, part: str = "one", engine: TritonModel | None = None, **more: str) -> TritonModel:
    """A model as Triton would start it. engine: what business logic scripting calls."""

    class InferenceRequest:
        def __init__(self, model_name: str, requested_output_names: Any, inputs: Any, preferred_memory: Any) -> None:
            assert model_name == "m_engine"
            # Triton takes the axis of size 1 away where the configuration says so.
            arrays = {one.name(): one.as_numpy() for one in inputs}
            flat = {name: array[:, 0] if array.ndim == 2 else array for name, array in arrays.items()}
            self.request = Request(requested_output_names, **flat)

        def exec(self) -> Response:
            assert engine is not None
            (response,) = engine.execute([self.request])
            response.found = {
                name: array[:, None] if array.ndim == 1 else array for name, array in response.found.items()
            }
            return response

    class Model(TritonModel):
        utils = SimpleNamespace(
            Tensor=Tensor,
            InferenceResponse=Response,
            TritonError=str,
            InferenceRequest=InferenceRequest,
            PreferredMemory=lambda *_: None,
            TRITONSERVER_MEMORY_CPU=0,
            get_output_tensor_by_name=lambda response, name: Tensor(name, response.found[name]),
        )

    outputs = ["map", "class", "label", "probabilities", "logits", "peak", "reason", "overlay"]
    if part == "engine":
        outputs = ["scores", "cam_class", "cam_activations", "cam_gradients"]
    parameters = {"cfcam_part": part, "cfcam_file": path.name, "cfcam_threads": "1", **more}
    config = {
        "output": [{"name": name} for name in outputs],
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }
    model = Model()
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_repository": str(path.parent.parent),
            "model_version": path.parent.name,
            "model_instance_kind": "CPU",
        }
    )
    return model


def jpeg(seed: int = 0) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def photos(*data: bytes) -> np.ndarray:
    return np.array([[one] for one in data], np.object_)


@pytest.fixture(params=["one", "bls"])
def model(request: pytest.FixtureRequest, tiny_path) -> TritonModel:
    path = tiny_path("logits")
    if request.param == "one":
        return make(path)
    return make(path, "bls", make(path, "engine"), cfcam_engine="m_engine", cfcam_flat="cam_target cam_class")


def test_photos_and_tensors_are_explained(model: TritonModel, tiny_path, tmp_path: Path) -> None:
    data = [jpeg(0), jpeg(1)]
    names = ("map", "class", "probabilities", "logits", "peak")
    (response,) = model.execute([Request(names, image=photos(*data), target=np.array([[1], [-1]]))])
    with Explainer(tiny_path("logits"), threads=1) as explainer:
        for i, (one, target) in enumerate(zip(data, (1, None), strict=True)):
            (tmp_path / "x.jpg").write_bytes(one)
            expected = explainer.explain(tmp_path / "x.jpg", target)
            assert response.found["map"][i].tobytes() == expected.map.tobytes()
            assert response.found["class"][i].tolist() == [expected.target]
            assert response.found["peak"][i].tolist() == pytest.approx(expected.peak)
            tensor = explainer.prepare(tmp_path / "x.jpg").tensor
            (again,) = model.execute([Request(names, tensor=tensor[None], target=np.array([[expected.target]]))])
            assert again.found["map"][0].tobytes() == expected.map.tobytes()
    assert set(response.found) == set(names)


def test_an_overlay_is_a_picture(model: TritonModel) -> None:
    (response,) = model.execute([Request(("overlay", "label"), image=photos(jpeg()))])
    assert Image.open(io.BytesIO(response.found["overlay"][0, 0])).format == "JPEG"
    assert response.found["label"].dtype == np.object_


TENSOR = np.zeros((1, 3, 32, 48), np.float32)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"image": photos(b"")}, "is empty"),
        ({"image": photos(b"text")}, "is not an image"),
        ({"image": photos(jpeg()[:700])}, "image: "),
        ({"image": photos(jpeg(), b"x")}, "is not an image"),
        ({"image": photos(jpeg()), "tensor": TENSOR}, "both or neither"),
        ({}, "both or neither"),
        ({"tensor": TENSOR[:0]}, "at least one"),
        ({"tensor": TENSOR[..., :-1]}, "expected \\(N, 3, 32, 48\\)"),
        ({"tensor": TENSOR * np.nan}, "NaN"),
        ({"tensor": TENSOR, "target": np.array([[6]])}, "out of range"),
        ({"tensor": TENSOR, "target": np.array([[1], [2]])}, "one for each image, got 2"),
    ],
)
def test_bad_input_fails_alone(inputs: dict[str, np.ndarray], said: str, model: TritonModel, tiny_path) -> None:
    bad, good = model.execute([Request(**inputs), Request(tensor=TENSOR)])
    assert good.failed is None
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(bad.failed)
    assert str(tiny_path("logits").parent) not in bad.failed


def test_an_unforeseen_error_says_nothing_of_the_request(model: TritonModel) -> None:
    (bad,) = model.execute([Request(image=np.array([["secret"]], np.object_))])
    assert bad.failed is not None
    assert "secret" not in bad.failed


def test_the_last_step_of_an_ensemble(tiny_path) -> None:
    path = tiny_path("softmax-and-logits")
    engine, mapper = make(path, "engine"), make(path, "map")
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 48)).astype(np.float32)
    (first,) = engine.execute(
        [
            Request(
                ("scores", "cam_class", "cam_activations", "cam_gradients"), image=images, cam_target=np.array([3, -1])
            )
        ]
    )
    values = {**first.found}
    with Explainer(path, threads=1) as explainer:
        expected = explainer.explain_batch(images, [3, -1])
        values["probabilities"] = np.stack([one.probabilities for one in expected])
    (second,) = mapper.execute([Request(("map", "class", "label"), **values)])
    for name, array in answer(expected, ("map", "class", "label")).items():
        assert (second.found[name] == array).all()


def test_empty_maps_have_a_reason_and_no_peak(tiny_path) -> None:
    with Explainer(tiny_path("logits")) as explainer:
        found = answer([explainer.explain(TENSOR, 5)], ("peak", "reason", "map", "unknown"))
    assert np.isnan(found["peak"]).all()
    assert len(found["reason"][0, 0]) > 10
    assert list(found) == ["peak", "reason", "map"]


@pytest.mark.parametrize(("version", "refused"), [("1.26.4", False), ("2.0.0", True), ("10.1", True)])
def test_numpy_2_is_refused(version: str, refused: bool) -> None:
    with pytest.raises(EngineError, match="install 'numpy<2'") if refused else nullcontext():
        refuse_numpy(version)


@pytest.fixture(autouse=True)
def numpy_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the models can see: no stub is at work here, so that any numpy will do."""
    monkeypatch.setattr(np, "__version__", "1.26.4")
