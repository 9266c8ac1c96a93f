"""Writing a model repository for Triton: every model whole, or none."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from ...runtime.checks import check_path
from ...runtime.errors import ModelFileError, OutputError
from ...runtime.files import scratch_folder
from ..errors import ExportError
from .config import LABELS, Backend, Device, Layout, TritonPlan, config_texts, labels_text
from .readme import readme
from .source import Source, check_fits, open_source

__all__ = ["MODEL_PY", "WrittenRepository", "default_name", "plan_for", "write_repository"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

#: The file that Triton's Python backend runs; all that it does is in the package.
MODEL_PY = '''\
"""Written by `cfcam triton`. Which part this model plays stands in config.pbtxt."""

import numpy

if int(numpy.__version__.partition(".")[0]) >= 2:  # before anything else: this stub passes wrong arrays then
    raise RuntimeError(
        f"numpy {numpy.__version__} in this environment: Triton's Python stub needs numpy 1, and gives wrong inputs "
        "with numpy 2; install 'numpy<2' in the environment that EXECUTION_ENV_PATH names"
    )

import triton_python_backend_utils as utils
from cfcam.runtime.triton_model import TritonModel


class TritonPythonModel(TritonModel):
    utils = utils
'''


@dataclass(frozen=True)
class WrittenRepository:
    """What was written.

    Attributes:
        path: The repository.
        models: Names of the models, the one that clients call last.
        readme: How to start a server with it.
    """

    path: Path
    models: tuple[str, ...]
    readme: Path


def default_name(file: str | os.PathLike[str]) -> str:
    """A model's name of its file's: without endings and what Triton's addresses do not hold.

    Args:
        file: The exported file.
    """
    stem = Path(file).name.removesuffix(".onnx").removesuffix(".engine").removesuffix(".cam")
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).lstrip(".-") or "model"


def plan_for(
    file: str | os.PathLike[str],
    name: str,
    *,
    layout: Layout | None = None,
    device: Device | None = None,
    backend: Backend | None = None,
    max_batch: int = 8,
    instances: int = 1,
    threads: int | None = None,
    environment: str | None = None,
    exact_int8: bool = False,
) -> TritonPlan:
    """A plan with what goes without saying for a file: fused ones are served plainly, engines on TensorRT and GPUs.

    Args:
        file: Made by ``cfcam export`` or ``cfcam build``.
        name: Of the model that clients call.
        layout: As in `TritonPlan`; None for the file's.
        device: As in `TritonPlan`; None for the file's.
        backend: As in `TritonPlan`; None for the file's.
        max_batch: As in `TritonPlan`.
        instances: As in `TritonPlan`.
        threads: As in `TritonPlan`.
        environment: As in `TritonPlan`.
        exact_int8: As in `TritonPlan`.

    Returns:
        The plan, which `write_repository` checks.

    Raises:
        ModelFileError: The file is missing, no exported file, or an engine of TensorRT for RTX.
    """
    source = open_source(check_path("plan_for", file, ModelFileError), allow_failing=True)
    return TritonPlan(
        name=name,
        layout=layout or source.layout,
        device=device or source.device,
        backend=backend or source.backend,
        max_batch=max_batch,
        instances=instances,
        threads=threads,
        environment=environment,
        exact_int8=exact_int8,
    )


def write_repository(
    file: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    plan: TritonPlan,
    *,
    force: bool = False,
    allow_failing: bool = False,
) -> WrittenRepository:
    """Write the models of `plan` into a repository, beside other models that it has.

    They are written beside the repository and renamed into it; when something fails, what was there before is there.

    Args:
        file: Made by ``cfcam export`` or ``cfcam build``; beside a TensorRT engine its manifest and its graph.
        repository: The folder, which is made where it is missing.
        plan: What is written.
        force: Replace models of the same names.
        allow_failing: Take a product that missed its gate.

    Returns:
        What was written.

    Raises:
        ModelFileError: The file is missing, no exported file, or an engine of TensorRT for RTX.
        ExportError: The name, or the file in this layout.
        OutputError: A model of this name is there already, or the folder cannot be written.
    """
    path = check_path("write_repository", file, ModelFileError)
    target = check_path("write_repository", repository, OutputError)
    source, plan = _checked(path, plan, allow_failing)
    spec, head = source.spec, source.head
    texts = config_texts(plan, spec, head)
    present = [name for name in plan.models if (target / name).exists()]
    if present and not force:
        raise OutputError(
            f"{target}: has the model '{present[0]}' already: give another --name, or replace with --force"
        )
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: is a file, the folder of a repository was expected")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent, target.name) as scratch:
            for name in plan.models:
                _write_model(scratch / "new" / name, name, texts[name], source, plan)
            (scratch / "new" / plan.name / "README.md").write_text(readme(plan, source), "utf-8")
            target.mkdir(exist_ok=True)
            _move(scratch, target, plan.models)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from error
    return WrittenRepository(target, plan.models, target / plan.name / "README.md")


def _checked(path: Path, plan: TritonPlan, allow_failing: bool) -> tuple[Source, TritonPlan]:
    """The file, and the plan with what its engine limits."""
    if not _NAME.fullmatch(plan.name):
        raise ExportError(f"name '{plan.name}': expected letters, digits, '_', '-' and '.', as Triton's addresses take")
    if plan.environment == "":
        raise ExportError("--env: is empty: give the folder of a venv on the server, or leave it out")
    if plan.environment is not None and plan.layout == "plain" and plan.backend != "python":
        raise ExportError("--env: layout plain runs no Python in the server: leave it out")
    source = open_source(path, allow_failing)
    check_fits(source, plan)
    if _has_data_outside(source.graph):
        raise ModelFileError(
            f"{source.graph}: keeps weights in other files, which repositories do not hold: export it as one"
        )
    return source, replace(plan, max_batch=min(plan.max_batch, source.largest_batch or plan.max_batch))


def _has_data_outside(path: Path) -> bool:
    import onnx
    from onnx.external_data_helper import uses_external_data

    model = onnx.load(str(path), load_external_data=False)
    return any(uses_external_data(tensor) for tensor in model.graph.initializer)


def _write_model(folder: Path, name: str, text: str, source: Source, plan: TritonPlan) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text, "utf-8")
    if plan.layout == "ensemble" and name == plan.name:
        (version / ".keep").touch()  # Triton asks for the folder of a version; git and object stores hold no empty ones
        return
    runs_file = name == plan.runs
    if runs_file:
        shutil.copyfile(source.file, version / ("model.plan" if source.is_engine else "model.onnx"))
        if plan.layout != "one" and (labels := labels_text(source.spec)):
            (folder / LABELS).write_text(labels, "utf-8")
    else:
        _write_head(source.graph, version / "model.onnx")
    tail = source.spec.tail
    if tail is not None and plan.layout != "plain" and name == plan.name and source.file.with_name(tail.file).is_file():
        shutil.copyfile(source.file.with_name(tail.file), version / tail.file)
    if not runs_file or plan.layout == "one" or plan.backend == "python":
        (version / "model.py").write_text(MODEL_PY, "utf-8")


def _write_head(file: Path, place: Path) -> None:
    """The file without its graph: names, shapes and metadata, which are all that a model that runs nothing reads."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    for field in ("node", "initializer", "sparse_initializer", "value_info", "quantization_annotation"):
        model.graph.ClearField(field)  # type: ignore[arg-type]
    model.ClearField("functions")
    place.write_bytes(model.SerializeToString())


def _move(scratch: Path, target: Path, models: tuple[str, ...]) -> None:
    """Rename the new models into place; the one that clients call comes last, when what it calls is there."""
    (scratch / "old").mkdir()
    moved: list[str] = []
    kept: list[str] = []
    try:
        for name in models:
            if (target / name).exists():
                os.rename(target / name, scratch / "old" / name)
                kept.append(name)
            os.rename(scratch / "new" / name, target / name)
            moved.append(name)
    except BaseException:
        with contextlib.suppress(OSError):
            for name in moved:
                os.rename(target / name, scratch / "new" / name)
            for name in kept:
                os.rename(scratch / "old" / name, target / name)
        raise
