"""Watching explanations in operation: the columns of an audit, held against a reference profile."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import check_count, expect
from .errors import ArrayError
from .map_columns import MAP_COLUMNS, map_columns
from .profile import Profile, ProfileError

if TYPE_CHECKING:
    from .explanation import Explanation

__all__ = ["COLUMNS", "Monitor", "Observation", "explanation_columns"]

#: What one explanation says without another inference.
COLUMNS = ("probability", "margin", *MAP_COLUMNS)


@dataclass(frozen=True)
class Observation:
    """What a monitor says about one explanation.

    Attributes:
        distance: From the profile, in robust standard deviations of the most unusual column; None where nothing was
            compared, because another class than the predicted one was explained.
        column: The most unusual one.
        outlier: Whether the distance is above the monitor's threshold.
    """

    distance: float | None
    column: str | None
    outlier: bool


class _Running:
    """Mean of a column: of all values until there are `window`, then of about the last so many."""

    __slots__ = ("count", "mean")

    def __init__(self) -> None:
        self.count, self.mean = 0, 0.0

    def add(self, value: float, window: int) -> None:
        self.count += 1
        self.mean += (value - self.mean) / min(self.count, window)


class Monitor:
    """Running statistics of explanations, and which of them are unusual.

    Its memory does not grow, and several threads may use it.

    Args:
        profile: What is usual, by `read_profile`.
        threshold: Robust standard deviations from which on an explanation is an outlier.
        window: Explanations that the running means reach back, about.

    Raises:
        ArrayError: An argument is of another kind.
        ProfileError: The profile has none of the columns that an explanation says (`COLUMNS`).

    >>> monitor = Monitor(read_profile("profile.json"))                    # doctest: +SKIP
    >>> monitor.add(explainer.explain("frame.jpg")).outlier                # doctest: +SKIP
    False
    """

    def __init__(self, profile: Profile, *, threshold: float = 5.0, window: int = 1000) -> None:
        expect("Monitor", "profile", profile, Profile)
        expect("Monitor", "threshold", threshold, int, float)
        check_count("window", window)
        if not threshold > 0:
            raise ArrayError(f"Monitor: threshold: expected a number above 0, got {threshold!r}")
        usual = {name: profile.columns[name] for name in COLUMNS if name in profile.columns}
        if not usual:
            raise ProfileError(f"the profile has none of the columns that an explanation says: {', '.join(COLUMNS)}")
        self.profile, self.threshold, self.window = profile, float(threshold), window
        # Without the columns that only an audit measures: they would be looked up in vain for every map.
        self._known = Profile(profile.model_sha256, profile.method, profile.photos, profile.empty, usual)
        self._lock = threading.Lock()
        self._seen = self._empty = self._other_class = 0
        self._outliers = dict.fromkeys(usual, 0)
        self._running = {name: _Running() for name in usual}

    def add(self, explanation: Explanation) -> Observation:
        """Take one explanation into account.

        Args:
            explanation: Of the predicted class; of another one only its number is counted, since the profile says
                nothing about it.

        Returns:
            How unusual it is.

        Raises:
            ProfileError: It was made by another method than the profile's maps, or is of a regression.
        """
        if explanation.method != self.profile.method:
            raise ProfileError(
                f"the profile is of maps by '{self.profile.method}', and this one is by '{explanation.method}': make a "
                "profile from an audit with that method"
            )
        if explanation.probability is None:
            raise ProfileError("a profile is of a classifier's predicted classes, and this explanation is of a value")
        if explanation.target != int(explanation.probabilities.argmax()):
            with self._lock:
                self._seen += 1
                self._other_class += 1
            return Observation(None, None, False)
        return self.add_columns(explanation_columns(explanation))

    def add_columns(self, columns: Mapping[str, float | None]) -> Observation:
        """Take the columns of one explanation into account.

        Args:
            columns: As `explanation_columns` makes them; without ``area`` there was no map.

        Returns:
            How unusual it is.

        Raises:
            ArrayError: None of the profile's columns is among them.
        """
        distance, name = self._known.distance(columns)
        outlier = distance > self.threshold
        with self._lock:
            self._seen += 1
            self._empty += columns.get("area") is None
            self._outliers[name] += outlier
            for column, running in self._running.items():
                value = columns.get(column)
                if value is not None and math.isfinite(value):
                    running.add(value, self.window)
        return Observation(distance, name, outlier)

    def state(self) -> dict[str, Any]:
        """What was seen so far.

        Returns:
            ``seen``, ``empty``, ``other_class``, ``outliers``, and for each column ``outliers`` (where it was the most
            unusual), ``mean`` (None before the first), ``reference_mean``, and ``drift``: how far the two means are
            apart, in standard errors of their difference.
        """
        with self._lock:
            columns = {}
            for name, running in self._running.items():
                usual, mean, drift = self._known.columns[name], None, None
                if running.count:
                    mean = running.mean
                    # A mean that forgets varies like one of 2 * window - 1 values.
                    effective = running.count if running.count <= self.window else 2 * self.window - 1
                    error = usual.deviation * math.sqrt(1 / effective + 1 / usual.count)
                    drift = (mean - usual.mean) / error if error > 0 else None
                columns[name] = {
                    "outliers": self._outliers[name],
                    "mean": mean,
                    "reference_mean": usual.mean,
                    "drift": drift,
                }
            return {
                "seen": self._seen,
                "empty": self._empty,
                "other_class": self._other_class,
                "outliers": sum(self._outliers.values()),
                "columns": columns,
            }

    def metrics(self) -> str:
        """The state as Prometheus reads it (text format 0.0.4), for a page such as ``/metrics``."""
        state, lines = self.state(), []
        for name, kind, text in (
            ("seen", "counter", "Explanations that the monitor has seen."),
            ("empty", "counter", "Explanations without a map."),
            ("other_class", "counter", "Explanations of another class than the predicted one, which are not compared."),
        ):
            lines += _head(f"cfcam_monitor_{name}_total", kind, text)
            lines.append(f"cfcam_monitor_{name}_total {state[name]}")
        lines += _head(
            "cfcam_monitor_outliers_total", "counter", "Outliers from the profile, by their most unusual column."
        )
        lines += [
            f'cfcam_monitor_outliers_total{{column="{name}"}} {one["outliers"]}'
            for name, one in state["columns"].items()
        ]
        for key, text in (
            ("mean", "Running mean of a column."),
            ("drift", "Running mean less the profile's, in standard errors."),
        ):
            known = {name: one[key] for name, one in state["columns"].items() if one[key] is not None}
            if known:
                lines += _head(f"cfcam_monitor_{key}", "gauge", text)
                lines += [f'cfcam_monitor_{key}{{column="{name}"}} {value!r}' for name, value in known.items()]
        return "\n".join(lines) + "\n"


def explanation_columns(explanation: Explanation) -> dict[str, float | None]:
    """The columns of an audit that an explanation says by itself.

    Args:
        explanation: Of a class.

    Returns:
        `COLUMNS`; those of the map are missing where it is empty, and the margin is None of a single class.
    """
    probability = float(explanation.probabilities[explanation.target])
    others = explanation.probabilities.copy()
    others[explanation.target] = -np.inf
    columns: dict[str, float | None] = {
        "probability": probability,
        "margin": probability - float(others.max()) if len(others) > 1 else None,
    }
    nothing = explanation.empty or not explanation.map.max() > 0
    return columns if nothing else columns | map_columns(explanation.map)


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
