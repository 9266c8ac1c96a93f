"""The one family of errors that a user of cfcam meets.

Every message is a single line that names what was found (file, node, shape), what was
expected and what to do next. Names in it are shown cleaned, whatever they hold. The command
line prints that line and nothing else, unless ``--debug`` was given.
"""

from __future__ import annotations

from .shown import shown_message

__all__ = [
    "ArrayError",
    "CfcamError",
    "EngineError",
    "ImageError",
    "ManifestError",
    "MethodError",
    "MissingDependencyError",
    "ModelFileError",
    "OutputError",
    "PhotoWarning",
    "SpecError",
    "TargetError",
    "one_line",
]


class CfcamError(Exception):
    """Base of every error that cfcam raises on purpose. Its message is cleaned as `shown_message` does it."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(shown_message(part) if isinstance(part, str) else part for part in args))


class MissingDependencyError(CfcamError):
    """An optional package is needed and absent; the message names the extra to install."""


class ModelFileError(CfcamError):
    """A model file is missing, truncated, not ONNX, or was not made by ``cfcam export``."""


class SpecError(CfcamError):
    """A `CamSpec` does not validate, or was written by a newer major version."""


class ManifestError(CfcamError):
    """A product's manifest does not validate, or the product is not what it describes or cannot run here."""


class ImageError(CfcamError):
    """An image cannot be opened, decoded or used."""


class ArrayError(CfcamError, ValueError):
    """An array has the wrong shape or dtype, or holds NaN or infinity; or another argument is of the wrong kind."""


class TargetError(CfcamError, ValueError):
    """A target class is out of range or its label is unknown."""


class MethodError(CfcamError, ValueError):
    """An unknown method, or settings that it does not take."""


class EngineError(CfcamError):
    """An inference engine cannot be opened or run, or is not the one that was asked for."""


class OutputError(CfcamError):
    """A result cannot be written where it was asked to go."""


class PhotoWarning(UserWarning):
    """A photo was taken in a way that may not be what was meant; the message names the option that settles it."""


def one_line(error: BaseException) -> str:
    """What somebody else's error says, as one line; its kind where it says nothing."""
    return shown_message(str(error)) or type(error).__name__
