"""From names to sources."""

import pytest
from cfcam.calibration.audit.errors import AuditError
from cfcam.calibration.audit.sources import Files
from cfcam.calibration.audit.sources.archive import Archive
from cfcam.calibration.audit.sources.manifest import Manifest
from cfcam.calibration.audit.sources.opening import Joined, open_sources
from cfcam.calibration.audit.sources.recording import Recording
from cfcam.calibration.audit.sources.video import Video


def test_endings_say_what_a_source_is_and_the_rest_is_for_others(tmp_path):
    (tmp_path / "folder.tar").mkdir()
    for name in ("1.mcap", "2.mcap"):
        (tmp_path / name).touch()
    texts = ["a.MP4", "b.parquet", "c.tar.gz", f"{tmp_path}/*.mcap", "d.png", "photos", f"{tmp_path}/folder.tar"]
    sources, others = open_sources(texts, every=5)
    assert [type(source) for source in sources] == [Video, Manifest, Archive, Recording, Recording]
    assert [source.every for source in sources if isinstance(source, Video | Recording)] == [5, 5, 5]
    assert others == ["d.png", "photos", f"{tmp_path}/folder.tar"]


def test_every_nth_frame_needs_frames_and_a_pattern_a_file(tmp_path):
    with pytest.raises(AuditError, match="leave --every out"):
        open_sources(["b.parquet", "photos"], every=2)
    with pytest.raises(AuditError, match="no file has a name like this"):
        open_sources([f"{tmp_path}/*.mcap"])


def test_several_sources_are_one_and_each_is_asked_for_its_own(tmp_path):
    a, b = (Files([tmp_path / name for name in names]) for names in ("ab", "cd"))
    joined = Joined([a, b])
    names = joined.names()
    assert names == [str(tmp_path / name) for name in "abcd"]
    assert [photo.name for photo in joined.photos({names[3], names[0]})] == [names[0], names[3]]
    assert list(joined.shares({names[2]})) == [(b, {names[2]})]
    with pytest.raises(AuditError, match="named twice"):
        Joined([a, b, a]).names()
