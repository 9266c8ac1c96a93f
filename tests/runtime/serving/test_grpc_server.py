"""The protocol over gRPC, on real connections: access, limits, statuses, and the end."""

from __future__ import annotations

import asyncio
import io
import subprocess
import threading
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.errors import OutputError
from cfcam.runtime.serving.grpc_server import GrpcServer
from cfcam.runtime.serving.grpc_tensors import pb
from cfcam.runtime.serving.models import ServedModel
from cfcam.runtime.serving.server import bound_socket
from cfcam.runtime.serving.service import Limits, Service
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from PIL import Image
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def model(tiny_path):
    return ServedModel("m", Explainer(tiny_path("logits")), max_pixels=10_000)


@asynccontextmanager
async def _serving(model, draining=lambda: False, *, seconds=20.0, **limits):
    """A running server and a stub of it: (server, stub)."""
    server = GrpcServer(Service({"m": model}, Limits(**limits), draining), "127.0.0.1", 0, seconds=seconds)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, GRPCInferenceServiceStub(channel)
    finally:
        await server.stop(0)


def _photo(size=(64, 64), name="m", data=None, **more):
    if data is None:
        file = io.BytesIO()
        Image.new("RGB", size, "red").save(file, "PNG")
        data = file.getvalue()
    contents = pb.InferTensorContents(bytes_contents=[data])
    image = pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1], contents=contents)
    return pb.ModelInferRequest(model_name=name, inputs=[image], **more)


