"""Configurations as YAML: by name from those that come with cfcam, or by path; errors name file and key."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...runtime.errors import CfcamError
from ...runtime.json_reader import read_text
from ...runtime.methods import get_method, make_settings
from ...runtime.shown import shown
from .config import BuildConfig
from .problems import nearest, problems_in
from .yaml_reader import parse_yaml

__all__ = ["ConfigError", "config_names", "config_schema", "read_config"]

_SUFFIX = ".yaml"


class ConfigError(CfcamError):
    """A configuration is missing, is no YAML, or says something that does not hold."""


def config_names() -> list[str]:
    """Names of the configurations that come with cfcam."""
    return sorted(file.name.removesuffix(_SUFFIX) for file in _folder().iterdir() if file.name.endswith(_SUFFIX))


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration, for editors and other tools."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **BuildConfig.model_json_schema()}


def read_config(name: str | os.PathLike[str]) -> tuple[str, BuildConfig]:
    """A configuration and its name: one of `config_names`, or the stem of the YAML file at a path.

    What has a folder or a suffix in it is a path. Raises `ConfigError`.
    """
    text = os.fspath(name)
    if Path(text).name == text and not Path(text).suffix:
        if text not in config_names():
            hint = nearest(text, config_names())
            known = ", ".join(config_names())
            raise ConfigError(
                f"configuration '{shown(text)}': unknown{hint}: expected one of {known}, or a path to a .yaml file"
            )
        return text, parse_config((_folder() / f"{text}{_SUFFIX}").read_text("utf-8"), text + _SUFFIX)
    path = Path(text)
    return path.stem, parse_config(read_text(path, ConfigError), str(path))


def parse_config(text: str, where: str) -> BuildConfig:
    """The configuration in `text`. where: the file, for messages. Raises `ConfigError` with all that is wrong."""
    data = parse_yaml(text, where, ConfigError)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected keys and values such as 'backend: onnxruntime'")
    try:
        # As JSON, so that a YAML list may be a tuple while a number in quotes is none.
        config = BuildConfig.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ConfigError(f"{where}: {problems_in(error, BuildConfig)}") from error
    try:
        _ = config.plan, config.engine_options, config.builder_options, config.thresholds  # for what they raise
        if config.method is not None:
            make_settings(get_method(config.method.name), config.method.settings)
    except CfcamError as error:
        raise ConfigError(f"{where}: {error}") from error
    return config


def _folder() -> Any:
    return resources.files("cfcam.configs")
