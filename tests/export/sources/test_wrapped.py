"""The module inside of its wrappers, in float32."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from cfcam.export.sources.wrapped import in_float32, unwrapped  # noqa: E402


def test_wrappers_come_off_in_any_order():
    inner = torch.nn.Linear(2, 2)
    compiled: Any = torch.compile(torch.nn.DataParallel(inner))
    assert unwrapped(compiled) is inner
    assert unwrapped(torch.nn.DataParallel(torch.compile(inner))) is inner  # pyright: ignore[reportArgumentType]
    assert unwrapped(inner) is inner


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32_in_a_copy(dtype):
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2)).to(dtype)
    converted, (note,) = in_float32(module)
    found: Any = converted
    assert {value.dtype for value in found.state_dict().values()} == {torch.float32, torch.int64}
    assert module[0].weight.dtype == dtype
    assert torch.equal(found[0].weight, module[0].weight.float())
    assert note.startswith(f"the weights are {str(dtype).removeprefix('torch.')}: they are exported as float32")
    assert ("same values" in note) == (dtype != torch.float64)
    plain = torch.nn.Linear(1, 1)
    assert in_float32(plain) == (plain, ())
