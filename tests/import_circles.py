"""Who imports whom inside a source tree, and where that goes round in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

#: The name under which the top folders are installed; some files may import by it.
_INSTALLED = "cfcam"


def import_graph(root: Path, folders: tuple[str, ...]) -> dict[str, set[str]]:
    """The modules below `folders`, each with the modules of the same tree that it imports.

    Imports inside functions count: they only put a circle off until the function runs. Imports under `TYPE_CHECKING`
    do not, since nobody runs them. ``from .package import name`` is an import of the submodule ``package.name`` where
    there is one, and of the package's ``__init__`` otherwise. That importing a submodule runs the ``__init__`` of its
    parents is not counted: it holds everywhere.

    Args:
        root: the folder that holds the top folders.
        folders: their names.

    Returns:
        Names of modules, dotted and from `root` (``runtime.engines.base``; a package is its ``__init__``).
    """
    paths = {_module_of(path, root): path for folder in folders for path in sorted((root / folder).rglob("*.py"))}
    return {name: set(_imports(name, path, paths)) - {name} for name, path in paths.items()}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module, each sorted, by Tarjan's algorithm."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_modules: list[str] = []
    components: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        open_modules.append(module)
        for other in sorted(graph[module]):
            if other not in number:
                visit(other)
            if other in open_modules:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == number[module]:
            start = open_modules.index(module)
            component = sorted(open_modules[start:])
            del open_modules[start:]
            if len(component) > 1:
                components.append(component)

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return components


def _module_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, paths: Mapping[str, Path]) -> Iterator[str]:
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in _executed(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            candidates = [[alias.name] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            candidates = [[f"{module}.{alias.name}", module] for alias in node.names]
        else:
            continue
        for names in candidates:
            inside = (dotted.removeprefix(f"{_INSTALLED}.") for dotted in names)
            yield from [dotted for dotted in inside if dotted in paths][:1]


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node` except what stands under ``if TYPE_CHECKING:``."""
    yield node
    skipped = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) else []
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from _executed(child)
