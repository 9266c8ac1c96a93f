"""``config.pbtxt``: what Triton must know of each model of a repository, as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...runtime.contract.modelfile import ModelInfo, ValueInfo
from ...runtime.contract.spec import CamSpec
from ..errors import ExportError

__all__ = ["LABELS", "Backend", "Device", "Layout", "TritonPlan", "config_texts", "fixed_batch", "labels_text"]

Layout = Literal["plain", "one", "ensemble", "bls"]
Device = Literal["cpu", "gpu"]
Backend = Literal["onnxruntime", "tensorrt", "python"]

#: The file beside a configuration that names the classes, for Triton's classification extension.
LABELS = "labels.txt"

_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "float64": "TYPE_FP64",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "bool": "TYPE_BOOL",
    "string": "TYPE_STRING",
}


@dataclass(frozen=True, kw_only=True)
class TritonPlan:
    """What is written.

    Attributes:
        name: Of the model that clients call.
        layout: ``plain``: the file alone, with its own inputs and outputs; ``one``: one model of the Python backend;
            ``bls``: that model calls another, which runs the file; ``ensemble``: Triton itself passes the tensors of
            the file to the model that makes the map.
        device: Where the file runs.
        backend: Of Triton, that runs the file in all layouts but ``one``; ``tensorrt`` runs engines alone.
        max_batch: Images in a batch at most, where the file leaves it open.
        instances: Of the models of the Python backend, and of the file in ``plain``.
        threads: CPU threads per operator; None for all cores.
        environment: Folder of the venv, on the server, that the Python backend runs in; None for the server's own.
        exact_int8: The server's processor adds products of INT8 in 32 bits (x86 with VNNI), so that the ONNX Runtime
            backend may run INT8 files on it.
    """

    name: str
    layout: Layout = "one"
    device: Device = "cpu"
    backend: Backend = "onnxruntime"
    max_batch: int = 8
    instances: int = 1
    threads: int | None = None
    environment: str | None = None
    exact_int8: bool = False

    @property
    def engine(self) -> str:
        """Name of the model that runs the file, in ``bls`` and ``ensemble``."""
        return f"{self.name}_engine"

    @property
    def runs(self) -> str:
        """Name of the model that runs the file, in any layout."""
        return self.engine if self.layout in ("bls", "ensemble") else self.name

    @property
    def map(self) -> str:
        """Name of the last step of an ensemble."""
        return f"{self.name}_map"

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models, the one that clients call last."""
        others = {"plain": (), "one": (), "bls": (self.engine,), "ensemble": (self.engine, self.map)}[self.layout]
        return (*others, self.name)


