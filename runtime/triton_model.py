"""What the Python backend of Triton Inference Server runs in repositories that ``cfcam triton`` writes.

The generated ``model.py`` is a few lines: it hands `TritonModel` Triton's own module, which exists nowhere else. A
model has one of four parts to play, which its ``config.pbtxt`` names in the parameter ``cfcam_part``:

- ``one``: photos or tensors in, explanations out; ONNX Runtime runs in this process.
- ``bls``: the same, but another model of the same Triton runs the file.
- ``map``: the last step of an ensemble, which makes explanations of what the file gave.
- ``engine``: the file on ONNX Runtime in this process, tensors in and out, for Tritons without that backend.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .checks import expect
from .contract.modelfile import read_model_info
from .engines.base import EngineInfo
from .errors import ArrayError, CfcamError, EngineError, ImageError
from .inference import infer_all
from .photos.images import opened_file

if TYPE_CHECKING:
    from .explainer import Explainer
    from .explanation import Explanation
    from .photos.preprocess import Prepared

__all__ = ["PARTS", "TritonModel", "answer", "refuse_numpy"]

PARTS = ("one", "bls", "map", "engine")

#: Of the JPEG that an overlay is sent as.
_QUALITY = 90
_logger = logging.getLogger("cfcam.triton")


def refuse_numpy(version: str) -> None:
    """Raise where Triton's stub would pass wrong arrays.

    The stub of Triton 24.10 was compiled against numpy 1: under numpy 2 a model loads and is ready, but float inputs
    arrive as constants, and BYTES end the process.

    Args:
        version: Of numpy.

    Raises:
        EngineError: It is 2 or newer.
    """
    if int(version.partition(".")[0]) >= 2:
        raise EngineError(
            f"numpy {version} in this environment: Triton's Python stub needs numpy 1, and gives wrong inputs with "
            "numpy 2; install 'numpy<2' in the environment that the Python backend runs in"
        )


def answer(explanations: Sequence[Explanation], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The outputs of a model, one row for each explanation.

    Args:
        explanations: N of them, at least one.
        names: Which outputs; the others are not made.

    Returns:
        By name: ``map`` float32 (N, H, W); ``class`` int64 (N, 1); ``label`` bytes (N, 1); ``probabilities`` and
        ``logits`` float32 (N, K); ``value`` float32 (N, 1); ``peak`` float32 (N, 2), (x, y) as fractions of the photo,
        NaN where the map is empty; ``reason`` bytes (N, 1), why it is empty, or nothing; ``overlay`` bytes (N, 1), a
        JPEG.
    """
    makers: dict[str, Any] = {
        "map": lambda one: one.map,
        "class": lambda one: np.array([one.target], np.int64),
        "label": lambda one: _text(one.label.encode()),
        "probabilities": lambda one: one.probabilities,
        "logits": lambda one: one.logits,
        "value": lambda one: np.array([one.value], np.float32),
        "peak": lambda one: np.array(one.peak or (np.nan, np.nan), np.float32),
        "reason": lambda one: _text((one.reason or "").encode()),
        "overlay": lambda one: _text(_jpeg(one)),
    }
    return {name: np.stack([makers[name](one) for one in explanations]) for name in names if name in makers}


def _text(data: bytes) -> NDArray[np.object_]:
    return np.array([data], np.object_)


def _jpeg(one: Explanation) -> bytes:
    file = io.BytesIO()
    one.overlay().save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


class GivenEngine:
    """An `Engine` that answers with arrays that were computed before; `values` are those of the request at hand."""

    def __init__(self, info: EngineInfo) -> None:
        self._info = info
        self.values: Mapping[str, NDArray[Any]] = {}

    def __enter__(self) -> GivenEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def describe(self) -> EngineInfo:
        return self._info

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        return {name: self.values[name] for name in (self._info.outputs if outputs is None else outputs)}

    def close(self) -> None:
        self.values = {}


class BlsEngine(GivenEngine):
    """An `Engine` that is another model of the same Triton, called through its business logic scripting.

    flat: inputs and outputs that have one number per image, which Triton holds as (N, 1) where it batches.
    """

    def __init__(self, info: EngineInfo, utils: Any, model: str, flat: Sequence[str]) -> None:
        super().__init__(info)
        self._utils, self._model, self._flat = utils, model, flat

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        utils, names = self._utils, list(self._info.outputs if outputs is None else outputs)
        feed = [
            utils.Tensor(name, np.ascontiguousarray(value[:, None] if name in self._flat else value))
            for name, value in inputs.items()
        ]
        # Outputs of a model on a GPU are copied to this process's memory.
        memory = utils.PreferredMemory(utils.TRITONSERVER_MEMORY_CPU, 0)
        asked = utils.InferenceRequest(
            model_name=self._model, requested_output_names=names, inputs=feed, preferred_memory=memory
        )
        response = asked.exec()
        if response.has_error():
            raise EngineError(f"model '{self._model}' of this server failed: {response.error().message()}")
        found = {name: utils.get_output_tensor_by_name(response, name) for name in names}
        # Copies: what Triton gives lies in memory that it takes back.
        arrays = {name: np.array(tensor.as_numpy()) for name, tensor in found.items()}
        return {name: value[:, 0] if name in self._flat else value for name, value in arrays.items()}


