"""`Manifest`: what is known about a built product, as JSON beside it.

A product is what `cfcam build` hands over: an ONNX file in the precision that was asked for, or an engine
("plan") of TensorRT. An engine says nothing about itself, and runs on nothing but the version and the GPU
that it was built for, so the manifest carries the `CamSpec`, and loading compares the rest.

Rules of the format: as those of `CamSpec` (a newer major schema is refused, a newer minor one is read, unknown
keys are kept). Hashes are SHA-256 of a file's bytes, in hexadecimal; external data of an ONNX file is not
included.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..checks import check_path
from ..errors import CfcamError, EngineError, ManifestError
from ..files import write_bytes
from ..json_reader import read_json
from .modelfile import file_sha256
from .records import Format, dump
from .spec import CamSpec

if TYPE_CHECKING:
    from ..engines.options import EngineOptions
    from ..engines.tensorrt.cuda import Gpu

__all__ = [
    "SCHEMA",
    "SUFFIX",
    "BackendRecord",
    "CalibrationRecord",
    "FileRecord",
    "Manifest",
    "Outcome",
    "ProductRecord",
    "Target",
]

#: Schema that this version writes.
SCHEMA = "1.1"

#: What the name of a product's manifest ends in, after the product's whole name.
SUFFIX = ".manifest.json"

#: What the gate can say.
Outcome = Literal["passed", "failed", "undecided"]

_FORMAT = Format("manifest", ManifestError, SCHEMA, "upgrade cfcam, or build it again with this version")


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file that went into a product. file: its name without folder. sha256: of its bytes."""

    file: str
    sha256: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> FileRecord:
        """Of the file at `path`, which is read once. Raises `ModelFileError`."""
        return cls(file=Path(path).name, sha256=file_sha256(path))


@dataclass(frozen=True, kw_only=True)
class ProductRecord(FileRecord):
    """The product itself. bytes: its size."""

    bytes: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> ProductRecord:
        """Of the file at `path`, which is read once. Raises `ModelFileError`."""
        return cls(file=Path(path).name, sha256=file_sha256(path), bytes=os.path.getsize(path))