@dataclass(frozen=True)
class _Tensor:
    """An input or output of a model. dims: without the batch where Triton batches."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    flat: bool = False
    optional: bool = False
    labels: bool = False


def config_texts(plan: TritonPlan, spec: CamSpec, head: ModelInfo) -> dict[str, str]:
    """The configuration of every model.

    Args:
        plan: What is written.
        spec: What the file says of itself.
        head: Its inputs and outputs.

    Returns:
        Protobuf text by name of the model.

    Raises:
        ExportError: The file takes more than the image and the class, or a shape is not known.
    """
    unknown = [value.name for value in head.inputs if value.name not in spec.inputs]
    if unknown:
        raise ExportError(f"{head.path}: takes more than the image and the class: {', '.join(unknown)}")
    batch = fixed_batch(head)
    most = 0 if batch else plan.max_batch
    values = {value.name: value for value in (*head.inputs, *head.outputs)}
    needed = list(dict.fromkeys([spec.output.name, *_scores(spec, head), *spec.added_outputs]))
    # A TensorRT engine runs with all its outputs configured; who gets the plain file may want any of them.
    outputs = [
        value.name
        for value in head.outputs
        if value.name in needed
        or plan.backend == "tensorrt"
        or (plan.layout == "plain" and _is_per_image(value, batch))
    ]
    inputs = [_value(values[name], head, batch) for name in spec.inputs]
    given = [_value(values[name], head, batch) for name in outputs]
    if plan.layout == "plain":
        named = [replace(one, labels=_is_named(one, spec)) for one in given]
        return {plan.name: _engine(plan, plan.name, most, inputs, named, plan.instances)}
    answers = [_row(one, batch) for one in _answers(spec, head, photo=plan.layout != "ensemble")]
    if plan.layout == "ensemble":
        passed = [one for one in given if one.name in needed]
        return {
            plan.engine: _engine(plan, plan.engine, most, inputs, given),
            plan.map: _python(plan, plan.map, "map", most, passed, answers),
            plan.name: _ensemble(plan, most, inputs, passed, answers, spec),
        }
    asked = [
        _row(_Tensor("image", "string", (1,), optional=True), batch),
        _row(_Tensor("tensor", spec.input.dtype, spec.input.shape(1)[1:], optional=True), batch),
        _row(_Tensor("target", "int64", (1,), optional=True), batch),
    ]
    if plan.layout == "one":
        return {plan.name: _python(plan, plan.name, "one", most, asked, answers)}
    flat = " ".join(one.name for one in (*inputs, *given) if one.flat)
    more = {"cfcam_engine": plan.engine, "cfcam_flat": flat}
    return {
        plan.engine: _engine(plan, plan.engine, most, inputs, given),
        plan.name: _python(plan, plan.name, "bls", most, asked, answers, more),
    }


def _is_per_image(value: ValueInfo, batch: int | None) -> bool:
    """Whether an output has an axis for images in front, as Triton expects of those of a model that it batches."""
    known = bool(value.shape) and value.dtype in _TYPES
    return known and (batch is not None or not isinstance((value.shape or (0,))[0], int))


def _is_named(tensor: _Tensor, spec: CamSpec) -> bool:
    """Whether an output is the scores, in the order of the labels."""
    return tensor.name == spec.output.name and tensor.dims[-1] == spec.output.classes and bool(labels_text(spec))


def labels_text(spec: CamSpec) -> str:
    """The classes by their places in the scores, a line each.

    Args:
        spec: What the file says of itself.

    Returns:
        The lines; nothing where there are no labels, or where one of them would not be one line.
    """
    if not spec.output.labels or spec.output.values:
        return ""
    labels = [spec.output.label(index) for index in range(spec.output.classes)]
    return "" if any(len(label.splitlines()) != 1 for label in labels) else "\n".join(labels) + "\n"


def _scores(spec: CamSpec, head: ModelInfo) -> list[str]:
    return [spec.output.score] if spec.output.score in {value.name for value in head.outputs} else []


def _answers(spec: CamSpec, head: ModelInfo, photo: bool) -> list[_Tensor]:
    """What a client gets: see `cfcam.runtime.triton_model.answer`."""
    output = spec.output
    found = [
        _Tensor("map", "float32", (spec.input.height, spec.input.width)),
        _Tensor("class", "int64", (1,)),
        _Tensor("label", "string", (1,)),
        _Tensor("peak", "float32", (2,)),
        _Tensor("reason", "string", (1,)),
    ]
    if output.values:
        found.append(_Tensor("value", "float32", (1,)))
    else:
        found.append(_Tensor("probabilities", "float32", (output.classes,)))
    if _scores(spec, head):
        found.append(_Tensor("logits", "float32", (output.classes,)))
    if photo:
        found.append(_Tensor("overlay", "string", (1,)))
    return found


def fixed_batch(head: ModelInfo) -> int | None:
    """The batch of a file whose batch is not open, else None.

    Args:
        head: The file's inputs and outputs.
    """
    sizes = [value.shape[0] for value in head.inputs if value.shape]
    return next((size for size in sizes if isinstance(size, int)), None)


def _row(tensor: _Tensor, batch: int | None) -> _Tensor:
    """With an axis for images in front, where Triton does not batch: the explainer fills a fixed batch up itself."""
    return tensor if batch is None else _Tensor(tensor.name, tensor.dtype, (-1, *tensor.dims), False, tensor.optional)


def _value(value: ValueInfo, head: ModelInfo, batch: int | None) -> _Tensor:
    """An input or output of the file itself."""
    if value.shape is None or value.dtype not in _TYPES:
        what = f"'{value.name}' has no shape" if value.shape is None else f"'{value.name}' is {value.dtype}"
        raise ExportError(f"{head.path}: {what}, which Triton's configuration needs: use --layout one")
    sizes = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    if not _is_per_image(value, batch):
        raise ExportError(
            f"{head.path}: '{value.name}' has no axis for the images of a batch, which Triton needs: use --layout one"
        )
    if batch is not None:
        return _Tensor(value.name, value.dtype, (batch, *sizes[1:]))
    # One number per image: Triton has no dims without any, and reshapes.
    return _Tensor(value.name, value.dtype, sizes[1:] or (1,), flat=len(sizes) == 1)


def _engine(
    plan: TritonPlan,
    name: str,
    most: int,
    inputs: Sequence[_Tensor],
    outputs: Sequence[_Tensor],
    instances: int = 1,
) -> str:
    """The model that runs the file."""
    if plan.backend == "python":
        return _python(plan, name, "engine", most, inputs, outputs, device=plan.device)
    parts = [
        f"name: {_quoted(name)}",
        f"backend: {_quoted(plan.backend)}",
        f"default_model_filename: {_quoted('model.plan' if plan.backend == 'tensorrt' else 'model.onnx')}",
        f"max_batch_size: {most}",
        *_tensors("input", inputs),
        *_tensors("output", outputs),
        *_instances(plan.device, instances),
    ]
    if plan.device == "gpu" and most > 1:
        parts.append("dynamic_batching { }")  # no max_queue_size or delay: a lone client would wait for nobody
    if plan.threads is not None and plan.device == "cpu":
        parts += _parameters({"intra_op_thread_count": str(plan.threads)})
    return "\n".join(parts) + "\n"


def _python(
    plan: TritonPlan,
    name: str,
    part: str,
    most: int,
    inputs: Sequence[_Tensor],
    outputs: Sequence[_Tensor],
    more: Mapping[str, str] | None = None,
    device: Device = "cpu",
) -> str:
    runs = part in ("one", "engine")
    said = {"cfcam_part": part, "cfcam_file": "model.onnx", **(more or {})}
    if runs and plan.threads is not None:
        said["cfcam_threads"] = str(plan.threads)
    if plan.environment is not None:
        said["EXECUTION_ENV_PATH"] = plan.environment
    return "\n".join(
        [
            f"name: {_quoted(name)}",
            'backend: "python"',
            f"max_batch_size: {most}",
            *_tensors("input", inputs),
            *_tensors("output", outputs),
            *_instances(plan.device if part == "one" else device, plan.instances),
            *_parameters(said),
            "",
        ]
    )


def _ensemble(
    plan: TritonPlan,
    most: int,
    inputs: Sequence[_Tensor],
    given: Sequence[_Tensor],
    answers: Sequence[_Tensor],
    spec: CamSpec,
) -> str:
    outside = {spec.input.name: "tensor", spec.target: "target"}
    asked = [_Tensor(outside[one.name], one.dtype, one.dims) for one in inputs]
    # Names of tensors between the steps: no output of the file may be called like one of the ensemble's.
    inner = {one.name: f"file:{one.name}" for one in given}
    return "\n".join(
        [
            f"name: {_quoted(plan.name)}",
            'platform: "ensemble"',
            f"max_batch_size: {most}",
            *_tensors("input", asked),
            *_tensors("output", answers),
            "ensemble_scheduling {",
            *_step(plan.engine, outside, inner),
            *_step(plan.map, inner, {one.name: one.name for one in answers}),
            "}",
            "",
        ]
    )


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> list[str]:
    maps = [
        f"    {kind} {{ key: {_quoted(key)} value: {_quoted(value)} }}"
        for kind, pairs in (("input_map", inputs), ("output_map", outputs))
        for key, value in pairs.items()
    ]
    return ["  step {", f"    model_name: {_quoted(model)}", "    model_version: -1", *maps, "  }"]


def _tensors(kind: str, tensors: Iterable[_Tensor]) -> list[str]:
    lines = []
    for one in tensors:
        dims = ", ".join(map(str, one.dims))
        more = (" reshape { shape: [ ] }" if one.flat else "") + (" optional: true" if one.optional else "")
        more += f" label_filename: {_quoted(LABELS)}" if one.labels else ""
        lines.append(f"{kind} {{ name: {_quoted(one.name)} data_type: {_TYPES[one.dtype]} dims: [ {dims} ]{more} }}")
    return lines


def _instances(device: Device, count: int) -> list[str]:
    return [f"instance_group {{ count: {count} kind: {'KIND_GPU' if device == 'gpu' else 'KIND_CPU'} }}"]


def _parameters(pairs: Mapping[str, str]) -> list[str]:
    return [
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in pairs.items()
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
