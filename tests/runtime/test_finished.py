"""Finished maps, and why they are empty, as far as a fused file tells."""

import numpy as np
import pytest
from cfcam.runtime.finished import from_file, why_empty
from cfcam.runtime.inference import Finished
from cfcam.runtime.methods import get_method
from cfcam.runtime.methods.layer_fusion import FileForm

FORM = FileForm(detail="early", grid=(4, 4), contrast=0.3)


def one(empty, counts=None, guided=None):
    maps = np.full((1, 2, 2), 0 if empty else 1, np.float32)
    return Finished(
        maps, np.array([empty]), None if guided is None else np.array([guided]),
        None if counts is None else np.array([counts]),
    )  # fmt: skip


def host(activations, gradients):
    a, g = (np.array(values, np.float32).reshape(2, 1, 1) for values in (activations, gradients))
    reason = get_method("gradcam").run(a, g, None).empty
    assert reason is not None
    return reason


@pytest.mark.parametrize(
    ("counts", "chosen", "words"),
    [
        ((2, 5, 0, 1), -1, ("no such class",)),
        ((0, 0, 0, 6), 3, (host([0, 0], [1, 1]),)),  # no channel is active: what the host says where that is so
        ((2, 5, 0, 1), 3, (host([1, 1], [0, 0]), host([1, 1], [-1, -1]), "not finite")),
        ((0, 0, 6, 0), 3, (host([1, 1], [-1, -1]), "no channels form a cluster")),
        (None, 3, (host([1, 1], [0, 0]), host([1, 1], [-1, -1]))),
    ],
)
def test_every_cause_that_can_be_told_apart_has_its_sentence(counts, chosen, words):
    reason = why_empty(one(True, counts), 0, chosen)
    assert reason is not None
    assert all(word in reason for word in words), reason
    assert ("cluster" in reason) == (counts == (0, 0, 6, 0))
    assert why_empty(one(False, counts), 0, chosen) is None


def test_a_map_says_whether_and_why_it_is_not_guided():
    sharp, blunt, empty = (from_file(one(e, (2, 5, 0, 1), g), 0, FORM, 3) for e, g in ((0, 1), (0, 0), (1, 0)))
    assert [result.form.guided for result in (sharp, blunt, empty) if result.form] == [True, False, False]
    assert [bool(result.form.unguided) for result in (sharp, blunt, empty) if result.form] == [False, True, False]
    assert (sharp.empty, blunt.empty, empty.map.max()) == (None, None, 0)
    assert from_file(one(False), 0, None, 3).form is None
