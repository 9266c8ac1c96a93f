"""What a repository is written from: the file that runs, what it says about itself, and what it can be part of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...runtime.contract.manifest import Manifest
from ...runtime.contract.modelfile import (
    ModelInfo,
    file_sha256,
    has_float16_scales,
    is_plan,
    read_model_info,
    read_spec,
)
from ...runtime.contract.spec import CamSpec
from ...runtime.errors import ModelFileError
from ...runtime.methods import get_method
from ..errors import ExportError
from .config import Backend, Device, Layout, TritonPlan

__all__ = ["Source", "check_fits", "open_source"]


@dataclass(frozen=True)
class Source:
    """An exported file or a product.

    Attributes:
        file: What runs: an ONNX file, or a TensorRT engine.
        graph: The ONNX file with its inputs, outputs and metadata: `file` itself, or what the engine was built from.
        spec: What it says about itself.
        head: Inputs and outputs of `graph`.
        manifest: Of a product; None of a file without one.
    """

    file: Path
    graph: Path
    spec: CamSpec
    head: ModelInfo
    manifest: Manifest | None = None

    @property
    def is_engine(self) -> bool:
        """Whether what runs is a TensorRT engine."""
        return self.graph != self.file

    @property
    def largest_batch(self) -> int | None:
        """Of an engine, the most images that it takes at a time; None where nothing but the plan limits it."""
        if not self.is_engine or self.manifest is None:
            return None
        batch = self.manifest.config.get("batch")
        largest = batch.get("max") if isinstance(batch, dict) else None
        return largest if isinstance(largest, int) and largest > 0 else 1

    @property
    def layout(self) -> Layout:
        """The layout that goes without saying: a fused file needs nothing but a backend that runs it."""
        if self.spec.fused is not None:
            return "plain"
        return "bls" if self.is_engine else "one"

    @property
    def backend(self) -> Backend:
        """The backend of Triton that runs the file, where nothing else is said."""
        return "tensorrt" if self.is_engine else "onnxruntime"

    @property
    def device(self) -> Device:
        """Where the file runs, where nothing else is said."""
        return "gpu" if self.is_engine else "cpu"


def open_source(path: Path, allow_failing: bool = False) -> Source:
    """Read what a file says about itself.

    Args:
        path: Made by ``cfcam export`` or ``cfcam build``.
        allow_failing: Take a product that missed its gate.

    Returns:
        The file with all that is known about it.

    Raises:
        ModelFileError: The file is missing or no exported file, missed its gate, is an engine of TensorRT for RTX, or
            one without the graph that it was built from beside it.
        ManifestError: The manifest does not validate, or describes another file.
    """
    manifest = Manifest.read(path)
    if manifest is not None:
        manifest.check(path, machine=False)
        if manifest.passed is False and not allow_failing:
            if manifest.verdict == "undecided":
                what, remedy = "its gate had too few photos to decide", "build it with more"
            else:
                what, remedy = "missed its gate", "build it again"
            raise ModelFileError(f"{path}: {what}, as its manifest says: {remedy}, or take it with --allow-failing")
    if not is_plan(path):
        return Source(path, path, read_spec(path), read_model_info(path), manifest)
    if manifest is None:
        raise ModelFileError(
            f"{path}: is a TensorRT engine without its manifest, which says what is in it: keep both files together, "
            "or give the .onnx it was built from"
        )
    if manifest.backend.name == "tensorrt_rtx":
        raise ModelFileError(
            f"{path}: is an engine of TensorRT for RTX, and Triton's TensorRT backend loads those of TensorRT alone: "
            "give the .onnx it was built from, or build it with `backend: tensorrt`"
        )
    graph = None if manifest.graph is None else path.with_name(manifest.graph.file)
    if graph is None or manifest.graph is None or not graph.is_file():
        name = "its graph" if manifest.graph is None else manifest.graph.file
        raise ModelFileError(
            f"{path}: {name} is not beside it, which says what goes in and out of the engine: copy it here from the "
            "folder that `cfcam build` wrote"
        )
    if file_sha256(graph) != manifest.graph.sha256:
        raise ModelFileError(f"{graph}: is not the file that {path.name} was built from: take the one from its build")
    return Source(path, graph, manifest.cam_spec, read_model_info(graph), manifest)


def check_fits(source: Source, plan: TritonPlan) -> None:
    """Refuse a layout or a backend that the file cannot have.

    Args:
        source: The file.
        plan: What is to be written.

    Raises:
        ExportError: The layout or the backend.
        ModelFileError: A file that belongs to it is missing.
    """
    path, spec = source.file, source.spec
    method = get_method(spec.method.name)
    _check_backend(source, plan)
    if plan.layout == "plain":
        return
    if spec.columns is not None and plan.layout != "one":
        layouts = "plain" if source.is_engine else "one, or plain"
        raise ExportError(
            f"{path}: explains several classes of an image in one inference: use --layout {layouts} for the file's own "
            "inputs and outputs"
        )
    if spec.fixed_target is not None:
        raise ExportError(
            f"{path}: has a fixed target, and clients of this layout name a class: use --layout plain, or export the "
            "model without --fixed-target"
        )
    if plan.layout == "ensemble" and method.kind != "rule":
        raise ExportError(
            f"{path}: its method '{method.name}' runs the model again, which an ensemble cannot: use --layout bls"
        )
    if method.needs_tail and (spec.tail is None or not path.with_name(spec.tail.file).is_file()):
        raise ModelFileError(
            f"{path}: its method '{method.name}' needs a tail beside it: export it again with "
            "`cfcam export ... --with-tail`"
        )


def _check_backend(source: Source, plan: TritonPlan) -> None:
    path = source.file
    if source.is_engine:
        if plan.layout == "one":
            raise ExportError(f"{path}: is a TensorRT engine, and --layout one runs ONNX Runtime: use --layout bls")
        if plan.backend != "tensorrt":
            raise ExportError(
                f"{path}: is a TensorRT engine, which --backend {plan.backend} does not run: leave it out"
            )
        if plan.device != "gpu":
            raise ExportError(f"{path}: is a TensorRT engine, which runs on GPUs alone: leave --device out")
    elif plan.backend == "tensorrt":
        raise ExportError(
            f"{path}: is an ONNX file, and the TensorRT backend runs engines: build one with `cfcam build` and a "
            "configuration with `backend: tensorrt`, or leave --backend out"
        )
    elif plan.layout != "one" and plan.backend == "onnxruntime":
        _check_quantisers(source, plan)


def _check_quantisers(source: Source, plan: TritonPlan) -> None:
    """Refuse what `session_workarounds` sees to: Triton's backend cannot be told, and would give other classes."""
    remedy = "use --layout one, or --backend python, which see to it"
    if has_float16_scales(source.file):
        raise ExportError(
            f"{source.file}: its quantisers must run unfused, which Triton's ONNX Runtime backend cannot be told: "
            f"{remedy}"
        )
    if source.spec.precision.startswith("int8") and plan.device == "cpu" and not plan.exact_int8:
        raise ExportError(
            f"{source.file}: its INT8 kernels saturate on x86 processors without VNNI, which Triton's ONNX Runtime "
            f"backend cannot be told to go without: {remedy}, or give --exact-int8 if the server's processor has VNNI"
        )
