"""The calls of CUDA's runtime on a stand-in: memory, copies, recordings, and a machine without a GPU."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from pathlib import Path

import cfcam.runtime.engines.tensorrt.cuda as cuda_module
import numpy as np
import pytest
from cfcam.runtime.engines.tensorrt.cuda import Cuda, Gpu, find_gpu
from cfcam.runtime.errors import EngineError, MissingDependencyError
from fake_cuda import FakeCuda


def test_bytes_go_there_and_back_when_the_stream_is_waited_for() -> None:
    fake = FakeCuda()
    cuda = Cuda(bindings=fake)
    address = cuda.allocate(6)
    source, target = cuda.pinned(6), cuda.pinned(6)
    source[:] = range(6)
    target[:] = 9
    cuda.upload(address, source)
    cuda.download(target[:4], address)
    assert (target == 9).all(), "nothing is done yet"
    cuda.synchronize()
    assert target.tolist() == [0, 1, 2, 3, 9, 9]
    assert fake.live == 4, "a stream and three blocks"
    cuda.free(address)
    for buffer in (source, target):
        cuda.free_pinned(buffer)
    cuda.close()
    assert fake.live == 0


def test_nothing_takes_no_memory_of_size_zero() -> None:
    cuda = Cuda(bindings=FakeCuda())
    assert cuda.allocate(0)
    assert cuda.pinned(0).nbytes == 1


def test_a_recording_runs_when_it_is_replayed_and_as_often() -> None:
    fake = FakeCuda()
    cuda = Cuda(bindings=fake)
    done: list[int] = []
    graph = cuda.record(lambda: fake.enqueue(lambda: done.append(1)))
    cuda.synchronize()
    assert done == []
    for _ in range(2):
        cuda.replay(graph)
        cuda.synchronize()
    assert done == [1, 1]
    cuda.free_graph(graph)
    cuda.close()
    assert fake.live == 0


def test_what_goes_wrong_while_recording_is_what_is_raised() -> None:
    fake = FakeCuda()
    cuda = Cuda(bindings=fake)

    def work() -> None:
        raise EngineError("no kernel")

    with pytest.raises(EngineError, match="no kernel"):
        cuda.record(work)
    cuda.synchronize()  # which a stream that still captures refuses


def test_calls_that_fail_have_cudas_words() -> None:
    cuda = Cuda(bindings=FakeCuda(limit=100))
    with pytest.raises(EngineError, match="CUDA: cudaMalloc failed: cudaErrorMemoryAllocation: in other words"):
        cuda.allocate(101)
    with pytest.raises(EngineError, match="cudaMemcpyAsync failed: cudaErrorInvalidValue"):
        cuda.upload(cuda.allocate(4), np.zeros(8, np.uint8))


def test_a_gpu_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_module, "_bindings", lambda: FakeCuda(devices=2))
    assert find_gpu(1) == Gpu("Fake GPU", "8.7")
    for ask in (find_gpu, Cuda):
        with pytest.raises(EngineError, match=r"device_id 2: this machine has 2 GPU\(s\), counted from 0"):
            ask(2)


def test_no_gpu_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_module, "_bindings", lambda: FakeCuda(devices=0))
    with pytest.raises(EngineError, match=r"no NVIDIA GPU can be used here \(cudaErrorNoDevice: in other words\)"):
        find_gpu()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    cuda_module._bindings.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"cuda-bindings is not installed.*cfcam\[tensorrt\]"):
        find_gpu()
    cuda_module._bindings.cache_clear()


def test_what_is_called_exists_in_cuda_bindings() -> None:
    if importlib.util.find_spec("cuda") is None:
        missing = "cuda-bindings is not installed (cfcam[rtx]): its names were NOT looked up"
        (pytest.fail if os.environ.get("CI") and importlib.util.find_spec("onnx") else pytest.skip)(missing)
    real = importlib.import_module("cuda.bindings.runtime")
    source = ast.parse(Path(cuda_module.__file__).read_text())
    used = {node.attr for node in ast.walk(source) if isinstance(node, ast.Attribute) and node.attr[:4] == "cuda"}
    assert len(used) > 20
    enums = (real.cudaMemcpyKind, real.cudaStreamCaptureMode, real.cudaError_t)
    for name in used:
        assert hasattr(real, name) or any(name in one.__members__ for one in enums), name
    assert used - {"cudaErrorNoDevice"} <= {*dir(FakeCuda), *(m for one in enums for m in one.__members__)}
