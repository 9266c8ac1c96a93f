"""What each part of `cfcam` does to a map: clustering, sign groups, filter, the guide and the contrast.

Each part is taken away in turn and the map that remains is correlated with the full one. A
part whose column is 1 everywhere does nothing; a method whose correlation with HiResCAM is 1
is HiResCAM by another name.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.cam import cam_results
from ..runtime.checks import check_integer, expect
from ..runtime.errors import MethodError
from ..runtime.methods import CamResult, CfcamSettings
from ..runtime.methods.cfcam.guiding import guide
from ..runtime.methods.numerics.resizing import same_grid
from ..runtime.methods.numerics.scaling import safe_float32
from .json_values import plain
from .sensitivity import pearson
from .statistics import mean_of_known

__all__ = ["COLUMNS", "LayerSample", "PartsReport", "PartsRow", "Spread", "measure_part", "measure_parts"]

#: Fields of `PartsRow` that hold correlations with the full `cfcam` map.
COLUMNS = ("hirescam", "random_groups", "sign_groups", "no_filter", "no_guide", "blind_guide", "no_contrast")


@dataclass(frozen=True, kw_only=True)
class LayerSample:
    """One photo at one layer.

    Attributes:
        name: Of the photo.
        activations: Float (C, H, W).
        gradients: Float (C, H, W).
        last: Whether the layer feeds the global pooling; None to decide from the gradients.
        layer: Its name; the summary has one block per layer.
        detail: Float (D, H', W'), activations of the detail layer, or None.
        rivals: Float (C, 1, 1) or (C, H, W), the gradient of the logsumexp of the other classes' logits, or None.
    """

    name: str
    activations: NDArray[np.floating[Any]]
    gradients: NDArray[np.floating[Any]]
    last: bool | None = None
    layer: str = ""
    detail: NDArray[np.floating[Any]] | None = None
    rivals: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class PartsRow:
    """Correlations of one photo's `cfcam` map at one layer; NaN where a map is constant, or the part is not there.

    Maps on two grids are compared on the finer one.

    Attributes:
        name: Of the photo.
        layer: Of the layer.
        hirescam: With HiResCAM.
        random_groups: With `cfcam` over random groups of the same sizes, mean over the seeds whose map is not constant.
        sign_groups: With `cfcam` whose only groups are the signs of the evidence.
        no_filter: With `cfcam` without the Gaussian.
        no_guide: With `cfcam` without the detail layer.
        blind_guide: With `cfcam` whose detail layer knows nothing of the class (r = 0).
        no_contrast: With `cfcam` at contrast 0.
        counts: As in `Grouping.counts`.
        empty: Why the map means nothing, or None.
    """

    name: str
    layer: str
    hirescam: float
    random_groups: float
    sign_groups: float
    no_filter: float
    counts: dict[str, int]
    empty: str | None = None
    no_guide: float = math.nan
    blind_guide: float = math.nan
    no_contrast: float = math.nan


@dataclass(frozen=True)
class Spread:
    """What a column comes to, without the values that are NaN.

    Attributes:
        median: Of the values.
        min: The smallest.
        max: The largest.
        count: How many there are.
    """

    median: float
    min: float
    max: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of a column.

        Args:
            values: May hold NaN.

        Returns:
            NaN in all places but `count` where no value is known.
        """
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan, math.nan, 0)
        return cls(statistics.median(known), min(known), max(known), len(known))


