"""Closed at the end of a ``with``, also where it fails."""

from __future__ import annotations

import pytest
from cfcam.runtime.closing import Closing


class Held(Closing):
    closed = 0

    def close(self):
        self.closed += 1


def test_leaving_closes_and_hides_no_error():
    with Held() as held:
        assert isinstance(held, Held)
        assert held.closed == 0
    assert held.closed == 1
    with pytest.raises(KeyError), held:
        raise KeyError
    assert held.closed == 2


def test_a_class_without_close_says_so():
    with pytest.raises(NotImplementedError):
        Closing().close()
