"""What one process of the server does: open the files, answer, and open them again when it is asked to (SIGHUP)."""

from __future__ import annotations

import errno
import gc
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ..errors import CfcamError
from .app import make_app
from .models import Decode, ServedModel, named, open_models
from .server import serve
from .service import Limits, Service
from .sharing import Turn

__all__ = ["ServeOptions", "answer", "hung_up", "reload_models"]

_RELOAD, _END = "reload", "end"


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What is served, and how; the same in every process.

    Attributes:
        files: As `open_models` takes them.
        provider, threads, max_pixels, allow_failing, decode, profiles: As in `open_models`.
        limits: What requests may cost, in each process.
        tls: Files of the certificate and its key, in PEM.
        grpc: Address and port for gRPC; None for HTTP alone.
    """

    files: tuple[str, ...]
    provider: str | None = None
    threads: int = 1
    max_pixels: int | None = None
    allow_failing: bool = False
    decode: Decode = "exact"
    profiles: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    tls: tuple[str, str] | None = None
    grpc: tuple[str, int] | None = None

    def open(self) -> dict[str, ServedModel]:
        """The files, opened. Raises `CfcamError`."""
        return open_models(
            self.files,
            provider=self.provider,
            threads=self.threads,
            max_pixels=self.max_pixels,
            allow_failing=self.allow_failing,
            decode=self.decode,
            profiles=self.profiles,
        )


def answer(
    options: ServeOptions,
    models: dict[str, ServedModel],
    listener: socket.socket,
    say: Callable[[str], None],
    *,
    turn: Turn | None = None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Answer in this process until SIGTERM or Ctrl-C; at SIGHUP the files are opened again.

    Args:
        options: What is served.
        models: Opened by `ServeOptions.open`; reloading changes it.
        listener: Bound and listening.
        say: Takes sentences for the person who runs the server, from any thread.
        turn: Where other processes listen on the same socket, this one's place among them.
        started: Called when connections are taken.

    Raises:
        OutputError: The certificate or its key cannot be used, or the address for gRPC.
    """
    draining = threading.Event()
    service = Service(models, options.limits, draining.is_set)
    beside = None
    if options.grpc is not None:
        from .grpc_server import GrpcServer

        beside = GrpcServer(service, *options.grpc, options.tls)
    with _errors_said(say), _reloading(lambda: reload_models(models, options, say), draining, turn is not None):
        serve(
            make_app(service),
            listener,
            tls=options.tls,
            draining=draining,
            beside=beside,
            turn=turn,
            started=started,
        )


def reload_models(models: dict[str, ServedModel], options: ServeOptions, say: Callable[[str], None]) -> None:
    """Open every file again, and put it in the place of the old one once it has explained an image.

    Requests that are being answered finish with the file that they began with. Where the new file cannot be served, the
    old one stays.

    Args:
        models: By name; what is changed.
        options: What is served.
        say: Takes a sentence for each file.
    """
    for file in options.files:
        try:
            old = models.get(named(file)[0])
            profiles = () if old is None or old.watch is None else (str(old.watch.path),)
            opened = replace(options, files=(file,), profiles=profiles).open()
        except CfcamError as error:
            say(f"not reloaded, the old file goes on: {error}")
        except Exception as error:  # the server goes on, whatever a library makes of the new file
            say(f"{file}: not reloaded, the old file goes on: {type(error).__name__}")
        else:
            models.update(opened)
            say(f"reloaded {', '.join(opened)}")
            del opened
    gc.collect()  # what was replaced is freed with its last request, if nothing refers to it in a circle


def hung_up() -> bool:
    """Whether stderr is a terminal that has been closed."""
    try:
        os.tcgetpgrp(sys.stderr.fileno())
    except (OSError, ValueError) as error:
        return isinstance(error, OSError) and error.errno == errno.EIO  # of what is no terminal, ENOTTY
    return False


@contextmanager
def _reloading(reload: Callable[[], None], draining: threading.Event, shared: bool) -> Iterator[None]:
    """Within the block, SIGHUP calls `reload` in a thread of its own; a closed terminal is SIGTERM, as for any program.

    shared: the process that started this one decides about the terminal.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        yield
        return
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()  # its `put` may be interrupted by a signal's handler
    before = signal.getsignal(signal.SIGHUP)
    ends_with_terminal = not shared and before != signal.SIG_IGN

    def handle(_number: int, _frame: object) -> None:
        if ends_with_terminal and hung_up():
            signal.raise_signal(signal.SIGTERM)
        else:
            asked.put(_RELOAD)

    def work() -> None:
        while asked.get() != _END:
            if not draining.is_set():
                reload()

    thread = threading.Thread(target=work, name="reload", daemon=True)
    thread.start()
    signal.signal(signal.SIGHUP, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # a worker is started with it blocked
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        asked.put(_END)


class _Said(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


@contextmanager
def _errors_said(say: Callable[[str], None]) -> Iterator[None]:
    """Within the block, what the server logs as an error is said, also where no logging was asked for."""
    logger, handler = logging.getLogger(__package__), _Said(say)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
