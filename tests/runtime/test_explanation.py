"""The result object: peak, placing, pictures, files."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cfcam.runtime.errors import OutputError
from cfcam.runtime.explanation import Explanation
from cfcam.runtime.photos.frame import Frame
from PIL import Image


def _explanation(map_: np.ndarray | None = None, **changes: Any) -> Explanation:
    """A 300 x 200 photo of which the model (32 x 48, height x width) saw the middle."""
    frame = Frame(photo=(300, 200), resized=(84, 56), offset=(18, 12), input=(48, 32))
    heat = np.zeros((32, 48), np.float32)
    heat[8, 40] = 1
    values: dict[str, Any] = {
        "map": heat if map_ is None else map_,
        "target": 1,
        "label": "green",
        "probability": 0.25,
        "probabilities": np.array([0.75, 0.25], np.float32),
        "logits": None,
        "top": [(0, "red", 0.75), (1, "green", 0.25)],
        "frame": frame,
        "photo": Image.new("RGB", (300, 200), (40, 80, 120)),
        "grid": (8, 12),
        "method": "cfcam",
        "settings": {},
        "source": "p.jpg",
        "layer": "relu",
        "times_ms": {"decode": 1.23456},
    }
    return Explanation(**{**values, **changes})


def test_peak_is_the_centre_of_the_maximum_pixel():
    assert _explanation().peak == pytest.approx(((40.5 + 18) / 84, (8.5 + 12) / 56))


def test_peak_of_a_plateau_is_its_middle():
    heat = np.zeros((32, 48), np.float32)
    heat[10:14, 20:30] = 1
    heat[25, 5] = 1  # an equal maximum further down does not drag it away
    assert _explanation(heat).peak == pytest.approx(((25 + 18) / 84, (12 + 12) / 56))


def test_peak_of_a_bent_plateau_lies_on_it():
    heat = np.zeros((32, 48), np.float32)
    heat[5:25, 5] = heat[5, 5:25] = 1
    x, y = _explanation(heat).peak or (0, 0)
    column, row = x * 84 - 18.5, y * 56 - 12.5
    assert heat[round(row), round(column)] == 1


def test_peak_never_lies_in_the_padding():
    heat = np.zeros((32, 48), np.float32)
    heat[0, 0] = 1
    heat[16, 24] = 0.5
    padded = Frame(photo=(100, 100), resized=(32, 32), offset=(-8, 0), input=(48, 32))
    explanation = _explanation(heat, frame=padded, photo=Image.new("RGB", (100, 100)))
    assert explanation.peak == pytest.approx(((24.5 - 8) / 32, 16.5 / 32))


def test_the_map_on_the_photo():
    placed = _explanation().to_image()
    assert placed.shape == (200, 300)
    row, column = np.unravel_index(np.nanargmax(placed), placed.shape)
    x, y = _explanation().peak or (0, 0)
    assert ((column + 0.5) / 300, (row + 0.5) / 200) == pytest.approx((x, y), abs=0.01)
    x0, y0, x1, y1 = _explanation().frame.seen
    assert np.isfinite(placed).mean() == pytest.approx((x1 - x0) * (y1 - y0), abs=0.02)
    assert _explanation().to_image(max_side=30).shape == (20, 30)


def test_overlay_shows_heat_crop_and_legend():
    explanation = _explanation()
    bare = explanation.overlay(legend=False)
    assert bare.size == (300, 200)
    pixels = np.asarray(bare).astype(int)
    x, y = explanation.peak or (0, 0)
    hot = pixels[int(y * 200), int(x * 300)]
    cold = pixels[100, 100]
    assert hot.sum() > cold.sum() + 150
    corner = pixels[:30, :40]
    assert np.ptp(corner.reshape(-1, 3), axis=1).max() == 0  # left out: no colour
    assert corner.std() > 5  # and hatched
    assert np.ptp(cold) > 10
    legend = explanation.overlay()
    assert legend.width == 320  # enlarged, so that the words can be read
    assert legend.height > 320 * 200 / 300 + 50


def test_an_empty_map_is_never_drawn_as_heat():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8))
    empty = _explanation(np.zeros((32, 48), np.float32), photo=photo, reason="all gradients are zero")
    assert empty.peak is None
    assert np.array_equal(np.asarray(empty.overlay(legend=False)), np.asarray(photo))
    with_words, other = empty.overlay(), replace(empty, reason="everything is noise").overlay()
    assert with_words.size == other.size
    assert not np.array_equal(np.asarray(with_words), np.asarray(other))  # the reason is written there
    full = _explanation(photo=photo).overlay()
    assert with_words.height < full.height  # no colour scale


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (7, 5), (3000, 2000)])
def test_overlays_of_odd_sizes(size):
    frame = Frame(photo=size, resized=(48, 32), offset=(0, 0), input=(48, 32))
    picture = _explanation(frame=frame, photo=Image.new("RGB", size)).overlay()
    assert 320 <= picture.width <= 1280
    assert picture.height < 1500


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_saved_pictures(tmp_path, suffix):
    path = _explanation().save(tmp_path / "new" / f"why{suffix}")
    with Image.open(path) as saved:
        assert saved.format == ("PNG" if suffix == ".png" else "JPEG")
        assert saved.size == _explanation().overlay().size
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_saved_map(tmp_path):
    path = _explanation().save(tmp_path / "map.npy")
    loaded = np.load(path)
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, _explanation().map)


def test_unwritable_places(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"why\.png: cannot be written"):
        _explanation().save(tmp_path / "file" / "why.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        _explanation().save(tmp_path / "folder.png")
    with pytest.raises(OutputError, match=r"unknown kind of file '\.tiff': expected \.png, \.jpg or \.npy"):
        _explanation().save(tmp_path / "why.tiff")


@pytest.mark.parametrize("name", ["why.png", "why.npy", "why.jpg"])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    real_write = Path.write_bytes

    def full(self, data):
        real_write(self, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        _explanation().save(path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["why.png", "why.npy", "why.jpg"])
def test_a_real_write_that_fails_half_way(tmp_path, name):
    """The system stops the write at 1000 bytes, as a full disk would."""
    resource = pytest.importorskip("resource", reason="limits on file size are a Unix matter")
    path = tmp_path / name
    explanation = _explanation()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError, match=rf"{name}: cannot be written"):
            explanation.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_json():
    data = json.loads(_explanation().to_json())
    assert list(data) == ["image", "target", "label", "probability", "peak", "empty", "counts", "times_ms"]
    assert data["image"] == "p.jpg"
    assert data["peak"] == pytest.approx([(40.5 + 18) / 84, (8.5 + 12) / 56], abs=1e-6)
    assert data["times_ms"] == {"decode": 1.235}
    empty = json.loads(_explanation(reason="all gradients are zero").to_json())
    assert (empty["empty"], empty["peak"], empty["reason"]) == (True, None, "all gradients are zero")
