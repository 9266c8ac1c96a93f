"""Photos in tar archives."""

import pytest
from cfcam.calibration.audit.errors import AuditError
from cfcam.calibration.audit.sources.archive import Archive
from photo_sources import make_archive, pixels, png

MEMBERS = [("x/0.png", png(pixels(0))), ("x/0.json", b"{}"), ("x/1.JPG", b"damaged"), ("x/2.png", png(pixels(2)))]


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")])
def test_members_with_a_photos_name_are_photos_with_their_bytes(tmp_path, name, mode):
    archive = Archive(make_archive(tmp_path / name, MEMBERS, mode))
    names = archive.names()
    assert names == [f"{tmp_path / name}#x/{member}" for member in ("0.png", "1.JPG", "2.png")]
    assert [photo.content for photo in archive.photos(set(names))] == [MEMBERS[n][1] for n in (0, 2, 3)]
    assert [photo.name for photo in archive.photos({names[1]})] == [names[1]]


def test_what_is_no_archive_cut_off_missing_or_without_photos_is_refused(tmp_path):
    path = make_archive(tmp_path / "a.tar.gz", MEMBERS, "w:gz")
    data = path.read_bytes()
    for content in (data[: len(data) // 2], b"no archive", b""):
        path.write_bytes(content)
        with pytest.raises(AuditError, match="cannot be read as a tar archive"):
            Archive(path).names()
    with pytest.raises(AuditError, match="no such file"):
        Archive(tmp_path / "none.tar").names()
    with pytest.raises(AuditError, match="holds no photos"):
        Archive(make_archive(tmp_path / "b.tar", MEMBERS[1:2])).names()
