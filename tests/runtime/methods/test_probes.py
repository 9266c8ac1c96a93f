"""Probes where they have little to say, and what they ask of the model."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import FusionCamSettings, get_method, make_settings, method_names
from probing_nets import of_tail

NAMES = ["scorecam", "ablationcam", "reciprocam", "fusioncam"]


def activations(seed=0, shape=(6, 4, 5)):
    return np.abs(np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def linear(weights, bias=0.5):
    """A global mean, and a head of two classes: the second is the first turned round."""

    def tail(values):
        score = values.mean(axis=(2, 3)) @ np.asarray(weights, np.float32) + bias
        return np.stack([score, -score], axis=1)

    return tail


def test_this_file_covers_every_probe():
    assert sorted(NAMES) == sorted(method_names("probe"))
    assert method_names() == [*method_names("rule"), *method_names("probe")]
    for name in NAMES:
        assert get_method(name).summary
    assert [name for name in NAMES if get_method(name).needs_tail] == ["ablationcam", "reciprocam"]


@pytest.mark.parametrize("name", NAMES)
class TestEveryProbe:
    def test_zero_activations(self, name):
        a = activations()
        found = get_method(name).run(of_tail(0 * a, linear(np.ones(6))))
        assert found.empty == "all activations are zero"
        assert not found.map.any()

    def test_a_score_that_nothing_moves(self, name):
        one = of_tail(activations(), linear(np.zeros(6)))
        found = get_method(name).run(one)
        if name == "fusioncam":  # of Grad-CAM, which looks at gradients, there is a map
            assert found.empty is None
        else:
            assert found.empty
            assert "the same" in found.empty or "no channel moves" in found.empty

    @pytest.mark.parametrize("shape", [(1, 3, 3), (2, 1, 1), (3, 1, 4), (40, 7, 7)])
    def test_shapes(self, name, shape):
        a = activations(shape=shape)
        found = get_method(name).run(of_tail(a, linear(np.arange(1, shape[0] + 1))))
        assert found.map.shape == shape[1:]
        assert np.isfinite(found.map).all()
        assert found.map.min() >= 0
        assert (found.empty is not None) == (found.map.max() == 0)

    def test_inputs_are_not_written_to(self, name):
        a = activations()
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
        one = of_tail(activations(), tail, batch=batch, progress=lambda *pair: told.append(pair))
        np.testing.assert_allclose(
            get_method(name).run(one).map, get_method(name).run(of_tail(one.activations, tail)).map, rtol=1e-5
        )
        swept = seen if name != "fusioncam" else seen[:-2]  # three and one by their own
        assert max(swept[: len(told)]) <= batch
        assert told[-1][0] == told[-1][1]
        assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_ablation_of_a_linear_head_is_its_evidence():
    weights = np.array([1.0, -2, 3, 0, 0.5, -1])
    a = activations()
    a[4] = 0
    tail = linear(weights)
    found = get_method("ablationcam").run(of_tail(a, tail))
    score = float(tail(a[None])[0, 0])
    assert score > 0
    evidence = weights * a.mean(axis=(1, 2)) / score
    np.testing.assert_allclose(found.map, np.maximum(np.einsum("k,khw->hw", evidence, a), 0), rtol=1e-4, atol=1e-6)


def test_the_map_does_not_turn_round_where_the_logit_is_negative():
    a = activations()
    weights = np.arange(6.0) - 1
    maps = [get_method("ablationcam").run(of_tail(a, linear(weights, bias))).map for bias in (5, -50)]
    np.testing.assert_allclose(maps[0] / maps[0].max(), maps[1] / maps[1].max(), atol=1e-3)


def test_dead_channels_cost_nothing():
    a = activations()
    a[1:4] = 0
    count = []

    def tail(values):
        count.append(len(values))
        return linear(np.arange(6))(values)

    get_method("ablationcam").run(of_tail(a, tail))
    assert sum(count) == 1 + 3
    count.clear()
    get_method("scorecam").run(of_tail(a, tail))
    assert sum(count) == 3 + 1


def test_channels_without_shape_take_part_in_the_softmax_only():
    """As in the packages, where such a channel masks the whole image and weighs what is then left."""
    a = activations()
    a[2] = 1.5
    tail = linear(np.arange(6) * 10)
    found = get_method("scorecam").run(of_tail(a, tail))
    masks = a - a.min(axis=(1, 2), keepdims=True)
    masks /= np.maximum(masks.max(axis=(1, 2), keepdims=True), 1e-9)
    scores = tail(a[None] * masks[:, None])[:, 0]
    weights = np.exp(scores - scores.max())
    expected = np.einsum("k,khw->hw", weights / weights.sum(), a)
    np.testing.assert_allclose(found.map, expected, rtol=1e-4)


def test_independent_classes_get_a_sigmoid():
    a = activations()

    def tail(values):  # the second class rises as the first does, which a softmax would undo
        score = values.sum(axis=(1, 2, 3))
        return np.stack([score, score], axis=1)

    assert get_method("reciprocam").run(of_tail(a, tail)).empty
    found = get_method("reciprocam").run(of_tail(a, tail, independent=True))
    cells = 1 / (1 + np.exp(-a.sum(axis=0)))
    np.testing.assert_allclose(found.map, cells - cells.min(), atol=1e-6)


def test_fusion_without_confidence_takes_both_alike():
    """The class's probability is highest on nothing, so neither map recovers any."""
    a = activations()
    found = get_method("fusioncam").run(of_tail(a, lambda values: -linear(np.ones(6))(values)))
    assert found.empty is None
    assert np.isfinite(found.map).all()


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("scorecam", {"weights": "mean"}, "settings of 'scorecam': weights: expected one of 'softmax', 'probability'"),
        ("scorecam", {"align_corners": 1}, "align_corners: expected true or false"),
        ("scorecam", {"align_corner": True}, "did you mean 'align_corners'"),
        ("reciprocam", {"gaussian": "yes"}, "settings of 'reciprocam': gaussian: expected true or false"),
        ("reciprocam", {"score": "softmax"}, "score: expected one of 'probability', 'logit'"),
        ("fusioncam", {"percentile": 101}, "settings of 'fusioncam': percentile: expected a number from 0 to 100"),
        ("ablationcam", {"batch": 3}, "takes no settings"),
    ],
)
def test_settings_out_of_range(name, settings, words):
    with pytest.raises(MethodError, match=words):
        make_settings(get_method(name), settings)


def test_the_percentile_is_what_is_cut_off():
    a = activations()
    one = of_tail(a, linear(np.arange(6)))
    low, high = (get_method("fusioncam").run(one, FusionCamSettings(percentile=p)).map for p in (0, 90))
    assert np.abs(low - high).max() > 0.05
