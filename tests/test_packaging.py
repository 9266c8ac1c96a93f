"""What is in the wheel, and that it and an editable install both import."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason="the wheel is built with the package `build` of the [dev] extra")
pytest.importorskip("setuptools", reason="the wheel is built without isolation")
tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

_ROOT = Path(__file__).resolve().parents[1]
_LAYERS = ("runtime", "export", "calibration", "cli", "configs")
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())
_DATA = {"two_dogs.jpg", "LICENSE-two_dogs.txt", "traffic_lights.jpg", "LICENSE-traffic_lights.txt", "imagenet1k.txt"}


def packages_on_disk():
    found = set()
    for layer in _LAYERS:
        for init in (_ROOT / layer).rglob("__init__.py"):
            found.add(".".join(("cfcam", *init.parent.relative_to(_ROOT).parts)))
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what is packaged, so that the build leaves nothing behind here."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "constraints.txt"):
        shutil.copy(_ROOT / name, copy)
    for layer in _LAYERS:
        shutil.copytree(_ROOT / layer, copy / layer, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


def run_installed(tmp_path, site, code):
    """Run `code` in a new interpreter that has `site` as a site folder, away from the checkout.

    Started with -S: the .pth files of this environment, and with them its own editable install
    of cfcam, are not read. What cfcam depends on still comes from here.
    """
    head = f"import site, sys; site.addsitedir({str(site)!r}); sys.path.append({sysconfig.get_path('purelib')!r})\n"
    done = subprocess.run(
        [sys.executable, "-S", "-c", head + code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_folder_with_code_is_a_listed_package():
    assert set(_PROJECT["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_folders_with_modules_have_an_init():
    for layer in _LAYERS:
        for module in (_ROOT / layer).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module.parent


@pytest.mark.slow
def test_wheel_holds_every_module_and_the_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    modules = {"cfcam/" + p.relative_to(_ROOT).as_posix() for layer in _LAYERS for p in (_ROOT / layer).rglob("*.py")}
    assert modules <= inside
    assert {f"cfcam/cli/data/{name}" for name in _DATA} <= inside
    assert "cfcam/runtime/serving/page.html" in inside
    assert {f"cfcam/configs/{path.name}" for path in (_ROOT / "configs").glob("*.yaml")} <= inside
    assert {f"cfcam/{layer}/py.typed" for layer in _LAYERS} <= inside
    outside = {name.split("/")[0] for name in inside} - {"cfcam"}
    assert all(name.endswith(".dist-info") for name in outside), "nothing but cfcam is installed"
    assert "cfcam/__init__.py" not in inside, "cfcam is a namespace"


@pytest.mark.slow
def test_installed_wheel_runs(wheel, tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = """
import importlib, importlib.resources
for name in %r:
    importlib.import_module(name)
import cfcam.cli.data, cfcam.runtime
print(cfcam.cli.data.__file__)
with cfcam.cli.data.data_file("two_dogs.jpg") as photo:
    print(photo.stat().st_size)
print(sum(file.name.endswith(".yaml") for file in importlib.resources.files("cfcam.configs").iterdir()))
print(cfcam.cli.main(["--version"]))
"""
    names = [
        "cfcam.runtime",
        "cfcam.runtime.methods",
        "cfcam.export",
        "cfcam.calibration",
        "cfcam.cli",
        "cfcam.configs",
    ]
    out = run_installed(tmp_path, site, code % (names,)).split()
    assert out[0].startswith(str(site))
    assert int(out[1]) == (_ROOT / "cli" / "data" / "two_dogs.jpg").stat().st_size
    assert int(out[2]) == len(list((_ROOT / "configs").glob("*.yaml")))
    assert out[3:] == ["cfcam", _PROJECT["project"]["version"], "0"]


@pytest.fixture(scope="module")
def device(wheel, tmp_path_factory):
    """The Python of a new environment with the wheel and its extra [cpu], as on a device: no PyTorch, no onnx."""
    folder = tmp_path_factory.mktemp("device") / "venv"
    venv.create(folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    command = [*pip, "install", "--quiet", "--no-compile", f"{wheel}[cpu]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.slow
def test_the_wheel_explains_a_photo_in_a_new_environment(device, tiny_path, tmp_path):
    shutil.copy(tiny_path("logits"), tmp_path / "tiny.cam.onnx")
    shutil.copy(_ROOT / "cli" / "data" / "two_dogs.jpg", tmp_path)
    command = [str(device.with_name("cfcam")), "explain", "tiny.cam.onnx", "two_dogs.jpg", "-o", "maps/", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["output"] == "maps/two_dogs.png"
    assert (tmp_path / "maps" / "two_dogs.png").stat().st_size > 1000
    code = "import cfcam.runtime, importlib.util as u\n"
    code += "print(cfcam.runtime.__file__, *map(u.find_spec, ('torch', 'onnx')))"
    done = subprocess.run([str(device), "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    where, *absent = done.stdout.split()
    assert where.startswith(str(device.parents[1]))
    assert absent == ["None", "None"]


@pytest.mark.slow
def test_type_checkers_read_the_types_of_the_installed_wheel(device, tmp_path):
    pytest.importorskip("pyright", reason="pyright is in the [dev] extra")
    (tmp_path / "user.py").write_text(
        "from cfcam.runtime import Explainer\n"
        "from cfcam.runtime.cam import np\n\n"
        'reveal_type(Explainer("x.cam.onnx").explain("photo.jpg").probability)\n'
        'Explainer("x.cam.onnx").explain("photo.jpg", target=1.5)\n'
    )
    pyright = [sys.executable, "-m", "pyright", "--pythonpath", str(device), "--outputjson"]
    done = subprocess.run([*pyright, "user.py"], capture_output=True, text=True, check=False, cwd=tmp_path)
    said = {one["range"]["start"]["line"]: one for one in json.loads(done.stdout)["generalDiagnostics"]}
    assert sorted(said) == [1, 3, 4], done.stdout
    # What a module imported for itself is private in a package with py.typed, and public in one without.
    assert said[1]["rule"] == "reportPrivateImportUsage"
    assert 'is "float' in said[3]["message"]
    assert said[4]["rule"] == "reportArgumentType"


@pytest.mark.slow
def test_editable_install_runs(checkout, tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--target", str(site), "-e", str(checkout)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    code = "import cfcam.runtime.methods, cfcam.cli.data; print(cfcam.runtime.methods.__file__)"
    assert run_installed(tmp_path, site, code).startswith(str(checkout))


def test_the_version_is_in_one_place():
    from importlib.metadata import version

    assert version("cfcam") == _PROJECT["project"]["version"]
    for layer in _LAYERS:
        for path in (_ROOT / layer).rglob("*.py"):
            assert f'"{_PROJECT["project"]["version"]}"' not in path.read_text(), path


def test_photo_licence_and_class_names():
    data = _ROOT / "cli" / "data"
    assert {p.name for p in data.iterdir() if p.suffix in (".jpg", ".txt")} == _DATA
    assert "CC BY 2.0" in (data / "LICENSE-two_dogs.txt").read_text()
    labels = (data / "imagenet1k.txt").read_text().splitlines()
    assert len(labels) == 1000
    assert len({label.lower() for label in labels}) == 1000, "a label must be enough to name a class"
    assert (labels[195], labels[171]) == ("Boston bull", "Italian greyhound")
