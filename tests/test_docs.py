"""What README, CONTRIBUTING and docs/ point at exists: files, headings, modules, commands and their options."""

import ast
import importlib
import re
import shlex
import textwrap
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = [
    *(_ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((_ROOT / "docs").rglob("*.md")),
]
_IDS = [page.relative_to(_ROOT).as_posix() for page in _PAGES]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
#: Pages that speak of what is no more.
_HISTORY = {"CHANGELOG.md"}
#: What the recipes of CONTRIBUTING.md make, and what is only planned.
_NOT_THERE = {
    "calibration/evaluate/table_measures/hot_share.py",
    "configs/NAME.yaml",
    "configs/cpu-batch.yaml",
    "runtime/engines/recorded/engine.py",
    "runtime/methods/positivecam.py",
    "tests/calibration/evaluate/table_measures/test_hot_share.py",
    "tests/runtime/engines/recorded/test_engine.py",
    "tests/runtime/methods/test_positivecam.py",
}
#: Options of trtexec that look like ours, and Typer's own. The rest of trtexec's are in camel case.
_OTHER_OPTIONS = {"--fp16", "--int8", "--best", "--sparsity", "--refit", "--help", "--head"}
#: A path of this repository between backticks.
_PATH = re.compile(r"`((?:runtime|export|calibration|cli|configs|tests|benchmarks|docs)/[\w./-]*)`")


def blocks(page, language):
    return [textwrap.dedent(code) for _, name, code in _FENCE.findall(page.read_text("utf-8")) if name == language]


def prose(page):
    return _FENCE.sub("", page.read_text("utf-8"))


def anchors(page):
    """The anchors that GitHub gives the page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", _PAGES, ids=_IDS)
def test_relative_links_lead_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", _PAGES, ids=_IDS)
def test_paths_of_this_repository_exist(page):
    if page.name in _HISTORY:
        return
    named = set(_PATH.findall(prose(page))) - _NOT_THERE
    assert sorted(name for name in named if not (_ROOT / name).exists()) == []


@pytest.mark.parametrize("page", _PAGES, ids=_IDS)
def test_imports_in_examples_work(page):
    pytest.importorskip("onnx")
    if page.name == "CONTRIBUTING.md":
        return  # its recipes import what they make
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cfcam"):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@cache
def _commands():
    """Commands by name; those of a group too, as ``audit run``."""
    from cfcam.cli.app import app
    from typer.main import get_command

    commands = dict(get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]
    for name, command in tuple(commands.items()):
        commands |= {f"{name} {inner}": one for inner, one in getattr(command, "commands", {}).items()}
    return commands


@cache
def _global_options():
    from cfcam.cli.app import app
    from typer.main import get_command

    return {option for param in get_command(app).params for option in param.opts}


@pytest.mark.parametrize("page", _PAGES, ids=_IDS)
def test_commands_in_examples_exist_with_their_options(page):
    commands = _commands()
    lines = [line for code in blocks(page, "sh") for line in code.replace("\\\n", " ").splitlines()]
    if page.name not in _HISTORY:
        lines += re.findall(r"`(cfcam [a-z]+[^`]*)`", prose(page))
    for line in lines:
        words = shlex.split(line.split(" | ")[0], comments=True)
        if words[:1] != ["cfcam"] or len(words) < 2 or words[1] in ("COMMAND", "--version"):
            continue
        name = words[1]
        assert name in commands, line
        if len(words) > 2 and hasattr(commands[name], "commands"):
            name = f"{name} {words[2]}"
            assert name in commands, line
        known = {option for param in commands[name].params for option in (*param.opts, *param.secondary_opts)}
        used = {word.partition("=")[0] for word in words[2:] if re.fullmatch(r"-[a-zA-Z]|--[a-z].*", word)}
        assert used - known <= {"--help"} | _global_options(), line


@pytest.mark.parametrize("page", _PAGES, ids=_IDS)
def test_options_in_prose_exist(page):
    if page.name in _HISTORY:
        return
    known = {option for command in _commands().values() for param in command.params for option in param.opts}
    for code in re.findall(r"`([^`\n]*)`", prose(page)):
        if not re.match(r"python|pip|make|pytest|ray ", code):
            used = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
            ours = {option for option in used if option == option.lower()}
            assert ours - known - _OTHER_OPTIONS <= _global_options(), code


def test_what_is_missing_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A *head*, here\n[a](#a-head-here) [b](#nowhere) [c](other.md)\n```sh\ncfcam nothing --x\n```\n")
    assert anchors(page) == {"a-head-here"}
    with pytest.raises(AssertionError, match="nowhere"):
        test_relative_links_lead_somewhere(page)
    with pytest.raises(AssertionError, match="cfcam nothing"):
        test_commands_in_examples_exist_with_their_options(page)
    page.write_text("Take `--no-such-option`.\n")
    with pytest.raises(AssertionError, match="no-such"):
        test_options_in_prose_exist(page)
    page.write_text("```python\nfrom cfcam.runtime import Nobody\n```\n`runtime/nowhere.py`\n")
    with pytest.raises(AssertionError, match="no Nobody"):
        test_imports_in_examples_work(page)
    with pytest.raises(AssertionError, match="nowhere"):
        test_paths_of_this_repository_exist(page)
