"""Several processes on one socket: started, replaced where one dies, and stopped together."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ..errors import CfcamError
from .metrics import FOLDER
from .sharing import Shares, Turn
from .worker import ServeOptions, answer, hung_up

__all__ = ["WorkerError", "supervise"]

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Seconds that workers have to stop: those that `serve` gives requests in flight, and some.
_GRACE = 35.0
#: Seconds until the next try where a worker cannot be started, at most; the first is after one.
_MOST_DELAY = 30.0
#: A worker that ends within so many seconds ended soon; after two in a row the next one is delayed.
_SOON = 10.0

#: What a worker runs: it calls the first function when it can answer, and the second with sentences.
_Work = Callable[[Callable[[], None], Callable[[str], None], Turn], None]


class WorkerError(CfcamError):
    """The processes of the server cannot be started, or cannot be replaced."""


class _Worker:
    """A process and what it says."""

    def __init__(self, process: BaseProcess, said: Connection, number: int) -> None:
        self.process, self.said, self.number = process, said, number
        #: Since when it can answer, on the monotonic clock.
        self.ready: float | None = None
        #: Why it cannot be started, in its own sentence.
        self.reason: str | None = None

    def signal(self, number: int) -> None:
        if self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


def supervise(
    options: ServeOptions,
    listener: socket.socket,
    count: int,
    say: Callable[[str], None],
    started: Callable[[], None] = lambda: None,
) -> None:
    """Answer in several processes until SIGTERM or Ctrl-C; at SIGHUP each opens the files again.

    A process that dies is replaced at once, and costs the requests that it held. Their metrics are added up in the
    folder that PROMETHEUS_MULTIPROC_DIR names, or else in one that is removed at the end.

    Args:
        options: What is served.
        listener: Bound and listening; it is closed here.
        count: How many processes.
        say: Takes sentences for the person who runs the server.
        started: Called once, when all of them can answer.

    Raises:
        WorkerError: The first processes cannot be started, or all have died and cannot be replaced.
    """

    def work(ready: Callable[[], None], said: Callable[[str], None], turn: Turn) -> None:
        answer(options, options.open(), listener, said, turn=turn, started=ready)

    with _metrics_folder():
        _Supervisor(work, listener, count, say, started).run()


class _Supervisor:
    def __init__(
        self,
        work: _Work,
        listener: socket.socket,
        count: int,
        say: Callable[[str], None],
        started: Callable[[], None],
    ) -> None:
        self._work, self._listener, self._count, self._say, self._started = work, listener, count, say, started
        self._workers: list[_Worker] = []
        self._shares = Shares(count)
        #: Workers in a row that could not be started, and that ended soon after they were.
        self._failures = self._soon = 0
        self._next_start = 0.0
        #: Whether all have been ready once, and whether the end was asked for.
        self._running = self._stopping = False
        # Its end tells the workers that this process is gone, however that happened.
        self._lifeline = os.pipe()

    def run(self) -> None:
        """Until a signal asks for the end."""
        # What is here now is nobody's to tidy up in a child, whose copies of libraries' objects lack their threads.
        gc.collect()
        gc.freeze()
        with _signals() as received:
            try:
                for _ in range(self._count):
                    self._start()
                while not self._stopping:
                    self._once(received)
            finally:
                self._stop(received)
                gc.unfreeze()

    def _once(self, received: int) -> None:
        """Wait for something to happen, and answer to it."""
        missing = self._count - len(self._workers)
        delay = max(0.0, self._next_start - time.monotonic()) if missing else None
        sources = [worker.said for worker in self._workers] + [worker.process.sentinel for worker in self._workers]
        happened = wait([*sources, received], delay)
        if received in happened:
            self._handle(os.read(received, 64))
        for worker in list(self._workers):
            if worker.said in happened:
                self._listen(worker)
            if worker.process.sentinel in happened:
                self._bury(worker)
        if not self._stopping and len(self._workers) < self._count and time.monotonic() >= self._next_start:
            self._start()

    def _handle(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGHUP and not hung_up():
                self._next_start = 0.0  # perhaps the file is mended
                for worker in self._workers:
                    worker.signal(signal.SIGHUP)
            else:
                self._stopping = True

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        said, saying = context.Pipe(duplex=False)
        number = min(set(range(self._count)) - {worker.number for worker in self._workers})
        # A signal between fork and the child's own handlers would be written into this process's pipe.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process = context.Process(target=self._in_worker, args=(saying, number), name="cfcam-worker")
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        saying.close()
        self._workers.append(_Worker(process, said, number))

    def _in_worker(self, saying: Connection, number: int) -> None:
        """The child, from fork on."""
        lock = threading.Lock()

        def tell(kind: str, text: str = "") -> None:
            with lock, contextlib.suppress(OSError):
                saying.send((kind, text))

        os.close(self._lifeline[1])
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent says when to stop
        # SIGHUP waits until `answer` has its handler, which lets it through.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        threading.Thread(target=self._end_with_parent, daemon=True).start()
        try:
            self._work(lambda: tell("ready"), lambda text: tell("said", text), self._shares.turn(number))
        except CfcamError as error:
            tell("failed", str(error))
        except Exception as error:
            _log.debug("a worker ends", exc_info=True)
            tell("failed", f"a worker ended by {type(error).__name__}: {' '.join(str(error).split())}")

    def _end_with_parent(self) -> None:
        os.read(self._lifeline[0], 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _listen(self, worker: _Worker) -> None:
        """Take what a worker says, as far as it has said it."""
        try:
            while worker.said.poll():
                kind, text = worker.said.recv()
                if kind == "ready":
                    worker.ready, self._failures = time.monotonic(), 0
                    if not self._running and sum(one.ready is not None for one in self._workers) == self._count:
                        self._running = True
                        self._started()
                elif kind == "failed":
                    worker.reason = text
                else:
                    self._say(text)
        except (EOFError, OSError):
            pass  # it has ended, which its sentinel says

    def _bury(self, worker: _Worker) -> None:
        """What follows from the end of a worker."""
        self._listen(worker)
        worker.process.join()
        self._workers.remove(worker)
        self._shares.remove(worker.number)
        worker.said.close()
        _forget_metrics(worker.process.pid)
        if self._stopping:
            return
        code = worker.process.exitcode or 0
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        reason = worker.reason or f"a worker ended {how}" + ("" if worker.ready else " before it could answer")
        if not self._running:
            raise WorkerError(reason)
        now = time.monotonic()
        if worker.ready is not None:
            # What ends again and again soon after it began is not begun all the time.
            self._soon = self._soon + 1 if now < worker.ready + _SOON else 0
            delay = 0.0 if self._soon < 3 else min(_MOST_DELAY, 2.0 ** (self._soon - 3))
            self._next_start = now + delay
            self._say(f"{reason}; another one takes its place" + (f" in {delay:.0f} s" if delay else ""))
            return
        self._failures += 1
        delay = min(_MOST_DELAY, 2.0 ** (self._failures - 1))
        self._next_start = now + delay
        self._say(f"a worker cannot be replaced, the next try is in {delay:.0f} s: {reason}")
        if not self._workers:
            raise WorkerError(f"no worker is left, and none can be started: {reason}")

    def _stop(self, received: int) -> None:
        self._stopping = True
        self._listener.close()  # from here on only the workers' own copies take connections
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        end = time.monotonic() + _GRACE
        while self._workers and (left := end - time.monotonic()) > 0:
            self._wait_for_end(received, left)
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
        for number in self._lifeline:
            os.close(number)

    def _wait_for_end(self, received: int, seconds: float) -> None:
        happened = wait([*(worker.process.sentinel for worker in self._workers), received], seconds)
        if received in happened and signal.SIGINT in os.read(received, 64):
            for worker in self._workers:  # Ctrl-C once more: now
                worker.process.kill()
        for worker in list(self._workers):
            if worker.process.sentinel in happened:
                self._bury(worker)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Within the block, the signals of `_SIGNALS` end nothing: each is a byte, its number, to be read from the pipe."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    waker = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(waker)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


@contextlib.contextmanager
def _metrics_folder() -> Iterator[None]:
    """Within the block, prometheus_client in the workers writes into one folder, and adds up what it finds there."""
    if os.environ.get(FOLDER):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="cfcam-metrics-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]


def _forget_metrics(pid: Any) -> None:
    """What a process measures now counts no longer when it has ended; what it counted stays."""
    if not os.environ.get(FOLDER):
        return
    with contextlib.suppress(ImportError, OSError):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid)
