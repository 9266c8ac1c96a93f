"""`Explainer`: one exported model, many images."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from .cam import normalise
from .engine import Engine, open_engine
from .errors import ArrayError, EngineError, MethodError
from .explanation import Explanation, class_probabilities
from .frame import Frame
from .images import open_image, source_name
from .methods.base import CamResult, Method, get_method, make_settings
from .modelfile import read_spec
from .preprocess import check_tensor, prepare, tensor_to_image
from .spec import CamSpec
from .targets import Target, resolve_targets

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from typing_extensions import Self

    #: A path, a Pillow image, a photo as uint8 array, or a ready tensor (C, H, W) as float array.
    Source = str | os.PathLike[str] | Image.Image | NDArray[Any]

__all__ = ["Explainer", "Tensors"]

_TOP = 5


@dataclass(frozen=True, eq=False)
class Tensors:
    """What one inference gave for N images, for work on the raw values.

    activations, gradients: float32 (N, C, h, w). classes: int64 (N,), the explained ones. scores:
    float32 (N, K), the output that is shown to people. logits: float32 (N, K) before softmax or sigmoid,
    or None where the file has no such output. frames: N.
    """

    activations: NDArray[np.float32]
    gradients: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32] | None
    frames: tuple[Frame, ...]


@dataclass(frozen=True, eq=False)
class _Input:
    photo: Image.Image
    tensor: NDArray[Any]
    frame: Frame
    source: str
    times_ms: dict[str, float]


class Explainer:
    """Explains images with a file made by ``cfcam export``.

    path: the ``.cam.onnx`` file. provider: ``cpu``, ``cuda``, ``tensorrt``, ...; with
    allow_fallback the CPU is taken when it cannot start. threads: for the operators on the CPU.
    engine: an open `Engine` for the same file to use instead; it is not closed by `close`.

    It holds no state besides the engine, so that several threads may use one `Explainer`.
    Raises `ModelFileError`, `SpecError`, `EngineError` or `MissingDependencyError`.

    >>> with Explainer("dogs.cam.onnx") as explainer:                   # doctest: +SKIP
    ...     explainer.explain("two_dogs.jpg").save("why.png")
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        provider: str = "cpu",
        allow_fallback: bool = False,
        threads: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.path = Path(path)
        self.spec: CamSpec = read_spec(path)
        self._owns_engine = engine is None
        self._engine = engine or open_engine(path, provider, allow_fallback, threads)
        self._info = self._engine.describe()

    @property
    def provider(self) -> str:
        """The provider that really runs."""
        return self._info.provider

    def explain(
        self,
        image: Source,
        target: Target = None,
        method: str | None = None,
        settings: Mapping[str, Any] | Any = None,
    ) -> Explanation:
        """Explain one image.

        image: a path, a Pillow image, uint8 (H, W), (H, W, 3) or (H, W, 4), or a ready float32
        tensor (C, H, W) or (1, C, H, W) in the model's layout.
        target: class index or label; None for the top class. method: name of a rule; None for
        the one that the file asks for. settings: a mapping or the method's settings object; None for
        the file's settings if the method is the file's own, else the defaults.
        Raises a `CfcamError`.
        """
        if isinstance(image, np.ndarray) and image.ndim == 4 and len(image) != 1:
            raise ArrayError(f"explain takes one image, got an array of shape {image.shape}: use explain_batch")
        one = image[0] if isinstance(image, np.ndarray) and image.ndim == 4 else image
        return self.explain_batch([one], [target], method, settings)[0]

    def explain_batch(
        self,
        images: Sequence[Source] | NDArray[Any],
        targets: Target | Sequence[Target] = None,
        method: str | None = None,
        settings: Mapping[str, Any] | Any = None,
    ) -> list[Explanation]:
        """Explain N images in one inference.

        images: a sequence of what `explain` takes, or an array of N of them. targets: one for
        all, or one per image. A file whose batch is fixed is run as often as N needs.
        """
        rule, options = self._rule(method, settings)
        inputs = self._inputs(images)
        wanted = resolve_targets(targets, len(inputs), self.spec.output)
        if not inputs:
            return []
        started = time.perf_counter()
        raw = self._infer(inputs, wanted)
        share = (time.perf_counter() - started) * 1000 / len(inputs)
        return [self._explanation(i, item, raw, rule, options, share) for i, item in enumerate(inputs)]

    def tensors(self, images: Sequence[Source] | NDArray[Any], targets: Target | Sequence[Target] = None) -> Tensors:
        """Activations, gradients, classes and scores of N images, in one inference, without a method."""
        inputs = self._inputs(images)
        if not inputs:
            raise ArrayError("tensors: expected at least one image")
        return self._infer(inputs, resolve_targets(targets, len(inputs), self.spec.output))

    def close(self) -> None:
        """Free the engine, unless it was given by the caller."""
        if self._owns_engine:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def _rule(self, method: str | None, settings: Any) -> tuple[Method, Any]:
        asked = self.spec.method
        rule = get_method(asked.name if method is None else method)
        if rule.kind != "rule":
            raise MethodError(f"method '{rule.name}' is a {rule.kind}, which runs the model again: not supported yet")
        if settings is None and rule.name == asked.name:
            settings = asked.settings
        options = make_settings(rule, settings)
        if getattr(options, "last", False) is None:
            options = dataclasses.replace(options, last=self.spec.layer.pooled)
        return rule, options

    def _inputs(self, images: Any) -> list[_Input]:
        is_one = not isinstance(images, Sequence | np.ndarray) or isinstance(images, str)
        if is_one or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise ArrayError("expected a sequence of images or a 4-D array; for a single image use explain")
        return [self._input(image) for image in images]

    def _input(self, image: Any) -> _Input:
        spec = self.spec.input
        times: dict[str, float] = {}
        if isinstance(image, np.ndarray) and image.dtype != np.uint8:
            with _timed(times, "preprocess"):
                tensors = check_tensor(image, spec)
                if len(tensors) != 1:
                    raise ArrayError(f"expected one tensor per image, got shape {image.shape}")
            photo = tensor_to_image(tensors[0], spec)
            return _Input(photo, tensors[0], Frame.whole(spec.width, spec.height), "array", times)
        with _timed(times, "decode"):
            photo = open_image(image)
        with _timed(times, "preprocess"):
            prepared = prepare(photo, spec)
        return _Input(photo, prepared.tensor, prepared.frame, source_name(image), times)

    def _infer(self, inputs: list[_Input], targets: list[int]) -> Tensors:
        spec, layer = self.spec, self.spec.layer
        names = [spec.output.name, layer.activations, layer.gradients, spec.chosen]
        if spec.output.score in self._info.outputs:
            names.append(spec.output.score)
        names = list(dict.fromkeys(names))
        images = np.stack([item.tensor for item in inputs])
        classes = np.array(targets, np.int64)
        step = self._info.batch or len(inputs)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for start in range(0, len(inputs), step):
            some, which = images[start : start + step], classes[start : start + step]
            missing = step - len(some)  # a fixed batch is filled up with copies, whose results are dropped
            feed = {
                spec.input.name: np.concatenate([some, np.repeat(some[-1:], missing, axis=0)]) if missing else some,
                spec.target: np.concatenate([which, np.repeat(which[-1:], missing)]) if missing else which,
            }
            for name, value in self._engine.infer(feed, names).items():
                parts[name].append(value[: len(some)])
        values = {name: np.concatenate(part) for name, part in parts.items()}
        floats = {n: self._checked(n, v, len(inputs)) for n, v in values.items() if n != spec.chosen}
        activations, gradients = floats[layer.activations], floats[layer.gradients]
        if activations.ndim != 4 or activations.shape != gradients.shape:
            raise EngineError(
                f"{self.path}: expected '{layer.activations}' and '{layer.gradients}' of one shape (N, C, h, w), got "
                f"{activations.shape} and {gradients.shape}"
            )
        logits = floats.get(spec.output.score)
        return Tensors(
            activations=activations,
            gradients=gradients,
            classes=values[spec.chosen].astype(np.int64),
            scores=self._by_class(spec.output.name, floats[spec.output.name]),
            logits=None if logits is None else self._by_class(spec.output.score, logits),
            frames=tuple(item.frame for item in inputs),
        )

    def _checked(self, name: str, value: NDArray[Any], count: int) -> NDArray[np.float32]:
        if len(value) != count:
            raise EngineError(f"{self.path}: output '{name}' has shape {value.shape}, expected {count} images")
        value = value.astype(np.float32, copy=False)
        if not np.isfinite(value).all():
            bad = next(i for i in range(count) if not np.isfinite(value[i]).all())
            raise EngineError(
                f"{self.path}: output '{name}' holds NaN or infinity for image {bad} of the batch: the model overflows "
                f"in {self.spec.precision} on '{self.provider}'"
            )
        return value

    def _by_class(self, name: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
        if value.size != len(value) * self.spec.output.classes:
            raise EngineError(
                f"{self.path}: output '{name}' has shape {value.shape}, expected {self.spec.output.classes} classes"
            )
        return value.reshape(len(value), -1)

    def _explanation(
        self, index: int, item: _Input, raw: Tensors, rule: Method, options: Any, inference_ms: float
    ) -> Explanation:
        spec = self.spec
        times = {**item.times_ms, "inference": inference_ms}
        with _timed(times, "method"):
            result: CamResult = rule.run(raw.activations[index], raw.gradients[index], options)
        reason = result.empty
        with _timed(times, "resize"):
            if reason is None and not result.map.max() > 0:
                reason = "the map is zero everywhere"
            size = (spec.input.height, spec.input.width)
            heat = np.zeros(size, np.float32) if reason else normalise(result.map, size)
        times["total"] = sum(times.values())
        probabilities = class_probabilities(raw.scores[index], spec.output.kind)
        target = int(raw.classes[index])
        best = np.argsort(-probabilities, kind="stable")[:_TOP]
        return Explanation(
            map=heat,
            target=target,
            label=spec.output.label(target),
            probability=float(probabilities[target]),
            probabilities=probabilities,
            logits=None if raw.logits is None else raw.logits[index],
            top=[(int(i), spec.output.label(int(i)), float(probabilities[i])) for i in best],
            frame=item.frame,
            photo=item.photo,
            grid=(raw.activations.shape[2], raw.activations.shape[3]),
            method=rule.name,
            settings=dataclasses.asdict(options) if dataclasses.is_dataclass(options) else {},  # type: ignore[arg-type]
            reason=reason,
            counts=result.grouping.counts() if result.grouping is not None else None,
            times_ms=times,
            source=item.source,
            layer=spec.layer.name,
            provider=self.provider,
        )


@contextmanager
def _timed(times: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times[stage] = (time.perf_counter() - started) * 1000
