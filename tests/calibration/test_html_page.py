"""What HTML reports share."""

import base64
import io
from importlib.metadata import version

import pytest
from cfcam.calibration.html_page import jpeg_url, machine, save_picture
from PIL import Image


def test_the_machine_is_told_with_versions():
    about = machine()
    assert {"processor", "cores", "system", "python", "numpy"} <= set(about)
    assert about["backend"] == f"onnxruntime {version('onnxruntime')}"
    assert all(isinstance(value, str) for value in about.values())


def test_pictures_are_what_their_names_say(tmp_path):
    picture = Image.new("RGB", (8, 4), "red")
    data = base64.b64decode(jpeg_url(picture).partition(",")[2])
    assert Image.open(io.BytesIO(data)).format == "JPEG"
    for name, kind in (("a.PNG", "PNG"), ("b.jpg", "JPEG")):
        save_picture(tmp_path / name, picture)
        with Image.open(tmp_path / name) as written:
            assert (written.format, written.size) == (kind, (8, 4))


def test_without_jinja(monkeypatch):
    import sys

    from cfcam.calibration.html_page import page_template
    from cfcam.runtime.errors import MissingDependencyError

    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError, match=r"install cfcam\[report\]"):
        page_template("cfcam.calibration.verify")
