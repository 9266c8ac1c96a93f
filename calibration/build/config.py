"""What a configuration of ``cfcam build`` says, checked by pydantic.

The sections `quantisation`, `engine` and `gate.thresholds` are those of `Plan`, `EngineOptions` and `Thresholds`, from
which their keys, types and defaults are taken: a setting exists in one place.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from ...export.precision import Plan
from ...runtime.engines.options import EngineOptions
from ...runtime.engines.tensorrt.options import BuilderOptions
from ..verify.thresholds import Thresholds

__all__ = ["TENSORRT", "BuildConfig"]

_LARGEST_BATCH = 4096
_MOST_PHOTOS = 10**7

#: Backends whose product is a built engine.
TENSORRT = ("tensorrt", "tensorrt_rtx")


class _Section(BaseModel):
    # strict: `true` is no number, and "8" is none either.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _section_of(kind: Any, *left_out: str) -> type[_Section]:
    """A section with the keys, types and defaults of the dataclass `kind`, but for those that are `left_out`."""
    hints = typing.get_type_hints(kind)
    settings: dict[str, Any] = {}
    for one in dataclasses.fields(kind):
        if one.name not in left_out:
            made = one.default_factory is not dataclasses.MISSING
            settings[one.name] = (hints[one.name], one.default_factory() if made else one.default)  # type: ignore[misc]
    return create_model(kind.__name__, __base__=_Section, **settings)


_Quantisation = _section_of(Plan, "precision")
_Engine = _section_of(EngineOptions)
_Thresholds = _section_of(Thresholds)


def _as_text(value: Any) -> Any:
    """YAML reads 8.7 as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


ComputeCapability = Annotated[
    str, BeforeValidator(_as_text, json_schema_input_type=str | float), Field(pattern=r"^\d+\.\d$", examples=["8.7"])
]


class Batch(_Section):
    """Images per inference: an engine takes `min` to `max`, and is built to be fastest at `opt`.

    Height and width are those of the file. A file whose batch is fixed keeps its own.
    """

    min: int = Field(default=1, ge=1, le=_LARGEST_BATCH)
    opt: int = Field(default=1, ge=1, le=_LARGEST_BATCH)
    max: int = Field(default=1, ge=1, le=_LARGEST_BATCH)

    @model_validator(mode="after")
    def _in_order(self) -> Batch:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"expected min <= opt <= max, got {self.min}, {self.opt}, {self.max}")
        return self

    @property
    def sizes(self) -> tuple[int, int, int]:
        return (self.min, self.opt, self.max)


class Builder(_section_of(BuilderOptions)):
    """TensorRT's builder: `BuilderOptions`, and what it builds for.

    compute_capability: of the GPUs that run the engine; one is built for each. None named: this machine's GPU.
    """

    compute_capability: tuple[ComputeCapability, ...] = ()
    optimization_level: int = Field(default=3, ge=0, le=5)
    workspace_mb: int | None = Field(default=None, ge=1, le=2**20)


class Method(_Section):
    """The method that the product asks for, in place of the file's own."""

    name: str
    settings: dict[str, Any] = {}


#: Means of channels are known from few photos: each has thousands of places.
_FOR_MEANS = 16


class Budgets(_Section):
    """What the target may take: `cfcam bench` measures it there.

    p99_ms: 99 of 100 explanations, photo to map, one at a time. memory_mb: of the process, MiB.
    """

    p99_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    memory_mb: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Calibration(_Section):
    """Photos from which the ranges of INT8 are learnt, and channels' means, which tell how float16 is to round.

    images: how many; means take 16 of them at most. seed: of their choice.
    """

    images: int = Field(default=256, ge=1, le=_MOST_PHOTOS)
    seed: int = Field(default=0, ge=0, lt=2**32)


class Gate(_Section):
    """The comparison with float32.

    images: photos at most; fewer where the verdict is known before. thresholds: what differs from the precision's own.
    """

    images: int = Field(default=400, ge=1, le=_MOST_PHOTOS)
    thresholds: _Thresholds = Field(default_factory=_Thresholds)  # type: ignore[valid-type]


class BuildConfig(_Section):
    """One target: what runs there, in which arithmetic, and what is good enough."""

    description: str = ""
    backend: Literal["onnxruntime", "tensorrt", "tensorrt_rtx", "onnx"]
    precision: Literal["float32", "float16", "int8"] = "float32"
    quantisation: _Quantisation = Field(default_factory=_Quantisation)  # type: ignore[valid-type]
    batch: Batch = Field(default_factory=Batch)
    builder: Builder = Field(default_factory=Builder)
    engine: _Engine = Field(default_factory=_Engine)  # type: ignore[valid-type]
    method: Method | None = None
    budgets: Budgets = Field(default_factory=Budgets)
    calibration: Calibration = Field(default_factory=Calibration)
    gate: Gate = Field(default_factory=Gate)

    @model_validator(mode="after")
    def _fits_together(self) -> BuildConfig:
        if "quantisation" in self.model_fields_set and self.precision != "int8":
            raise ValueError(f"quantisation: only with precision int8, but precision is {self.precision}")
        if "calibration" in self.model_fields_set and self.precision == "float32":
            raise ValueError("calibration: only with precision int8 and float16, but precision is float32")
        if "builder" in self.model_fields_set and not self.builds_engines:
            raise ValueError(f"builder: only with the backends {' and '.join(TENSORRT)}, but backend is {self.backend}")
        if self.builds_engines and self.precision == "int8" and not self.plan.symmetric:
            raise ValueError(f"quantisation.symmetric: {self.backend} takes no zero point but 0: say true")
        if self.builder.dla:  # type: ignore[attr-defined]
            self._check_dla()
        return self

    def _check_dla(self) -> None:
        wanted = {
            "precision: float16, in which it computes": self.precision == "float16",
            "a batch whose min, opt and max are equal": len(set(self.batch.sizes)) == 1,
            "builder.compute_capability: [8.7] (AGX Orin and Orin NX)": self.builder.compute_capability == ("8.7",),
            "engine.cuda_graph: false, which no DLA takes": not self.engine.cuda_graph,  # type: ignore[attr-defined]
        }
        missing = [words for words, there in wanted.items() if not there]
        if self.backend == "tensorrt" and missing:
            raise ValueError(f"builder.dla: needs {'; '.join(missing)}")

    def calibrating_photos(self, given: int) -> int:
        """How many of so many photos the precision pass is to have; those for means are not worth a weak gate."""
        if self.precision == "float16":
            return min(self.calibration.images, _FOR_MEANS, given // 4) if given >= _FOR_MEANS else 0
        return self.calibration.images if self.precision == "int8" else 0

    @property
    def builds_engines(self) -> bool:
        return self.backend in TENSORRT

    @property
    def plan(self) -> Plan:
        """What the precision pass is asked for. Raises `ExportError`."""
        return Plan(precision=self.precision, **self.quantisation.model_dump())  # type: ignore[attr-defined]

    @property
    def engine_options(self) -> EngineOptions:
        """Raises `EngineError`."""
        return EngineOptions(**self.engine.model_dump())  # type: ignore[attr-defined]

    @property
    def builder_options(self) -> BuilderOptions:
        """Raises `EngineError`, also for what the backend does not have."""
        options = BuilderOptions(**self.builder.model_dump(exclude={"compute_capability"}))
        options.check(self.backend)
        return options

    @property
    def thresholds(self) -> Thresholds:
        """The precision's own, but for those that are named. Raises `CfcamError`."""
        named = self.gate.thresholds.model_dump(exclude_unset=True)  # type: ignore[attr-defined]
        return Thresholds.from_mapping(named, self.precision)
