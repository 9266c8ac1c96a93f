"""A clock that the work moves, and a photo."""

from __future__ import annotations

import pytest
from PIL import Image


class FakeMachine:
    """A clock in nanoseconds, and work that moves it."""

    def __init__(self):
        self.now = 0
        self.calls = []

    def clock(self):
        return self.now

    def work(self, name, *milliseconds):
        """A callable that takes the first of `milliseconds`, then the second, ..., and begins again."""
        count = 0

        def run():
            nonlocal count
            self.calls.append(name)
            self.now += round(milliseconds[count % len(milliseconds)] * 1e6)
            count += 1

        return run


@pytest.fixture
def machine():
    return FakeMachine()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "half_red.png"
    image = Image.new("RGB", (80, 60), "white")
    image.paste((255, 0, 0), (0, 0, 40, 60))
    image.save(path)
    return path
