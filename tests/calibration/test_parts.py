"""`measure_parts` on made-up layers whose parts are known to matter or not."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from cfcam.calibration import LayerSample, PartsReport, PartsRow, Spread, measure_part, measure_parts, pearson
from cfcam.runtime.errors import ArrayError, MethodError
from cfcam.runtime.methods import CfcamSettings, get_method
from cfcam.runtime.methods.numerics.resizing import resize

cfcam = get_method("cfcam").run


def sample(seed: int, pooled: bool, name: str = "photo", layer: str = "layer") -> LayerSample:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:7, :7]
    centres = rng.uniform(0, 7, (4, 2))
    blobs = [np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 3) for y, x in centres for _ in range(12)]
    a = np.array(blobs) * rng.uniform(0.5, 2, (48, 1, 1)) + 0.1 * rng.random((48, 7, 7))
    g = rng.normal(size=(48, 1, 1)) + (0 if pooled else rng.normal(size=a.shape))
    g = np.broadcast_to(g, a.shape)
    return LayerSample(name=name, layer=layer, activations=a.astype(np.float32), gradients=g.astype(np.float32))


def test_columns_are_the_correlations_they_claim_to_be():
    photo = sample(0, pooled=False)
    a, g = photo.activations, photo.gradients
    row = measure_part(photo, random_groupings=6)
    full = cfcam(a, g)
    randoms = [cfcam(a, g, CfcamSettings(clustering="random", seed=seed)).map for seed in range(6)]
    assert row.hirescam == pearson(full.map, get_method("hirescam").run(a, g).map)
    assert row.random_groups == pytest.approx(np.mean([pearson(full.map, other) for other in randoms]))
    assert row.sign_groups == pearson(full.map, cfcam(a, g, CfcamSettings(clustering="none")).map)
    assert row.no_filter == pearson(full.map, cfcam(a, g, CfcamSettings(sigma=0)).map)
    assert full.grouping is not None
    assert row.counts == full.grouping.counts()
    assert max(row.hirescam, row.random_groups, row.sign_groups, row.no_filter) < 0.999


def test_a_filter_over_constant_gradients_is_seen_to_do_nothing():
    row = measure_part(sample(5, pooled=True))
    assert row.no_filter > 1 - 1e-6
    assert row.random_groups < 0.9999


def test_guide_and_contrast_are_parts_too():
    """The guided map, the controls and their correlations, written out with numpy."""
    photo, rng = sample(6, pooled=True), np.random.default_rng(6)
    detail = np.maximum(rng.normal(size=(12, 14, 14)), 0).astype(np.float32)
    rivals = rng.normal(size=(48, 1, 1)).astype(np.float32)
    row = measure_part(dataclasses.replace(photo, detail=detail, rivals=rivals))
    a, g = photo.activations, photo.gradients
    full = cfcam(a, g, detail=detail, rivals=rivals).map
    alone = resize(cfcam(a, g, rivals=rivals).map[None], (14, 14))[0]
    every = (detail / np.sqrt((detail**2).sum(axis=(1, 2), keepdims=True))).sum(axis=0)
    blind = alone * (0.3 + 0.7 * every / every.max())
    assert row.no_guide == pytest.approx(np.corrcoef(full.ravel(), alone.ravel())[0, 1], abs=1e-6)
    assert row.blind_guide == pytest.approx(np.corrcoef(full.ravel(), blind.ravel())[0, 1], abs=1e-6)
    plain = cfcam(a, g, detail=detail).map
    assert row.no_contrast == pytest.approx(np.corrcoef(full.ravel(), plain.ravel())[0, 1], abs=1e-6)
    assert max(row.no_guide, row.blind_guide, row.no_contrast, row.sign_groups) < 0.999
    without = measure_part(photo)
    assert all(math.isnan(value) for value in (without.no_guide, without.blind_guide, without.no_contrast))


def test_settings_and_the_layers_kind_arrive():
    photo = sample(2, pooled=False)
    forced = LayerSample(name="p", activations=photo.activations, gradients=photo.gradients, last=True)
    assert measure_part(forced).hirescam == measure_part(photo, CfcamSettings(last=True)).hirescam
    assert measure_part(forced).hirescam != measure_part(photo).hirescam
    assert measure_part(forced, CfcamSettings(last=False)).hirescam == measure_part(photo).hirescam
    bare = CfcamSettings(clustering="none", sigma=0)
    row = measure_part(photo, bare)
    assert (row.sign_groups, row.no_filter) == (pytest.approx(1), pytest.approx(1))


def test_summary_per_layer():
    samples = [
        sample(seed, pooled, f"{seed}.jpg", "last" if pooled else "mid")
        for seed in range(3)
        for pooled in (True, False)
    ]
    report = measure_parts(iter(samples))
    assert [(row.name, row.layer) for row in report.rows] == [(s.name, s.layer) for s in samples]
    summary = report.summary()
    assert list(summary) == ["last", "mid"]
    values = [row.hirescam for row in report.rows if row.layer == "mid"]
    assert summary["mid"]["hirescam"] == Spread(float(np.median(values)), min(values), max(values), 3)
    assert summary["last"]["clusters"].min >= 1


def test_to_dict_is_json_and_nan_becomes_null():
    photo = sample(3, pooled=False)
    silent = LayerSample(name="silent", layer="layer", activations=photo.activations, gradients=0 * photo.gradients)
    report = measure_parts([photo, silent])
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["rows"][1]["hirescam"] is None
    assert data["rows"][1]["empty"] == "all gradients are zero"
    assert data["rows"][0]["empty"] is None
    assert data["summary"]["layer"]["hirescam"]["count"] == 1
    assert data["summary"]["layer"]["hirescam"]["median"] == data["rows"][0]["hirescam"]
    assert data["summary"]["layer"]["clusters"]["count"] == 1
    assert math.isnan(report.rows[1].random_groups)


def test_nothing_to_summarise():
    assert PartsReport(()).to_dict() == {"rows": [], "summary": {}}
    row = PartsRow(
        name="p",
        layer="l",
        hirescam=math.nan,
        random_groups=0.5,
        sign_groups=0.5,
        no_filter=0.5,
        counts={"clusters": 1},
    )
    spread = PartsReport((row,)).summary()["l"]
    assert spread["hirescam"].count == 0
    assert math.isnan(spread["hirescam"].median)
    assert spread["random_groups"] == Spread(0.5, 0.5, 0.5, 1)


def test_one_cell():
    row = measure_part(LayerSample(name="p", activations=np.ones((5, 1, 1)), gradients=np.ones((5, 1, 1))))
    assert math.isnan(row.hirescam)


def test_refused():
    photo = sample(4, pooled=False)
    with pytest.raises(MethodError, match="random_groupings: expected a whole number of at least 1"):
        measure_part(photo, random_groupings=0)
    with pytest.raises(ArrayError, match="gradients: expected the shape"):
        measure_part(LayerSample(name="p", activations=photo.activations, gradients=photo.gradients[:3]))
