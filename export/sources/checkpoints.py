"""A weights file, read without running any of it, and its keys brought to fit a module.

What a file holds decides how it is read, not its name: people call a PyTorch file ``.ckpt``, ``.pth.tar`` or ``.bin``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.errors import MissingDependencyError, ModelFileError
from ..errors import ExportError
from ..wording import some, words

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["import_torch", "load_weights", "read_state_dict"]

#: Keys under which training scripts keep the state dict inside a checkpoint, possibly one in the other. The first that
#: is there is taken: the trained weights come before their moving average.
_CONTAINERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params", "weights"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema"),
)
#: What DataParallel and torch.compile put into keys, wherever the wrapped module is.
_WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod)\.")
#: Words in the keys of what trains or measures, and takes no part in a prediction.
_TRAINING = {"loss", "losses", "criterion", "criteria", "metric", "metrics", "acc", "accuracy", "auroc", "auc", "f1"}
_TRAINING |= {"confmat", "ops", "params"}  # thop counts total_ops and total_params


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Copy the state dict at `path` into `module`; every key must fit.

    Wrappers' names ("module.", "_orig_mod.") are taken off wherever they are, and what all keys of the network begin
    with ("model.", "net.", "backbone.", ...), where that makes them fit. Keys of a loss or a metric are left out.

    Returns:
        What was left out or chosen, in sentences.

    Raises:
        ExportError: Keys are missing or unexpected, or of another shape; the message lists them.
        ModelFileError: As `read_state_dict`.
    """
    held, notes = _read(path)
    wanted = module.state_dict()
    fitting = _fitting(path, held, wanted)
    left_out = [key for key in fitting if key not in wanted and _belongs_to_training(key)]
    found = {key: value for key, value in fitting.items() if key not in left_out}
    # Counters that files from before PyTorch 0.4.1 do not have; evaluation never reads them.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in found if key not in wanted]
    shapes = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    if missing or unexpected or shapes:
        raise ExportError(
            f"{path}: does not fit {type(module).__name__}: {_differences(found, wanted, missing, shapes)}"
        )
    module.load_state_dict(found, strict=False)
    if left_out:
        notes += (f"{path}: {len(left_out)} keys of a loss or a metric are left out ({some(left_out)})",)
    return notes


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Names and tensors in a safetensors or PyTorch file of any name, on the CPU.

    Checkpoints that hold the state dict under a usual key are unwrapped.
    Raises `ModelFileError` when the file is missing, damaged, of another kind, or needs code to run.
    """
    return _read(path)[0]


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The state dict, and what was chosen where there are several."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ModelFileError(f"{path}: is a folder, a weights file was expected")
        size = path.stat().st_size
        if size == 0:
            raise ModelFileError(f"{path}: is empty (0 bytes)")
        with path.open("rb") as file:
            head = file.read(9)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such weights file") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    if head.startswith(b"\x89HDF"):
        raise ModelFileError(f"{path}: is an HDF5 file, as Keras writes it: convert the model to ONNX, and give --onnx")
    # safetensors: the length of a JSON object, and the object.
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return _read_safetensors(path), ()
    return _unwrap(path, _read_torch(path))


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    import_torch()
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError("safetensors is not installed: install cfcam[export]") from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: is not a safetensors file, or is damaged ({words(error)})") from error


def _read_torch(path: Path) -> Any:
    torch = import_torch()
    import pickle
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # A wrong magic number is reported with the same class as forbidden content.
        if "Unsupported global" in str(error) or "GLOBAL" in str(error) or "weights_only" in str(error):
            raise ModelFileError(
                f"{path}: cannot be read with weights_only=True, it is no plain state dict, and loading it could run "
                "code: save model.state_dict() alone, best as .safetensors"
            ) from error
        raise _no_weights(path, error) from error
    except Exception as error:  # zip, pickle and storage readers each raise their own kinds
        if "TorchScript" in str(error):
            raise ModelFileError(
                f"{path}: is a TorchScript archive, which holds a program: where you trust it, save "
                "torch.jit.load(FILE).state_dict() with torch.save, and give that"
            ) from error
        raise _no_weights(path, error) from error


def _no_weights(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(f"{path}: is neither a safetensors nor a PyTorch file, or is damaged ({words(error)})")


def _unwrap(path: Path, data: Any) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    held = list(_state_dicts(data))
    if held:
        place, found = held[0]
        others = [other for other, _ in held[1:]]
        notes = (f"{path}: the weights under '{place}' are taken, not those under {some(others)}",) if others else ()
        return dict(found), notes
    what = f"a {type(data).__name__}"
    if isinstance(data, Mapping):
        what = f"a dictionary with the keys {some([str(key) for key in data])}" if data else "an empty dictionary"
    raise ModelFileError(f"{path}: holds {what}, expected a state dict (names and tensors)")


def _state_dicts(data: Any, place: str = "", depth: int = 4) -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    """Where state dicts are in a checkpoint, and what they are; the one to take comes first."""
    torch = import_torch()
    if not isinstance(data, Mapping) or not data or depth == 0:
        return
    if all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in data.items()):
        yield place, data
        return
    for key in _CONTAINERS:
        if key in data:
            yield from _state_dicts(data[key], f"{place}.{key}" if place else key, depth - 1)


def _fitting(
    path: str | os.PathLike[str], found: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """`found` under the names of `wanted`, as far as that can be done; otherwise as it is."""
    if _covers(found, wanted):
        return found
    bare = {_WRAPPERS.sub("", key): key for key in wanted}
    unwrapped: dict[str, torch.Tensor] = {}
    for key, value in found.items():
        unwrapped[_WRAPPERS.sub("", key)] = value
    if len(bare) < len(wanted) or len(unwrapped) < len(found):  # two keys would be one
        return found
    fits: dict[str, dict[str, torch.Tensor]] = {}
    for prefix in _prefixes(unwrapped):
        cut = {key.removeprefix(prefix): value for key, value in unwrapped.items() if key.startswith(prefix)}
        named = {bare.get(key, key): value for key, value in cut.items()}
        if _covers(named, wanted):
            fits[prefix] = named | {key: value for key, value in unwrapped.items() if not key.startswith(prefix)}
    if len(fits) > 1:
        raise ExportError(
            f"{path}: holds several networks that fit, under {some(sorted(fits))}: save the state dict of one alone"
        )
    # What does not fit is best explained with as few prefixes as possible.
    return next(iter(fits.values()), {bare.get(key, key): value for key, value in unwrapped.items()})


def _covers(found: Iterable[str], wanted: Iterable[str]) -> bool:
    held = set(found)
    return all(key in held or key.endswith("num_batches_tracked") for key in wanted)


def _prefixes(keys: Iterable[str]) -> list[str]:
    """Everything that a key may begin with, up to a dot, the shortest first; nothing among them."""
    prefixes = {""}
    for key in keys:
        prefixes.update(key[: dot.end()] for dot in re.finditer(r"\.", key))
    return sorted(prefixes, key=len)


def _belongs_to_training(key: str) -> bool:
    return not _TRAINING.isdisjoint(re.split(r"[._]", key.lower()))


def _differences(
    found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], missing: list[str], shapes: list[str]
) -> str:
    unexpected = [key for key in found if key not in wanted]
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
    return "; ".join(parts) + hint


def _only_classes_differ(
    keys: list[str], found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> bool:
    counts = {found[key].shape[:1] for key in keys}
    return len(counts) == 1 and all(
        found[key].ndim > 0 and found[key].shape[1:] == wanted[key].shape[1:] for key in keys
    )


def import_torch() -> Any:
    """PyTorch. Raises `MissingDependencyError`."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("PyTorch is not installed: exporting needs it, install cfcam[export]") from error
    return torch
