"""Names of before: still there, and said to be old."""

import pytest
from cfcam.calibration import evaluate, verify
from cfcam.calibration.renamed import old_names


def test_an_old_name_is_the_new_thing_and_says_so():
    with pytest.warns(DeprecationWarning, match=r"verify\.GateReport is now called VerifyReport"):
        assert verify.GateReport is verify.VerifyReport
    with pytest.warns(DeprecationWarning, match="VerifyError"):
        from cfcam.calibration.verify import GateError
    assert GateError is verify.VerifyError


def test_any_other_name_is_missing_as_ever():
    with pytest.raises(AttributeError, match="module 'somewhere' has no attribute 'nothing'"):
        old_names("somewhere", {"old": int})("nothing")
    assert not hasattr(verify, "nothing")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Contender", "Row"),
        ("Figure", "Column"),
        ("Instrument", "TableMeasure"),
        ("all_instruments", "all_measures"),
        ("get_instrument", "get_measure"),
        ("make_contenders", "make_rows"),
        ("register_instrument", "register_measure"),
    ],
)
def test_names_of_an_evaluation(old, new):
    with pytest.warns(DeprecationWarning, match=f"evaluate.{old} is now called {new}"):
        assert getattr(evaluate, old) is getattr(evaluate, new)
