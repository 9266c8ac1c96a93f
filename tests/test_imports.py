"""Who may import what: dependencies point one way, and the runtime stays light.

This file also runs in the environment that has neither PyTorch nor onnx.
"""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from import_circles import circles, import_graph

pytestmark = pytest.mark.everywhere

_ROOT = Path(__file__).resolve().parents[1]
#: Every layer may import itself and what stands before it.
_LAYERS = ("runtime", "export", "calibration", "cli")
_HEAVY = {"torch", "torchvision", "onnx", "onnxscript", "onnx_ir", "timm", "transformers"}
#: Imported by the runtime inside functions only, so that importing it is quick.
_LAZY = {"scipy", "sklearn", "PIL", "onnxruntime", "tensorrt", "tensorrt_rtx"}


def source_files(layer):
    return sorted((_ROOT / layer).rglob("*.py"))


def imported(path, *, top_level_only=False):
    """Absolute names that the file imports; relative ones resolved to ``cfcam.*``."""
    package = ("cfcam", *path.relative_to(_ROOT).parent.parts)

    def walk(node):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                yield from walk(child)
        elif not (top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            for child in ast.iter_child_nodes(node):
                yield from walk(child)

    return set(walk(ast.parse(path.read_text(), str(path))))


def test_the_walk_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "_ROOT", tmp_path)
    path = tmp_path / "runtime" / "methods" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hidden\n"
        "from ...export import a\nfrom . import b\ndef f():\n    import torch.nn\n"
    )
    names = imported(path)
    assert {"cfcam.export", "cfcam.export.a", "cfcam.runtime.methods.b", "torch.nn"} <= names
    assert "hidden" not in names
    assert "torch.nn" not in imported(path, top_level_only=True)


@pytest.mark.parametrize("layer", _LAYERS)
def test_dependencies_point_one_way(layer):
    allowed = _LAYERS[: _LAYERS.index(layer) + 1]
    files = source_files(layer)
    assert files
    for path in files:
        for name in imported(path):
            first, _, rest = name.partition(".")
            if first == "cfcam" and rest:
                assert rest.split(".")[0] in allowed, f"{path.relative_to(_ROOT)} imports {name}"


def test_no_module_imports_itself_by_way_of_others():
    graph = import_graph(_ROOT, _LAYERS)
    assert len(graph) > 250
    assert circles(graph) == []


def test_a_circle_is_found_whatever_form_its_imports_have(tmp_path):
    sources = {
        "runtime/__init__.py": "",
        "runtime/a.py": "def later():\n    from .b import thing\n",
        "runtime/b.py": "from . import c\n",
        "runtime/c.py": "import cfcam.runtime.a\n",
        "runtime/outside.py": "from .a import later\n",
        "runtime/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .uses_typed import X\n",
        "runtime/uses_typed.py": "from .typed import Y\n",
        "export/__init__.py": "from .front import name\n",
        "export/front.py": "from . import name\n",
        "export/rules/__init__.py": "from . import one, two\n",
        "export/rules/one.py": "from ...runtime import a\nfrom . import two\n",
        "export/rules/two.py": "",
    }
    for name, source in sources.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    graph = import_graph(tmp_path, ("runtime", "export"))
    assert graph["export.rules.one"] == {"runtime.a", "export.rules.two"}
    assert circles(graph) == [["export", "export.front"], ["runtime.a", "runtime.b", "runtime.c"]]
    (tmp_path / "runtime/c.py").write_text("")
    (tmp_path / "export/front.py").write_text("")
    assert circles(import_graph(tmp_path, ("runtime", "export"))) == []


def test_runtime_imports_nothing_heavy_and_the_rest_lazily():
    for path in source_files("runtime"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & _HEAVY, path
        at_import = {name.split(".")[0] for name in imported(path, top_level_only=True)}
        assert not at_import & _LAZY, f"{path.relative_to(_ROOT)}: move {at_import & _LAZY} into a function"


@pytest.mark.parametrize("layer", ["export", "calibration", "cli"])
def test_package_fronts_import_nothing_heavy(layer):
    assert not {name.split(".")[0] for name in imported(_ROOT / layer / "__init__.py", top_level_only=True)} & _HEAVY


def test_nothing_prints_or_imports_by_the_installed_name():
    for layer in _LAYERS:
        for path in source_files(layer):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and not node.level:
                    assert (node.module or "").split(".")[0] != "cfcam", f"{path}: use a relative import"


def test_every_runtime_module_imports_with_numpy_alone():
    """In a process where only numpy and the standard library can be imported."""
    runtime = importlib.import_module("cfcam.runtime")
    names = ["cfcam.runtime", *(m.name for m in pkgutil.walk_packages(runtime.__path__, "cfcam.runtime."))]
    # The server is a program with libraries of its own, imported by its command and by nothing else.
    names = [name for name in names if not name.startswith("cfcam.runtime.serving.")]
    assert len(names) > 12
    code = """
import importlib, sys
class OnlyNumpy:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or root in ("numpy", "cfcam") or root.startswith("__editable__"):
            return None
        raise ModuleNotFoundError(f"{name} is not allowed here", name=name)
import numpy
sys.meta_path.insert(0, OnlyNumpy())
for name in sys.argv[1:]:
    importlib.import_module(name)
try:
    import PIL
except ModuleNotFoundError:
    print("done")
"""
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_importing_the_runtime_loads_little():
    code = "import sys; before = set(sys.modules); import cfcam.runtime; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & (_HEAVY | _LAZY | {"typer", "rich"})
