"""``limits.yaml`` as pydantic checks it."""

import pytest
from cfcam.calibration.audit.findings import FINDINGS

pydantic = pytest.importorskip("pydantic")


def test_every_finding_can_be_limited_and_no_other_word():
    from cfcam.calibration.audit.limits_model import LimitsModel

    every = {one.name: 0.5 for one in FINDINGS}
    found = LimitsModel.model_validate({"findings": every, "slices": {"weather": every}})
    assert found.findings == found.slices["weather"] == every
    for document in ({"findings": {"blind": 0.5}}, {"slices": {"weather": {"blind": 0.5}}}):
        with pytest.raises(pydantic.ValidationError, match="unknown finding"):
            LimitsModel.model_validate(document)
