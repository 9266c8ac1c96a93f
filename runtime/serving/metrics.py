"""What the server measures of itself, for Prometheus. No label and no value holds anything of a request."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ..errors import CfcamError, EngineError, OutputError
from .limits import Refusal

__all__ = ["FOLDER", "Metrics", "outcome_of"]

# It is imported later: whether processes add up is settled then. That it is not installed is said now.
if find_spec("prometheus_client") is None:
    raise ModuleNotFoundError("No module named 'prometheus_client'", name="prometheus_client")

#: Names the folder through which processes add up; prometheus_client's own variable.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_BYTES = (1e3, 1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8)
_OUTCOMES = {401: "denied", 403: "denied", 503: "busy"}


class Metrics:
    """Counters of one process; those of several are added up where PROMETHEUS_MULTIPROC_DIR names a folder.

    They are opened in the process that counts, and not before it forks.

    Attributes:
        registry: Where a counter of somebody else's is registered, to be shown with the others.

    Raises:
        OutputError: There is no such folder.
    """

    def __init__(self) -> None:
        folder = os.environ.get(FOLDER)
        if folder is not None and not Path(folder).is_dir():
            raise OutputError(f"{FOLDER}: {folder} is no folder: make it, empty, or unset the variable")
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self._together = folder is not None
        self.registry = CollectorRegistry()
        if not self._together:
            ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "cfcam_requests",
            "Requests for predictions and explanations, by what became of them.",
            ("model", "protocol", "outcome"),
            registry=self.registry,
        )
        self._images = Counter("cfcam_images", "Images explained.", ("model",), registry=self.registry)
        self._explaining = Histogram(
            "cfcam_explain_seconds",
            "Decoding and explaining the images of a request.",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._waiting = Histogram(
            "cfcam_wait_seconds",
            "From the whole body on until a thread takes the request.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._bodies = Histogram(
            "cfcam_body_bytes",
            "Bodies of requests as they came, compressed or not.",
            ("protocol",),
            buckets=_BYTES,
            registry=self.registry,
        )
        self._places = Gauge(
            "cfcam_requests_in_progress",
            "Requests that are read, wait or run.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )

    @contextmanager
    def request(self, protocol: str, model: str = "") -> Iterator[Named]:
        """A block that answers one request, counted at its end.

        Args:
            protocol: ``v1``, ``v2`` or ``grpc``.
            model: Of those that are served; empty where none of them is asked. It may be set in the block.
        """
        named, outcome = Named(model), "failed"
        try:
            yield named
            outcome = "ok"
        except Exception as error:
            outcome = outcome_of(error)
            raise
        except BaseException:
            outcome = "given_up"  # by the client
            raise
        finally:
            self._requests.labels(named.model, protocol, outcome).inc()

    def denied(self, protocol: str) -> None:
        """Count a request that was refused for its host, its origin or its token, before it was looked at."""
        self._requests.labels("", protocol, "denied").inc()

    @contextmanager
    def explaining(self, model: str, images: int) -> Iterator[None]:
        """A block that explains; its images count when it ends well."""
        started = time.perf_counter()
        yield
        self._explaining.labels(model).observe(time.perf_counter() - started)
        self._images.labels(model).inc(images)

    def waited(self, seconds: float) -> None:
        """A thread has taken a request."""
        self._waiting.observe(seconds)

    def body(self, protocol: str, size: int) -> None:
        """A body is there."""
        self._bodies.labels(protocol).observe(size)

    def places(self, count: int) -> None:
        """How many requests hold a place now."""
        self._places.set(count)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All of it.

        Args:
            accept: The header of that name.

        Returns:
            Prometheus' text or OpenMetrics, as the header prefers, and its media type.
        """
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self.registry
        if self._together:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        encode, kind = choose_encoder(accept)
        return encode(registry), kind


class Named:
    """The model that a request asks, once it is known."""

    def __init__(self, model: str) -> None:
        self.model = model


def outcome_of(error: Exception) -> str:
    """What became of a request that raised: ``wrong``, ``denied``, ``busy``, ``late`` or ``failed``."""
    if isinstance(error, Refusal):
        return error.outcome or _OUTCOMES.get(error.status, "wrong" if error.status < 500 else "failed")
    return "wrong" if isinstance(error, CfcamError) and not isinstance(error, EngineError) else "failed"
