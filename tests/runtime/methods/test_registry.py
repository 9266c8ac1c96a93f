"""The registry: names, settings, and methods that other packages bring."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cfcam.runtime import CamResult, MethodError, register_probe, register_rule
from cfcam.runtime.methods import get_method, make_settings, method_names


def test_registered_methods_come_with_summaries():
    assert method_names()[0] == "cfcam"
    assert set(method_names()) >= {"cfcam", "cfcam-paper", "cfcam-released", "gradcam", "hirescam", "layercam"}
    for name in method_names("rule"):
        assert get_method(name).summary
        assert get_method(name).kind == "rule"


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(MethodError, match="did you mean 'hirescam'"):
        get_method("hires-cam")


def test_settings_of_the_wrong_kind():
    with pytest.raises(MethodError, match="expected a mapping"):
        make_settings(get_method("cfcam"), [1])


def test_no_settings():
    with pytest.raises(MethodError, match="takes no settings"):
        make_settings(get_method("hirescam"), {"sigma": 1})


@pytest.mark.everywhere
def test_importing_is_cheap():
    code = (
        "import sys, cfcam.runtime.methods, cfcam.runtime.cam;"
        "heavy = {'scipy', 'sklearn', 'PIL', 'torch', 'onnx', 'onnxruntime'} & set(sys.modules);"
        "print(*sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr("cfcam.runtime.methods.registry._METHODS", {})

    @register_rule("twice")
    def first(activations, gradients, settings=None):
        return CamResult(activations[0])

    def second(probing, settings=None):
        return CamResult(probing.activations[0])

    second.__module__ = "somebody.elses"
    words = rf"'twice' is registered twice, by {__name__} and by somebody\.elses: rename"
    with pytest.raises(MethodError, match=words):
        register_probe("twice")(second)
    assert get_method("twice").run is first


def install(site: Path, package: str, code: str, entries: str) -> None:
    """A distribution of one module, as pip leaves it."""
    site.mkdir(exist_ok=True)
    (site / f"{package}.py").write_text(code)
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cfcam.methods]\n{entries}\n")


def run(site: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


RULE = """
import numpy as np
from cfcam.runtime import CamResult, register_rule

@register_rule("mean-cam")
def mean_cam(activations, gradients, settings=None):
    \"\"\"Mean activation, whatever the class.\"\"\"
    return CamResult(np.maximum(activations.mean(axis=0), 0))
"""

PROBE = """
print("imported")

def register():
    from cfcam.runtime import CamResult, register_probe

    @register_probe("ask-cam")
    def ask_cam(probing, settings=None):
        \"\"\"Asks.\"\"\"
"""


def test_installed_packages_bring_methods(tmp_path):
    install(tmp_path / "site", "meancam", RULE, "mean = meancam")
    install(tmp_path / "site", "askcam", PROBE, "ask = askcam:register")
    code = (
        "import numpy as np; from cfcam.runtime import cam_map, method_names;"
        "ones = np.ones((2, 3, 3), np.float32);"
        "print(cam_map(ones, ones, 'gradcam').sum());"  # imports nobody
        "print(cam_map(ones, ones, 'mean-cam').sum());"
        "print(len(set(method_names()) & {'mean-cam', 'ask-cam', 'cfcam'}));"
        "print(method_names('probe')[-1], method_names('rule')[-1])"
    )
    assert run(tmp_path / "site", code).split("\n")[:-1] == ["9.0", "imported", "9.0", "3", "ask-cam mean-cam"]


def test_a_package_that_cannot_be_loaded_is_named_and_breaks_no_other(tmp_path):
    install(tmp_path / "site", "broken", "import nothing_of_that_name", "broken = broken")
    install(tmp_path / "site", "thief", RULE.replace("mean-cam", "gradcam"), "stolen = thief")
    install(tmp_path / "site", "meancam", RULE, "mean = meancam")
    code = (
        "from cfcam.runtime import MethodError; from cfcam.runtime.methods import get_method;"
        "print(get_method('mean-cam').summary, get_method('gradcam').run.__module__)\n"
        "try: get_method('broken-cam')\n"
        "except MethodError as error: print(error)"
    )
    found, message = run(tmp_path / "site", code).splitlines()
    assert found == "Mean activation, whatever the class. cfcam.runtime.methods.gradcam"
    assert "unknown method 'broken-cam'" in message
    assert (
        "The methods 'broken' of the package 'broken' could not be loaded (No module named 'nothing_of_that_name'): "
        "repair or remove that package" in message
    )
    assert "'stolen' of the package 'thief'" in message
    assert "'gradcam' is registered twice, by cfcam.runtime.methods.gradcam and by thief: rename one of them" in message
