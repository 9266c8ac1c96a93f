"""``--model transformers:CLASS --weights DIR``: image classifiers in the format of Hugging Face.

Only a local folder is read: ``config.json``, ``model.safetensors`` and
``preprocessor_config.json``. Nothing is looked up on the hub, no code that comes with a model
is run, no pickle is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...runtime.errors import MissingDependencyError, ModelFileError
from ..errors import ExportError
from ..wording import first_line, some, words
from .image_processor import ReadProcessor, read_processor
from .loaded import Loaded

__all__ = ["load_pretrained"]

# What stands for every class when nobody named them.
_PLACEHOLDER = re.compile(r"LABEL_\d+")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def load_pretrained(
    name: str,
    folder: str | os.PathLike[str],
    settings: Mapping[str, Any] | None = None,
    *,
    processor: bool = True,
) -> Loaded:
    """The classifier saved in `folder` by ``save_pretrained``, with its preprocessing and labels.

    name: ``transformers:CLASS``, an auto class or the model's own. settings: changes to the
    model's config. processor: False leaves the image processor's settings unread.

    Raises `ExportError` (no such class, no image classifier, weights that don't fit),
    `ModelFileError` (the folder lacks something), `MissingDependencyError` (no transformers).
    """
    folder = Path(folder)
    _check_folder(folder)
    transformers = _import_transformers()
    factory = _model_class(transformers, name)
    with _quiet(transformers):
        config = _config(transformers, folder, settings or {})
        model = _model(factory, name, folder, config)
        read = _processor(transformers, folder, config) if processor else None
    notes = read.notes if read else ()
    if processor and read is None:
        notes = (f"{folder} has no preprocessor_config.json: check the preprocessing options",)
    return Loaded(
        module=model.float().eval(),
        preprocessing=read.preprocessing if read else None,
        size=read.size if read else _config_size(config),
        labels=_labels(config),
        multi_label=getattr(config, "problem_type", None) == "multi_label_classification",
        notes=notes,
    )


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise ModelFileError(f"{folder}: is a file; a folder with config.json beside the weights was expected")
    if not folder.is_dir():
        on_hub = _HUB_NAME.fullmatch(str(folder))
        hint = f". Models are read from disk only; the hub's: hf download {folder} --local-dir DIR" if on_hub else ""
        raise ModelFileError(f"{folder}: no such folder{hint}")
    if not (folder / "config.json").is_file():
        raise ModelFileError(f"{folder}: has no config.json, it is not a folder that save_pretrained wrote")
    if (folder / "adapter_config.json").is_file():
        raise ModelFileError(f"{folder}: holds an adapter: merge it into its base model and save that")
    if not any(folder.glob("*.safetensors")):
        pickles = [file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.h5") for file in sorted(folder.glob(pattern))]
        if pickles:
            raise ModelFileError(
                f"{folder}: has its weights in {pickles[0]} only, which is not opened because it can run code. "
                "Where you trust it, convert it once in Python: "
                "transformers.AutoModelForImageClassification.from_pretrained(DIR).save_pretrained(DIR)"
            )
        raise ModelFileError(f"{folder}: has no weights, model.safetensors was expected")


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("transformers is not installed: install cfcam[hf]") from error
    return transformers


def _model_class(transformers: Any, name: str) -> Any:
    attribute = name.partition(":")[2]
    try:
        factory = getattr(transformers, attribute, None)
    except (ImportError, RuntimeError) as error:  # its classes are imported on first use
        raise ExportError(f"model '{name}': importing it failed: {words(error.__cause__ or error)}") from error
    if not hasattr(factory, "from_pretrained"):
        raise ExportError(
            f"model '{name}': transformers has no model class '{attribute}'; AutoModelForImageClassification takes "
            "every image classifier"
        )
    return factory


def _config(transformers: Any, folder: Path, settings: Mapping[str, Any]) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # JSON, missing keys, unknown types, remote code: each its own class
        raise ExportError(f"{folder / 'config.json'}: cannot be used: {first_line(error)}") from error
    unknown = [key for key in settings if not hasattr(config, key)]
    if unknown:
        raise ExportError(f"--kwargs: a {config.model_type} config has no {some(unknown)}")
    for key, value in settings.items():
        setattr(config, key, value)
    return config


def _model(factory: Any, name: str, folder: Path, config: Any) -> Any:
    try:
        model, report = factory.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            # Softmax and two products, which every engine takes, instead of a fused operator.
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:
        if "Unrecognized configuration class" in str(error):
            raise ExportError(
                f"{folder}: holds a '{config.model_type}' model, which is no {name}: cfcam explains image classifiers"
            ) from error
        raise ExportError(f"{folder}: cannot be loaded as {name}: {first_line(error)}") from error
    if getattr(model, "main_input_name", None) != "pixel_values":
        raise ExportError(
            f"{folder}: {type(model).__name__} takes '{getattr(model, 'main_input_name', '?')}', not an image: cfcam "
            "explains image classifiers"
        )
    problems = [
        f"{len(keys)} {what} ({some(sorted(map(str, keys)))})"
        for what, key in (
            ("weights missing", "missing_keys"),
            ("of another shape", "mismatched_keys"),
            ("that cannot be read", "error_msgs"),
        )
        if (keys := report.get(key))
    ]
    if problems:
        raise ExportError(
            f"{folder}: its weights do not fill {type(model).__name__}: {'; '.join(problems)}: left as they are these "
            "would be random numbers. Was the classifier trained?"
        )
    return model


def _processor(transformers: Any, folder: Path, config: Any) -> ReadProcessor | None:
    timm = getattr(config, "model_type", None) == "timm_wrapper"  # its processor is in config.json
    if not timm and not (folder / "preprocessor_config.json").is_file():
        return None
    try:
        # The slow processors are the ones that resize with Pillow, as our runtime does.
        processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **_pillow_backend(transformers)
        )
    except Exception as error:
        raise ExportError(
            f"{folder / 'preprocessor_config.json'}: cannot be used: {first_line(error)}; with --preset the file is "
            "not read"
        ) from error
    return read_processor(processor, _config_size(config))


def _pillow_backend(transformers: Any) -> dict[str, Any]:
    old = int(transformers.__version__.partition(".")[0]) < 5
    return {"use_fast": False} if old else {"backend": "pil"}


def _config_size(config: Any) -> tuple[int, int] | None:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    return None


def _labels(config: Any) -> tuple[str, ...] | None:
    """The names in id2label by index; None when they are placeholders or have gaps."""
    found = {int(index): str(label) for index, label in (getattr(config, "id2label", None) or {}).items()}
    labels = tuple(found[index] for index in sorted(found))
    if sorted(found) != list(range(len(found))) or all(_PLACEHOLDER.fullmatch(label) for label in labels):
        return None
    return labels


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bars, and no advice about training; what matters is in our own errors."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
