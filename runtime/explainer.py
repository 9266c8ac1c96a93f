"""`Explainer`: one exported model, many images."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .cam import normalise
from .checks import check_count, check_path, expect
from .closing import Closing
from .contract.manifest import Manifest
from .contract.modelfile import read_spec
from .contract.spec import CamSpec, LayerSpec
from .contrast import check_differ, difference, rival_of, without_contrast
from .engines.base import Engine
from .engines.opening import open_engine, read_manifest
from .errors import ArrayError, EngineError, MethodError, ModelFileError
from .explained import explanation_of
from .explanation import Explanation
from .inference import Inference, Tensors
from .method_runner import MethodRunner, Progress, Work
from .methods import CamResult, Method, get_method, make_settings
from .methods.layer_fusion import Groupings, check_fusion, check_layers, settings_for
from .photos.frame import Frame
from .photos.photo import check_shown
from .photos.preprocess import Prepared, as_input, check_tensor, is_tensor, prepare
from .sess import Sess, as_sess
from .shown import shown_value
from .smoothing import Smoothing, as_smoothing
from .tail import Tail
from .targets import TOP_CLASS, Target, resolve_columns, resolve_targets, top_ranks
from .timing import timed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from .engines.options import EngineOptions
    from .stream import Drop, Streamed

    #: A path, a Pillow image, a photo as array of integers, a ready tensor (C, H, W) of the input's own type (or of
    #: floats), or what `prepare` made.
    Source = str | os.PathLike[str] | Image.Image | NDArray[Any] | Prepared
    #: Copies of an image with noise, whose maps are averaged: how many, or all that can be set.
    Smooth = Smoothing | Mapping[str, Any] | int | None
    #: Windows that slide over the enlarged image, whose maps are put together: True for the published form, or all
    #: that can be set.
    Sliding = Sess | Mapping[str, Any] | int | bool | None

__all__ = ["Explainer", "Tensors"]

#: Images at a time: more is a slip of the keyboard, and would ask for all memory there is.
_LARGEST_BATCH = 4096

#: Methods that ``cfcam export`` can make part of a file, as `FUSED_METHODS` there.
_CAN_BE_FUSED = ("cfcam", "gradcam", "hirescam", "layercam")


class Explainer(Closing):
    """Explains images with a file made by ``cfcam export`` or ``cfcam build``.

    It holds no state besides the engine, and the tail's file once a method has asked for it, so that
    several threads may use one `Explainer`.

    Args:
        path: The ``.cam.onnx`` file, or a product (an ONNX file or a TensorRT engine) with its manifest beside it,
            which is checked.
        provider: ``cpu``, ``cuda``, ``tensorrt``, ...
        allow_fallback: Take the CPU when the provider cannot start.
        threads: For the operators on the CPU. These three win over `options` where they are not None.
        options: Everything that can be set of the engine; None for what the manifest says, or else the defaults.
        engine: An open `Engine` for the same file to use instead; `close` does not close it.
        manifest: The file's, if it has been read and checked already; None reads and checks it.
        probe_batch: How many changed images or activations a probe gives the model at a time.
        layer: For files with several target layers, the name of one that is to be used alone.
        fusion: How the maps of several layers become one (``product``, ``gate``, ``mean`` or ``max``); None for what
            the file says.
        max_pixels: Photos with more pixels are refused before they are decoded; None for 40 million.
        photo_range: The values (low, high) that are black and full brightness in photos of more than 8 bits and of
            floating-point numbers; None for what the file says, or else 0 to 65535, or 0 to 1.
        show_channels: Numbers of one or three channels, from 1, that overlays show; None for the colours, or the first
            three.

    Raises:
        ImageError: `show_channels` that the model does not have.
        ModelFileError: The file or its manifest is missing, or it was not made by ``cfcam export``.
        ManifestError: The manifest does not validate, or describes another file.
        SpecError: The `CamSpec` does not validate, or there is no such layer.
        MethodError: There is no such fusion.
        EngineError: The model cannot be loaded.
        MissingDependencyError: The backend is not installed.

    >>> with Explainer("dogs.cam.onnx") as explainer:                   # doctest: +SKIP
    ...     explainer.explain("two_dogs.jpg").save("why.png")
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        provider: str | None = None,
        allow_fallback: bool | None = None,
        threads: int | None = None,
        options: EngineOptions | Mapping[str, Any] | None = None,
        engine: Engine | None = None,
        manifest: Manifest | None = None,
        probe_batch: int = 16,
        layer: str | None = None,
        fusion: str | None = None,
        max_pixels: int | None = None,
        photo_range: tuple[float, float] | None = None,
        show_channels: Sequence[int] | None = None,
    ) -> None:
        check_count("probe_batch", probe_batch, high=_LARGEST_BATCH)
        self.path = check_path("Explainer", path, ModelFileError)
        for name, value, kinds in (
            ("layer", layer, (str, None)),
            ("fusion", fusion, (str, None)),
            ("manifest", manifest, (Manifest, None)),
        ):
            expect("Explainer", name, value, *kinds)
        if max_pixels is not None:
            check_count("max_pixels", max_pixels)
        for name, value in (("photo_range", photo_range), ("show_channels", show_channels)):
            expect("Explainer", name, value, Sequence, None)
            if value is not None and (isinstance(value, str) or not all(isinstance(n, int | float) for n in value)):
                raise ArrayError(f"Explainer: {name}: expected numbers, got {shown_value(value)}")
        if photo_range is not None and len(photo_range) != 2:
            raise ArrayError(f"Explainer: photo_range: expected (low, high), got {shown_value(photo_range)}")
        if engine is not None and not (hasattr(engine, "describe") and hasattr(engine, "infer")):
            raise ArrayError(f"Explainer: engine: expected an open engine, got {shown_value(engine)}")
        #: Of a product, what was built and what the gate said of it; None of a file without one.
        self.manifest: Manifest | None = manifest or read_manifest(path, machine=engine is None)
        is_engine = self.manifest is not None and self.manifest.is_engine
        # A TensorRT engine says nothing about itself; its manifest does.
        said = self.manifest.cam_spec if self.manifest is not None and is_engine else read_spec(path)
        self.spec: CamSpec = _used(said, layer, fusion, photo_range)
        if show_channels is not None:
            check_shown(show_channels, self.spec.input.channels)
        self._show = show_channels
        self._owns_engine = engine is None
        self._engine = engine or open_engine(
            path, provider, allow_fallback, threads, options=options, manifest=self.manifest
        )
        self._inference = Inference(self.path, self.spec, self._engine)
        self._runner = MethodRunner(self.spec, self._inference, self._open_tail, probe_batch)
        self._options = options
        self._wins = (allow_fallback, threads)
        self._max_pixels = max_pixels
        self._tail: Tail | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def provider(self) -> str:
        """The provider that really runs."""
        return self._inference.info.provider

    @property
    def engine(self) -> Engine:
        """The open engine, for whoever runs it without anything else."""
        return self._engine

    def prepare(self, image: Source) -> Prepared:
        """Open a photo and make the model's input of it, once for everything that is then asked about it.

        Args:
            image: As for `explain`; what `prepare` made is given back as it is.

        Returns:
            Photo, tensor, frame and times, which `explain`, `explain_batch` and `tensors` take in place of the photo.

        Raises:
            ImageError: The photo cannot be opened.
            ArrayError: An array of another shape or dtype, or with non-finite values.
        """
        if isinstance(image, Prepared):
            return image
        return prepare(image, self.spec.input, self._max_pixels, show=self._show)

    def explain(
        self,
        image: Source,
        target: Target = None,
        method: str | None = None,
        settings: Mapping[str, Any] | Any = None,
        *,
        smooth: Smooth = None,
        sess: Sliding = None,
        progress: Progress | None = None,
        against: Target = None,
    ) -> Explanation:
        """Explain one image.

        Args:
            image: A path (``.npy`` and ``.npz`` too), a Pillow image, a photo as array of integers (H, W) or (H, W, C)
                (of four uint8 the last is transparency, unless the model takes four), a ready tensor (C, H, W) or
                (1, C, H, W) in the model's layout and type (float32 for float16, too), or what `prepare` made.
            target: Class index or label; None for the top class.
            method: A name from `method_names`; None for the one that the file asks for.
            settings: A mapping or the method's settings object; None for the file's settings if the method is the
                file's own, or else the defaults.
            smooth: Explain so many noisy copies in one inference, and take the mean of their maps; a `Smoothing` sets
                the noise. Class and probabilities are still those of the image itself.
            sess: Explain windows that slide over the enlarged image, 122 of them, and take the mean of their maps,
                weighed by the class's probability in each; True for the published form, a `Sess` sets how. Not together
                with `smooth`.
            progress: Told how far a probe or `sess` is, which may take seconds to minutes.
            against: A class that `target` is set against: the map is of the difference of their logits, what speaks for
                the one rather than the other. Index or label, or -2 for the class of the second highest score, -3 for
                the third, and so on; None for no such class. For rules alone, and not with `sess`; the setting
                `contrast`, which sets a class against all others, is then 0.

        Returns:
            The map, the class, its probability and what else is known.

        Raises:
            ArrayError: The array has another shape or type, or non-finite values.
            ImageError: The photo cannot be opened.
            TargetError: There is no such class.
            MethodError: There is no such method or setting, or it cannot set a class against another.
            EngineError: The model cannot be run.
        """
        if isinstance(image, np.ndarray) and image.ndim == 4 and len(image) != 1:
            raise ArrayError(f"explain takes one image, got an array of shape {image.shape}: use explain_batch")
        one = image[0] if isinstance(image, np.ndarray) and image.ndim == 4 else image
        how = {"smooth": smooth, "sess": sess, "progress": progress, "against": against}
        return self.explain_batch([one], [target], method, settings, **how)[0]

    def explain_batch(
        self,
        images: Sequence[Source] | NDArray[Any],
        targets: Target | Sequence[Target] = None,
        method: str | None = None,
        settings: Mapping[str, Any] | Any = None,
        *,
        smooth: Smooth = None,
        sess: Sliding = None,
        progress: Progress | None = None,
        against: Target = None,
    ) -> list[Explanation]:
        """Explain N images in one inference.

        A file whose batch is fixed is run as often as N needs; probes and smoothing run more, image by image. With
        `against`, a file that was not exported with ``--classes-per-image`` is run twice.

        Args:
            images: A sequence of what `explain` takes, or an array of N of them.
            targets: One for all images, or one per image.
            method: As in `explain`.
            settings: As in `explain`.
            smooth: As in `explain`.
            sess: As in `explain`.
            progress: As in `explain`; it begins anew with every image.
            against: As in `explain`, one for all images.

        Returns:
            N explanations. Where an image's top class is the one that it is set against, its map is empty.

        Raises:
            CfcamError: As `explain`.
        """
        expect("explain", "progress", progress, Callable, None)
        work = self._work(method, settings, smooth, sess, progress)
        work, rival = self._rival(work, against)
        inputs = self._inputs(images)
        wanted = resolve_targets(targets, len(inputs), self.spec.output)
        if not inputs:
            return []
        started = time.perf_counter()
        if rival is None:
            raw = self._infer([item.tensor for item in inputs], [item.frame for item in inputs], wanted)
        else:
            (raw,) = self._columns(inputs, np.array(wanted, np.int64)[:, None], rival)
        share = (time.perf_counter() - started) * 1000 / len(inputs)
        return [self._explanation(i, item, raw, work, share) for i, item in enumerate(inputs)]

    def stream(
        self, frames: Iterable[Source], target: Target = None, *, budget_ms: float | None = None, drop: Drop = "latest"
    ) -> Iterator[Streamed]:
        """Explain frames as they come, while a thread reads the next.

        Args:
            frames: What `explain` takes, one after the other: of a camera, say.
            target: As in `explain`, for all frames.
            budget_ms: Frames that have waited longer (ms) before their turn are left out; None for any wait.
            drop: ``latest``: a frame that still waits when the next one comes is left out; ``none``: reading waits.

        Returns:
            The explained frames one by one, with how many were left out before each, and their age.

        Raises:
            CfcamError: As `explain`; and a budget that is not above 0, or with ``none``.
        """
        from .stream import explain_frames

        return explain_frames(lambda frame: self.explain(frame, target), frames, budget_ms=budget_ms, drop=drop)

    def explain_top(
        self,
        image: Source,
        count: int,
        method: str | None = None,
        settings: Mapping[str, Any] | Any = None,
        *,
        smooth: Smooth = None,
        sess: Sliding = None,
        progress: Progress | None = None,
        against: Target = None,
    ) -> list[Explanation]:
        """Explain the `count` best classes of one image.

        Args:
            image: As in `explain`.
            count: How many classes, those of the highest scores.
            method: As in `explain`.
            settings: As in `explain`.
            smooth: As in `explain`.
            sess: As in `explain`.
            progress: As in `explain_classes`.
            against: As in `explain`.

        Returns:
            The explanations, best class first; inferences as in `explain_classes`.

        Raises:
            CfcamError: As `explain`; and a `count` that is no number from 1 to the number of classes.

        >>> [one.label for one in explainer.explain_top("two_dogs.jpg", 2)]        # doctest: +SKIP
        ['Boston bull', 'Italian greyhound']
        """
        how = {"smooth": smooth, "sess": sess, "progress": progress, "against": against}
        return self.explain_classes([image], top_ranks(count, self.spec.output), method, settings, **how)[0]

    def explain_classes(
        self,
        images: Sequence[Source] | NDArray[Any],
        targets: Sequence[Target] | Sequence[Sequence[Target]] | NDArray[Any],
        method: str | None = None,
        settings: Mapping[str, Any] | Any = None,
        *,
        smooth: Smooth = None,
        sess: Sliding = None,
        progress: Progress | None = None,
        against: Target = None,
    ) -> list[list[Explanation]]:
        """Explain several classes of each of N images.

        A file that was exported with ``--classes-per-image`` does so in one inference (with a number K: of K classes
        at a time); any other takes one inference per class. Channels are clustered once per image.

        Args:
            images: As in `explain_batch`.
            targets: The classes, the same for all images, or a list of them for each image, of equal lengths: what
                `explain` takes, and -2 for the class of the second highest score, -3 for the third, and so on.
            method: As in `explain`.
            settings: As in `explain`.
            smooth: As in `explain`.
            sess: As in `explain`.
            progress: As in `explain`; it begins anew with every image and class.
            against: As in `explain`: every class is set against this one, which counts as one more in the inference.

        Returns:
            For each image an explanation per class, in the order of `targets`. The time of the inference is shared out
            among them.

        Raises:
            CfcamError: As `explain`.

        >>> explainer.explain_classes(["two_dogs.jpg"], [-1, -2])[0][1].label      # doctest: +SKIP
        'Boston bull'
        """
        expect("explain_classes", "progress", progress, Callable, None)
        work = self._work(method, settings, smooth, sess, progress)
        work, rival = self._rival(work, against)
        inputs = self._inputs(images)
        asked = resolve_columns(targets, len(inputs), self.spec.output)
        if not inputs:
            return []
        started = time.perf_counter()
        columns = self._columns(inputs, asked, rival)
        share = (time.perf_counter() - started) * 1000 / asked.size
        found = []
        for i, item in enumerate(inputs):
            groupings: Groupings = {}
            found.append([self._explanation(i, item, raw, work, share, groupings) for raw in columns])
        return found

    def maps(
        self,
        images: NDArray[Any],
        targets: Target | Sequence[Target] = None,
        method: str | None = None,
        settings: Mapping[str, Any] | Any = None,
        *,
        smooth: Smooth = None,
        sess: Sliding = None,
    ) -> NDArray[np.float32]:
        """Maps and nothing else.

        Args:
            images: Ready tensors float32 (N, ...) in the model's own layout.
            targets: As in `explain_batch`.
            method: As in `explain`.
            settings: As in `explain`.
            smooth: As in `explain`.
            sess: As in `explain`.

        Returns:
            Float32 (N, H, W) in [0, 1]; empty maps are zero everywhere.

        Raises:
            CfcamError: As `explain`.
        """
        work = self._work(method, settings, smooth, sess)
        tensors = check_tensor(images, self.spec.input)
        raw = self.answers(tensors, targets)
        return np.stack([self._heat(self._runner.run(work, one, raw, i, {})) for i, one in enumerate(tensors)])

    def tensors(self, images: Sequence[Source] | NDArray[Any], targets: Target | Sequence[Target] = None) -> Tensors:
        """Activations, gradients, classes and scores of N images, in one inference, without a method.

        Args:
            images: As in `explain_batch`, at least one.
            targets: As in `explain_batch`.

        Returns:
            The raw values.

        Raises:
            ArrayError: There are no images, or an array has another shape or type, or non-finite values.
            ImageError: A photo cannot be opened.
            TargetError: There is no such class.
            EngineError: The model cannot be run, or returns non-finite values.
            MethodError: The file is fused, and gives out finished maps alone.
        """
        self._refuse_fused()
        return self.answers(images, targets)

    def answers(self, images: Sequence[Source] | NDArray[Any], targets: Target | Sequence[Target] = None) -> Tensors:
        """`tensors` of any file: a fused one has `Tensors.finished` in place of layers.

        Args:
            images: As in `tensors`.
            targets: As in `tensors`.

        Returns:
            The raw values.

        Raises:
            ArrayError: As `tensors`.
            ImageError: As `tensors`.
            TargetError: As `tensors`.
            EngineError: As `tensors`.
        """
        if isinstance(images, np.ndarray) and images.ndim == 4 and is_tensor(images, self.spec.input):
            tensors = list(check_tensor(images, self.spec.input))
            frames = [Frame.whole(self.spec.input.width, self.spec.input.height)] * len(tensors)
        else:
            inputs = self._inputs(images)
            tensors, frames = [item.tensor for item in inputs], [item.frame for item in inputs]
        if not tensors:
            raise ArrayError("tensors: expected at least one image")
        return self._infer(tensors, frames, resolve_targets(targets, len(tensors), self.spec.output))

    def columns(
        self, images: NDArray[Any], targets: Sequence[Target] | Sequence[Sequence[Target]]
    ) -> tuple[Tensors, ...]:
        """`tensors` for several classes of each image, of one inference where the file explains so many at once.

        Args:
            images: Ready tensors float32 (N, ...), N of at least 1, in the model's own layout.
            targets: As in `explain_classes`.

        Returns:
            The raw values for each of the K targets; what no class can change is shared between them.

        Raises:
            ArrayError: No images, another shape or dtype, or non-finite values.
            TargetError: There is no such class.
            EngineError: The model cannot be run, or returns non-finite values.
            MethodError: The file is fused.
        """
        self._refuse_fused()
        tensors = check_tensor(images, self.spec.input)
        frames = [Frame.whole(self.spec.input.width, self.spec.input.height)] * len(tensors)
        return self._inference.columns(tensors, resolve_columns(targets, len(tensors), self.spec.output), frames)

    def probabilities(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities and nothing else.

        Args:
            images: Ready tensors float32 (N, ...), N of at least 1, in the model's own layout.

        Returns:
            float32 (N, K).

        Raises:
            ArrayError: No images, another shape or dtype, or non-finite values.
            EngineError: The model cannot be run, or gives non-finite values.
        """
        return self._inference.probabilities(check_tensor(images, self.spec.input))

    def resolve_method(self, method: str | None = None, settings: Any = None) -> tuple[Method, Any]:
        """The method and the settings that `explain` would use; a tail that it needs is opened.

        Args:
            method: As in `explain`.
            settings: As in `explain`.

        Returns:
            The method and its settings object. For a rule on several layers, the setting `last` may be None: each layer
            then has its own.

        Raises:
            MethodError: There is no such method or setting, or the file has too few layers for it.
            ModelFileError: The method needs the tail, which is missing or is another one.
            EngineError: The tail cannot be loaded.
        """
        asked = self.spec.method
        chosen = get_method(asked.name if method is None else method)
        if settings is None and chosen.name == asked.name:
            settings = asked.settings
        options = make_settings(chosen, settings)
        if self.spec.fused is not None:
            return self._fused_method(chosen, options)
        check_layers(chosen, self._layers(chosen))
        if len(self._layers(chosen)) == 1:
            options = settings_for(options, self.spec.layer)
        if chosen.needs_tail:
            self._open_tail()
        return chosen, options

    def _fused_method(self, chosen: Method, options: Any) -> tuple[Method, Any]:
        """The method of a fused file, if it is the one that is asked for. Raises `MethodError`."""
        asked = self.spec.method
        own = make_settings(get_method(asked.name), asked.settings)
        if chosen.name != asked.name:
            raise MethodError(
                f"{self.path}: is fused: its maps are made by method '{asked.name}' in the graph itself; export the "
                f"model with --fused --method {chosen.name}, or without --fused for any method"
                if chosen.name in _CAN_BE_FUSED
                else f"{self.path}: is fused: its maps are made by method '{asked.name}' in the graph itself; export "
                f"the model without --fused for method '{chosen.name}'"
            )
        options = settings_for(options, self.spec.layer)
        if options != own:
            raise MethodError(
                f"{self.path}: is fused: the settings of '{asked.name}' are constants of the graph; export the model "
                "with --fused --settings and the ones that you want, or without --fused for any"
            )
        return chosen, own

    def warm_up(self, n: int = 3, batch: int = 1) -> float:
        """Run the model `n` times on `batch` images of noise, then the file's method once if it is a rule.

        What a backend does on its first runs (allocating, compiling, recording a CUDA graph) it does now, and what the
        method imports is imported.

        Args:
            n: Runs, at least 1.
            batch: Images per run, at least 1.

        Returns:
            How long it took, in seconds.

        Raises:
            ArrayError: `n` or `batch` is out of range.
            EngineError: The model cannot be run.
        """
        check_count("warm_up: n", n, high=10_000)
        check_count("warm_up: batch", batch, high=_LARGEST_BATCH)
        shape = self.spec.input.shape(batch)
        images = as_input(np.random.default_rng(0).standard_normal(shape), self.spec.input.dtype)
        started = time.perf_counter()
        for _ in range(n):
            self.answers(images, None)
        if get_method(self.spec.method.name).kind == "rule":
            self.maps(images[:1])
        return time.perf_counter() - started

    def close(self) -> None:
        """Free the engines, unless the engine was given by the caller."""
        if self._owns_engine:
            self._engine.close()
        with self._lock:
            self._closed = True
            if self._tail is not None:
                self._tail.close()

    def _refuse_fused(self) -> None:
        if self.spec.fused is not None:
            raise MethodError(
                f"{self.path}: is fused: it gives out finished maps, and no activations or gradients; export the model "
                "without --fused for this"
            )

    def _layers(self, method: Method) -> tuple[LayerSpec, ...]:
        """The target layers that a method works with."""
        return self.spec.layers if method.kind == "rule" else self.spec.layers[:1]

    def _work(
        self, method: str | None, settings: Any, smooth: Smooth, sess: Sliding, progress: Progress | None = None
    ) -> Work:
        """What is asked, checked. Raises `MethodError`, and what `resolve_method` raises."""
        work = Work(*self.resolve_method(method, settings), as_smoothing(smooth), progress, as_sess(sess))
        if self.spec.fused is not None and (work.sess is not None or work.smoothing is not None):
            raise MethodError(
                f"{self.path}: is fused: {'smooth' if work.sess is None else 'sess'} puts maps together before they "
                "are scaled, and the file gives out finished ones; export the model without --fused for this"
            )
        fixed = self.spec.fixed_target
        if fixed is not None and fixed.index == TOP_CLASS and (work.sess is not None or work.smoothing is not None):
            raise MethodError(
                f"{self.path}: explains the top class of each image alone, and "
                f"{'noisy copies' if work.sess is None else 'windows'} of a photo may have another: export the model "
                "without --fixed-target for this, or with --fixed-target CLASS"
            )
        if work.sess is not None and work.smoothing is not None:
            raise MethodError("smooth and sess: cannot be combined; leave one of them out")
        if work.sess is not None and self.spec.output.kind == "regression":
            raise MethodError(
                "sess: weighs windows by the class's probability, which a regression does not have; leave it out"
            )
        return work

    def _open_tail(self) -> Tail:
        with self._lock:
            if self._closed:
                raise EngineError(f"{self.path}: the explainer is closed: open the file again")
            if self._tail is None:
                # The tail is an ONNX file, also beside a TensorRT engine, whose options say nothing about it.
                is_engine = self.manifest is not None and self.manifest.is_engine
                provider, options = (None, None) if is_engine else (self.provider, self._options)
                self._tail = Tail(self.path, self.spec, provider, *self._wins, options=options)
            return self._tail

    def _inputs(self, images: Any) -> list[Prepared]:
        is_one = not isinstance(images, Sequence | np.ndarray) or isinstance(images, str)
        if is_one or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise ArrayError("expected a sequence of images or a 4-D array; for a single image use explain")
        return [self.prepare(image) for image in images]

    def _infer(self, tensors: Sequence[NDArray[Any]], frames: Sequence[Frame], targets: list[int]) -> Tensors:
        return self._inference.tensors(np.stack(tensors), np.array(targets, np.int64), frames)

    def _rival(self, work: Work, against: Target) -> tuple[Work, int | None]:
        """What is to be done where the class `against` is the only rival, and which it is."""
        rival = rival_of(against, self.path, self.spec, work.method, work.sess is not None)
        if rival is None:
            return work, None
        return dataclasses.replace(work, settings=without_contrast(work.method, work.settings)), rival

    def _columns(
        self, inputs: Sequence[Prepared], classes: NDArray[np.int64], rival: int | None
    ) -> tuple[Tensors, ...]:
        """What each column of `classes` (N, K) needs, set against the class `rival` where there is one."""
        tensors, frames = np.stack([item.tensor for item in inputs]), [item.frame for item in inputs]
        if rival is None:
            return self._inference.columns(tensors, classes, frames)
        check_differ(classes, rival)
        asked = np.concatenate([classes, np.full((len(classes), 1), rival)], axis=1)
        *columns, last = self._inference.columns(tensors, asked, frames)
        return tuple(difference(column, last) for column in columns)

    def _heat(self, result: CamResult) -> NDArray[np.float32]:
        """The map at the input's size, (H, W) in [0, 1]; zero where it is empty."""
        size = (self.spec.input.height, self.spec.input.width)
        return np.zeros(size, np.float32) if result.empty else normalise(result.map, size)

    def _explanation(
        self,
        index: int,
        item: Prepared,
        raw: Tensors,
        work: Work,
        inference_ms: float,
        groupings: Groupings | None = None,
    ) -> Explanation:
        layers = self._layers(work.method)
        times = {**item.times_ms, "inference": inference_ms}
        result = self._runner.run(work, item.tensor, raw, index, times, groupings)
        with timed(times, "resize"):
            heat = self._heat(result)
        times["total"] = sum(times.values())
        return explanation_of(self.spec, layers, item, raw, index, work, result, heat, times, self.provider)


def _used(spec: CamSpec, layer: str | None, fusion: str | None, photo_range: tuple[float, float] | None) -> CamSpec:
    """The spec with what the caller wants of it. Raises `SpecError`, `MethodError`."""
    if layer is not None:
        spec = spec.with_layer(layer)
    if photo_range is not None:
        low, high = photo_range
        said = dataclasses.replace(spec.input, photo_range=(float(low), float(high)))
        spec = dataclasses.replace(spec, input=said)
    if fusion is not None:
        check_fusion(fusion, spec.layers)
        spec = dataclasses.replace(spec, fusion=fusion)  # type: ignore[arg-type] - checked
    return spec
