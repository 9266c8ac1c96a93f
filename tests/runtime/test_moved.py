"""Modules that moved still answer to their old names, with a warning."""

import importlib
import subprocess
import sys

import pytest
from cfcam.runtime.moved import _MOVED, old_names

_CLASS_OF = {
    "cfcam.runtime.engine_options": "EngineOptions",
    "cfcam.runtime.frame": "Frame",
    "cfcam.runtime.manifest": "Manifest",
    "cfcam.runtime.spec": "CamSpec",
}


@pytest.mark.parametrize("old", [name for name in _MOVED if name.startswith("cfcam.runtime.")])
def test_an_old_name_warns_and_gives_what_is_in_the_new_place(old):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved: import {_MOVED[old]}; ") as warned:
        module = importlib.import_module(old)
    new = importlib.import_module(_MOVED[old])
    assert warned[0].filename == importlib.__file__, "the importer is blamed"
    public = getattr(new, "__all__", [])
    assert public
    for name in public:
        assert getattr(module, name) is getattr(new, name)
    assert not hasattr(module, "no_such_name")


@pytest.mark.parametrize(("old", "name"), _CLASS_OF.items())
def test_classes_are_the_same_objects(old, name):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved"):
        module = importlib.import_module(old)
    assert getattr(module, name) is getattr(importlib.import_module("cfcam.runtime"), name)


def test_the_example_that_the_documentation_had():
    sys.modules.pop("cfcam.runtime.bench.subject", None)
    with pytest.warns(DeprecationWarning, match="import cfcam.runtime.bench.timed_file"):
        from cfcam.runtime.bench.subject import Subject  # pyright: ignore[reportMissingImports]
    new = importlib.import_module("cfcam.runtime.bench.timed_file")
    assert Subject is getattr(new, "TimedFile" if hasattr(new, "TimedFile") else "Subject")


def test_a_package_that_moved_has_its_modules_too():
    sys.modules.pop("cfcam.calibration.building.staging", None)
    with pytest.warns(DeprecationWarning, match="import cfcam.calibration.build.staging"):
        old = importlib.import_module("cfcam.calibration.building.staging")
    assert old.publish is importlib.import_module("cfcam.calibration.build.staging").publish


def test_the_exporter_answers_without_the_runtime_having_been_imported():
    pytest.importorskip("onnx")
    code = "import cfcam.export.tensorrt_table as old, cfcam.calibration.tensorrt_table as new\n"
    code += "print(old.__doc__ == new.__doc__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_other_names_are_as_unknown_as_ever():
    for name in ("cfcam.runtime.imagesx", "cfcam.runtime.nowhere"):
        with pytest.raises(ModuleNotFoundError, match=name):
            importlib.import_module(name)


def test_an_old_name_is_the_new_thing_and_says_so():
    evaluate, verify = (pytest.importorskip(f"cfcam.calibration.{name}") for name in ("evaluate", "verify"))
    with pytest.warns(DeprecationWarning, match=r"verify\.GateReport is now called VerifyReport"):
        assert verify.GateReport is verify.VerifyReport
    with pytest.warns(DeprecationWarning, match="VerifyError"):
        from cfcam.calibration.verify import GateError
    assert GateError is verify.VerifyError
    for old, new in {
        "Contender": "Row",
        "Figure": "Column",
        "Instrument": "TableMeasure",
        "all_instruments": "all_measures",
        "get_instrument": "get_measure",
        "make_contenders": "make_rows",
        "register_instrument": "register_measure",
    }.items():
        with pytest.warns(DeprecationWarning, match=f"evaluate.{old} is now called {new}"):
            assert getattr(evaluate, old) is getattr(evaluate, new)
    assert not hasattr(verify, "nothing")


def test_any_other_name_is_missing_as_ever():
    with pytest.raises(AttributeError, match="module 'somewhere' has no attribute 'nothing'"):
        old_names("somewhere", {"old": int})("nothing")
