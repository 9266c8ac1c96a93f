"""Asking a running Triton, and comparing what it answers with `Explainer`, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CfcamError, ImageError, MissingDependencyError, one_line
from ...runtime.explainer import Explainer
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
        largest: The largest difference of a number in ``map``.
        error: What the server said instead of an answer, or None.
    """

    source: str
    sent: str
    target: int
    same: bool
    differing: tuple[str, ...] = ()
    largest: float = 0.0
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def check_server(
    file: str | os.PathLike[str],
    url: str,
    name: str,
    images: Sequence[str] = (),
    *,
    threads: int | None = None,
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
        timeout: Seconds for one request.
        progress: Told what is being asked.

    Returns:
        A row for each request.

    Raises:
        ExportError: The server cannot be reached, or has no such model.
        MissingDependencyError: tritonclient is not installed.
        CfcamError: The file or a photo cannot be opened.
    """
    with Explainer(file, threads=threads) as explainer, _Client(url, name, timeout) as client:
        takes, gives = client.describe()
        rows: list[ServedRow] = []
        classes = (-1, explainer.spec.output.classes - 1)
        noise = np.random.default_rng(0).standard_normal(explainer.spec.input.shape(1)[1:])
        blank = _typed(noise, explainer.spec.input.dtype)
        questions: list[tuple[str, str, Any, Any]] = [("noise", "tensor", blank, blank)]
        for path in images:
            prepared = explainer.prepare(path)
            questions.append((path, "tensor", prepared.tensor, prepared.tensor))
            if "image" in takes:
                questions.append((path, "image", _read(path), path))
        for source, sent, value, asked in questions:
            for target in classes:
                if progress is not None:
                    progress(f"{source} as {sent}")
                wanted = [one for one in _COMPARED if one in gives]
                expected = answer([explainer.explain(asked, target)], wanted)
                rows.append(_row(source, sent, target, client.ask(sent, value, target, wanted), expected))
        return rows


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
    source: str, sent: str, target: int, found: dict[str, NDArray[Any]] | str, expected: dict[str, NDArray[Any]]
) -> ServedRow:
    if isinstance(found, str):
        return ServedRow(source, sent, target, False, error=found)
    differing = tuple(name for name in expected if not _same(found[name], expected[name]))
    largest = float(np.abs(found["map"] - expected["map"]).max()) if "map" in differing else 0.0
    return ServedRow(source, sent, target, not differing, differing, largest)


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

    def ask(self, sent: str, value: Any, target: int, outputs: Sequence[str]) -> dict[str, NDArray[Any]] | str:
        """One image's outputs by name, or what the server said instead."""
        from tritonclient.utils import np_to_triton_dtype

        array = np.array([[value]], np.object_) if isinstance(value, bytes) else value[None]
        inputs = []
        for name, data in ((sent, array), ("target", np.array([[target]], np.int64))):
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
