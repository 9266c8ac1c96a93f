"""Served files held against profiles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cfcam.runtime.errors import ModelFileError
from cfcam.runtime.monitor import Observation
from cfcam.runtime.profile import Profile, ProfileError, Usual, write_profile
from cfcam.runtime.serving.watching import Watch, WatchCounters, watches
from prometheus_client import CollectorRegistry
from tiny_model import VARIANTS


@pytest.fixture
def written(tmp_path):
    """Writes a profile: of the file with that hash, by that method."""

    def write(name="profile.json", sha256="ab" * 32, method="cfcam", **columns):
        usual = {key: Usual(100, centre, 0.1, 0.1, centre, 0.1) for key, centre in (columns or {"area": 0.2}).items()}
        write_profile(tmp_path / name, Profile(sha256, method, 100, 0.0, usual))
        return str(tmp_path / name)

    return write


def test_a_profile_belongs_to_the_file_that_it_was_made_of(written):
    first, second = written("a.json", "ab" * 32), written("b.json", "cd" * 32)
    found = watches([second, first], {"x": "ab" * 32, "y": "cd" * 32, "z": "ef" * 32, "x2": "ab" * 32})
    assert {name: watch.path for name, watch in found.items()} == {"x": first, "x2": first, "y": second}
    with pytest.raises(ProfileError, match=r"b\.json: is a profile of another file"):
        watches([first, second], {"x": "ab" * 32})
    with pytest.raises(ProfileError, match="has a profile already"):
        watches([first, first], {"x": "ab" * 32})


def test_files_that_do_not_fit_are_refused(written):
    spec = VARIANTS["logits"].spec
    Watch(written()).check(spec)
    with pytest.raises(ProfileError, match="by 'gradcam', and the file's own are by 'cfcam'"):
        Watch(written(method="gradcam")).check(spec)
    values = replace(spec, output=replace(spec.output, kind="regression", labels=None))
    with pytest.raises(ProfileError, match="this file gives values"):
        Watch(written()).check(values)


def test_another_method_is_not_compared(written, tiny_path):
    from cfcam.runtime import Explainer
    from cfcam.runtime.serving.models import built_in_photo

    watch = Watch(written(area=0.5))
    with Explainer(tiny_path("logits")) as explainer:
        own = explainer.explain(built_in_photo())
        other = explainer.explain(built_in_photo(), method="gradcam")
    assert watch.of(own) == Observation(None, None, False)
    assert watch.add(own) == watch.of(own)
    assert watch.of(own).column == "area"
    assert watch.add(other).distance is None


def test_counters(written):
    class Seen:
        empty = False

    registry = CollectorRegistry()
    counters = WatchCounters(registry)
    counters.count("m", Seen, Observation(1.0, "area", False))  # type: ignore[arg-type]
    counters.count("m", Seen, Observation(9.0, "area", True))  # type: ignore[arg-type]
    counters.count("m", Seen, Observation(None, None, False))  # type: ignore[arg-type]
    read = registry.get_sample_value
    assert read("cfcam_monitor_seen_total", {"model": "m"}) == 3
    assert read("cfcam_monitor_not_compared_total", {"model": "m"}) == 1
    assert read("cfcam_monitor_outliers_total", {"model": "m", "column": "area"}) == 1
    assert read("cfcam_monitor_empty_total", {"model": "m"}) is None
    Seen.empty = True
    counters.count("m", Seen, Observation(0.0, "area", False))  # type: ignore[arg-type]
    assert read("cfcam_monitor_empty_total", {"model": "m"}) == 1


def test_a_missing_file_is_said_before_its_profile(written, tmp_path):
    from cfcam.runtime.serving.models import open_models

    with pytest.raises(ModelFileError, match=r"none\.onnx: cannot be read"):
        open_models([str(tmp_path / "none.onnx")], profiles=[written()])
