"""`Explanation`: everything that is known about one explained image, in one numpy-backed object."""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import check_path
from .errors import OutputError
from .files import write_bytes
from .photos.frame import Frame
from .shown import utf8

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from .methods.base import Form
    from .sess import Sess
    from .smoothing import Smoothing

__all__ = ["Explanation"]

#: `Explanation.overlay` enlarges a photo until its longer side has this many pixels.
_MIN_VIEW = 320
_SUFFIXES = (".png", ".jpg", ".jpeg", ".npy")


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the model gave one image the score of one class.

    Attributes:
        map: Float32 (H, W) in [0, 1], in the frame of the model's input; all zero when `empty`.
        target: Index of the explained class, in the model's own order.
        label: Its label, or its number.
        probability: Of that class; None of a regression.
        probabilities: Float32 (K,), of all classes; empty of a regression.
        logits: Float32 (K,), the scores before softmax or sigmoid; None where the file gives only probabilities.
        top: (index, label, probability) of the best classes, best first; of a regression none.
        frame: Where the input lies on the photo.
        photo: The upright RGB photo (not a copy).
        grid: (h, w) of the layer's activations; with several layers, the finest.
        method: Name of the method.
        settings: Those that the method really used; with several layers, a `last` of None stands for each layer's own.
        reason: Why there is no explanation, or None.
        counts: Channels that clustering called dominant, clustered, noise and dead, and the number of clusters, in the
            first layer; None without clustering.
        times_ms: Milliseconds by stage; the inference of a batch is shared equally among its images.
        source: The photo's path, or "array" or "image".
        layer: The target layer; several with commas between.
        provider: What the model ran on.
        fusion: How the maps of several layers became one, or None.
        smoothing: The noisy copies that the map is the mean of, or None.
        sess: How windows over the enlarged image made the map, or None.
        against: Index of the class that `target` was set against, or None: then the map is of the difference of their
            logits.
        against_label: Its label, or its number; None where there is none.
        form: Whether a detail layer guided the map and how much contrast there was, for methods that can do either.
        detail: The detail layer's name where it guided the map, or None.
        notes: What was doubtful about the photo's values, in sentences.
        value: Of a regression, the value that is explained; None of classes.
        unit: Of the value, where the file says it.

    >>> explanation = explainer.explain("two_dogs.jpg", target="Boston bull")   # doctest: +SKIP
    >>> explanation.peak                                                        # doctest: +SKIP
    (0.71, 0.42)
    """

    map: NDArray[np.float32]
    target: int
    label: str
    probability: float | None
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32] | None
    top: list[tuple[int, str, float]]
    frame: Frame
    photo: Image.Image = field(repr=False)
    grid: tuple[int, int]
    method: str
    settings: dict[str, Any]
    reason: str | None = None
    counts: dict[str, int] | None = None
    times_ms: dict[str, float] = field(default_factory=dict)
    source: str = "array"
    layer: str = ""
    provider: str = ""
    fusion: str | None = None
    smoothing: Smoothing | None = None
    form: Form | None = None
    detail: str | None = None
    notes: tuple[str, ...] = ()
    value: float | None = None
    unit: str | None = None
    sess: Sess | None = None
    against: int | None = None
    against_label: str | None = None

    @property
    def empty(self) -> bool:
        """True when the map means nothing; `reason` says why."""
        return self.reason is not None

    @cached_property
    def peak(self) -> tuple[float, float] | None:
        """Centre of the map's maximum as (x, y) fractions of the upright photo, or None when empty.

        Of a plateau it is the centre of mass, moved to the nearest pixel of the plateau; of
        several equal maxima the topmost, then leftmost. Padding around the photo does not count.
        """
        if self.empty:
            return None
        heat = np.where(self.frame.on_photo(), self.map, 0)
        highest = heat.max()
        if highest <= 0:
            return None
        rows, columns = np.nonzero(heat == highest)
        if len(rows) > 1:
            from scipy.ndimage import label

            groups, _ = label(heat == highest, structure=np.ones((3, 3)))  # type: ignore[misc]
            rows, columns = np.nonzero(groups == groups[rows[0], columns[0]])
            y, x = rows.mean(), columns.mean()
            away = np.hypot(rows - y, columns - x)
            if away.min() >= 1:  # a bent plateau, whose centre of mass lies beside it
                y, x = rows[away.argmin()], columns[away.argmin()]
        else:
            y, x = rows[0], columns[0]
        px, py = self.frame.to_photo(float(x) + 0.5, float(y) + 0.5)
        return min(max(px, 0.0), 1.0), min(max(py, 0.0), 1.0)

    def to_image(self, max_side: int | None = None) -> NDArray[np.float32]:
        """The map on the upright photo.

        Args:
            max_side: Scale down so that the longer side has at most that many pixels; None for the photo's size.

        Returns:
            Float32 of the photo's height and width in [0, 1], NaN where the model did not look.
        """
        return self.frame.place(self.map, max_side)

    def overlay(self, max_side: int | None = 1280, *, legend: bool = True) -> Image.Image:
        """The photo with the map over it. What the crop left out is hatched.

        Args:
            max_side: Limit of the photo's longer side in pixels; None for full size. With a legend, a small photo is
                enlarged, so that the legend stays readable.
            legend: Put the class, its probability and a colour scale around it.

        Returns:
            An RGB picture. An empty map gives the plain photo, with the reason in the legend.
        """
        from .photos import drawing

        width, height = self.frame.view_size(max_side)
        if legend and max(width, height) < _MIN_VIEW:
            scale = _MIN_VIEW / max(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        picture = self.drawn((width, height))
        if not legend:
            return picture
        how = f"no explanation: {self.reason}" if self.empty else self.how
        return drawing.caption(
            picture,
            self.title,
            how if self.label == str(self.target) or self.empty else f"class {self.target}, {how}",
            value=self.measured,
            bar=not self.empty,
            alert=self.empty,
        )

    def drawn(self, size: tuple[int, int]) -> Image.Image:
        """The photo with the map over it, and nothing around it.

        Args:
            size: Width and height in pixels.

        Returns:
            An RGB picture; a copy of the photo where the map is empty.
        """
        from PIL import Image

        from .photos import drawing

        if size == self.photo.size:
            picture = self.photo.copy() if self.empty else self.photo
        else:
            picture = self.photo.resize(size, Image.Resampling.LANCZOS)
        return picture if self.empty else drawing.laid_over(picture, *self.frame.place_levels(self.map, size))

    @property
    def title(self) -> str:
        """The class, and the one that it was set against, for people."""
        return self.label if self.against_label is None else f"{self.label} against {self.against_label}"

    @property
    def how(self) -> str:
        """Method and layers, for people."""
        smooth = "" if self.smoothing is None else f" ({self.smoothing.copies} noisy copies)"
        smooth += "" if self.sess is None else f" (SESS, {self.sess.scales} scales)"
        where = f"layer {self.layer}" if self.fusion is None else f"{self.fusion} of layers {self.layer}"
        where += "" if self.detail is None else f", detail {self.detail}"
        return f"{self.method}{smooth}, {where}"

    @property
    def measured(self) -> str:
        """The probability, or a regression's value with its unit, for people."""
        if self.probability is not None:
            return _percent(self.probability)
        return " ".join(filter(None, (f"{self.value:.4g}", self.unit)))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the overlay or the raw map, under a temporary name that is then changed.

        Args:
            path: ``.png`` and ``.jpg`` are overlays, ``.npy`` is `map`.

        Returns:
            The path.

        Raises:
            OutputError: The suffix is another one, or the file cannot be written.
        """
        path = check_path("save", path, OutputError)
        suffix = path.suffix.lower()
        if suffix not in _SUFFIXES:
            raise OutputError(f"{path}: unknown kind of file '{suffix}': expected .png, .jpg or .npy")
        # Encoded in memory first: Pillow's own writing to a file overlooks a short write.
        data = io.BytesIO()
        if suffix == ".npy":
            np.save(data, self.map)
        elif suffix == ".png":
            self.overlay().save(data, format="PNG")
        else:
            self.overlay().save(data, format="JPEG", quality=92)
        write_bytes(path, data.getvalue())
        return path

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values, without the arrays.

        `reason` is there when empty; `against`, `smoothing`, `sess`, `fusion`, `form` and `notes` where there was one;
        of a regression `value` and `unit`.
        """
        data: dict[str, Any] = {
            "image": self.source,
            "target": self.target,
            "label": self.label,
            "probability": self.probability,
            "peak": None if self.peak is None else [round(v, 6) for v in self.peak],
            "empty": self.empty,
            "counts": self.counts,
            "times_ms": {stage: round(ms, 3) for stage, ms in self.times_ms.items()},
        }
        if self.value is not None:
            data |= {"value": self.value, "unit": self.unit}
        if self.against is not None:
            probability = float(self.probabilities[self.against])
            data["against"] = {"target": self.against, "label": self.against_label, "probability": probability}
        if self.fusion is not None:
            data["fusion"] = self.fusion
        if self.smoothing is not None:
            data["smoothing"] = asdict(self.smoothing)
        if self.sess is not None:
            data["sess"] = asdict(self.sess)
        if self.form is not None:
            data["form"] = {**asdict(self.form), "detail": self.detail}
        if self.notes:
            data["notes"] = list(self.notes)
        if self.empty:
            data["reason"] = self.reason
        return data

    def to_json(self) -> str:
        """The result as JSON, without the arrays.

        Returns:
            `to_dict` in one line.
        """
        return json.dumps(utf8(self.to_dict()), ensure_ascii=False, allow_nan=False)


def _percent(probability: float) -> str:
    """Short, and never "100 %" or "0 %" of what is only nearly so."""
    if 0 < probability < 0.001:
        return "< 0.1 %"
    if 0.999 < probability < 1:
        return "> 99.9 %"
    return f"{probability * 100:.1f} %"
