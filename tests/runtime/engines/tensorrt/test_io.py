"""What goes in and out of an engine, and its memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cfcam.runtime.engines.tensorrt.cuda import Cuda
from cfcam.runtime.engines.tensorrt.io import Binding, Buffers, read_bindings, release
from cfcam.runtime.errors import EngineError
from fake_cuda import FakeCuda

MODULE = SimpleNamespace(
    TensorLocation=SimpleNamespace(DEVICE=0, HOST=1), TensorIOMode=SimpleNamespace(INPUT=1, OUTPUT=2), nptype=np.dtype
)


class Engine:
    """Tensors by name: (mode, type, shape); and its own context, which knows the outputs' shapes from the inputs'."""

    def __init__(self, **tensors: tuple[int, str, tuple[int, ...]]) -> None:
        self.tensors, self.host, self.taken = tensors, "", {}
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_location(self, name: str) -> int:
        return int(name == self.host)

    def get_tensor_mode(self, name: str) -> int:
        return self.tensors[name][0]

    def get_tensor_dtype(self, name: str) -> str:
        return self.tensors[name][1]

    def get_tensor_profile_shape(self, name: str, _: int) -> list[tuple[int, ...]]:
        return [(size, *self.tensors[name][2][1:]) for size in (1, 2, 4)]

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.taken[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][2]

    def context(self, free: str = "") -> Any:
        def shape(name: str) -> tuple[int, ...]:
            known = self.tensors[name][2]
            return known if name == free else tuple(4 if size == -1 else size for size in known)

        return SimpleNamespace(set_input_shape=self.set_input_shape, get_tensor_shape=shape)


def engine() -> Engine:
    return Engine(image=(1, "float32", (-1, 3, 2)), bias=(1, "int64", (5,)), scores=(2, "float16", (-1, 7)))


def test_tensors_of_an_engine() -> None:
    one = engine()
    image, bias, scores = read_bindings(MODULE, one, one.context())
    shapes = (1, 3, 2), (2, 3, 2), (4, 3, 2)
    assert image == Binding("image", True, np.dtype("float32"), (-1, 3, 2), shapes, 4 * 6 * 4)
    assert bias == Binding("bias", True, np.dtype("int64"), (5,), ((5,), (5,), (5,)), 5 * 8)
    assert scores == Binding("scores", False, np.dtype("float16"), (-1, 7), None, 4 * 7 * 2)
    assert one.taken == {"image": (4, 3, 2), "bias": (5,)}, "the context keeps the largest shapes"


def test_what_an_input_takes() -> None:
    one = engine()
    image, bias, _ = read_bindings(MODULE, one, one.context())
    assert [image.takes((n, 3, 2)) for n in (0, 1, 4, 5)] == [False, True, True, False]
    assert not image.takes((1, 3))
    assert not image.takes((1, 3, 3))
    assert image.wanted() == "from (1, 3, 2) to (4, 3, 2) (best (2, 3, 2))"
    assert bias.wanted() == "(5,)"


def test_what_no_exported_graph_has() -> None:
    one = engine()
    with pytest.raises(EngineError, match="the size of output 'scores' depends on the data: not supported"):
        read_bindings(MODULE, one, one.context(free="scores"))
    refusing = one.context()
    refusing.set_input_shape = lambda *_: False
    with pytest.raises(EngineError, match=r"input 'image' does not take the largest .* profile, \(4, 3, 2\)"):
        read_bindings(MODULE, one, refusing)
    one.host = "bias"
    with pytest.raises(EngineError, match="'bias' is a shape tensor, which lies in the host's memory"):
        read_bindings(MODULE, one, one.context())
    odd = Engine(image=(1, "fp4", (1,)))
    with pytest.raises(EngineError, match="'image' is fp4, a type that NumPy does not have"):
        read_bindings(MODULE, odd, odd.context())


def test_values_go_there_and_back_in_the_engines_own_type() -> None:
    fake, one = FakeCuda(), engine()
    cuda = Cuda(bindings=fake)
    image, bias, _ = bindings = read_bindings(MODULE, one, one.context())
    buffers = Buffers(cuda, bindings)
    assert set(buffers.addresses) == {"image", "bias", "scores"}
    values = np.arange(12.0).reshape(2, 3, 2)  # float64, for an input of float32
    buffers.upload(image, values)
    found = buffers.download(image, (2, 3, 2))
    cuda.synchronize()
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.float32
    with pytest.raises(TypeError, match="same_kind"):
        buffers.upload(bias, np.array([0.5] * 5))
    buffers.close()
    buffers.close()
    assert fake.live == 1, "the stream"


def test_what_was_taken_before_a_failure_is_freed() -> None:
    one = engine()
    bindings = read_bindings(MODULE, one, one.context())
    fake = FakeCuda(limit=150)  # enough for the first two tensors
    with pytest.raises(EngineError, match="cudaMalloc failed"):
        Buffers(Cuda(bindings=fake), bindings)
    assert fake.live == 1


def test_a_block_that_cannot_be_freed_does_not_keep_the_others() -> None:
    freed: list[int] = []

    def free(value: int) -> None:
        if value == 1:
            raise EngineError("CUDA is lost")
        freed.append(value)

    held = {"a": 1, "b": 2}
    release(free, held)
    assert (freed, held) == ([2], {})
