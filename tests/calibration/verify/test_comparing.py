"""Photos that fail, on one side or on both, and the others that go on."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.calibration.verify import verify
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.opening import open_engine
from cfcam.runtime.errors import EngineError, ImageError
from cfcam.runtime.explainer import Explainer
from cfcam.runtime.photos.images import open_image
from cfcam.runtime.photos.preprocess import prepare


def _tensors(path, photos):
    return [prepare(open_image(one), read_spec(path).input).tensor for one in photos]


def test_corrupt_photos_are_named_and_the_others_go_on(tiny_path, photos, tmp_path):
    plain = tiny_path("logits")
    bad = [tmp_path / f"bad{number}.jpg" for number in range(3)]
    for number, path in enumerate(bad):
        path.write_bytes(photos[number].read_bytes()[: 40 * number])
    mixed = [bad[0], *photos[:3], bad[1], *photos[3:6], bad[2]]
    report = verify(plain, plain, mixed, batch=4, pictures=0)
    assert report, "that photos are damaged is not the candidate's fault"
    assert [one.name for one in report.photos] == [str(one) for one in photos[:6]]
    assert {one.name for one in report.failed} == {str(one) for one in bad}
    assert len(report.to_dict()["errors"]) == 3
    with pytest.raises(ImageError, match=r"none of 3 photos could be used: .*bad"):
        verify(plain, plain, bad)
    with pytest.raises(ImageError, match="no photos were given"):
        verify(plain, plain, [])


class _Overflowing:
    """An engine that fails on bright photos, as one that overflows does."""

    def __init__(self, path, limit):
        self._engine, self._limit = open_engine(path, threads=1), limit
        self.describe, self.close = self._engine.describe, self._engine.close

    def infer(self, inputs, outputs=None):
        found = self._engine.infer(inputs, outputs)
        for one, scores in zip(inputs["image"], found["scores"], strict=True):
            if one.mean() > self._limit:
                scores[:] = np.inf
        return found


def test_a_candidate_that_overflows_on_some_photos(tiny_path, photos):
    plain = tiny_path("logits")
    brightness = [float(one.mean()) for one in _tensors(plain, photos)]
    with Explainer(plain, engine=_Overflowing(plain, sorted(brightness)[-3])) as candidate:  # type: ignore[arg-type]
        report = verify(candidate, plain, photos, pictures=0)
        assert [one.text for one in report.failures] == [
            f"the candidate could not explain 2 of {len(photos)} photos",
        ]
        assert all(one.candidate and "NaN or infinity" in one.error for one in report.failed)
        assert len(report.photos) == len(photos) - 2
    always = Explainer(plain, engine=_Overflowing(plain, -9))  # type: ignore[arg-type]
    with always, pytest.raises(EngineError, match=r"could explain none of 2 photos; .*NaN or infinity"):
        verify(always, plain, photos[:2])