@dataclass(frozen=True, kw_only=True)
class BackendRecord:
    """What runs the product. version: of that library. provider: ONNX Runtime's, by its short name."""

    name: Literal["onnxruntime", "tensorrt", "tensorrt_rtx"]
    version: str
    provider: str | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """The GPU that an engine was built for. compute_capability: as "8.6". gpu: its name, where it runs on no other."""

    compute_capability: str | None = None
    gpu: str | None = None

    @classmethod
    def of(cls, gpu: Gpu, hardware_compatibility: str = "none") -> Target | None:
        """Of what is built on `gpu`, as `BuilderOptions` ask for; None for all GPUs from 8.0 on."""
        if hardware_compatibility == "ampere_plus":
            return None
        return cls(
            compute_capability=gpu.compute_capability, gpu=gpu.name if hardware_compatibility == "none" else None
        )


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """The images that an INT8 product was calibrated with. sha256: of the set. count: how many."""

    sha256: str
    count: int
    calibrator: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that is known about a built product.

    Attributes:
        schema: ``MAJOR.MINOR`` of the format.
        product: The file that the manifest lies beside.
        source: The explained file that it was made of.
        graph: The ONNX file that an engine was built from.
        backend: What runs it.
        target: The GPU that an engine was built for.
        precision: As in `CamSpec`.
        config: The configuration as it was read.
        engine: `EngineOptions` to open it with, as JSON.
        spec: The `CamSpec`, as JSON.
        calibration: The images that INT8 was calibrated with.
        gate: What the gate said, with ``passed`` and ``verdict``; None where it was not asked.
        form: Whether a detail layer guides the maps of the product's method, which one, and their contrast; None for
            methods that have but one form, and in manifests before schema 1.1.
        tools: Versions of what made it, by name.
        created: ISO 8601, UTC.

    >>> manifest = Manifest.read("dogs.engine")                         # doctest: +SKIP
    >>> manifest.backend.name, manifest.target.compute_capability       # doctest: +SKIP
    ('tensorrt_rtx', '8.6')
    """

    schema: str = SCHEMA
    product: ProductRecord
    source: FileRecord
    graph: FileRecord | None = None
    backend: BackendRecord
    target: Target | None = None
    precision: str
    config: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any]
    calibration: CalibrationRecord | None = None
    gate: dict[str, Any] | None = None
    form: dict[str, Any] | None = None
    tools: dict[str, str] = field(default_factory=dict)
    created: str

    def __post_init__(self) -> None:
        _FORMAT.check_schema(self.schema)
        _FORMAT.check_types(self)
        if not isinstance(self.config.get("builder", {}), dict):
            raise ManifestError("manifest config.builder: expected an object")
        if self.gate is None:
            return
        if not isinstance(self.gate.get("passed"), bool):
            raise ManifestError("manifest gate.passed: expected true or false")
        if self.verdict not in get_args(Outcome):
            raise ManifestError(f"manifest gate.verdict: expected one of {', '.join(get_args(Outcome))}")
        if (self.verdict == "passed") != self.gate["passed"]:
            raise ManifestError("manifest gate: passed and verdict contradict each other")

    @staticmethod
    def place(product: str | os.PathLike[str]) -> Path:
        """Where a product's manifest lies.

        Args:
            product: Path of the product.

        Returns:
            Path of the manifest, whether it exists or not.
        """
        path = check_path("Manifest", product, ManifestError, "product")
        return path.with_name(path.name + SUFFIX)

    @property
    def is_engine(self) -> bool:
        """True for a TensorRT engine, False for an ONNX file."""
        return self.backend.name != "onnxruntime"

    @property
    def is_version_compatible(self) -> bool:
        """True for an engine that was built to run in later versions of TensorRT too."""
        return bool(self.config.get("builder", {}).get("version_compatible"))

    @property
    def passed(self) -> bool | None:
        """Whether the gate was passed, False also where it is undecided; None where it was not asked."""
        return None if self.gate is None else self.gate["passed"]

    @property
    def verdict(self) -> Outcome | None:
        """What the gate said, in one of three words; None where it was not asked.

        ``undecided``: the photos were too few to show that the limits are kept, or that one is missed. Manifests that
        were written before have ``passed`` alone, and so have their readers: to them, undecided is not passed.
        """
        if self.gate is None:
            return None
        return self.gate.get("verdict", "passed" if self.gate["passed"] else "failed")

    @property
    def cam_spec(self) -> CamSpec:
        """The product's `CamSpec`. Raises `SpecError`."""
        return CamSpec.from_dict(self.spec)

    @property
    def engine_options(self) -> EngineOptions:
        """What to open the product with. Raises `EngineError`."""
        from ..engines.options import EngineOptions

        return EngineOptions.from_dict(self.engine)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dump(self)

    @classmethod
    def from_dict(cls, data: Any) -> Manifest:
        """Read what `to_dict` wrote.

        Args:
            data: Plain JSON values.

        Returns:
            The manifest, validated, its `CamSpec` and engine options too.

        Raises:
            ManifestError: A key is missing or wrong, which the message names, or the schema is too new.
        """
        if not isinstance(data, dict):
            raise ManifestError(f"manifest: expected a JSON object, got {type(data).__name__}")
        _FORMAT.check_schema(data.get("schema"))
        manifest: Manifest = _FORMAT.load(cls, data)
        try:
            _ = manifest.cam_spec, manifest.engine_options
        except CfcamError as error:
            raise ManifestError(f"manifest: {error}") from error
        return manifest

    def write(self, product: str | os.PathLike[str]) -> Path:
        """Write the manifest beside its product, in one step.

        Args:
            product: Path of the product.

        Returns:
            Path of the manifest.

        Raises:
            OutputError: It cannot be written.
        """
        path = self.place(product)
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=2)
        write_bytes(path, (text + "\n").encode())
        return path

    @classmethod
    def read(cls, product: str | os.PathLike[str]) -> Manifest | None:
        """Read the manifest beside a product.

        Args:
            product: Path of the product.

        Returns:
            The manifest, or None where there is none.

        Raises:
            ManifestError: It cannot be read or does not validate.
        """
        path = cls.place(product)
        if not os.path.lexists(path):
            return None
        data = read_json(path, ManifestError, remedy=": copy it again, or build it again")
        try:
            return cls.from_dict(data)
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from error

    def check(self, product: str | os.PathLike[str], *, machine: bool = True, gpu: Gpu | None = None) -> None:
        """Refuse a product that is not what was built, or that cannot run here; a failed gate is no reason.

        Args:
            product: Path of the product.
            machine: Also compare TensorRT's version and the GPU of this machine, which engines need.
            gpu: What to compare with, instead of the machine's first GPU.

        Raises:
            ManifestError: The file, TensorRT's version or the GPU is another one.
            MissingDependencyError: The product is an engine, and TensorRT is not installed.
            EngineError: The product is an engine, and no GPU can be used.
        """
        self._check_file(Path(product))
        if machine and self.is_engine:
            self._check_version(Path(product))
            self._check_gpu(Path(product), gpu)

    def _check_file(self, path: Path) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ManifestError(f"{path}: is missing beside its manifest ({error.strerror})") from error
        # A truncated copy is known without reading 100 MB.
        found = f"{size} bytes" if size != self.product.bytes else None
        if found is None and file_sha256(path) != self.product.sha256:
            found = "another SHA-256"
        if found is not None:
            raise ManifestError(
                f"{path}: is not the file that {self.place(path).name} describes ({found}): copy both again, "
                "or build it again with `cfcam build`"
            )

    def _check_version(self, path: Path) -> None:
        from ..engines.tensorrt.packages import load_package

        here, built = load_package(self.backend.name).module.__version__, self.backend.version
        later = self.is_version_compatible
        if here != built and not (later and _numbers(here) >= _numbers(built)):
            raise ManifestError(
                f"{path}: was built with {self.backend.name} {built} and runs with no "
                f"{'earlier' if later else 'other'} version, but this machine has {here}: build it again here, "
                "or install that version"
            )

    def _check_gpu(self, path: Path, gpu: Gpu | None) -> None:
        if self.target is None or (self.target.compute_capability is None and self.target.gpu is None):
            return
        if gpu is None:
            from ..engines.tensorrt.cuda import find_gpu

            try:
                gpu = find_gpu(self.engine_options.device_id)
            except EngineError as error:
                raise EngineError(f"{path}: {error}") from error
        wanted, found = self.target.compute_capability, gpu.compute_capability
        if wanted not in (None, found):
            raise ManifestError(
                f"{path}: was built for compute capability {wanted}, but the GPU here ({gpu.name}) has {found}: "
                "build it again for that"
            )
        if self.target.gpu not in (None, gpu.name):
            raise ManifestError(
                f"{path}: was built for '{self.target.gpu}', but the GPU here is '{gpu.name}': build it again here"
            )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
