"""Asking a running Triton, and comparing what it answers with `Explainer`, bit for bit.

A plain file's own outputs are compared with those that it has here, of the same input: who asks prepares the photo.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CfcamError, ImageError, MissingDependencyError, one_line
from ...runtime.explainer import Explainer
from ...runtime.targets import class_feed
from ...runtime.triton_model import answer
from ..errors import ExportError

__all__ = ["ServedRow", "check_server"]

#: What is compared; an overlay is made of these.
_COMPARED = ("map", "class", "label", "probabilities", "logits", "value", "peak", "reason")


@dataclass(frozen=True)
class ServedRow:
    """One request.

    Attributes:
        source: The photo's path, or "noise".
        sent: ``image`` (the file's bytes) or ``tensor``.
        target: The class that was asked for, -1 for the top one.
        same: Whether every output has the same bits as `Explainer`'s.
        differing: Names of outputs that have not.
        largest: The largest difference of a number in the outputs that differ; infinite where that is no number, for
            a shape, a text or a truth value.
        close: Whether `largest` is at most the tolerance, and all integers, texts and truth values are the same.
        error: What the server said instead of an answer, or None.
    """

    source: str
    sent: str
    target: int
    same: bool
    differing: tuple[str, ...] = ()
    largest: float = 0.0
    error: str | None = None
    close: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `largest` is null where it is no number."""
        return {**asdict(self), "largest": self.largest if math.isfinite(self.largest) else None}


def check_server(
    file: str | os.PathLike[str],
    url: str,
    name: str,
    images: Sequence[str] = (),
    *,
    threads: int | None = None,
    tolerance: float = 0.0,
    timeout: float = 60.0,
    progress: Callable[[str], None] | None = None,
) -> list[ServedRow]:
    """Send photos and tensors to a server, for the top class and another one.

    Args:
        file: The file that the repository was written from.
        url: ``http://HOST:PORT`` or ``grpc://HOST:PORT``.
        name: Of the model that clients call.
        images: Photos; noise alone where there are none.
        threads: CPU threads of the `Explainer` that is compared with.
        tolerance: How much floating-point numbers may differ for a row to be `ServedRow.close`.
        timeout: Seconds for one request.
        progress: Told what is being asked.

    Returns:
        A row for each request.

    Raises:
        ExportError: The server cannot be reached, or has no such model; or a tolerance that is no number from 0.
        MissingDependencyError: tritonclient is not installed.
        CfcamError: The file or a photo cannot be opened.
    """
    if not 0 <= tolerance < math.inf:
        raise ExportError(f"tolerance: expected a number from 0, got {tolerance}")
    with Explainer(file, threads=threads) as explainer, _Client(url, name, timeout) as client:
        takes, gives = client.describe()
        rows: list[ServedRow] = []
        questions = _Plain(explainer, gives) if explainer.spec.chosen in gives else _Explained(explainer, takes, gives)
        for source, sent, target, feed, expected in questions.all(images):
            if progress is not None:
                progress(f"{source} as {sent}")
            rows.append(_row(source, sent, target, client.ask(feed, list(expected)), expected, tolerance))
        return rows


#: Source, what it is sent as, class, inputs, and the outputs that are expected.
_Question = tuple[str, str, int, dict[str, NDArray[Any]], dict[str, NDArray[Any]]]


def _noise(explainer: Explainer) -> NDArray[Any]:
    spec = explainer.spec.input
    return _typed(np.random.default_rng(0).standard_normal(spec.shape(1)[1:]), spec.dtype)


class _Explained:
    """A model that gives explanations."""

    def __init__(self, explainer: Explainer, takes: Sequence[str], gives: Sequence[str]) -> None:
        self._explainer, self._takes = explainer, takes
        self._outputs = [one for one in _COMPARED if one in gives]

    def all(self, images: Sequence[str]) -> Iterator[_Question]:
        """Every question, its answer made when its turn has come."""
        explainer = self._explainer
        blank = _noise(explainer)
        questions: list[tuple[str, str, Any, Any]] = [("noise", "tensor", blank, blank)]
        for path in images:
            prepared = explainer.prepare(path)
            questions.append((path, "tensor", prepared.tensor, prepared.tensor))
            if "image" in self._takes:
                questions.append((path, "image", _read(path), path))
        for source, sent, value, asked in questions:
            array = np.array([[value]], np.object_) if isinstance(value, bytes) else value[None]
            for target in (-1, explainer.spec.output.classes - 1):
                feed = {sent: array, "target": np.array([[target]], np.int64)}
                yield source, sent, target, feed, answer([explainer.explain(asked, target)], self._outputs)


class _Plain:
    """The file itself."""

    def __init__(self, explainer: Explainer, gives: Sequence[str]) -> None:
        self._explainer = explainer
        info, spec = explainer.engine.describe(), explainer.spec
        lacking = [name for name in (spec.output.name, *spec.added_outputs) if name not in gives]
        if lacking:
            raise ExportError(
                f"{explainer.path}: the server's model has no output {', '.join(map(repr, lacking))}: it was written "
                "from another file, give that one"
            )
        self._outputs = [name for name in info.outputs if name in gives]
        #: Images in a request: of a file whose batch is fixed, all.
        self._count = info.batch or 1

    def all(self, images: Sequence[str]) -> Iterator[_Question]:
        """Every question, its answer made when its turn has come."""
        explainer, spec = self._explainer, self._explainer.spec
        inputs = [("noise", _noise(explainer)), *((path, explainer.prepare(path).tensor) for path in images)]
        for source, tensor in inputs:
            for target in (-1, spec.output.classes - 1) if spec.fixed_target is None else (spec.fixed_target.index,):
                feed = {spec.input.name: np.stack([tensor] * self._count), **class_feed(spec, self._classes(target))}
                expected = explainer.engine.infer(feed, self._outputs)
                flat = expected.items() if self._fixed else ((n, _as_rows(v)) for n, v in expected.items())
                sent = feed if self._fixed else {name: _as_rows(value) for name, value in feed.items()}
                yield source, "tensor", target, sent, dict(flat)

    def _classes(self, target: int) -> NDArray[np.int64]:
        """The class input: `target` for each image, and where several classes are explained others beside it."""
        columns = self._explainer.spec.columns
        if columns is None:
            return np.full(self._count, target, np.int64)
        row = [target, *range((columns.count or 2) - 1)]
        return np.array([row] * self._count, np.int64)

    @property
    def _fixed(self) -> bool:
        return self._explainer.engine.describe().batch is not None


def _as_rows(value: NDArray[Any]) -> NDArray[Any]:
    """One number per image as Triton holds it where it batches: (N, 1)."""
    return value[:, None] if value.ndim == 1 else value


def _typed(noise: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    if np.issubdtype(np.dtype(dtype), np.integer):
        limits = np.iinfo(np.dtype(dtype))
        return np.clip(np.round(noise * 40 + (limits.max + limits.min) / 2), limits.min, limits.max).astype(dtype)
    return noise.astype(dtype)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _row(
    source: str,
    sent: str,
    target: int,
    found: dict[str, NDArray[Any]] | str,
    expected: dict[str, NDArray[Any]],
    tolerance: float,
) -> ServedRow:
    if isinstance(found, str):
        return ServedRow(source, sent, target, False, error=found)
    differing = tuple(name for name in expected if not _same(found[name], expected[name]))
    largest = max((_difference(found[name], expected[name]) for name in differing), default=0.0)
    return ServedRow(source, sent, target, not differing, differing, largest, close=largest <= tolerance)


def _difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest of numbers; infinite of what is none, and where one is NaN and the other is not."""
    if a.shape != b.shape or a.dtype.kind != "f" or b.dtype.kind != "f":
        return math.inf
    # Two NaN are the same, as the peak of an empty map.
    apart = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a.astype(np.float64) - b))
    return float("inf") if np.isnan(apart).any() else float(apart.max(initial=0.0))


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        return False
    return bool((a == b).all()) if a.dtype.kind == "O" else a.tobytes() == b.tobytes()


class _Client:
    """The part of tritonclient's HTTP and gRPC clients that is needed here; they are called alike."""

    def __init__(self, url: str, name: str, timeout: float) -> None:
        scheme, _, place = url.rpartition("://")
        if scheme not in ("", "http", "grpc") or not place:
            raise ExportError(f"{url}: expected http://HOST:PORT or grpc://HOST:PORT of a running Triton")
        self._url, self._name, self._timeout = url, name, timeout
        self._kind: Literal["http", "grpc"] = "grpc" if scheme == "grpc" else "http"
        self._module = self._imported()
        more = {"network_timeout": timeout, "connection_timeout": timeout} if self._kind == "http" else {}
        self._more = {} if more else {"client_timeout": timeout}
        self._client = self._module.InferenceServerClient(place.rstrip("/"), **more)

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _imported(self) -> Any:
        try:
            if self._kind == "grpc":
                import tritonclient.grpc as module
            else:
                import tritonclient.http as module
        except (ImportError, RuntimeError) as error:  # the latter: installed without this transport
            raise MissingDependencyError("checking a server needs tritonclient: install cfcam[triton]") from error
        return module

    def describe(self) -> tuple[list[str], list[str]]:
        """Names of the model's inputs and outputs."""
        try:
            if self._kind == "grpc":
                found = self._client.get_model_metadata(self._name, as_json=True, **self._more)
            else:
                found = self._client.get_model_metadata(self._name)
        except Exception as error:  # of the client, the transport, or a server that is none
            raise ExportError(
                f"{self._url}: does not answer as a Triton with the model '{self._name}' ({one_line(error)}): "
                "give its address, and the model's --name"
            ) from error
        return [one["name"] for one in found["inputs"]], [one["name"] for one in found["outputs"]]

    def ask(self, feed: dict[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[Any]] | str:
        """The outputs by name, or what the server said instead."""
        from tritonclient.utils import np_to_triton_dtype

        inputs = []
        for name, data in feed.items():
            one = self._module.InferInput(name, list(data.shape), np_to_triton_dtype(data.dtype))
            one.set_data_from_numpy(data)
            inputs.append(one)
        asked = [self._module.InferRequestedOutput(name) for name in outputs]
        try:
            found = self._client.infer(self._name, inputs, outputs=asked, **self._more)
        except CfcamError:
            raise
        except Exception as error:
            return one_line(error)
        return {name: found.as_numpy(name) for name in outputs}
