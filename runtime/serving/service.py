"""What all protocols share: the open models, the limits, and the threads that explain."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..errors import CfcamError, EngineError
from ..explanation import Explanation
from .limits import Admission, Place, Refusal
from .metrics import Metrics
from .models import Question, ServedModel
from .watching import WatchCounters

__all__ = ["Limits", "Service", "TooLate", "said_of"]

_log = logging.getLogger(__name__)

#: So long a check of the models holds.
_READY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What requests may cost.

    Attributes:
        body: Bytes of the longest body, and of what it is decompressed to.
        waiting: Requests that are read or wait; more are answered by 503.
        concurrency: Requests that are worked on at once, a thread for each.
        deadline: Seconds for an answer, from the whole body on; None for any.
        token, hosts: As in `check_access`.
    """

    body: int = 20 * 2**20
    waiting: int = 32
    concurrency: int = 1
    deadline: float | None = None
    token: str | None = None
    hosts: tuple[str, ...] = ()


class TooLate(Refusal):
    """An answer that took longer than its deadline."""

    outcome = "late"

    def __init__(self) -> None:
        super().__init__(503, "the answer took longer than the deadline: try again", {"Retry-After": "1"})


def said_of(error: BaseException) -> Refusal:
    """What an error is answered with; what is the server's own fault is logged.

    Args:
        error: Whatever an answer raised.

    Returns:
        The error itself, or one of the same family that holds nothing of the request.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, EngineError):
        _log.error("the model could not be run: %s", error)
        return Refusal(500, "the model cannot be run on this server")
    if isinstance(error, CfcamError):
        return Refusal(400, str(error))
    # The kind and the place, for whoever mends it; what the request held is in neither.
    last = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("internal error: %s at %s:%s", type(error).__name__, last.filename, last.lineno)
    return Refusal(500, "internal error")


class Service:
    """Models behind limits. One per process, for the protocols that it speaks.

    Args:
        models: The open models by name; may be replaced while requests are answered.
        limits: What requests may cost.
        draining: Whether the server is about to stop, so that it is not ready any more.
    """

    def __init__(
        self, models: Mapping[str, ServedModel], limits: Limits, draining: Callable[[], bool] = lambda: False
    ) -> None:
        self.models, self.limits, self.draining = models, limits, draining
        self.metrics = Metrics()
        self._watched = WatchCounters(self.metrics.registry)
        self.admission = Admission(limits.waiting + limits.concurrency, self.metrics.places)
        self._checking: asyncio.Task[bool] | None = None
        self._ready_until = -1.0
        self._threads = ThreadPoolExecutor(limits.concurrency, "explain")

    def model(self, name: str, version: str = "1") -> ServedModel:
        """The model of that name. Raises `Refusal` (404)."""
        model = self.models.get(name)
        if model is None or version != "1":
            raise Refusal(404, "there is no such model here: GET /v1/models lists those that there are")
        return model

    def answers(self, model: ServedModel, questions: Sequence[Question]) -> list[Explanation]:
        """As `ServedModel.answers`, measured and watched."""
        with self.metrics.explaining(model.name, len(questions)):
            explanations = model.answers(questions)
        if model.watch is not None:
            for explanation in explanations:
                self._watched.count(model.name, explanation, model.watch.add(explanation))
        return explanations

    async def ready(self) -> bool:
        """Whether every model explains the built-in photo, and there is a place for a request.

        Anybody may ask, so that it costs an explanation of each model at most once in a second.
        """
        if self.draining():
            return False
        if time.monotonic() < self._ready_until:
            return True
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return await asyncio.shield(self._checking)

    async def _check(self) -> bool:
        def work() -> None:
            for model in list(self.models.values()):
                model.check_ready()

        try:
            with self.admission.admitted() as place:
                await self.run(work, place)
        except CfcamError as error:
            if not isinstance(error, Refusal):
                _log.error("not ready: %s", error)
            return False
        self._ready_until = time.monotonic() + _READY_SECONDS
        return True

    async def run(self, work: Callable[[], Any], place: Place, seconds: float | None = None) -> Any:
        """Do the work of an admitted request in a thread.

        Args:
            work: What is done.
            place: Of the request, which keeps it until the work is done: what a thread has begun cannot be stopped.
            seconds: Deadline of the sender's own; None for that of the limits alone.

        Returns:
            What `work` returns.

        Raises:
            TooLate: It took too long.
        """
        submitted = time.perf_counter()

        def taken() -> Any:
            self.metrics.waited(time.perf_counter() - submitted)
            return work()

        place.work = self._threads.submit(taken)
        future = asyncio.wrap_future(place.work)
        future.add_done_callback(lambda late: late.cancelled() or late.exception())  # it may be that nobody else asks
        deadlines = [limit for limit in (self.limits.deadline, seconds) if limit is not None]
        try:
            done, _ = await asyncio.wait({future}, timeout=min(deadlines, default=None))
        except asyncio.CancelledError:
            place.work.cancel()
            raise
        if done:
            return future.result()
        place.work.cancel()
        raise TooLate
