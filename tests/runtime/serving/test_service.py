"""What protocols share: names, readiness, and work in threads with its deadline."""

from __future__ import annotations

import asyncio
import threading

import pytest
from cfcam.runtime.errors import EngineError, ImageError
from cfcam.runtime.serving.limits import Refusal
from cfcam.runtime.serving.service import Limits, Service, TooLate, said_of


class _Model:
    def __init__(self, error=None):
        self.error, self.checks = error, 0

    def check_ready(self):
        self.checks += 1
        if self.error is not None:
            raise self.error


def _service(draining=False, **limits):
    return Service({"m": _Model()}, Limits(**limits), lambda: draining)  # type: ignore[dict-item]


def test_a_model_by_name_and_version():
    service = _service()
    assert service.model("m") is service.models["m"]
    for name, version in (("x", "1"), ("m", "2"), ("m", "")):
        with pytest.raises(Refusal) as caught:
            service.model(name, version)
        assert caught.value.status == 404


def test_ready():
    assert asyncio.run(_service().ready())
    assert not asyncio.run(_service(draining=True).ready())
    service = _service()
    service.models = {"m": _Model(), "broken": _Model(EngineError("closed"))}  # type: ignore[dict-item]
    assert not asyncio.run(service.ready())
    service.models = {"m": _Model()}  # type: ignore[dict-item]
    assert asyncio.run(service.ready())
    full = _service(waiting=0)
    with full.admission.admitted():
        assert not asyncio.run(full.ready())


def test_however_often_it_is_asked_whether_it_is_ready_it_looks_once():
    service = _service(waiting=0)

    async def often():
        return await asyncio.gather(*(service.ready() for _ in range(50))) + [await service.ready()]

    assert asyncio.run(often()) == [True] * 51
    assert service.models["m"].checks == 1  # type: ignore[attr-defined]
    service.draining = lambda: True
    assert not asyncio.run(service.ready())
    service.draining, service._ready_until = lambda: False, 0.0
    assert asyncio.run(service.ready())
    assert service.models["m"].checks == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(("limit", "seconds"), [(0.05, None), (None, 0.05), (0.05, 60), (60, 0.05)])
def test_what_is_late_is_refused_and_what_waits_behind_it_is_never_begun(limit, seconds):
    service, go, begun = _service(deadline=limit), threading.Event(), []

    async def both():
        with service.admission.admitted() as first, service.admission.admitted() as second:
            return await asyncio.gather(
                service.run(go.wait, first, seconds),
                service.run(lambda: begun.append(1), second, seconds),
                return_exceptions=True,
            )

    assert [type(error) for error in asyncio.run(both())] == [TooLate, TooLate]
    assert service.admission.count == 1  # what has begun keeps its place
    go.set()
    assert asyncio.run(_run(service, lambda: 7)) == 7  # behind it
    assert begun == []


async def _run(service, work):
    service.limits = Limits()
    with service.admission.admitted() as place:
        return await service.run(work, place)


def test_an_error_in_the_work_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        asyncio.run(_run(_service(), lambda: 1 // 0))


def test_work_of_a_request_that_was_given_up_is_never_begun():
    service, go, begun = _service(), threading.Event(), []

    async def given_up():
        with service.admission.admitted() as first, service.admission.admitted() as second:
            tasks = [
                asyncio.create_task(service.run(go.wait, first)),
                asyncio.create_task(service.run(lambda: begun.append(1), second)),
            ]
            await asyncio.sleep(0.02)
            tasks[1].cancel()
            await asyncio.wait({tasks[1]})
            go.set()
            await tasks[0]

    asyncio.run(given_up())
    assert begun == []
    assert service.admission.count == 0


def test_what_is_said_of_errors(caplog):
    late, broken = TooLate(), ZeroDivisionError("SECRET")
    assert said_of(late) is late
    assert (said_of(ImageError("no photo")).status, str(said_of(ImageError("no photo")))) == (400, "no photo")
    assert said_of(EngineError("SECRET")).status == 500
    caplog.clear()
    with pytest.raises(ZeroDivisionError) as caught:
        raise broken
    assert (said_of(caught.value).status, str(said_of(caught.value))) == (500, "internal error")
    assert "ZeroDivisionError" in caplog.text
    assert "SECRET" not in caplog.text
