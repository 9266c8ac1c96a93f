"""File names of results."""

import os
from pathlib import Path

import pytest
from cfcam.cli.outputs import check_writable, plan_outputs, unique_names
from cfcam.runtime.errors import OutputError
from hypothesis import given
from hypothesis import strategies as st


def named(*paths):
    return list(unique_names([Path(p) for p in paths]).values())


def test_stems_where_they_are_enough():
    assert named("a/dog.jpg", "b/cat.png") == ["dog", "cat"]


def test_folders_tell_equal_stems_apart():
    assert named("x/a/dog.jpg", "x/b/dog.jpg", "cat.jpg") == ["a_dog", "b_dog", "cat"]


def test_suffix_tells_files_in_one_folder_apart():
    assert named("dog.jpg", "dog.png") == ["dog_jpg", "dog_png"]


def test_case_does_not_tell_apart():
    first, second = named("Dog.jpg", "dog.jpg")
    assert first.casefold() != second.casefold()


def test_numbers_as_the_last_resort():
    assert named("a_dog.jpg", "a/dog.jpg", "b/dog.jpg", "b_dog_jpg.jpg") == [
        "a_dog_jpg",
        "a_dog_jpg-2",
        "b_dog",
        "b_dog_jpg",
    ]


_PART = st.text("ab_-2", min_size=1, max_size=3)
_PATHS = st.lists(
    st.builds(
        lambda parts, ext: Path(*parts).with_suffix(ext),
        st.lists(_PART, min_size=1, max_size=3),
        st.sampled_from([".jpg", ".png", ".JPG"]),
    ),
    unique=True,
    max_size=12,
)


@given(_PATHS)
def test_names_never_collide(paths):
    names = unique_names(paths)
    assert set(names) == set(paths)
    assert len({name.casefold() for name in names.values()}) == len(paths)
    assert not any("/" in name or os.sep in name for name in names.values())


def test_nothing_is_written_without_output():
    plan = plan_outputs(None, [Path("a.jpg")], [-1], by_class=False, suffix=".png")
    assert plan.path(Path("a.jpg"), -1) is None


def test_one_file(tmp_path):
    plan = plan_outputs(str(tmp_path / "x.npy"), [Path("a.jpg")], [3], by_class=True, suffix=".png")
    assert plan.path(Path("a.jpg"), 3) == tmp_path / "x.npy"


@pytest.mark.parametrize(
    ("images", "targets", "name"), [(["a.jpg", "b.jpg"], [-1], "x.png"), (["a.jpg"], [1, 2], "x.npy")]
)
def test_one_file_for_several_results_is_refused(tmp_path, images, targets, name):
    with pytest.raises(OutputError, match="there are 2 results: give a folder"):
        plan_outputs(str(tmp_path / name), [Path(i) for i in images], targets, by_class=True, suffix=".png")


def test_classes_of_a_photo_in_one_picture(tmp_path):
    plan = plan_outputs(str(tmp_path / "x.png"), [Path("a.jpg")], [1, 2], by_class=True, suffix=".png")
    assert plan.together
    assert {plan.path(Path("a.jpg"), target) for target in (1, 2)} == {tmp_path / "x.png"}
    photos = [Path("a.jpg"), Path("b.jpg")]
    apart, together = (
        plan_outputs(str(tmp_path), photos, [-1, -2], by_class=True, suffix=".jpg", together=which)
        for which in (False, True)
    )
    assert [apart.path(photos[0], rank) for rank in (-1, -2)] == [tmp_path / "a.top.jpg", tmp_path / "a.top2.jpg"]
    assert [together.path(photo, -2) for photo in photos] == [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    with pytest.raises(OutputError, match=r"draws a picture, and \.npy is none"):
        plan_outputs(str(tmp_path), photos, [1, 2], by_class=True, suffix=".npy", together=True)
    with pytest.raises(OutputError, match="101 maps of a photo, at most 100"):
        plan_outputs(str(tmp_path), photos, list(range(101)), by_class=True, suffix=".png", together=True)


@pytest.mark.parametrize("name", ["x.gif", "x.json", "x.tiff"])
def test_files_that_cannot_be_written(tmp_path, name):
    with pytest.raises(OutputError, match=r"give a \.png, \.jpg or \.npy file"):
        plan_outputs(str(tmp_path / name), [Path("a.jpg")], [-1], by_class=False, suffix=".png")


def test_folder_is_made_and_classes_are_in_the_names(tmp_path):
    folder = tmp_path / "new" / "folder"
    plan = plan_outputs(str(folder), [Path("a.jpg")], [-1, 7], by_class=True, suffix=".npy")
    assert folder.is_dir()
    assert [plan.path(Path("a.jpg"), t) for t in (-1, 7)] == [folder / "a.top.npy", folder / "a.7.npy"]
    plan = plan_outputs(str(folder), [Path("a.jpg")], [-1], by_class=False, suffix=".png")
    assert plan.path(Path("a.jpg"), -1) == folder / "a.png"


def test_a_folder_that_is_named_like_a_file(tmp_path):
    (tmp_path / "x.png").mkdir()
    plan = plan_outputs(str(tmp_path / "x.png"), [Path("a.jpg")], [-1], by_class=False, suffix=".png")
    assert plan.folder == tmp_path / "x.png"
    plan = plan_outputs(f"{tmp_path}/y.png/", [Path("a.jpg")], [-1], by_class=False, suffix=".png")
    assert plan.folder == tmp_path / "y.png"


def test_images_are_never_replaced(tmp_path):
    image = tmp_path / "dog.png"
    image.touch()
    for output in (tmp_path, image):
        with pytest.raises(OutputError, match="would replace one of the images"):
            plan_outputs(str(output), [image], [-1], by_class=False, suffix=".png")


def test_a_file_that_cannot_be_written_is_known_before(tmp_path, monkeypatch):
    check_writable(None)
    check_writable(str(tmp_path / "new" / "folder" / "r.json"))
    assert list(tmp_path.iterdir()) == [], "nothing is made by asking"
    (tmp_path / "file").write_bytes(b"")
    check_writable(str(tmp_path / "file"))
    for place in (tmp_path, tmp_path / "file" / "r.json"):
        with pytest.raises(OutputError, match="cannot be written there"):
            check_writable(str(place))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="cannot be written there"):
        check_writable(str(tmp_path / "r.json"))


def test_folder_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="folder cannot be made"):
        plan_outputs(str(tmp_path / "file" / "below"), [Path("a.jpg")], [-1], by_class=False, suffix=".png")


def test_folder_without_permission(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:  # root may write anywhere
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="cannot be written"):
        plan_outputs(str(tmp_path), [Path("a.jpg")], [-1], by_class=False, suffix=".png")
