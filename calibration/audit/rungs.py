"""One photo to one row: the rungs of an audit, from the prediction to what removing the map's place does."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import normalise
from ...runtime.errors import ArrayError, EngineError, ImageError
from ...runtime.explainer import Explainer
from ...runtime.inference import Tensors
from ...runtime.map_columns import map_columns
from ...runtime.methods.layer_fusion import Groupings, run_rule
from ...runtime.methods.numerics.resizing import same_grid
from ...runtime.photos.frame import Frame
from ...runtime.probabilities import class_probabilities
from ..evaluate.annotations import AnnotationError, Annotations
from ..measures.access import EngineAccess
from ..measures.base import Images
from ..measures.insertion_deletion import fill_images
from ..measures.localisation import energy_inside
from ..measures.noise import agreement, noisy
from ..sensitivity import class_sensitivity
from .certificate import open_certifier
from .errors import AuditError
from .findings import find
from .plan import RUNGS, Plan
from .row import Row, empty_row
from .sources import Photo

__all__ = ["Auditor", "method_of"]

#: The share of a map's pixels that the removal rung takes for what the map shows.
_HIGHEST = 0.2


@dataclass
class _Climber:
    """What is known about a photo while its rungs are climbed.

    images: (1, C, H, W). tensors: for the predicted class. other: for the second one by the file's own order, where one
    inference gave both. grid: the map. groupings: of its channels, which no class changes.
    """

    sha256: str
    images: Images
    frame: Frame
    region: NDArray[np.bool_] | None
    probabilities: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    target: int = -1
    second: int | None = None
    tensors: Tensors | None = None
    other: Tensors | None = None
    grid: NDArray[np.float32] | None = None
    heat: NDArray[np.float32] | None = None
    groupings: Groupings = field(default_factory=dict)


class Auditor:
    """Makes rows of photos, one at a time: what a photo's row says depends on the plan and the photo alone.

    Args:
        explainer: Of the file; it stays the caller's to close.
        plan: What is measured, and how.
        annotations: Where the objects are; None without.
        metadata: Photo -> what is known about it, or None; None without.
        distance: Columns of a row -> the distance from a reference profile, and the farthest column; None without.

    Raises:
        AuditError: The file is no classifier, or the method runs the model again.
        MethodError: There is no such method or setting.
    """

    def __init__(
        self,
        explainer: Explainer,
        plan: Plan,
        annotations: Annotations | None = None,
        metadata: Callable[[Path], Mapping[str, str] | None] | None = None,
        distance: Callable[[Mapping[str, float | None]], tuple[float, str]] | None = None,
    ) -> None:
        if explainer.spec.output.values:
            raise AuditError(f"{explainer.path}: is a regression: an audit is of a classifier's predicted classes")
        self._method, self._settings = explainer.resolve_method(plan.method, dict(plan.settings) or None)
        if self._method.kind != "rule":
            raise AuditError(
                f"method '{plan.method}' runs the model many times for a map: an audit takes a rule, such as "
                "--method cfcam or --method gradcam"
            )
        self._explainer, self._plan = explainer, plan
        self._access = EngineAccess(explainer, plan.method, self._settings)
        self._plain = self._access.without_contrast()
        cells = plan.certified_cells if "certified" in plan.rungs else 0
        self._certifier = open_certifier(explainer, plan.method, cells) if cells else None
        columns, classes = explainer.spec.columns, explainer.spec.output.classes
        self._two_at_once = columns is not None and columns.ranks >= 2 and columns.count != 1 and classes > 1
        self._annotations, self._metadata, self._distance = annotations, metadata, distance
        self._clock = time.process_time if plan.clock == "cpu" else time.perf_counter

    def warm_up(self) -> None:
        """Climb the plan's rungs once with an image of noise: what is imported and allocated on the way must not count
        as the first photo's time. Raises a `CfcamError` as `row`."""
        from PIL import Image

        view = self._explainer.spec.input
        pixels = np.random.default_rng(0).integers(0, 256, (view.height, view.width, 3), np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG")
        self.row(Photo("warm-up", data.getvalue()))

    def row(self, photo: Photo | Path, rungs: tuple[str, ...] | None = None) -> Row:
        """Audit one photo; what is wrong with it is in its row.

        Args:
            photo: What to audit; a path is that of a file.
            rungs: To measure other ones than the plan's.

        Returns:
            The row, without the worker.

        Raises:
            CfcamError: Something is wrong that is not the photo's.
        """
        photo = photo if isinstance(photo, Photo) else Photo.of_file(photo)
        try:
            row = empty_row(photo.name, photo.sha256())
        except ImageError as error:
            return empty_row(photo.name, "") | {"error": str(error)}
        about = None if self._metadata is None else self._metadata(Path(photo.name))
        if about is not None or photo.about is not None:
            row["slice"] = json.dumps({**(photo.about or {}), **(about or {})}, ensure_ascii=False)
        started = self._clock()
        try:
            self._climb(row, photo, rungs or self._plan.rungs, started)
        except (ImageError, ArrayError, EngineError, AnnotationError) as error:
            row = empty_row(row["image"], row["sha256"]) | {"slice": row["slice"], "error": str(error)}
        row["ms"] = (self._clock() - started) * 1000
        row["over"] = self._plan.budget_ms is not None and row["ms"] > self._plan.budget_ms
        if self._distance is not None and row["area"] is not None:
            known = {name: float(value) for name, value in row.items() if isinstance(value, float)}
            row["outlier"], row["outlier_column"] = self._distance(known)
        row["findings"] = find(row)
        return row

    def _climb(self, row: Row, source: Photo, rungs: tuple[str, ...], started: float) -> None:
        photo = self._open(row, source)
        steps = {
            "label": self._label,
            "map": self._map,
            "class": self._class,
            "noise": self._noise,
            "removal": self._removal,
            "certified": self._certified,
        }
        # The map's inference gives the prediction too: one run for both; and for the second class, where the file can.
        with_map = "map" in rungs and self._fits("map", started)
        with_class = with_map and self._two_at_once and "class" in rungs and self._fits("class", started)
        for rung in rungs:
            if not self._fits(rung, started):
                break
            if rung == "label" and with_class:
                photo.tensors, photo.other = self._access.columns(photo.images, [-1, -2])
            elif rung == "label" and with_map:
                photo.tensors = self._access.tensors(photo.images, [-1])
            row.update(steps[rung](photo))
            row["rungs"].append(rung)

    def _fits(self, rung: str, started: float) -> bool:
        """In the adaptive ladder, whether the photo's time allows one more rung; the first is always climbed."""
        if self._plan.ladder == "planned" or self._plan.budget_ms is None or rung == RUNGS[0]:
            return True
        spent = (self._clock() - started) * 1000
        return spent + self._plan.marginal_ms(rung) <= self._plan.budget_ms

    def _open(self, row: Row, source: Photo) -> _Climber:
        with source.opened(self._plan.max_pixels) as image:
            images, (frame,) = self._access.load([image])
        annotation = None if self._annotations is None else self._annotations.of(source.name)
        region = None
        if annotation is not None:
            region = annotation.region(frame)
            row["annotated"] = annotation.class_index(self._explainer.spec.output)
        if region is not None:
            row["box_share"] = float(region.mean())
            region = region if region.any() else None  # the object was cropped away
        return _Climber(row["sha256"], images, frame, region)

    def _label(self, photo: _Climber) -> Row:
        p = self._access.predict(photo.images)[0] if photo.tensors is None else self._probabilities(photo.tensors)
        photo.probabilities = p.astype(np.float64)
        photo.target = int(p.argmax()) if photo.tensors is None else int(photo.tensors.classes[0])
        others = [int(index) for index in np.argsort(-p, kind="stable")[:2] if index != photo.target]
        photo.second = others[0] if others else None
        probability = float(photo.probabilities[photo.target])
        margin = None if photo.second is None else probability - float(photo.probabilities[photo.second])
        label = self._explainer.spec.output.label(photo.target)
        return {"target": photo.target, "label": label, "probability": probability, "margin": margin}

    def _map(self, photo: _Climber) -> Row:
        if photo.tensors is None:
            photo.tensors = self._access.tensors(photo.images, [photo.target])
        spec = self._explainer.spec
        layers = photo.tensors.layers
        result = run_rule(self._method, self._settings, spec.layers, layers, 0, spec.fusion, photo.groupings)
        photo.grid = result.map
        grid = np.asarray(result.map, np.float32)
        columns: Row = {"empty": bool(result.empty) or not grid.max() > 0}
        if columns["empty"]:
            return columns
        photo.heat = normalise(grid, (photo.images.shape[2], photo.images.shape[3]))
        columns |= map_columns(photo.heat)
        levels = np.rint(np.maximum(grid, 0) * (255 / grid.max())).astype(np.uint8)
        columns |= {"grid": levels.ravel().tolist(), "grid_height": grid.shape[0], "grid_width": grid.shape[1]}
        if photo.region is not None:
            columns["energy_inside"] = float(energy_inside(photo.heat[None], photo.region[None])[0])
        return columns

    def _class(self, photo: _Climber) -> Row:
        if photo.heat is None or photo.second is None or photo.tensors is None:
            return {}
        other = photo.other
        if other is None or other.classes[0] != photo.second:  # of equal probabilities, the first is the second class
            other = self._access.tensors(photo.images, [photo.second])
        # Channels are grouped by their activations, which are the same to the last bit where an engine repeats itself.
        pairs = zip(photo.tensors.layers, other.layers, strict=True)
        same = all(a.activations is b.activations or np.array_equal(a.activations, b.activations) for a, b in pairs)
        known = photo.groupings, photo.groupings if same else {}
        both = zip((photo.tensors, other), known, strict=True)
        pair = [self._plain.rule(tensors.layers, [groupings])[0] for tensors, groupings in both]
        return {"class_sensitivity": _known(class_sensitivity(*same_grid(pair)))}

    def _noise(self, photo: _Climber) -> Row:
        if photo.heat is None or photo.grid is None:
            return {}
        random = np.random.default_rng([self._plan.seed, int(photo.sha256[:16], 16)])
        again = self._access.tensors(noisy(photo.images, self._plan.noise, random), [photo.target])
        pair = [photo.grid, self._access.rule(again.layers)[0]]
        return {"noise_agreement": _known(agreement(*same_grid(pair)))}

    def _removal(self, photo: _Climber) -> Row:
        # Of two classes, each has a half when nothing speaks for either: what counts is what is above that.
        output = self._explainer.spec.output
        chance = 0.0 if output.kind == "sigmoid" else 1 / len(photo.probabilities)
        before = float(photo.probabilities[photo.target]) - chance
        if photo.heat is None or before <= 0:
            return {}
        shown = photo.heat >= np.quantile(photo.heat, 1 - _HIGHEST)
        hidden = [shown, ~shown] + ([] if photo.region is None else [photo.region])
        fill = fill_images(photo.images, "mean")
        changed = np.concatenate([np.where(where, fill, photo.images) for where in hidden])
        left = [(float(p[photo.target]) - chance) / before for p in self._access.predict(changed)]
        columns: Row = {"drop_without": 1 - left[0], "keep_only": left[1]}
        return columns if photo.region is None else columns | {"without_object": left[2]}

    def _certified(self, photo: _Climber) -> Row:
        if self._certifier is None or photo.heat is None:
            return {}
        found = self._certifier.certify(self._access.preprocessed(photo.images)[0], photo.target)
        return {"certified_grey_levels": _known(found.grey_levels), "certified_why_not": found.reason}

    def _probabilities(self, tensors: Tensors) -> NDArray[np.float32]:
        return class_probabilities(tensors.scores, self._explainer.spec.output.kind)[0]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def method_of(explainer: Explainer, method: str | None, settings: Any = None) -> tuple[str, dict[str, Any]]:
    """Name and settings of the method that an audit of the file would use. Raises `AuditError` or `MethodError`."""
    if explainer.spec.fused is not None:  # contrast 0, which is measured too, is not in its graph
        raise AuditError(
            f"{explainer.path}: is fused: it gives out finished maps, and an audit measures what they are made of: "
            "give the file that is exported without --fused"
        )
    chosen, options = explainer.resolve_method(method, settings)
    return chosen.name, asdict(options) if is_dataclass(options) and not isinstance(options, type) else {}
