"""What a spec may say of a class that is part of the graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cfcam.runtime.contract.fixed_spec import FixedTargetSpec
from cfcam.runtime.contract.spec import CamSpec, ColumnsSpec
from cfcam.runtime.errors import SpecError
from tiny_model import VARIANTS

SPEC = VARIANTS["logits"].spec


def test_written_and_read_back() -> None:
    spec = replace(SPEC, fixed_target=FixedTargetSpec(index=1))
    assert spec.to_dict()["fixed_target"] == {"index": 1}
    assert CamSpec.from_json(spec.to_json()) == spec
    assert (spec.inputs, SPEC.inputs) == ((SPEC.input.name,), (SPEC.input.name, "cam_target"))
    assert spec.two_stage == SPEC
    assert "fixed_target" not in SPEC.to_dict()


@pytest.mark.parametrize("index", [-2, SPEC.output.classes])
def test_a_class_that_there_is_not(index: int) -> None:
    with pytest.raises(SpecError, match=r"fixed_target\.index"):
        replace(SPEC, fixed_target=FixedTargetSpec(index=index))


def test_not_with_columns() -> None:
    with pytest.raises(SpecError, match="told the classes"):
        replace(SPEC, fixed_target=FixedTargetSpec(), columns=ColumnsSpec())
