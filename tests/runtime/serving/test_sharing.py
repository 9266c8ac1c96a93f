"""Turns of processes, played in one: each has its own copy of the socket."""

from __future__ import annotations

import asyncio
import socket
import time

from cfcam.runtime.serving.server import bound_socket
from cfcam.runtime.serving.sharing import Acceptor, Shares


def test_it_is_the_turn_of_who_has_the_fewest():
    shares = Shares(3)
    first, second = shares.turn(0), shares.turn(1)
    first.here()
    assert first.is_mine()
    second.here()
    first.add(1)
    assert (first.is_mine(), second.is_mine()) == (False, True)
    second.add(1)
    assert (first.is_mine(), second.is_mine()) == (True, True)
    first.add(1)
    second.away()
    assert first.is_mine()
    second.here()
    shares.remove(1)
    assert first.is_mine()


def _played(scene):
    """Runs a coroutine that gets a listening socket, and a function that opens connections to it."""

    async def play():
        with bound_socket("127.0.0.1", 0) as listener:
            listener.listen(64)
            opened: list[socket.socket] = []

            async def connect(count):
                opened.extend(socket.create_connection(listener.getsockname()) for _ in range(count))

            try:
                await asyncio.wait_for(scene(listener, connect), 20)
            finally:
                for one in opened:
                    one.close()

    asyncio.run(play())


async def _until(condition):
    while not condition():
        await asyncio.sleep(0.002)


def test_connections_are_shared_equally_and_a_stopped_process_gets_none():
    async def scene(listener, connect):
        shares = Shares(2)
        taken: list[list[socket.socket]] = [[], []]
        acceptors = []
        for number in range(2):

            async def take(accepted, number=number):
                taken[number].append(accepted)

            acceptors.append(Acceptor(listener.dup(), shares.turn(number), take))
        await connect(16)
        await _until(lambda: sum(map(len, taken)) == 16)
        assert [len(some) for some in taken] == [8, 8]
        assert not taken[0][0].getblocking()
        acceptors[0].stop()
        await connect(3)
        await _until(lambda: len(taken[1]) == 11)
        assert len(taken[0]) == 8
        acceptors[1].stop()
        for one in taken[0] + taken[1]:
            one.close()

    _played(scene)


def test_who_has_fewer_and_hangs_is_not_waited_for_forever():
    async def scene(listener, connect):
        shares = Shares(2)
        shares.turn(1).here()  # and takes none
        taken = []

        async def take(accepted):
            taken.append(accepted)

        acceptor = Acceptor(listener.dup(), shares.turn(0), take)
        started = time.monotonic()
        await connect(2)
        await _until(lambda: len(taken) == 2)
        assert time.monotonic() - started > 0.01  # the second was left for the other for a while
        acceptor.stop()
        for one in taken:
            one.close()

    _played(scene)


def test_a_connection_that_fails_is_not_counted():
    async def scene(listener, connect):
        shares = Shares(2)
        turn, calls = shares.turn(0), []

        async def fail(accepted):
            calls.append(accepted)
            accepted.close()
            raise ConnectionResetError

        acceptor = Acceptor(listener.dup(), turn, fail)
        await connect(4)
        await _until(lambda: len(calls) == 4)
        await asyncio.sleep(0)
        other = shares.turn(1)
        other.here()
        assert (turn.is_mine(), other.is_mine()) == (True, True)
        acceptor.stop()

    _played(scene)
