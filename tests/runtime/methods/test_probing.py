"""Every probe where it has little to say, and what it asks of the model."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods import get_method, method_names
from probing_nets import linear, of_tail, some_activations

NAMES = ["scorecam", "ablationcam", "reciprocam", "fusioncam", "finercam"]


def test_this_file_covers_every_probe():
    assert sorted(NAMES) == sorted(method_names("probe"))
    assert method_names() == [*method_names("rule"), *method_names("probe")]
    for name in NAMES:
        assert get_method(name).summary
    assert [name for name in NAMES if get_method(name).needs_tail] == ["ablationcam", "reciprocam"]


@pytest.mark.parametrize("name", NAMES)
class TestEveryProbe:
    def test_zero_some_activations(self, name):
        a = some_activations()
        found = get_method(name).run(of_tail(0 * a, linear(np.ones(6))))
        assert found.empty == "all activations are zero"
        assert not found.map.any()

    def test_a_score_that_nothing_moves(self, name):
        one = of_tail(some_activations(), linear(np.zeros(6)))
        found = get_method(name).run(one)
        if name in ("fusioncam", "finercam"):  # of Grad-CAM, which looks at gradients, there is a map
            assert found.empty is None
        else:
            assert found.empty
            assert "the same" in found.empty or "no channel moves" in found.empty

    @pytest.mark.parametrize("shape", [(1, 3, 3), (2, 1, 1), (3, 1, 4), (40, 7, 7)])
    def test_shapes(self, name, shape):
        a = some_activations(shape=shape)
        found = get_method(name).run(of_tail(a, linear(np.arange(1, shape[0] + 1))))
        assert found.map.shape == shape[1:]
        assert np.isfinite(found.map).all()
        assert found.map.min() >= 0
        assert (found.empty is not None) == (found.map.max() == 0)

    def test_inputs_are_not_written_to(self, name):
        a = some_activations()
        before = a.copy()
        a.flags.writeable = False
        get_method(name).run(of_tail(a, linear(np.arange(6))))
        np.testing.assert_array_equal(a, before)

    @pytest.mark.parametrize("batch", [1, 4, 64])
    def test_batches_do_not_matter(self, name, batch):
        seen = []

        def tail(values):
            seen.append(len(values))
            return linear(np.arange(6))(values)

        told = []
        one = of_tail(some_activations(), tail, batch=batch, progress=lambda *pair: told.append(pair))
        np.testing.assert_allclose(
            get_method(name).run(one).map, get_method(name).run(of_tail(one.activations, tail)).map, rtol=1e-5
        )
        swept = seen if name != "fusioncam" else seen[:-2]  # three and one by their own
        assert max(swept[: len(told)]) <= batch
        assert told[-1][0] == told[-1][1]
        assert [done for done, _ in told] == sorted({done for done, _ in told})
