"""KServe's V1: documents and photos to questions, explanations to documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ..explanation import Explanation
from . import v2
from .limits import Refusal
from .models import Question
from .page import map_on_photo

__all__ = ["Instances", "asked", "asked_of_photo", "entry"]


class Photo(v2.Part):
    """A photo's file."""

    b64: str = Field(json_schema_extra={"contentEncoding": "base64"})


class Instance(v2.Part):
    """An image, and the class that is asked for."""

    image: Photo
    target: int | str | None = None


class V1Parameters(v2.Part):
    """What holds for all images of a request."""

    target: int | str | None = None
    method: str | None = None
    map: bool = False


class Instances(v2.Part):
    """The body of a prediction or explanation."""

    instances: list[Instance] = Field(min_length=1, max_length=32)
    parameters: V1Parameters = V1Parameters()


def asked(body: bytes) -> tuple[list[Question], bool]:
    """What a document asks, and whether it wants maps. Raises `Refusal`."""
    document = v2.parsed(Instances, body)
    default = document.parameters.target
    found = [
        Question(
            v2.from_base64(one.image.b64),
            default if one.target is None else one.target,
            document.parameters.method,
        )
        for one in document.instances
    ]
    return found, document.parameters.map


def asked_of_photo(body: bytes, query: Mapping[str, str]) -> tuple[list[Question], bool]:
    """The same of a raw photo, with the parameters of its address. Raises `Refusal`."""
    with_map = query.get("map", "false")
    if with_map not in ("true", "false"):
        raise Refusal(400, "map: expected true or false")
    return [Question(body, query.get("target"), query.get("method"))], with_map == "true"


def entry(explanation: Explanation, kind: str, with_map: bool) -> dict[str, Any]:
    """What is answered for one image. kind: ``predictions`` or ``explanations``."""
    said = explanation.to_dict()
    said["label"] = v2.encodable(explanation.label)
    top = [{"class": i, "label": v2.encodable(label), "probability": p} for i, label, p in explanation.top]
    names = ("label", "probability", "value", "unit")
    if kind == "explanations":
        names = (*names, "peak", "empty", "reason", "notes")
    found = {"class": explanation.target, **{name: said[name] for name in names if name in said}, "top": top}
    if with_map and kind == "explanations":
        found["map"] = map_on_photo(explanation)
    return found
