"""`Tail`: the file beside the model that goes from the layer's activations to the logits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract.modelfile import file_sha256
from .contract.spec import CamSpec, TailSpec
from .engines.opening import open_engine
from .engines.options import EngineOptions
from .errors import MethodError, ModelFileError
from .inference import by_class, finite, infer_all

__all__ = ["Tail"]

_log = logging.getLogger(__name__)


class Tail:
    """The open tail of the model at `model`, whose spec is `spec`.

    It must be the very file that was written with the model: its hash is compared before it
    is opened. provider, allow_fallback, threads, options: as for `open_engine`.
    Raises `MethodError` when the model has no tail, `ModelFileError` when the file is missing or another
    one, and what `open_engine` raises.
    """

    def __init__(
        self,
        model: Path,
        spec: CamSpec,
        provider: str | None,
        allow_fallback: bool | None = None,
        threads: int | None = None,
        *,
        options: EngineOptions | Mapping[str, Any] | None = None,
    ) -> None:
        tail = spec.tail
        if tail is None:
            raise MethodError(
                f"{model}: has no tail of layer '{spec.layer.name}', which this method runs: export it again with "
                "`cfcam export ... --with-tail` (of several layers, the first one has the tail)"
            )
        path = _checked(model, tail)
        self._path, self._tail, self._spec = path, tail, spec
        self._engine = open_engine(path, provider, allow_fallback, threads, options=options)
        info = self._engine.describe()
        self._where = f"{spec.precision} on '{info.provider}'"
        known = {*tail.inputs[:1], spec.input.name}
        if set(info.inputs) != set(tail.inputs) or not set(tail.inputs) <= known or tail.score not in info.outputs:
            self.close()
            raise ModelFileError(
                f"{path}: expected the inputs {', '.join(tail.inputs)} and the output {tail.score}, as {model.name} "
                f"says, found {', '.join(info.inputs)} and {', '.join(info.outputs)}"
            )
        _log.info("%s: opened as the tail of %s, on '%s'", path, model, info.provider)
        #: The batch that the file is fixed to, or None.
        self.batch = info.batch

    def logits(self, activations: NDArray[np.float32], image: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (N, K) of N activations (N, C, h, w) of one image.

        image: a tensor in the model's layout and type, without batch; only read where the tail needs
        more of the network than the layer. Raises `EngineError`.
        """
        first, *others = self._tail.inputs
        feed: dict[str, NDArray[Any]] = {first: activations}
        if others:
            feed[self._spec.input.name] = np.repeat(image[None], len(activations), axis=0)
        name = self._tail.score
        found = infer_all(self._engine, feed, [name])[name]
        checked = finite(self._path, name, found, len(activations), self._where)
        return by_class(self._path, name, checked, self._spec.output.classes)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


def _checked(model: Path, tail: TailSpec) -> Path:
    path = model.with_name(tail.file)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; it is the tail of {model.name}, and must lie beside it")
    if file_sha256(path) != tail.sha256:
        raise ModelFileError(
            f"{path}: is not the tail that was exported with {model.name} (another SHA-256): export both again with "
            "`cfcam export ... --with-tail`"
        )
    return path
