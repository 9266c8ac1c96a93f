"""Which of several processes on one socket takes a connection: the one that has the fewest.

Left to themselves, whoever wakes first takes all that wait, and clients that keep their connections keep one process
busy while the others sleep.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["Acceptor", "Shares", "Turn"]

#: What a process that is not there counts.
_NONE = 2**31 - 1
#: Seconds after which a process looks again whether one with fewer connections has taken what waits, and how often it
#: looks: the other may hang.
_AGAIN = 0.002
_LOOKS = 10
#: Seconds until the next try where the system has no room for a connection.
_NO_ROOM = 1.0


class Shares:
    """Connections of each process, in memory that processes forked later share.

    Args:
        count: Processes, which are known by numbers from 0.
    """

    def __init__(self, count: int) -> None:
        self._counts: Any = multiprocessing.get_context("fork").RawArray("i", [_NONE] * count)

    def remove(self, number: int) -> None:
        """That process is not there, or not yet."""
        self._counts[number] = _NONE

    def turn(self, number: int) -> Turn:
        """For that process, which has no connections yet."""
        return Turn(self._counts, number)


class Turn:
    """A process's place among the others; from `Shares`."""

    def __init__(self, counts: Any, number: int) -> None:
        self._counts, self._number = counts, number

    def here(self) -> None:
        """The process takes connections from now on."""
        self._counts[self._number] = 0

    def away(self) -> None:
        """It takes none any more."""
        self._counts[self._number] = _NONE

    def is_mine(self) -> bool:
        """Whether no other process has fewer connections."""
        return self._counts[self._number] <= min(self._counts)

    def add(self, change: int) -> None:
        """Connections more or fewer."""
        self._counts[self._number] += change


class Acceptor:
    """Takes connections one by one, while it is the process's turn.

    Args:
        listener: Listening, and shared with the other processes.
        turn: Of this process; who ends a connection calls ``turn.add(-1)``.
        connect: Makes a connection of an accepted socket, which is not blocking.
    """

    def __init__(
        self, listener: socket.socket, turn: Turn, connect: Callable[[socket.socket], Awaitable[object]]
    ) -> None:
        self._listener, self._turn, self._connect = listener, turn, connect
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: asyncio.TimerHandle | None = None
        self._looks = 0
        listener.setblocking(False)
        turn.here()
        self._watch()

    def stop(self) -> None:
        """Take no more, and let the others not wait for this process."""
        self._turn.away()
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._listener)

    def _watch(self) -> None:
        self._later = None
        self._loop.add_reader(self._listener, self._readable)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._later = self._loop.call_later(seconds, self._watch)

    def _readable(self) -> None:
        if self._looks < _LOOKS and not self._turn.is_mine():
            self._looks += 1
            self._pause(_AGAIN)
            return
        self._looks = 0
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process has it, or nobody wants it any more
        except OSError:
            self._pause(_NO_ROOM)
            return
        accepted.setblocking(False)
        self._turn.add(1)
        task = self._loop.create_task(self._connected(accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # of TLS, too
            await self._connect(accepted)
            return
        self._turn.add(-1)
