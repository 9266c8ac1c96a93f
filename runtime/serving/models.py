"""The files that a server answers with, by name."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..contract.modelfile import file_sha256
from ..errors import EngineError, ManifestError, MethodError, ModelFileError, TargetError
from ..explainer import Explainer
from ..explanation import Explanation
from ..methods.registry import get_method, method_names
from ..photos.drafting import draft
from ..photos.images import opened_file
from ..photos.preprocess import check_tensor
from ..targets import check_fixed_target, resolve_target
from .limits import Refusal
from .watching import Watch, watches

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Decode", "Question", "ServedModel", "built_in_photo", "named", "open_models", "rules"]

#: How photos are decoded.
Decode = Literal["exact", "fast"]

_ONE_CLASS = "target: this model explains one class alone, and not this one: leave the target out"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of one image. image: the bytes of a photo's file, or a ready tensor. target: as in `explain`."""

    image: bytes | NDArray[np.generic]
    target: int | str | None = None
    method: str | None = None


class ServedModel:
    """One open file.

    Args:
        name: What requests call it.
        explainer: The open file.
        max_pixels: Of all photos of a request; None for the limit of `open_image` for each.
        decode: ``fast`` reads large JPEGs at a part of their size, as `draft` does it.
        watch: What holds its explanations against a profile.

    Raises:
        CfcamError: It cannot explain the built-in photo, or is not what the profile is of.
    """

    def __init__(
        self,
        name: str,
        explainer: Explainer,
        max_pixels: int | None = None,
        *,
        decode: Decode = "exact",
        watch: Watch | None = None,
    ) -> None:
        if watch is not None:
            watch.check(explainer.spec)
        self.name, self.explainer, self.watch = name, explainer, watch
        self._max_pixels, self._decode = max_pixels, decode
        manifest = explainer.manifest
        self.gate = "none" if manifest is None else manifest.verdict or "none"
        #: Whether it gives logits, which the built-in photo shows; it also proves that the file explains.
        self.has_logits = explainer.explain(built_in_photo()).logits is not None

    def answers(self, questions: Sequence[Question]) -> list[Explanation]:
        """Explain the images of one request.

        Args:
            questions: All of them; their photos together have at most `max_pixels` pixels.

        Returns:
            An explanation per question.

        Raises:
            Refusal: 413, the photos have too many pixels; 400, the method or class is not served; 422, the model
                overflows. Its message holds nothing of the request.
            EngineError: The model cannot be run, whatever it is given.
            CfcamError: As `Explainer.explain`.
        """
        left = self._max_pixels
        for question in questions:
            self._check(question)
            if isinstance(question.image, bytes) and left is not None:
                with opened_file(io.BytesIO(question.image), self._max_pixels) as photo:
                    left -= photo.width * photo.height
        if left is not None and left < 0:
            raise Refusal(413, f"the photos of a request may have {self._max_pixels} pixels together: send fewer")
        try:
            return [self._answer(question) for question in questions]
        except TargetError:  # classes exist: it is not the top one of a file that explains that alone
            raise Refusal(400, _ONE_CLASS) from None
        except EngineError:
            self.check_ready()  # raises where the fault is the server's
            raise Refusal(422, "the model cannot compute with these values: its numbers overflow") from None

    def _check(self, question: Question) -> None:
        if question.method is not None:
            try:
                kind = get_method(question.method).kind
            except MethodError:
                raise Refusal(400, f"there is no such method: expected one of {', '.join(rules())}") from None
            if kind == "probe":
                raise Refusal(400, "methods that run the model again and again are not served: use `cfcam explain`")
        try:
            asked = resolve_target(question.target, self.explainer.spec.output)
        except TargetError:
            most = self.explainer.spec.output.classes - 1
            raise Refusal(400, f"target: there is no such class: expected 0 to {most}, or a label as it is") from None
        try:
            check_fixed_target(self.explainer.spec, np.array([asked]))
        except TargetError:
            raise Refusal(400, _ONE_CLASS) from None

    def _answer(self, question: Question) -> Explanation:
        if isinstance(question.image, bytes):
            with opened_file(io.BytesIO(question.image), self._max_pixels) as photo:
                if self._decode == "fast":
                    draft(photo, self.explainer.spec.input)
                return self.explainer.explain(photo, question.target, question.method)
        wanted, tensor = self.explainer.spec.input, np.asarray(question.image)
        shape = tuple(wanted.shape(1)[1:])
        if tensor.shape != shape or tensor.dtype != wanted.dtype:
            dimensions = ", ".join(map(str, shape))
            raise Refusal(400, f"input 'tensor': expected the shape [N, {dimensions}] and {wanted.dtype}")
        return self.explainer.explain(check_tensor(tensor, wanted), question.target, question.method)

    def check_ready(self) -> None:
        """Explain the built-in photo. Raises `CfcamError` where the model cannot be run any more."""
        self.explainer.explain(built_in_photo())


def built_in_photo() -> Image.Image:
    """An RGB photo of 64 x 64 pixels: a bright disc before a ramp of colours."""
    from PIL import Image

    y, x = np.mgrid[:64, :64]
    values = np.stack([4 * x, 4 * y, np.full_like(x, 96)], axis=-1)
    values[(x - 24) ** 2 + (y - 36) ** 2 < 200] = 240
    return Image.fromarray(values.astype(np.uint8))


def rules() -> list[str]:
    """Names of the methods that are served."""
    return [name for name in method_names() if get_method(name).kind != "probe"]


def named(text: str) -> tuple[str, str]:
    """(name, path) of ``NAME=FILE``, or of a file, which is then called like it. Raises `ModelFileError`."""
    name, sign, path = text.partition("=")
    if not sign or not _NAME.fullmatch(name):
        name, path = Path(text).name.removesuffix(".onnx").removesuffix(".cam"), text
    if not _NAME.fullmatch(name):
        raise ModelFileError(f"{path}: no model can be called '{name}': give it a name, as in model={path}")
    return name, path


def open_models(
    files: Sequence[str],
    *,
    provider: str | None = None,
    threads: int = 1,
    max_pixels: int | None = None,
    allow_failing: bool = False,
    decode: Decode = "exact",
    profiles: Sequence[str] = (),
) -> dict[str, ServedModel]:
    """Open files, and explain an image with each.

    Args:
        files: Each as `named` takes it.
        provider: As in `Explainer`.
        threads: For the operators on the CPU.
        max_pixels: As in `Explainer`.
        allow_failing: Also products whose gate failed.
        decode: As in `ServedModel`.
        profiles: Paths of reference profiles, each of one of the files.

    Returns:
        The open models by name.

    Raises:
        ModelFileError: Two of one name, or what `Explainer` raises.
        ManifestError: A product whose gate failed.
        ProfileError: A profile cannot be read, or is not of one of the files.
    """
    paths: dict[str, str] = {}
    for text in files:
        name, path = named(text)
        if name in paths:
            raise ModelFileError(f"{path}: another model is called '{name}': give it a name, as in other={path}")
        paths[name] = path
    watched = watches(profiles, {name: file_sha256(path) for name, path in paths.items()}) if profiles else {}
    models: dict[str, ServedModel] = {}
    for name, path in paths.items():
        explainer = Explainer(path, provider=provider, threads=threads, max_pixels=max_pixels)
        if explainer.manifest is not None and explainer.manifest.verdict == "failed" and not allow_failing:
            explainer.close()
            raise ManifestError(
                f"{path}: its gate found the explanations too far from the reference: build it again, or serve it with "
                "--allow-failing"
            )
        models[name] = ServedModel(name, explainer, max_pixels, decode=decode, watch=watched.get(name))
    return models
