"""Contexts of an engine: one, one for each recorded shape, or TensorRT for RTX's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cfcam.runtime.engines.options import EngineOptions
from cfcam.runtime.engines.tensorrt.contexts import make_contexts
from cfcam.runtime.engines.tensorrt.cuda import Cuda
from cfcam.runtime.engines.tensorrt.packages import Messages, Package
from cfcam.runtime.errors import EngineError
from fake_cuda import FakeCuda
from fake_tensorrt import IRuntimeConfig

STRATEGIES = SimpleNamespace(USER_MANAGED=2)
GRAPHS = SimpleNamespace(DISABLED="no graphs", WHOLE_GRAPH_CAPTURE="graphs")


class Context:
    """Counts what it is asked for; `ran` has the shape of every inference that was enqueued."""

    def __init__(self, fake: FakeCuda) -> None:
        self._fake, self.shape, self.works = fake, (), True
        self.placed: list[str] = []
        self.memory: tuple[int, int] | None = None

    def set_device_memory(self, address: int, size: int) -> None:
        self.memory = (address, size)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.placed.append(name)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[0] <= 20

    def execute_async_v3(self, stream: int) -> bool:
        shape = self.shape
        self._fake.enqueue(lambda: self._fake.ran.append(shape))  # type: ignore[attr-defined]
        return self.works


class Machine:
    """An engine, its package and a GPU."""

    def __init__(self, rtx: bool = False) -> None:
        self.fake: Any = FakeCuda()
        self.fake.ran = []
        self.contexts: list[Context] = []
        module = SimpleNamespace(__version__="10.3", ExecutionContextAllocationStrategy=STRATEGIES)
        if rtx:
            module.CudaGraphStrategy = GRAPHS
        logger = SimpleNamespace(messages=Messages(["no reason at all"]))
        self.package = Package("tensorrt_rtx" if rtx else "tensorrt", module, logger)
        self.config = IRuntimeConfig()
        self.asked: list[Any] = []
        self.none = False
        self.engine = SimpleNamespace(
            device_memory_size_v2=100,
            create_execution_context=self.create,
            create_runtime_config=lambda: self.config,
        )

    def create(self, *how: Any) -> Context | None:
        self.asked.append(how)
        if self.none:
            return None
        self.contexts.append(Context(self.fake))
        return self.contexts[-1]

    def open(self, **options: Any) -> Any:
        self.cuda = Cuda(bindings=self.fake)
        made = make_contexts(self.package, self.engine, self.cuda, EngineOptions(**options), Path("net.engine"))
        made.addresses = {"image": 1, "scores": 2}
        return made

    def run(self, contexts: Any, count: int) -> Any:
        context = contexts.execute({"image": (count, 3)})
        self.cuda.synchronize()
        return context


def test_one_context_is_placed_once_and_told_of_new_shapes() -> None:
    machine = Machine()
    contexts = machine.open()
    for count in (1, 2, 2):
        assert machine.run(contexts, count) is contexts.first
    assert machine.fake.ran == [(1, 3), (2, 3), (2, 3)]
    assert machine.contexts[0].placed == ["image", "scores"]
    contexts.close()
    assert contexts.first is None


def test_each_of_the_first_eight_shapes_is_recorded() -> None:
    machine = Machine()
    contexts = machine.open(cuda_graph=True)
    for count in (1, 2, 1, *range(3, 10)):
        machine.run(contexts, count)
    # Every recorded shape ran once before it was recorded; the ninth one runs without a recording.
    assert machine.fake.launched == 9
    assert machine.fake.ran == [(n, 3) for n in (1, 1, 2, 2, 1, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9)]
    assert len({context.memory for context in machine.contexts}) == 1, "one runs at a time: all share the memory"
    assert machine.asked == [(STRATEGIES.USER_MANAGED,)] * 9
    contexts.close()
    machine.cuda.close()
    assert machine.fake.live == 0


def test_refusals_have_tensorrts_words() -> None:
    machine = Machine()
    contexts = machine.open()
    with pytest.raises(EngineError, match=r"setting 'image' to \(21, 3\): no reason at all"):
        contexts.execute({"image": (21, 3)})
    machine.contexts[0].works = False
    with pytest.raises(EngineError, match="running: no reason at all"):
        contexts.execute({"image": (1, 3)})
    machine.none = True
    for graphs in (False, True):
        with pytest.raises(EngineError, match=r"tensorrt 10\.3 cannot make an execution context: no reason at all"):
            machine.open(cuda_graph=graphs)
    with pytest.raises(EngineError, match="cache: an engine of tensorrt compiles nothing that could be kept"):
        machine.open(cache="folder")


def test_an_engine_that_cannot_be_recorded_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    contexts = machine.open(cuda_graph=True)
    monkeypatch.setattr(machine.fake, "cudaGraphInstantiate", lambda *_: (machine.fake.cudaError_t(1), None))
    machine.fake.cudaGraphInstantiate.__name__ = "cudaGraphInstantiate"
    with pytest.raises(EngineError, match=r"cuda_graph: the engine cannot be recorded \(CUDA: .*\): open it without"):
        machine.run(contexts, 1)


@pytest.mark.parametrize("graphs", [False, True])
def test_tensorrt_for_rtx_records_by_itself(graphs: bool) -> None:
    machine = Machine(rtx=True)
    contexts = machine.open(cuda_graph=graphs)
    assert machine.config.cuda_graph_strategy == ("graphs" if graphs else "no graphs")
    assert machine.asked == [(machine.config,)]
    machine.run(contexts, 1)
    assert (machine.fake.ran, machine.fake.launched) == ([(1, 3)], 0)


def test_kernels_are_kept_in_a_file_of_the_engines_name(tmp_path: Path) -> None:
    for opened in (1, 2):
        machine = Machine(rtx=True)
        machine.open(cache=str(tmp_path)).close()
        assert (tmp_path / "net.engine.kernels").read_bytes() == b"k" * opened


def test_a_cache_that_cannot_be_used_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    machine = Machine(rtx=True)
    contexts = machine.open(cache=str(tmp_path / "file"))
    machine.run(contexts, 1)
    contexts.close()
    assert machine.fake.ran == [(1, 3)]