@dataclass(frozen=True)
class PartsReport:
    """All rows, and what they come to.

    Attributes:
        rows: In the order of the photos.
    """

    rows: tuple[PartsRow, ...]

    def summary(self) -> dict[str, dict[str, Spread]]:
        """What each column comes to in each layer, without empty maps.

        Returns:
            Layer -> column -> `Spread`; the columns are `COLUMNS` and ``clusters``.
        """
        layers = dict.fromkeys(row.layer for row in self.rows)
        blocks = {layer: [row for row in self.rows if row.layer == layer and row.empty is None] for layer in layers}
        return {
            layer: {
                **{column: Spread.of(getattr(row, column) for row in rows) for column in COLUMNS},
                "clusters": Spread.of(float(row.counts["clusters"]) for row in rows),
            }
            for layer, rows in blocks.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; NaN becomes None."""
        summary = {
            layer: {column: asdict(spread) for column, spread in columns.items()}
            for layer, columns in self.summary().items()
        }
        return plain({"rows": [asdict(row) for row in self.rows], "summary": summary})


def measure_part(sample: LayerSample, settings: CfcamSettings | None = None, *, random_groupings: int = 5) -> PartsRow:
    """Take `cfcam` apart on one photo at one layer.

    Args:
        sample: Its activations and gradients.
        settings: Of the full map; the controls differ from it in one setting each.
        random_groupings: How many seeds the random groups are averaged over, at least 1.

    Returns:
        The correlations of the full map with the controls.

    Raises:
        ArrayError: The arrays are such that `cam_results` refuses them.
        MethodError: `random_groupings` is out of range.
    """
    expect("measure_part", "sample", sample, LayerSample)
    expect("measure_part", "settings", settings, CfcamSettings, None, error=MethodError)
    check_integer("measure_part", "random_groupings", random_groupings, 1, 10_000)
    settings = settings or CfcamSettings()
    if settings.last is None:
        settings = replace(settings, last=sample.last)

    full = _map(sample, settings)
    randoms = [replace(settings, clustering="random", seed=settings.seed + i) for i in range(random_groupings)]
    assert full.grouping is not None
    assert full.form is not None
    alone = _map(sample, replace(settings, guided=False)) if full.form.guided else None
    return PartsRow(
        name=sample.name,
        layer=sample.layer,
        hirescam=_alike(full, cam_results(sample.activations, sample.gradients, "hirescam")[0]),
        random_groups=mean_of_known([_alike(full, _map(sample, changed)) for changed in randoms]),
        sign_groups=_alike(full, _map(sample, replace(settings, clustering="none"))),
        no_filter=_alike(full, _map(sample, replace(settings, sigma=0))),
        counts=full.grouping.counts(),
        empty=full.empty,
        no_guide=math.nan if alone is None else _alike(full, alone),
        blind_guide=math.nan if alone is None else _alike(full, _blindly_guided(sample, alone, settings.gate_floor)),
        no_contrast=_alike(full, _map(sample, replace(settings, contrast=0.0))) if full.form.contrast else math.nan,
    )


def measure_parts(
    samples: Iterable[LayerSample], settings: CfcamSettings | None = None, *, random_groupings: int = 5
) -> PartsReport:
    """`measure_part` for every sample; one sample is held in memory at a time.

    Args:
        samples: Photos at layers.
        settings: As in `measure_part`.
        random_groupings: As in `measure_part`.

    Returns:
        A row per sample.

    Raises:
        ArrayError: As `measure_part`.
        MethodError: As `measure_part`.
    """
    expect("measure_parts", "samples", samples, Iterable)
    return PartsReport(tuple(measure_part(s, settings, random_groupings=random_groupings) for s in samples))


def _map(sample: LayerSample, settings: CfcamSettings) -> CamResult:
    arrays = (sample.activations, sample.gradients)
    return cam_results(*arrays, "cfcam", settings, detail=sample.detail, rivals=sample.rivals)[0]


def _blindly_guided(sample: LayerSample, alone: CamResult, floor: float) -> CamResult:
    """The map without a guide, sharpened by all channels of the detail layer alike."""
    assert sample.detail is not None
    detail = safe_float32(sample.detail)[0]
    return CamResult(guide(alone.map, detail, offset=1.0, floor=floor, blind=True)[0])


def _alike(full: CamResult, other: CamResult) -> float:
    return pearson(*same_grid([full.map, other.map])) if full.map.size > 1 else math.nan
