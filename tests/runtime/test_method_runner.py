"""Methods on what one inference gave: as often as smoothing asks, with progress told as one."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime import Explainer, Smoothing
from cfcam.runtime.method_runner import MethodRunner, Work
from cfcam.runtime.methods import get_method


@pytest.fixture
def explainer(tiny_path):
    with Explainer(tiny_path("tail"), threads=1) as opened:
        yield opened


def run(explainer, work):
    tensor = np.random.default_rng(0).standard_normal(explainer.spec.input.shape(1)).astype(np.float32)[0]
    runner = MethodRunner(explainer.spec, explainer._inference, explainer._open_tail, 4)
    times: dict[str, float] = {}
    return runner.run(work, tensor, explainer.tensors(tensor[None], 1), 0, times), times


@pytest.mark.parametrize("name", ["gradcam", "reciprocam"])
def test_smoothing_without_noise_changes_nothing(explainer, name):
    method = get_method(name)
    settings = None if method.settings is None else method.settings()
    once, times = run(explainer, Work(method, settings))
    smooth, more = run(explainer, Work(method, settings, Smoothing(copies=3, noise=0)))
    np.testing.assert_allclose(smooth.map, once.map, atol=1e-5)
    assert (list(times), list(more)) == (["method"], ["inference", "method"])


def test_the_progress_of_noisy_copies_is_one_progress(explainer):
    told: list[tuple[int, int]] = []
    method = get_method("reciprocam")
    work = Work(method, method.settings(), Smoothing(copies=2), lambda *pair: told.append(pair))  # type: ignore[misc]
    run(explainer, work)
    assert told[-1] == (2 * 96, 2 * 96)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
