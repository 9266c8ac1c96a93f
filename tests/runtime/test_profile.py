"""Reference profiles: distances, and reading the file."""

import json
import math

import pytest
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.profile import Profile, ProfileError, Usual, read_profile, write_profile

_PROFILE = Profile(
    "ab" * 32,
    "cfcam",
    100,
    0.02,
    {"area": Usual(98, 0.2, 0.05, 0.1, 0.22, 0.07), "probability": Usual(100, 0.9, 0.2, 0.01, 0.8, 0.2)},
)


@pytest.mark.parametrize(
    ("columns", "distance", "column"),
    [
        ({"area": 0.2, "probability": 0.9}, 0, "area"),
        ({"area": 0.5, "probability": 0.9}, 3, "area"),  # upwards by 0.3, of 0.1
        ({"area": 0.1, "probability": 0.2}, 3.5, "probability"),  # downwards by 0.7, of 0.2
        ({"area": None, "probability": 0.3, "other": 9}, 3, "probability"),
        ({"area": math.nan, "probability": 0.95}, 5, "probability"),
    ],
)
def test_distances(columns, distance, column):
    found = _PROFILE.distance(columns)
    assert found == (pytest.approx(distance), column)


@pytest.mark.parametrize("columns", [{}, {"area": None}, {"other": 1.0}, {"area": math.nan}])
def test_nothing_to_compare(columns):
    with pytest.raises(ArrayError, match="expected a value of one of area, probability"):
        _PROFILE.distance(columns)


def test_written_and_read(tmp_path):
    path = tmp_path / "profile.json"
    write_profile(path, _PROFILE)
    assert read_profile(path) == _PROFILE
    assert json.loads(path.read_text())["schema"] == "cfcam.audit-profile/1"


def _set(*keys):
    *place, last, value = keys

    def change(data):
        for key in place:
            data = data[key]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("schema", "cfcam.audit/1"), "is no reference profile: make one by `cfcam audit profile`"),
        (_set("more", 1), "missing or unknown: more"),
        (_set("columns", "area", "low", 1), "missing or unknown: columns.area.low"),
        (_set("columns", "area", "below", 0), "columns.area.below: 0 is no value"),
        (_set("columns", "area", "centre", "x"), "columns.area.centre: 'x' is no value"),
        (_set("columns", "area", "count", 1.5), "columns.area.count: 1.5 is no value"),
        (_set("columns", "area", "deviation", -1), "columns.area.deviation: -1 is no value"),
        (_set("columns", "area", []), "columns.area: [] is no value"),
        (_set("columns", {}), "columns: {} is no value"),
        (_set("empty", 2), "empty: 2 is no value"),
        (_set("photos", True), "photos: True is no value"),
        (_set("method", None), "method: None is no value"),
    ],
)
def test_files_that_are_no_profile(change, words, tmp_path):
    path = tmp_path / "profile.json"
    write_profile(path, _PROFILE)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ProfileError) as caught:
        read_profile(path)
    assert words in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ProfileError, match="cannot be read"):
        read_profile(tmp_path / "nowhere.json")
    path = tmp_path / "list.json"
    path.write_text("[]")
    with pytest.raises(ProfileError, match="is no reference profile"):
        read_profile(path)
