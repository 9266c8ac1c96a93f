"""Photos and classes in steps: who fails takes no other with it."""

from pathlib import Path
from types import SimpleNamespace

from cfcam.cli.explain_steps import explained_in_steps
from cfcam.runtime.errors import EngineError, ImageError


class Recorded:
    """An explainer that says what it was asked, and fails on photos called ``bad``."""

    def __init__(self, columns=None):
        self.spec, self.asked = SimpleNamespace(columns=columns), []

    def prepare(self, path):
        if path.stem == "unreadable":
            raise ImageError("unreadable")
        return path.stem

    def explain_batch(self, photos, targets, **how):
        self.asked.append(list(zip(photos, targets, strict=True)))
        if "bad" in photos:
            raise EngineError("NaN")
        return [f"{photo}.{target}" for photo, target in zip(photos, targets, strict=True)]

    def explain_classes(self, photos, targets, **how):
        self.asked.append((list(photos), list(targets)))
        if "bad" in photos:
            raise EngineError("NaN")
        return [[f"{photo}.{target}" for target in targets] for photo in photos]


def taken(explainer, names, targets, batch, **how):
    """Results by name, failed photos, and how many were attempted."""
    steps = list(explained_in_steps(explainer, [Path(name) for name in names], targets, {}, batch, **how))
    done = [one for _, found, _ in steps for one, _, _ in found]
    return done, [entry["image"] for _, _, failed in steps for entry in failed], sum(count for count, _, _ in steps)


def test_pairs_of_photos_and_classes_fill_the_batch():
    explainer = Recorded()
    done, failed, attempted = taken(explainer, ["a", "b", "c"], [0, 1], 4)
    assert done == ["a.0", "a.1", "b.0", "b.1", "c.0", "c.1"]
    assert (failed, attempted) == ([], 6)
    assert [len(one) for one in explainer.asked] == [4, 2]


def test_classes_of_a_photo_together():
    for explainer, how in ((Recorded(), {"by_image": True}), (Recorded(SimpleNamespace(count=2)), {})):
        done, failed, attempted = taken(explainer, ["a", "bad", "unreadable", "c"], [-1, -2], 4, **how)
        assert done == ["a.-1", "a.-2", "c.-1", "c.-2"]
        assert sorted(failed) == ["bad", "unreadable"]
        assert attempted == 8
        assert explainer.asked[0] == (["a", "bad", "c"], [-1, -2])


def test_one_that_fails_takes_no_other_with_it():
    done, failed, attempted = taken(Recorded(), ["a", "bad", "c"], [5], 8)
    assert done == ["a.5", "c.5"]
    assert (failed, attempted) == (["bad"], 3)
