"""Boxes and masks from files."""

import json

import numpy as np
import pytest
from cfcam.calibration.evaluate import AnnotationError, read_boxes, read_masks
from cfcam.runtime.contract.spec import OutputSpec
from cfcam.runtime.errors import ArrayError, ImageError, TargetError
from cfcam.runtime.photos.frame import Frame
from PIL import Image
from shared_data import shared_path

FRAME = Frame.whole(8, 4)


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_three_formats_say_the_same(tmp_path):
    ours = [{"file": "a/Dog.JPG", "boxes": [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], "target": 3}]
    coco = {
        "images": [{"id": 7, "file_name": "dog.jpg", "width": 80, "height": 40}],
        "annotations": [{"image_id": 7, "bbox": [0, 0, 40, 20]}, {"image_id": 7, "bbox": [40, 20, 40, 20]}],
    }
    table = "file,x0,y0,x1,y1\ndog.jpg,0,0,.5,.5\ndog.jpg,.5,.5,1,1\n"
    expected = np.zeros((4, 8), bool)
    expected[:2, :4] = expected[2:, 4:] = True
    for path in (
        written(tmp_path, "o.json", ours),
        written(tmp_path, "c.json", coco),
        written(tmp_path, "t.csv", table),
    ):
        found = read_boxes(path).of(tmp_path / "photos" / "dog.jpg")
        assert found is not None
        np.testing.assert_array_equal(found.region(FRAME), expected)


def test_the_shared_file_is_read_with_its_classes():
    boxes = read_boxes(shared_path("data/boxes/boxes.json"))
    assert len(boxes.each) == 35
    one = boxes.of("000000000030.jpg")
    assert one is not None
    assert one.class_index(OutputSpec(name="s", kind="logits", score="s", classes=1000)) == 738
    assert one.class_index(OutputSpec(name="s", kind="logits", score="s", classes=1001, label_offset=1)) == 739
    with pytest.raises(TargetError, match="738 is out of range"):
        one.class_index(OutputSpec(name="s", kind="logits", score="s", classes=10))
    assert boxes.without_photo(["000000000030.jpg"])[0] == "000000000071.jpg"


def test_a_class_in_a_csv_may_be_a_label(tmp_path):
    found = read_boxes(written(tmp_path, "t.csv", "file,x0,y0,x1,y1,target\na.png,0,0,1,1,cat\n")).of("a.png")
    assert found is not None
    assert found.class_index(OutputSpec(name="s", kind="logits", score="s", classes=2, labels=("dog", "cat"))) == 1


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", "a.json: is not valid JSON"),
        (
            "a.json",
            [{"name": "x.jpg"}],
            "a.json: entry 0: has no 'boxes': expected a list of {'file', 'boxes', 'target'} or COCO's",
        ),
        ("a.json", [], "a.json: holds no boxes"),
        (
            "a.json",
            [{"file": "x.jpg", "boxes": [[10, 20, 30, 40]]}],
            "x.jpg: expected x0 < x1 and y0 < y1 as fractions",
        ),
        ("a.json", [{"file": "x.jpg", "boxes": [[0.1, 0.2]]}], "x.jpg: expected a box of four numbers"),
        (
            "a.json",
            {"images": [], "annotations": [{"image_id": 3, "bbox": [0, 0, 1, 1]}]},
            "the image 3, which is not in",
        ),
        ("a.csv", "file,x,y\n", "expected the columns file,x0,y0,x1,y1"),
    ],
)
def test_refused_boxes(tmp_path, name, text, words):
    with pytest.raises(AnnotationError) as error:
        read_boxes(written(tmp_path, name, text))
    assert words in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"no.json: cannot be read \(No such file"):
        read_boxes(tmp_path / "no.json")
    with pytest.raises(AnnotationError, match="is no folder of masks"):
        read_masks(tmp_path / "no")
    with pytest.raises(AnnotationError, match="holds no masks"):
        read_masks(tmp_path)


def test_masks(tmp_path):
    values = np.zeros((4, 8), np.uint8)
    values[1, 2:5] = 2
    values[2, 6] = 1
    Image.fromarray(values).save(tmp_path / "Dog.png")
    anything, second = read_masks(tmp_path).of("dog.jpg"), read_masks(tmp_path, 2).of("dog.jpg")
    assert anything is not None
    assert second is not None
    np.testing.assert_array_equal(anything.region(FRAME), values > 0)
    np.testing.assert_array_equal(second.region(FRAME), values == 2)
    assert anything.identity() != second.identity()
    before = anything.identity()
    Image.fromarray(values * 0).save(tmp_path / "Dog.png")
    assert anything.identity() != before


def test_masks_that_do_not_fit(tmp_path):
    Image.new("L", (9, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 4)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    masks = read_masks(tmp_path)
    for name, kind, words in (
        ("a", ArrayError, "a.png: the mask has 9 x 4 pixels, the photo 8 x 4"),
        ("b", ImageError, "one value per pixel, got 3 channels"),
        ("c", ImageError, "the mask cannot be read"),
    ):
        found = masks.of(f"{name}.jpg")
        assert found is not None
        with pytest.raises(kind, match=words):
            found.region(FRAME)
