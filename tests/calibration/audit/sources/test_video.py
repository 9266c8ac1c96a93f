"""Frames of videos."""

import numpy as np
import pytest

pytest.importorskip("av")

from cfcam.calibration.audit.sources.video import Video
from cfcam.runtime.errors import ImageError
from photo_sources import make_video, pixels


def test_frames_are_called_by_their_times_and_come_as_they_were_written(tmp_path):
    images = [pixels(seed) for seed in range(7)]
    path = make_video(tmp_path / "a.mkv", images)
    video = Video(path)
    assert video.names() == [f"{path}#0.{tenth}00000" for tenth in range(7)]
    assert not video.remarks
    np.testing.assert_array_equal([photo.content for photo in video.photos(set(video.names()))], images)
    third = Video(path, every=3)
    assert third.names() == [f"{path}#0.000000", f"{path}#0.300000", f"{path}#0.600000"]
    (photo,) = third.photos({f"{path}#0.300000"})
    np.testing.assert_array_equal(photo.content, images[3])
    assert list(third.photos(set())) == []


def test_a_cut_video_is_remarked_and_one_without_frames_is_refused(tmp_path):
    data = make_video(tmp_path / "a.mkv", [pixels(seed) for seed in range(7)], rate=2).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 3 // 5])
    video = Video(cut)
    assert 0 < len(video.names()) < 7
    assert "ends" in " ".join(video.remarks)
    cut.write_bytes(b"no video")
    with pytest.raises(ImageError, match="cannot be opened as a video"):
        Video(cut).names()
    with pytest.raises(ImageError, match="no such file"):
        Video(tmp_path / "none.mp4").names()
