"""The README beside a model in a repository: how to start a server with it, and what to watch for."""

from __future__ import annotations

import json
import shlex

from ...runtime.contract.input_spec import InputSpec
from .config import TritonPlan, fixed_batch
from .source import Source

__all__ = ["photo_in_words", "readme"]


def readme(plan: TritonPlan, source: Source) -> str:
    """The text.

    Args:
        plan: What is written.
        source: What it is written from.

    Returns:
        Markdown.
    """
    parts = [_what(plan, source), _plain(plan, source) if plan.layout == "plain" else _explained(plan, source)]
    if plan.layout != "plain" or plan.backend == "python":
        parts.append(_ENVIRONMENT.format(extra="gpu" if plan.device == "gpu" and not source.is_engine else "cpu"))
    return "\n".join([*parts, _starting(plan, source)])


def photo_in_words(spec: InputSpec) -> str:
    """How a photo becomes the model's input, in a sentence or two.

    Args:
        spec: The image input.

    Returns:
        Text that says nothing about the shape.
    """
    size, resize = f"{spec.width} x {spec.height}", spec.resize
    way = {
        "shorter": f"scale it so that its shorter side is {resize.size} pixels, and cut {size} out of its middle",
        "stretch": f"scale it to {size}"
        if resize.size is None
        else f"scale it to {resize.size} x {resize.size}, and cut {size} out of its middle",
        "pad": f"scale it so that all of it fits into {size}, and fill the rest with the mean colour",
        "fit": f"scale it to {size}, or where that changes its aspect ratio by more than a quarter, so that all of it "
        "fits, and fill the rest with the mean colour",
    }[resize.mode]
    filtered = resize.interpolation + ("" if resize.interpolation == "nearest" else ", with antialiasing")
    color = {"gray": "grey (Pillow's L)", "channels": "its own channels"}.get(spec.color, spec.color.upper())
    if spec.scale == 1 and not any(spec.mean) and all(one == 1 for one in spec.std):
        numbers = "Its pixels go in as they are, 0 to 255"
    else:
        numbers = f"Of its pixels p (0 to 255), x = (p * {spec.scale!r} - mean) / std, with mean {list(spec.mean)} and "
        numbers += f"std {list(spec.std)}"
    if spec.dtype in ("uint8", "int8"):
        numbers += f", rounded to {spec.dtype}"
    return f"Turn the photo upright (EXIF), {way} ({filtered}). Colours: {color}. {numbers}."


def _what(plan: TritonPlan, source: Source) -> str:
    runs = {
        "plain": f"`{plan.name}` is the file itself, with its own inputs and outputs.",
        "one": f"`{plan.name}` is one model of the Python backend, which runs ONNX Runtime itself.",
        "bls": f"`{plan.name}` (Python backend) prepares the photo, calls `{plan.engine}` and makes the map.",
        "ensemble": f"`{plan.name}` is an ensemble: `{plan.engine}` runs the file, `{plan.map}` makes the map.",
    }[plan.layout]
    if plan.layout != "one":
        backend = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "python": "Python"}[plan.backend]
        runs += f" `{plan.runs}` is on the {backend} backend."
    if plan.layout == "plain" and plan.backend != "python":
        runs += " Nothing of cfcam's runs in the server."
    text = f"# {plan.name}\n\nWritten by `cfcam triton` from `{source.file.name}`. {runs}\n"
    manifest = source.manifest
    if not source.is_engine or manifest is None:
        if plan.exact_int8:
            text += (
                "\nThe file is quantised. On x86 processors without VNNI, ONNX Runtime's integer kernels saturate and "
                "give other maps,\nand Triton's backend cannot be told to go without them: check the server (below).\n"
            )
        return text
    aimed = "" if manifest.target is None else f", for {manifest.target.gpu or 'GPUs'}"
    if manifest.target is not None and manifest.target.compute_capability is not None:
        aimed += f" of compute capability {manifest.target.compute_capability}"
    text += f"\nThe engine was built by TensorRT {manifest.backend.version}{aimed}: the server needs the same "
    text += "(NVIDIA's release notes\nsay which Triton has which TensorRT)"
    if manifest.is_version_compatible:
        text += ", or a later one if it is started with\n`--backend-config=tensorrt,version-compatible=true`"
    return f"{text}.\n"


