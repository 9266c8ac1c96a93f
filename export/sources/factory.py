"""From ``package.module:factory`` and a weights file to a PyTorch module, ready to export.

Only names are imported and only tensors are read: a ``.pt`` file is opened with
``weights_only=True``, so that it cannot run code.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.errors import MissingDependencyError, ModelFileError
from ..errors import ExportError
from ..wording import some, words
from .huggingface import load_pretrained
from .loaded import Loaded

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Loaded", "load", "load_model", "load_weights", "read_state_dict"]

#: Keys under which training scripts keep the state dict inside a checkpoint.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
#: What DataParallel, torch.compile and wrapper classes put in front of every key.
_PREFIXES = ("module.", "_orig_mod.", "model.")


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
        return Loaded(module=load_model(name, kwargs, weights))
    if weights is None:
        raise ExportError(
            f"model '{name}': needs --weights DIR, the folder with config.json, model.safetensors and "
            "preprocessor_config.json that save_pretrained writes"
        )
    _import_torch()
    return load_pretrained(name, weights, kwargs, processor=processor)


def load_model(
    name: str, kwargs: Mapping[str, Any] | None = None, weights: str | os.PathLike[str] | None = None
) -> nn.Module:
    """Call the factory `name` with `kwargs`, load `weights` into the result, set ``eval()``.

    name: ``PKG.MODULE:FACTORY``; the factory is a function or class, may be dotted
    (``module:Class.from_name``) and may also be a ready `nn.Module`. Modules in the current
    directory are found. weights: ``.safetensors``, ``.pt`` or ``.pth``.
    Raises `ExportError` (name, factory, state dict that does not fit), `ModelFileError` (weights
    file) and `MissingDependencyError`.
    """
    _import_torch()
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
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Copy the state dict at `path` into `model`; every key must fit.

    A common prefix ("module.") is taken off when only that makes the keys fit.
    Raises `ExportError` that lists missing and unexpected keys and those of another shape.
    """
    found = read_state_dict(path)
    wanted = model.state_dict()
    found = _without_prefix(found, wanted)
    # Counters that files from before PyTorch 0.4.1 do not have; evaluation never reads them.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in found if key not in wanted]
    shapes = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    if not (missing or unexpected or shapes):
        model.load_state_dict(found, strict=False)
        return
    parts = []
    if missing:
        parts.append(f"{len(missing)} keys missing ({some(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} keys unexpected ({some(unexpected)})")
    if shapes:
        details = [f"{key}: file {list(found[key].shape)}, model {list(wanted[key].shape)}" for key in shapes]
        parts.append(f"{len(shapes)} of another shape ({some(details)})")
    hint = ""
    if shapes and not missing and not unexpected and _only_classes_differ(shapes, found, wanted):
        hint = f": the file has {found[shapes[0]].shape[0]} classes, give the factory that number with --kwargs"
    raise ExportError(f"{path}: does not fit {type(model).__name__}: {'; '.join(parts)}{hint}")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Names and tensors in a ``.safetensors``, ``.pt`` or ``.pth`` file, on the CPU.

    Checkpoints that hold the state dict under a usual key are unwrapped.
    Raises `ModelFileError` when the file is missing, damaged, of another kind, or needs code to run.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".safetensors", ".pt", ".pth"):
        raise ModelFileError(f"{path}: unknown kind of weights file '{suffix}', expected .safetensors, .pt or .pth")
    try:
        if path.is_dir():
            raise ModelFileError(f"{path}: is a folder, a weights file was expected")
        if path.stat().st_size == 0:
            raise ModelFileError(f"{path}: is empty (0 bytes)")
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such weights file") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _read_safetensors(path) if suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    _import_torch()
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError("safetensors is not installed: install cfcam[export]") from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: is not a safetensors file, or is damaged ({words(error)})") from error


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    torch = _import_torch()
    import pickle
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # A wrong magic number is reported with the same class as forbidden content.
        if "Unsupported global" in str(error) or "GLOBAL" in str(error) or "weights_only" in str(error):
            raise ModelFileError(
                f"{path}: cannot be read with weights_only=True, it is no plain state dict, and loading it could run "
                "code: save model.state_dict() alone, best as .safetensors"
            ) from error
        raise ModelFileError(f"{path}: is not a PyTorch file, or is damaged ({words(error)})") from error
    except Exception as error:  # zip, pickle and storage readers each raise their own kinds
        if "TorchScript" in str(error):
            raise ModelFileError(f"{path}: is a TorchScript archive: save model.state_dict() instead") from error
        raise ModelFileError(f"{path}: is not a PyTorch file, or is damaged ({words(error)})") from error
    return _unwrap(path, data)


def _unwrap(path: Path, data: Any) -> dict[str, torch.Tensor]:
    torch = _import_torch()

    def is_state_dict(value: Any) -> bool:
        return isinstance(value, Mapping) and bool(value) and all(isinstance(v, torch.Tensor) for v in value.values())

    if isinstance(data, Mapping):
        for candidate in (data, *(data.get(key) for key in _WRAPPERS)):
            if is_state_dict(candidate):
                return dict(candidate)  # type: ignore[arg-type]
        held = f"a dictionary with the keys {some([str(key) for key in data])}" if data else "an empty dictionary"
    else:
        held = f"a {type(data).__name__}"
    raise ModelFileError(f"{path}: holds {held}, expected a state dict (names and tensors)")


def _without_prefix(found: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    fitting = len(wanted.keys() & found.keys())
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in found):
            stripped = {key.removeprefix(prefix): value for key, value in found.items()}
            if len(wanted.keys() & stripped.keys()) > fitting:
                return stripped
    return found


def _only_classes_differ(
    keys: list[str], found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> bool:
    counts = {found[key].shape[:1] for key in keys}
    return len(counts) == 1 and all(
        found[key].ndim > 0 and found[key].shape[1:] == wanted[key].shape[1:] for key in keys
    )


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


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("PyTorch is not installed: exporting needs it, install cfcam[export]") from error
    return torch


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