class TritonModel:
    """A model of the Python backend, which Triton makes and calls.

    utils: Triton's module ``triton_python_backend_utils``, which a generated ``model.py`` sets.
    """

    utils: Any = None

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open what the model needs.

        Args:
            args: Triton's: the model's configuration as JSON, the folder of the model and the version among them.

        Raises:
            CfcamError: The file cannot be opened, or numpy is 2 or newer.
        """
        from .explainer import Explainer

        refuse_numpy(np.__version__)
        expect("initialize", "args", args, Mapping)
        config = json.loads(args["model_config"])
        said = {name: entry["string_value"] for name, entry in config.get("parameters", {}).items()}
        self.part = said.get("cfcam_part", "")
        if self.part not in PARTS:
            raise EngineError(f"parameter cfcam_part: expected one of {', '.join(PARTS)}, got '{self.part}'")
        self._folder = Path(args["model_repository"]) / args["model_version"]
        path = self._folder / said["cfcam_file"]
        self._names = [output["name"] for output in config["output"]]
        options: dict[str, Any] = {}
        if "cfcam_threads" in said:
            options["threads"] = int(said["cfcam_threads"])
        if args.get("model_instance_kind") == "GPU":
            options["provider"] = "cuda"
            options["options"] = {"device_id": int(args.get("model_instance_device_id", "0"))}
        self._given: GivenEngine | None = None
        if self.part == "bls":
            flat = said["cfcam_flat"].split() if said.get("cfcam_flat") else []
            options = {"engine": BlsEngine(_info_of(path), self.utils, said["cfcam_engine"], flat)}
        elif self.part == "map":
            self._given = GivenEngine(_info_of(path))
            options = {"engine": self._given}
        self._explainer: Explainer = Explainer(path, **options)
        if self.part in ("one", "engine"):
            self._explainer.warm_up(1)
        elif self.part == "map":
            shape = self._explainer.spec.input.shape(1)[1:]
            # The photo is elsewhere: its place is taken by a blank one, which costs nothing after this.
            self._blank = self._explainer.prepare(np.zeros(shape, self._explainer.spec.input.dtype))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests.

        Args:
            requests: Triton's.

        Returns:
            A response for each, in their order; an error is one of them.
        """
        return [self._response(request) for request in requests]

    def finalize(self) -> None:
        """Free the engine."""
        self._explainer.close()

    def _response(self, request: Any) -> Any:
        utils = self.utils
        try:
            outputs = self._outputs(request)
        except CfcamError as error:
            # Whoever asks need not know where the server keeps its files.
            return utils.InferenceResponse(error=utils.TritonError(str(error).replace(f"{self._folder}/", "")))
        except Exception as error:
            _logger.exception("a request failed")
            # Nothing of the request: whoever reads logs and answers need not be who sent the photo.
            return utils.InferenceResponse(error=utils.TritonError(f"the request failed ({type(error).__name__})"))
        return utils.InferenceResponse(output_tensors=[utils.Tensor(name, outputs[name]) for name in outputs])

    def _outputs(self, request: Any) -> dict[str, NDArray[Any]]:
        names = [name for name in self._names if name in set(request.requested_output_names())]
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        if self.part == "engine":
            return _run(self._explainer, inputs, names)
        if self._given is not None:
            count = len(inputs[self._explainer.spec.chosen])
            self._given.values = inputs
            return answer(self._explainer.explain_batch([self._blank] * count), names)
        images = _images(inputs, self._explainer)
        targets = inputs.get("target")
        if targets is not None and targets.size != len(images):
            raise ArrayError(f"target: expected {len(images)}, one for each image, got {targets.size}")
        # The top class is -1 on the wire, as in the file.
        classes = None if targets is None else [int(index) for index in targets.ravel()]
        return answer(self._explainer.explain_batch(images, classes), names)


def _images(inputs: Mapping[str, NDArray[Any]], explainer: Explainer) -> list[Any]:
    """What `Explainer` takes, of ``image`` (N, 1) or ``tensor`` (N, ...)."""
    spec = explainer.spec
    present = [name for name in ("image", "tensor") if name in inputs]
    if len(present) != 1:
        raise ArrayError("expected one of the inputs 'image' (files) and 'tensor' (ready), got both or neither")
    array = inputs[present[0]]
    if not len(array):
        raise ArrayError(f"{present[0]}: expected at least one image")
    if present[0] == "image":
        return [_photo(one, explainer) for one in array.ravel()]
    if array.shape[1:] != spec.input.shape(1)[1:]:
        raise ArrayError(f"tensor: expected (N, {', '.join(map(str, spec.input.shape(1)[1:]))}), got {array.shape}")
    return list(array)


def _photo(data: bytes, explainer: Explainer) -> Prepared:
    """The photo in the bytes of an image file."""
    if not data:
        raise ImageError("image: is empty (0 bytes), the bytes of an image file were expected")
    with opened_file(io.BytesIO(data)) as photo:
        return explainer.prepare(photo)


def _info_of(path: Path) -> EngineInfo:
    """What an engine would say of the file, by its head."""
    head = read_model_info(path)
    axes = [value.shape[0] for value in head.inputs if value.shape]
    batch = next((axis for axis in axes if isinstance(axis, int)), None)
    return EngineInfo(
        backend="triton",
        provider="triton",
        inputs=tuple(value.name for value in head.inputs),
        outputs=tuple(value.name for value in head.outputs),
        batch=batch,
        min_batch=batch or 1,
        max_batch=batch,
        takes={
            value.name: (value.dtype, tuple(axis if isinstance(axis, int) else None for axis in value.shape or ()))
            for value in head.inputs
        },
    )


def _run(explainer: Explainer, inputs: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The file's outputs for ready tensors."""
    spec = explainer.spec
    feed = {name: inputs[name] for name in spec.inputs}
    if spec.target in feed and spec.columns is None:
        feed[spec.target] = feed[spec.target].reshape(-1)
    return infer_all(explainer.engine, feed, names)
