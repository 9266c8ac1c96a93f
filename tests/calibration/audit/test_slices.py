"""Slices: metadata, and how often each finding was made in each part of the data."""

from __future__ import annotations

import json
import math

import pytest
from cfcam.calibration.audit.slices import MetadataError, metadata_of, read_metadata, table, wilson


@pytest.fixture
def metadata(tmp_path):
    def write(text):
        path = tmp_path / "slices.csv"
        path.write_text(text)
        return read_metadata(path)

    return write


def test_metadata(metadata):
    found = metadata('\ufeffweather, image ,camera\nrain,a.jpg, left \n\n sun,./night/b.jpg,"r,ight"\n')
    assert found == {
        "a.jpg": {"weather": "rain", "camera": "left"},
        "night/b.jpg": {"weather": "sun", "camera": "r,ight"},
    }
    assert metadata_of("/data/x/a.jpg", found) == found["a.jpg"]
    assert metadata_of("/data/night/b.jpg", found) == found["night/b.jpg"]
    assert metadata_of("/data/day/b.jpg", found) is None
    assert metadata_of("aa.jpg", found) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no column 'image' with the photos' names: its header is nothing"),
        ("photo,weather\na,b\n", "has no column 'image' with the photos' names: its header is photo, weather"),
        ("image\na\n", "has no column beside 'image'"),
        ("image,a,a\n", "the column 'a' comes twice"),
        ("image,a,\n", "column 3 has no name"),
        ("image,a\n", "holds no photos"),
        ("image,a\nx.jpg,1,2\n", "line 2: has 3 values, expected 2"),
        ("image,a\nx.jpg\n", "line 2: has 1 values, expected 2"),
        ("image,a\n,1\n", "line 2: names no photo"),
        ("image,a\nx.jpg,1\nx.jpg,2\n", "line 3: 'x.jpg' comes twice"),
        ('image,a\n"x.jpg,1\n', "not valid CSV"),
    ],
)
def test_metadata_that_does_not_fit(text, words, metadata):
    with pytest.raises(MetadataError) as caught:
        metadata(text)
    assert words in str(caught.value)


def test_wilson_by_its_formula():
    z = 1.959963984540054
    count, of = 3, 20
    p = count / of
    centre = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    assert wilson(count, of) == pytest.approx((centre - half, centre + half))
    assert wilson(0, 5)[0] == 0


def row(number, values, margin, **more):
    from cfcam.calibration.audit.row import empty_row

    known = {"empty": False, "margin": margin, "slice": None if values is None else json.dumps(values)}
    return empty_row(f"{number}.jpg", f"{number:064}") | known | more


def test_table():
    """30 of 40 photos in rain and 2 of 60 in the sun are undecided; the rest could not be told."""
    rows = [row(n, {"weather": "rain", "id": str(n), "one": "x"}, 0.0 if n < 30 else 0.5) for n in range(40)]
    rows += [row(n, {"weather": "sun", "id": str(n), "one": "x"}, 0.0 if n < 42 else 0.5) for n in range(40, 100)]
    rows += [rows[0], row(300, {"weather": "rain"}, 0.0, error="no photo"), row(301, None, 0.5)]
    rows += [row(n, {"weather": "sun", "id": str(n), "one": "x"}, None) for n in range(400, 600)]
    found = {(one["value"], one["finding"]): one for one in table(rows)}
    assert {one["column"] for one in found.values()} == {"weather"}  # `id` has too many values, `one` a single one
    rain, sun, bare = (found[value, "undecided"] for value in ("rain", "sun", "(no row)"))
    assert (rain["count"], rain["of"], rain["rate"]) == (30, 40, 0.75)
    assert (sun["count"], sun["of"], rain["rest_rate"]) == (2, 60, 2 / 61)
    assert (bare["count"], bare["of"]) == (0, 1)
    told = sum(one["of"] > 0 for one in found.values())
    assert told == 6  # three slices, and two findings of which something is known: no_map and undecided
    assert (rain["low"], rain["high"]) == pytest.approx(wilson(30, 40, 1 - 0.05 / told))
    assert rain["low"] < wilson(30, 40)[0]  # wider than one interval alone
    assert rain["p_value"] == pytest.approx(told * hypergeometric(30, 40, 2, 61), rel=1e-9)
    assert bare["p_value"] == 1
    unknown = found["rain", "off_object"]
    assert (unknown["of"], unknown["rate"], unknown["low"], unknown["p_value"]) == (0, None, None, None)


def hypergeometric(count, of, rest_count, rest):
    """Fisher's exact test by counting: the chance of a table that is at most as likely as this one."""
    hits = count + rest_count

    def ways(n):
        return math.comb(of, n) * math.comb(rest, hits - n)

    possible = [ways(n) for n in range(max(0, hits - rest), min(of, hits) + 1)]
    return sum(one for one in possible if one <= ways(count)) / sum(possible)


def test_columns_that_are_asked_for():
    rows = [row(n, {"weather": "rain", "id": str(n)}, 0.5) for n in range(300)]
    assert {one["column"] for one in table(rows, ["weather"])} == {"weather"}
    assert table(rows) == []
    assert table([]) == []
    with pytest.raises(MetadataError, match="'wether' is no column of the metadata, which has: weather, id"):
        table(rows, ["wether"])
    with pytest.raises(MetadataError, match="'id' has 300 values"):
        table(rows, ["id"])
