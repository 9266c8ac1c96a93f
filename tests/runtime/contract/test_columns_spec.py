"""What a spec may say of columns."""

from __future__ import annotations

import pytest
from cfcam.runtime.contract.columns_spec import ColumnsSpec
from cfcam.runtime.errors import SpecError


@pytest.mark.parametrize("good", [ColumnsSpec(ranks=3), ColumnsSpec(count=3, ranks=1), ColumnsSpec(count=1, ranks=2)])
def test_what_fits_the_classes(good: ColumnsSpec) -> None:
    good.validate(3)


@pytest.mark.parametrize(
    "bad", [ColumnsSpec(count=4), ColumnsSpec(count=0), ColumnsSpec(ranks=4), ColumnsSpec(ranks=0)]
)
def test_what_does_not(bad: ColumnsSpec) -> None:
    with pytest.raises(SpecError, match="expected 1 to 3"):
        bad.validate(3)
