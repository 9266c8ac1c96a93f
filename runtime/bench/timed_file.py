"""`TimedFile`: one file, one photo, and what is timed of them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..closing import Closing
from ..engines.options import EngineOptions
from ..explainer import Explainer
from ..inference import infer_all
from ..moved import old_names
from ..targets import Target, class_feed, class_input, resolve_target
from .memory import high_water, resident
from .sampling import Clock

__all__ = ["STAGES", "TimedFile"]

#: The stages of an explanation, in their order, as `Explanation.times_ms` names them.
STAGES = ("decode", "preprocess", "inference", "method", "resize")


class TimedFile(Closing):
    """An open file and a photo, warm after `warm_up`.

    path: a ``.cam.onnx`` file or a built product. image: a photo's path. batch: how many copies of it are
    explained together. target, method, settings, layer, fusion: as for `Explainer`. provider, allow_fallback, threads:
    as for `open_engine`.
    Raises what `Explainer` raises, and `ImageError`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        image: str | os.PathLike[str],
        *,
        batch: int = 1,
        target: Target = None,
        method: str | None = None,
        settings: Mapping[str, Any] | None = None,
        layer: str | None = None,
        fusion: str | None = None,
        provider: str | None = None,
        allow_fallback: bool | None = None,
        threads: int | None = None,
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        self.path, self.image, self.batch, self.clock = Path(path), Path(image), batch, clock
        self.memory: dict[str, int | None] = {"before_open": resident()}
        started = clock()
        self.explainer = Explainer(
            path,
            provider=provider,
            allow_fallback=allow_fallback,
            threads=threads,
            layer=layer,
            fusion=fusion,
            probe_batch=max(batch, 16),
        )
        self.open_ms = (clock() - started) / 1e6
        self.engine, self.spec, manifest = self.explainer.engine, self.explainer.spec, self.explainer.manifest
        self.info = self.engine.describe()
        #: What the engine was opened with: a product's own, where the caller says nothing else.
        self.options = (EngineOptions() if manifest is None else manifest.engine_options).but(threads=threads)
        try:
            self.target = resolve_target(target, self.spec.output)
            self.method, self.settings = self.explainer.resolve_method(method, settings)
            prepared = self.explainer.prepare(image)
        except BaseException:
            self.close()
            raise
        self.photo_size = prepared.photo.size
        self.tensors: NDArray[Any] = np.stack([prepared.tensor] * batch)
        self.first_ms: float | None = None
        self.warm_up_rounds = 0

    def warm_up(self, rounds: int = 10) -> None:
        """Run everything `rounds` times, and note how long the very first explanation took and the memory.

        The first one loads what the method imports, and is where a backend allocates and compiles.
        """
        started = self.clock()
        self.explain()
        self.first_ms = (self.clock() - started) / 1e6
        for _ in range(rounds - 1):
            self.explain()
            self.maps()
            self.infer()
        self.warm_up_rounds = rounds
        self.memory |= {"warm": resident(), "high_water": high_water()}

    def infer(self) -> None:
        """The model alone: ready tensors in, everything that a map needs out."""
        spec = self.spec
        classes = class_input(spec, np.full(self.batch, self.target, np.int64))
        feed = {spec.input.name: self.tensors, **class_feed(spec, classes)}
        infer_all(self.engine, feed, [spec.output.name, *spec.added_outputs])

    def maps(self) -> None:
        """From ready tensors to maps at the input's size."""
        self.explainer.maps(self.tensors, self.target, self.method.name, self.settings)

    def explain(self) -> dict[str, float]:
        """From the photo's file to the explanations; milliseconds per stage, of the whole batch."""
        images = [str(self.image)] * self.batch
        found = self.explainer.explain_batch(images, self.target, self.method.name, self.settings)
        return {stage: sum(one.times_ms.get(stage, 0.0) for one in found) for stage in STAGES}

    def close(self) -> None:
        """Free the engine."""
        self.explainer.close()


__getattr__ = old_names(__name__, {"Subject": TimedFile})
