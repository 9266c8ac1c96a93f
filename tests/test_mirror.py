"""Tests mirror the source: `runtime/photos/images.py` is tested by `tests/runtime/photos/test_images.py`."""

import ast
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_LAYERS = ("runtime", "export", "calibration", "cli")
#: A module whose functions have no more statements than these only names things, or hands a call on.
_HANDFUL = 3
#: Fronts of packages that fetch a name when it is asked for; what they give out is tested for all packages at once.
_ELSEWHERE = {
    "runtime/__init__.py": "test_public_names.py",
    "export/__init__.py": "test_public_names.py",
}


def statements(source):
    """How many statements lie in functions and methods, docstrings apart."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            found |= {inner for outer in body for inner in ast.walk(outer) if isinstance(inner, ast.stmt)}
            found -= set(node.body) - set(body)
    return len(found)


def has_tests(path):
    """Whether a file has a test: a function of its own, or a class of them."""
    return path.exists() and any(
        isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name.lower().startswith("test")
        for node in ast.parse(path.read_text()).body
    )


def untested(root):
    """Modules with logic that have no tests in the file of their name."""
    missing = []
    for path in sorted(path for layer in _LAYERS for path in (root / layer).rglob("*.py")):
        name = path.relative_to(root)
        if statements(path.read_text()) > _HANDFUL and not has_tests(
            root / "tests" / name.parent / f"test_{name.name}"
        ):
            missing.append(name.as_posix())
    return missing


def test_every_module_with_logic_has_tests_in_the_file_of_its_name():
    """The exceptions are exactly those that are listed: what gets a test of its own leaves the list."""
    assert untested(_ROOT) == sorted(_ELSEWHERE)
    assert all(has_tests(_ROOT / "tests" / name) for name in _ELSEWHERE.values())


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('"""Names."""\nA = 1\nB = {"a": 2}\n', 0),
        ('def f():\n    """Say."""\n    return 1\n', 1),
        ("class C:\n    x: int = 0\n    def f(self):\n        if self.x:\n            return 1\n        return 2\n", 3),
        ('def f():\n    def g():\n        """Inner."""\n        return 1\n    return g\n', 3),
    ],
)
def test_statements_are_counted_in_functions(source, count):
    assert statements(source) == count


def test_a_module_without_tests_is_found(tmp_path):
    logic = "def f(x):\n    y = x + 1\n    z = y * y\n    w = z - x\n    return w\n"
    for name, source in {
        "runtime/photos/images.py": logic,
        "runtime/photos/frame.py": logic,
        "runtime/names.py": "NAMES = ()\n",
        "export/rules/empty.py": logic,
        "cli/app.py": logic,
        "tests/runtime/photos/test_images.py": "def test_f():\n    assert True\n",
        "tests/runtime/test_frame.py": "def test_f():\n    assert True\n",
        "tests/export/rules/test_empty.py": "CASES = ()\n",
        "tests/cli/test_app.py": "class TestApp:\n    pass\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    assert untested(tmp_path) == ["export/rules/empty.py", "runtime/photos/frame.py"]
