"""From ``package.module:factory`` and a weights file to a PyTorch module, ready to export.

Only names are imported and only tensors are read (`checkpoints`).
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import ExportError
from ..wording import words
from .checkpoints import import_torch, load_weights, read_state_dict
from .huggingface import load_pretrained
from .loaded import Loaded
from .wrapped import in_float32, unwrapped

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Loaded", "load", "load_model", "load_weights", "read_state_dict"]


def load(
    name: str,
    kwargs: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    processor: bool = True,
) -> Loaded:
    """The model called `name`, from any source.

    ``transformers:CLASS`` reads the folder `weights` (`load_pretrained`; `kwargs` change its
    config, and processor=False leaves its preprocessing unread); every other name goes to
    `load_model`. Raises what these raise.
    """
    if not name.startswith("transformers:"):
        return _load(name, kwargs, weights)
    if weights is None:
        raise ExportError(
            f"model '{name}': needs --weights DIR, the folder with config.json, model.safetensors and "
            "preprocessor_config.json that save_pretrained writes"
        )
    import_torch()
    return load_pretrained(name, weights, kwargs, processor=processor)


def load_model(
    name: str, kwargs: Mapping[str, Any] | None = None, weights: str | os.PathLike[str] | None = None
) -> nn.Module:
    """Call the factory `name` with `kwargs`, load `weights` into the result, set ``eval()``.

    name: ``PKG.MODULE:FACTORY``; the factory is a function or class, may be dotted
    (``module:Class.from_name``) and may also be a ready `nn.Module`. Modules in the current
    directory are found. What wraps the module (DataParallel, torch.compile) is taken off, and weights in half precision
    become float32. weights: a safetensors or PyTorch file of any name.
    Raises `ExportError` (name, factory, state dict that does not fit), `ModelFileError` (weights
    file) and `MissingDependencyError`.
    """
    return _load(name, kwargs, weights).module


def _load(name: str, kwargs: Mapping[str, Any] | None, weights: str | os.PathLike[str] | None) -> Loaded:
    """As `load_model`, with what there is to say."""
    import_torch()
    from torch import nn

    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ExportError(
            f"model '{name}': expected PKG.MODULE:FACTORY with a colon, for instance torchvision.models:resnet18"
        )
    with _current_directory_importable():
        factory = _attribute(name, _import(name, module_name), attribute)
        model = factory
        if not isinstance(factory, nn.Module):
            if not callable(factory):
                raise ExportError(f"model '{name}': is a {type(factory).__name__}, expected a function or class")
            try:
                model = factory(**(kwargs or {}))
            except (Exception, SystemExit) as error:
                given = ", ".join(f"{key}={value!r}" for key, value in (kwargs or {}).items())
                raise ExportError(f"model '{name}': calling it with ({given}) failed: {words(error)}") from error
        elif kwargs:
            raise ExportError(f"model '{name}': is a ready module, which takes no keyword arguments")
    if not isinstance(model, nn.Module):
        raise ExportError(f"model '{name}': returned a {type(model).__name__}, expected a torch.nn.Module")
    model = unwrapped(model)
    notes = () if weights is None else load_weights(model, weights)
    model, converted = in_float32(model)
    return Loaded(module=model.eval(), notes=notes + converted)


def _import(name: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ExportError(
                f"model '{name}': there is no module '{error.name}': install its package, or run cfcam in the folder "
                "that holds it"
            ) from error
        raise ExportError(f"model '{name}': importing {module_name} failed: {words(error)}") from error
    except (Exception, SystemExit) as error:
        raise ExportError(f"model '{name}': importing {module_name} failed: {words(error)}") from error


def _attribute(name: str, owner: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if not hasattr(owner, part):
            known = [key for key in dir(owner) if not key.startswith("_")]
            near = difflib.get_close_matches(part, known, n=3, cutoff=0.5)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise ExportError(f"model '{name}': {getattr(owner, '__name__', owner)} has no '{part}'{hint}")
        owner = getattr(owner, part)
    return owner


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """First on the path, as for ``python -m``: people export models that they are working on."""
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
