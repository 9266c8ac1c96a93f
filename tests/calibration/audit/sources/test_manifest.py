"""Tables of photos."""

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from cfcam.calibration.audit.errors import AuditError
from cfcam.calibration.audit.sources.manifest import Manifest


def table(tmp_path, **columns):
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    return Manifest(tmp_path / "m.parquet")


def photos(manifest):
    return list(manifest.photos(set(manifest.names())))


def test_paths_are_relative_to_the_table_and_other_columns_are_known_about_the_photo(tmp_path):
    manifest = table(
        tmp_path, path=["a.png", "/b/c.png", "s3://d/e.png"], light=["day", None, "night"], speed=[1, 2, 3]
    )
    assert manifest.names() == [str(tmp_path / "a.png"), "/b/c.png", "s3://d/e.png"]
    first, second, third = photos(manifest)
    assert first.content == tmp_path / "a.png"
    assert third.content == "s3://d/e.png"
    assert [one.about for one in (first, second)] == [{"light": "day", "speed": "1"}, {"light": "", "speed": "2"}]
    assert [one.name for one in manifest.photos({"/b/c.png"})] == ["/b/c.png"]


@pytest.mark.parametrize("nested", [False, True])
def test_bytes_are_photos_with_or_without_a_name(tmp_path, nested):
    rows = [{"bytes": b"one", "path": "x.png"}, {"bytes": None, "path": None}, {"bytes": b"two", "path": None}]
    if nested:
        manifest = table(tmp_path, image=rows, label=[1, 2, 3])
    else:
        manifest = table(tmp_path, label=[1, 2, 3], **{key: [row[key] for row in rows] for key in ("bytes", "path")})
    found = photos(manifest)
    assert [one.name.partition("#")[2] for one in found] == ["x.png", "1", "2"]
    assert [one.content for one in found] == [b"one", b"", b"two"]
    assert found[1].error == "the manifest has no bytes of it"
    assert found[2].about == {"label": "3"}


def test_bytes_alone_are_called_by_their_rows_in_tables_of_many_batches(tmp_path):
    manifest = table(tmp_path, bytes=[b"%d" % number for number in range(150)])
    names = manifest.names()
    assert names[149].endswith("m.parquet#149")
    assert [one.content for one in manifest.photos({names[3], names[130]})] == [b"3", b"130"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"file": ["a.png"]}, "no column 'path' and none 'bytes'.*columns are file"),
        ({"path": [1]}, "the column 'path' holds int64, expected text"),
        ({"bytes": ["a"]}, "the column 'bytes' holds string, expected bytes"),
        ({"path": ["a.png", "a.png"]}, r"names .*a\.png twice"),
        ({"path": ["a.png", None]}, "row 1: names no photo"),
        ({"path": ["a.png", ""]}, "row 1: its path is no name"),
        ({"path": pa.array([], pa.string())}, "has no rows"),
    ],
)
def test_tables_that_say_no_photos_are_refused(tmp_path, columns, message):
    with pytest.raises(AuditError, match=message):
        table(tmp_path, **columns).names()


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(AuditError, match="no such file"):
        Manifest(tmp_path / "none.parquet").names()
    (tmp_path / "m.parquet").write_bytes(b"no table")
    with pytest.raises(AuditError, match="cannot be read as a Parquet table"):
        Manifest(tmp_path / "m.parquet").names()
