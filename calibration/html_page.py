"""The template of an HTML report: one file that loads nothing, in which every name is escaped."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from jinja2 import Template

__all__ = ["page_template"]


def page_template(package: str, **filters: Callable[..., Any]) -> Template:
    """``report.html.j2`` of `package`. filters: more of them than ``base``, the name of a path.

    Raises `MissingDependencyError` without Jinja2.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError("the report needs Jinja2: install cfcam[report]") from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["base"] = lambda path: Path(path).name
    environment.filters.update(filters)
    return environment.from_string(resources.files(package).joinpath("report.html.j2").read_text(encoding="utf-8"))
