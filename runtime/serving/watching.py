"""A served file watched in operation: each explanation against the reference profile of an audit."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..explanation import Explanation
from ..monitor import Monitor, Observation
from ..profile import ProfileError, read_profile

if TYPE_CHECKING:
    from ..contract.spec import CamSpec

__all__ = ["Watch", "WatchCounters", "watches"]

_NOT_COMPARED = Observation(None, None, False)


class Watch:
    """A monitor, and what it said of the explanations that are still there.

    Args:
        path: Of the profile.

    Raises:
        ProfileError: It cannot be read, or has no columns of explanations.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.profile = read_profile(path)
        self._monitor = Monitor(self.profile)
        self._seen: weakref.WeakKeyDictionary[Explanation, Observation] = weakref.WeakKeyDictionary()

    def check(self, spec: CamSpec) -> None:
        """Raise `ProfileError` for a file whose explanations are not like the profile's."""
        if spec.output.values:
            raise ProfileError(f"{self.path}: a profile is of a classifier's classes, and this file gives values")
        if spec.method.name != self.profile.method:
            raise ProfileError(
                f"{self.path}: is of maps by '{self.profile.method}', and the file's own are by '{spec.method.name}': "
                "make a profile from an audit with that method"
            )

    def add(self, explanation: Explanation) -> Observation:
        """How unusual an explanation is; of another method or class than the profile's nothing is said."""
        same = explanation.method == self.profile.method
        self._seen[explanation] = found = self._monitor.add(explanation) if same else _NOT_COMPARED
        return found

    def of(self, explanation: Explanation) -> Observation:
        """What `add` said."""
        return self._seen.get(explanation, _NOT_COMPARED)


def watches(paths: Sequence[str], sha256: dict[str, str]) -> dict[str, Watch]:
    """The monitors of served files.

    Args:
        paths: Of profiles.
        sha256: Name of a model -> hash of its file.

    Returns:
        Name of a model -> its monitor.

    Raises:
        ProfileError: A profile cannot be read, is of no file that is served, or is the second of one.
    """
    found: dict[str, Watch] = {}
    for path in paths:
        wanted = read_profile(path).model_sha256
        names = [name for name, digest in sha256.items() if digest == wanted]
        if not names:
            raise ProfileError(
                f"{path}: is a profile of another file than those served: make one from an audit of the file"
            )
        if names[0] in found:
            raise ProfileError(f"{path}: '{names[0]}' has a profile already, {found[names[0]].path}: give one per file")
        found |= {name: Watch(path) for name in names}
    return found


class WatchCounters:
    """What monitors have seen, for Prometheus; added up over processes.

    Args:
        registry: Of prometheus_client.
    """

    def __init__(self, registry: Any) -> None:
        from prometheus_client import Counter

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"cfcam_monitor_{name}", text, ("model", *labels), registry=registry)

        self._seen = counter("seen", "Explanations that the monitor has seen.")
        self._not_compared = counter(
            "not_compared", "Explanations of another class than the predicted one, or by another method."
        )
        self._empty = counter("empty", "Explanations without a map.")
        self._outliers = counter("outliers", "Outliers from the profile, by their most unusual column.", "column")

    def count(self, model: str, explanation: Explanation, observation: Observation) -> None:
        """Count one explanation."""
        self._seen.labels(model).inc()
        if observation.distance is None:
            self._not_compared.labels(model).inc()
        elif explanation.empty:
            self._empty.labels(model).inc()
        if observation.outlier:
            self._outliers.labels(model, observation.column).inc()
