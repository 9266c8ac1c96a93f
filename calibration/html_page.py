"""What HTML reports share: a page that loads nothing and escapes every name, pictures inside it, and the machine."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.bench.machine import describe_machine, versions
from ..runtime.errors import MissingDependencyError
from ..runtime.files import write_bytes
from ..runtime.shown import shown

if TYPE_CHECKING:
    from jinja2 import Template
    from PIL import Image

__all__ = ["jpeg_url", "machine", "page_template", "save_picture"]


def page_template(package: str, **filters: Callable[..., Any]) -> Template:
    """``report.html.j2`` of `package`. filters: more of them than ``base``, the name of a path.

    Raises `MissingDependencyError` without Jinja2.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError("the report needs Jinja2: install cfcam[report]") from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_clean
    )
    environment.filters["base"] = lambda path: Path(path).name
    environment.filters.update(filters)
    return environment.from_string(resources.files(package).joinpath("report.html.j2").read_text(encoding="utf-8"))


def _clean(value: Any) -> Any:
    """What a page shows of a name: text that UTF-8 can hold. Pictures are text too, and stay whole."""
    text = str(value) if isinstance(value, Path) else value
    return shown(text, most=2**31) if type(text) is str else text


def machine() -> dict[str, str]:
    """What was measured on, in words: processor, cores, system, versions."""
    facts = describe_machine("cpu")
    about = {"processor": facts["cpu"], "cores": facts["cores"], "system": facts["system"], **versions(_onnxruntime())}
    return {name: str(value) for name, value in about.items()}


def _onnxruntime() -> str:
    try:
        import onnxruntime
    except ImportError:  # TensorRT engines run without
        return "no onnxruntime"
    return f"onnxruntime {onnxruntime.__version__}"


def jpeg_url(picture: Image.Image) -> str:
    """The picture as a ``data:`` URL, so that a page needs no other file."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def save_picture(path: str | os.PathLike[str], picture: Image.Image) -> None:
    """Write a picture as PNG where the name says so, else as JPEG. Raises `OutputError`."""
    data = io.BytesIO()
    picture.save(data, "PNG" if os.fspath(path).lower().endswith(".png") else "JPEG", quality=88)
    write_bytes(path, data.getvalue())
