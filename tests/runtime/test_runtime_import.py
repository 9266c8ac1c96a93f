"""`import cfcam.runtime` loads next to nothing, and everything it offers exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import cfcam.runtime
import pytest

pytestmark = pytest.mark.everywhere

_ROOT = Path(__file__).resolve().parents[2]
_HEAVY = ("torch", "onnx", "onnxruntime", "scipy", "sklearn", "PIL", "cv2")


#: What comes with an extra is imported where that extra is used, and nowhere else.
_EXTRAS = {
    "engines/tensorrt": {"polygraphy"},
    "serving": {
        "starlette",
        "uvicorn",
        "h11",
        "pydantic",
        "pydantic_core",
        "prometheus_client",
        "grpc",
        "grpc_health",
        "google",
        "tritonclient",
    },
    "videos.py": {"av"},
}


def _place(path: Path) -> str:
    """The key of `_EXTRAS` that holds `path`, or nothing."""
    name = path.relative_to(_ROOT / "runtime").as_posix()
    return next((place for place in _EXTRAS if name == place or name.startswith(f"{place}/")), "")


def _loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import cfcam.runtime",
        "from cfcam.runtime import Explainer, Explanation, cam_map, read_spec, find_images, open_engine",
    ],
)
def test_import_is_light(statement):
    loaded = _loaded(statement)
    assert "cfcam" in loaded
    assert not loaded & set(_HEAVY)


def test_the_bare_import_leaves_numpy_out():
    assert "numpy" not in _loaded("import cfcam.runtime")


def test_the_default_method_waits_for_no_library():
    # Importing scipy and scikit-learn takes a device longer than opening the model and making the first map.
    made = "import numpy as np; from cfcam.runtime import cam_map; cam_map(*np.random.rand(2, 40, 7, 7), size=32)"
    assert not _loaded(made) & {"scipy", "sklearn"}


def test_public_names():
    for name in cfcam.runtime.__all__:
        assert getattr(cfcam.runtime, name) is not None
        assert name in dir(cfcam.runtime)
    with pytest.raises(AttributeError, match="no attribute 'Explainers'"):
        cfcam.runtime.Explainers  # noqa: B018


def test_version_is_that_of_the_project():
    declared = re.search(r'^version = "(.+)"$', (_ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert cfcam.runtime.__version__ == declared[1]


def test_runtime_imports_only_what_a_device_has():
    # threadpoolctl comes with scikit-learn; typing_extensions is only imported by type checkers.
    libraries = {"numpy", "scipy", "sklearn", "threadpoolctl", "PIL", "onnxruntime", "typing_extensions"}
    for path in (_ROOT / "runtime").rglob("*.py"):
        allowed = {*sys.stdlib_module_names, *libraries, *_EXTRAS.get(_place(path), set())}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            assert {name.split(".")[0] for name in names} <= allowed, path