def _plain(plan: TritonPlan, source: Source) -> str:
    spec, batch = source.spec, fixed_batch(source.head)
    count = batch or "N"
    shape = " x ".join(map(str, spec.input.shape(1)[1:]))
    said = [f"- Input `{spec.input.name}`: {spec.input.dtype}, {count} x {shape}. {photo_in_words(spec.input)}"]
    target = ""
    if spec.fixed_target is None:
        if spec.columns is not None:
            said.append(
                f"- Input `{spec.target}`: int64, {count} x {spec.columns.count or 'K'}, the classes of each image."
            )
            sizes = f"({batch or 1}, {spec.columns.count or 1})"
        else:
            said.append(f"- Input `{spec.target}`: int64, {batch or 'N x 1'}, the class of each image.")
            sizes = f"({batch},)" if batch else "(1, 1)"
        said[-1] += " -1 asks for the top one"
        said[-1] += ", -2 for the second." if spec.columns is not None and spec.columns.ranks > 1 else "."
        target = f', "{spec.target}": np.full({sizes}, -1, np.int64)'
    fused = spec.fused
    outputs = f"`{spec.output.name}` and what else the model gives out, `{spec.chosen}` (the class that was explained)"
    if fused is None:
        outputs += ", and what `cfcam.runtime.cam_map` makes a map of"
    else:
        maps = "the map" if spec.columns is None else "a map for each class"
        outputs += (
            f", `{fused.map}` ({maps}, {fused.size[0]} x {fused.size[1]}, 0 to 1), `{fused.empty}` (whether it means "
        )
        outputs += "nothing)"
    said.append(f"- Outputs: {outputs}. Ask for those that you need.")
    return _PLAIN.format(
        name=plan.name,
        file=json.dumps(source.graph.name, ensure_ascii=False),
        said="\n".join(said),
        scores=spec.output.name,
        image=spec.input.name,
        batch="[None]" if batch in (None, 1) else f"[None].repeat({batch}, axis=0)",
        target=target,
        map=spec.chosen if fused is None else fused.map,
    )


def _explained(plan: TritonPlan, source: Source) -> str:
    spec = source.spec
    shape = ", ".join(map(str, spec.input.shape(1)[1:]))
    inputs = {
        "ensemble": f"`tensor` ({spec.input.dtype}, N x ({shape})) and `target` (int64; -1 for the top class)",
    }.get(
        plan.layout,
        f"`image` (BYTES, N x 1: whole image files) or `tensor` ({spec.input.dtype}, N x ({shape})); `target` (int64, "
        "N x 1; left out or -1 for the top class)",
    )
    overlay = "" if plan.layout == "ensemble" else " `overlay` (a JPEG; made only when it is asked for),"
    return _EXPLAINED.format(inputs=inputs, overlay=overlay)


def _starting(plan: TritonPlan, source: Source) -> str:
    asked = f"--name {plan.name} --check http://localhost:8000 --image photo.jpg"
    how = f"```sh\ncfcam triton {shlex.quote(source.file.name)} {asked}\n```"
    if source.is_engine:
        how += (
            f"\n\nThat runs the engine, so it needs TensorRT and such a GPU. Elsewhere give `{source.graph.name}`,\n"
            "which the engine was built from, and a `--tolerance`: its numbers are not ONNX Runtime's."
        )
    return _STARTING.format(models=" ".join(f"--load-model={name}" for name in plan.models), how=how)


_PLAIN = """\
{said}

A client in Python; `cfcam` (without an extra: numpy and Pillow alone) prepares the photo as the file says:

```python
import numpy as np, tritonclient.http as triton
from tritonclient.utils import np_to_triton_dtype
from cfcam.runtime import read_spec
from cfcam.runtime.photos.preprocess import prepare

image = prepare("photo.jpg", read_spec({file}).input).tensor{batch}
arrays = {{"{image}": image{target}}}
inputs = [triton.InferInput(name, one.shape, np_to_triton_dtype(one.dtype)) for name, one in arrays.items()]
for one in inputs:
    one.set_data_from_numpy(arrays[one.name()])
found = triton.InferenceServerClient("localhost:8000").infer("{name}", inputs)
print(found.as_numpy("{map}").shape, found.as_numpy("{scores}").argmax())
```
"""

_EXPLAINED = """\
- Inputs: {inputs}
- Outputs: `map` (float32, N x height x width of the model's input, 0 to 1), `class`, `label`, `peak` (x, y as
  fractions of the photo),{overlay} `reason` (why the map is empty, or nothing), and the scores. Ask for those that
  you need.
"""

_ENVIRONMENT = """\
## The Python environment

The Python backend runs in an environment that has cfcam, ONNX Runtime and numpy 1:

```sh
python3 -m venv /opt/cfcam
/opt/cfcam/bin/pip install "cfcam[{extra}]" "numpy<2"
```

Every model of the Python backend is told of it by a parameter in its `config.pbtxt`:

```
parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "/opt/cfcam" }} }}
```

`cfcam triton --env /opt/cfcam` writes that line. In Triton's own container, installing into the container's Python
does as well, and the line is not needed. What else to know:

- `PYTHONPATH` is ignored.
- EXECUTION_ENV_PATH may be a plain venv; it need not be a conda-pack archive. Its Python must have the version that
  the `triton_python_backend_stub` was made for, and the stub must find that Python's libpython.
- With numpy 2 the stub of Triton 24.10 gives wrong inputs without an error. The models refuse to load there.
- When the stub process of a model is killed, the server's readiness stays 200. Let a health check ask for an
  explanation.
"""

_STARTING = """\
## Starting and checking

```sh
tritonserver --model-repository=REPOSITORY
```

With `--model-control-mode=explicit`, add `{models}`. Then compare every answer with cfcam's own, bit for bit:

{how}

Other versions of ONNX Runtime, numpy or Pillow, another processor or number of threads may change the last digits: it
says by how much, and `--tolerance` allows so much.
"""
