"""Docstrings of public names have the blocks that tools render: Args, Returns, Raises (Google's form)."""

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap

import pytest

_PACKAGES = ("cfcam.runtime", "cfcam.export", "cfcam.calibration")
#: Part of Python's own protocols, or of a protocol that is documented once.
_NEEDS_NONE = {"from_dict", "to_dict"}
#: Written in prose so far. Names may go from here and none may come.
_IN_PROSE = {"Check", "ExportReport", "Proof", "Proof.add", "Proof.rows"}


def described(obj, block):
    """Name -> description in one block of a docstring; None where it has no such block."""
    lines = inspect.cleandoc(obj.__doc__ or "").splitlines()
    if f"{block}:" not in lines:
        return None
    entries, name = {}, ""
    for line in lines[lines.index(f"{block}:") + 1 :]:
        if line and not line.startswith("    "):
            break
        entry = re.match(r"    (\*{0,2}\w+)(?: \([^)]*\))?: (.+)", line)
        if entry:
            name = entry[1].lstrip("*")
            entries[name] = entry[2]
        elif line.strip():
            entries[name] = entries.get(name, "") + " " + line.strip()
    return entries


def raised(function):
    """Names of the exceptions that stand in the function's own ``raise`` statements."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call))
    names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    return {name for name in names if name.endswith("Error") and name != "AttributeError"}


def lacking(function):
    """What a function's docstring ought to say and does not."""
    taken = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    missing = [f"Args: {name}" for name in taken if name not in (described(function, "Args") or {})]
    returns = inspect.signature(function).return_annotation
    if returns not in (None, "None", inspect.Signature.empty) and described(function, "Returns") is None:
        missing.append("Returns")
    missing += [f"Raises: {name}" for name in raised(function) if name not in (described(function, "Raises") or {})]
    return missing


def public_functions(package):
    """(name, function) of what ``__all__`` names: functions, and the public methods of classes."""
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value) and not issubclass(value, Exception):
            for attribute, member in vars(value).items():
                member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                if inspect.isfunction(member) and not attribute.startswith("_") and attribute not in _NEEDS_NONE:
                    yield f"{name}.{attribute}", member


def public_classes(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) and not issubclass(value, Exception):
            yield name, value


def _lacking_in(package):
    if package == "cfcam.export":
        pytest.importorskip("torch")
        pytest.importorskip("onnx")
    gaps = {name: lacking(function) for name, function in public_functions(package)}
    for name, value in public_classes(package):
        if dataclasses.is_dataclass(value):
            taken = [field.name for field in dataclasses.fields(value) if field.init and not field.name.startswith("_")]
        elif "__init__" in vars(value) and not getattr(value, "_is_protocol", False):
            taken = list(inspect.signature(value).parameters)
        else:
            continue
        said = {**(described(value, "Args") or {}), **(described(value.__init__, "Args") or {})}
        said |= described(value, "Attributes") or {}
        gaps[name] = [f"Args: {argument}" for argument in taken if argument not in said]
    return {name: missing for name, missing in gaps.items() if missing}


@pytest.mark.parametrize("package", _PACKAGES)
def test_public_functions_and_classes_are_described_in_blocks(package):
    assert {name: missing for name, missing in _lacking_in(package).items() if name not in _IN_PROSE} == {}


def test_what_is_missing_is_noticed():
    def good(first, *rest, last=None) -> int:
        """One line.

        Args:
            first: Words
                that go on.
            rest: More.
            last: The last.

        Returns:
            A number.

        Raises:
            ValueError: Always.
        """
        raise ValueError("always")

    def bad(first, last=None) -> int:
        """One line.

        Args:
            first: Words.

        last: not in the block.
        """
        raise ValueError("always")

    assert lacking(good) == []
    assert described(good, "Args") == {"first": "Words that go on.", "rest": "More.", "last": "The last."}
    assert lacking(bad) == ["Args: last", "Returns", "Raises: ValueError"]