async def _status(call):
    """(status, details) of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


def test_every_call_of_the_protocol(model):
    async def run():
        async with _serving(model) as (_, stub):
            assert (await stub.ServerLive(pb.ServerLiveRequest())).live
            assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
            assert (await stub.ModelReady(pb.ModelReadyRequest(name="m", version="1"))).ready
            assert (await stub.ServerMetadata(pb.ServerMetadataRequest())).name == "cfcam"
            assert (await stub.ModelMetadata(pb.ModelMetadataRequest(name="m"))).platform == "cfcam"
            answer = await stub.ModelInfer(_photo())
            packed = await stub.ModelInfer(_photo(), compression=grpc.Compression.Gzip)
            assert packed == answer
            assert (await _status(stub.RepositoryIndex(pb.RepositoryIndexRequest())))[0] == Code.UNIMPLEMENTED
            return {one.name: one for one in answer.outputs}

    outputs = asyncio.run(run())
    expected = model.explainer.explain(Image.new("RGB", (64, 64), "red"))
    found = np.reshape(np.array(outputs["map"].contents.fp32_contents, np.float32), tuple(outputs["map"].shape))
    np.testing.assert_array_equal(found[0], expected.map)


def test_health_by_its_own_protocol(model):
    async def run():
        stopping = []
        asked = [health_pb2.HealthCheckRequest(service=name) for name in ("", "inference.GRPCInferenceService", "m")]
        async with (
            _serving(model, lambda: bool(stopping), token="t") as (server, _),
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            stub: Any = HealthStub(channel)
            found = [(await stub.Check(one)).status for one in asked[:2]]
            unknown = await _status(stub.Check(asked[2]))
            stopping.append(True)
            return found, unknown, (await stub.Check(asked[0])).status

    found, (code, said), after = asyncio.run(run())
    answers = health_pb2.HealthCheckResponse
    assert found == [answers.SERVING] * 2
    assert (code, after) == (Code.NOT_FOUND, answers.NOT_SERVING)
    assert "inference.GRPCInferenceService" in (said or "")


def test_wrong_calls_have_a_status_and_a_sentence_without_their_data(model, caplog):
    async def run():
        async with _serving(model, body=20_000) as (server, stub):
            bare = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            raw = bare.stream_unary("/inference.GRPCInferenceService/ModelInfer")
            found = [
                await _status(stub.ModelInfer(_photo(name="SECRET"))),
                await _status(stub.ModelInfer(_photo(model_version="2"))),
                await _status(stub.ModelReady(pb.ModelReadyRequest(name="SECRET"))),
                await _status(stub.ModelInfer(_photo(data=b"SECRET"))),
                await _status(stub.ModelInfer(_photo(size=(101, 100)))),
                await _status(stub.ModelInfer(pb.ModelInferRequest(model_name="m"))),
                await _status(raw(iter([b"\xffSECRET"]))),
                await _status(raw(iter([]))),
                await _status(stub.ModelInfer(_photo(data=bytes(20_001)))),
                await _status(stub.ModelInfer(_photo(data=bytes(500_000)), compression=grpc.Compression.Gzip)),
                await _status(stub.ModelReady(pb.ModelReadyRequest(name="m" * 19_000))),
                await _status(stub.ModelReady(pb.ModelReadyRequest(name="m" * 21_000))),
            ]
            await bare.close()
            return found

    found = asyncio.run(run())
    missing, wrong, long = Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED
    assert [code for code, _ in found] == [missing] * 3 + [wrong] * 5 + [long] * 2 + [missing, long]
    assert "SECRET" not in caplog.text + "".join(details or "" for _, details in found)


def test_the_token_is_asked_for_before_the_message_is_read(model):
    async def run():
        async with _serving(model, token="t") as (server, stub):
            assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
            for metadata in ((), (("authorization", "Bearer x"),)):
                assert (await _status(stub.ModelInfer(_photo(), metadata=metadata)))[0] == Code.UNAUTHENTICATED
                about = stub.ServerMetadata(pb.ServerMetadataRequest(), metadata=metadata)
                assert (await _status(about))[0] == Code.UNAUTHENTICATED
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                silent = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")()  # sends no message
                assert (await _status(silent))[0] == Code.UNAUTHENTICATED
            await stub.ModelInfer(_photo(), metadata=(("authorization", "Bearer t"),))

    asyncio.run(run())


def test_a_message_that_does_not_come_frees_its_place(model):
    async def run():
        async with _serving(model, waiting=0, seconds=0.1) as (server, stub):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                silent = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")()
                await silent.wait_for_connection()
                assert await _status(silent) == (Code.DEADLINE_EXCEEDED, "the message came too slowly: send it again")
            await stub.ModelInfer(_photo())

    asyncio.run(run())


def test_calls_without_messages_keep_nobody_from_asking(model):
    async def run():
        async with _serving(model, waiting=0, token="t") as (server, stub):
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            calls = [
                channel.stream_unary(f"/inference.GRPCInferenceService/{name}")()
                for name in ["ServerLive", "ModelInfer", "ModelMetadata"] * 50
            ]
            await stub.ModelInfer(_photo(), metadata=(("authorization", "Bearer t"),))
            assert await calls[0] == pb.ServerLiveResponse(live=True).SerializeToString()
            assert (await _status(calls[1]))[0] == Code.UNAUTHENTICATED
            await channel.close()

    asyncio.run(run())


def test_a_call_that_is_given_up_frees_its_place_when_its_work_is_done(model, monkeypatch):
    entered, go = threading.Event(), threading.Event()
    monkeypatch.setattr(model, "answers", lambda _: (entered.set(), go.wait(30), [])[2])
    service = Service({"m": model}, Limits(waiting=0))

    async def run():
        server = GrpcServer(service, "127.0.0.1", 0)
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = GRPCInferenceServiceStub(channel).ModelInfer(_photo())
            await asyncio.to_thread(entered.wait, 30)
            call.cancel()
            for _ in range(200):
                if b'outcome="given_up"' in service.metrics.text("")[0]:
                    break
                await asyncio.sleep(0.01)
            assert b'model="m",outcome="given_up",protocol="grpc"} 1.0' in service.metrics.text("")[0]
            assert service.admission.count == 1
            go.set()
        await server.stop(0)

    asyncio.run(run())
    service._threads.shutdown()
    assert service.admission.count == 0


def test_too_many_and_too_late(model, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(model, "answers", lambda _: go.wait(30) and [])

    async def run():
        async with _serving(model, waiting=0, deadline=0.05) as (_, stub):
            assert (await _status(stub.ModelInfer(_photo())))[0] == Code.DEADLINE_EXCEEDED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ModelInfer(_photo())
            assert caught.value.code() == Code.UNAVAILABLE
            assert "busy" in str(caught.value.details())
            assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
            assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
            go.set()

    asyncio.run(run())


def test_an_internal_error_says_nothing_of_the_request(model, monkeypatch, caplog):
    def broken(_):
        raise RuntimeError("SECRET")

    monkeypatch.setattr(model, "answers", broken)

    async def run():
        async with _serving(model) as (_, stub):
            return await _status(stub.ModelInfer(_photo()))

    assert asyncio.run(run()) == (Code.INTERNAL, "internal error")
    assert "SECRET" not in caplog.text


def test_the_end_waits_for_what_is_in_flight(model, monkeypatch):
    entered, go = threading.Event(), threading.Event()
    real = model.answers
    monkeypatch.setattr(model, "answers", lambda asked: (entered.set(), go.wait(30), real(asked))[2])

    async def run():
        async with _serving(model, lambda: True) as (server, stub):
            assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
            assert not (await stub.ModelReady(pb.ModelReadyRequest(name="m"))).ready
            call = stub.ModelInfer(_photo())
            await asyncio.to_thread(entered.wait, 30)
            end = asyncio.create_task(server.stop(30))
            await asyncio.sleep(0.05)
            assert (await _status(stub.ServerLive(pb.ServerLiveRequest())))[0] == Code.UNAVAILABLE
            go.set()
            await end
            return await call

    assert asyncio.run(run()).model_name == "m"


def test_tls(model, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    command += f" -addext subjectAltName=IP:127.0.0.1 -days 1 -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)

    async def run():
        server = GrpcServer(Service({"m": model}, Limits()), "127.0.0.1", 0, (str(cert), str(key)))
        await server.start()
        trusted = grpc.ssl_channel_credentials(cert.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", trusted) as channel:
            assert (await GRPCInferenceServiceStub(channel).ModelInfer(_photo())).model_name == "m"
        await server.stop(0)

    asyncio.run(run())


def test_a_port_in_use_is_refused(model):
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        server = GrpcServer(Service({"m": model}, Limits()), "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OutputError, match="--grpc-port"):
            asyncio.run(server.start())
