"""The README beside a model in a repository: how to start a server with it, and what to watch for."""

from __future__ import annotations

from ...runtime.contract.modelfile import ModelInfo
from ...runtime.contract.spec import CamSpec
from .config import TritonPlan

__all__ = ["readme"]


def readme(plan: TritonPlan, spec: CamSpec, head: ModelInfo) -> str:
    """The text.

    Args:
        plan: What is written.
        spec: What the file says of itself.
        head: Its inputs and outputs.

    Returns:
        Markdown.
    """
    shape = ", ".join(map(str, spec.input.shape(1)[1:]))
    inputs = {
        "ensemble": f"`tensor` ({spec.input.dtype}, N x {shape}) and `target` (int64; -1 for the top class)",
    }.get(
        plan.layout,
        f"`image` (BYTES, N x 1: whole image files) or `tensor` ({spec.input.dtype}, N x ({shape})); `target` (int64, "
        "N x 1; left out or -1 for the top class)",
    )
    runs = {
        "one": f"`{plan.name}` is one model of the Python backend, which runs ONNX Runtime itself.",
        "bls": f"`{plan.name}` (Python backend) prepares the photo, calls `{plan.engine}` and makes the map.",
        "ensemble": f"`{plan.name}` is an ensemble: `{plan.engine}` runs the file, `{plan.map}` makes the map.",
    }[plan.layout]
    if plan.layout != "one":
        runs += f" `{plan.engine}` is on the {plan.backend} backend."
    return _TEXT.format(
        name=plan.name,
        file=head.path.name,
        runs=runs,
        inputs=inputs,
        models=" ".join(f"--load-model={name}" for name in plan.models),
        extra="gpu" if plan.device == "gpu" else "cpu",
        overlay="" if plan.layout == "ensemble" else " `overlay` (a JPEG; made only when it is asked for),",
    )


_TEXT = """\
# {name}

Written by `cfcam triton` from `{file}`. {runs}

- Inputs: {inputs}
- Outputs: `map` (float32, N x height x width of the model's input, 0 to 1), `class`, `label`, `peak` (x, y as
  fractions of the
  photo),{overlay} `reason` (why the map is empty, or nothing), and the scores. Ask for those that you need.

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
does as well,
and the line is not needed. What else to know:

- `PYTHONPATH` is ignored.
- EXECUTION_ENV_PATH may be a plain venv; it need not be a conda-pack archive. Its Python must have the version that
  the
  `triton_python_backend_stub` was made for, and the stub must find that Python's libpython.
- With numpy 2 the stub of Triton 24.10 gives wrong inputs without an error. The models refuse to load there.
- When the stub process of a model is killed, the server's readiness stays 200. Let a health check ask for an
  explanation.

## Starting and checking

```sh
tritonserver --model-repository=REPOSITORY
cfcam triton {file} --name {name} --check http://localhost:8000 --image photo.jpg
```

With `--model-control-mode=explicit`, add `{models}`. The check compares every answer with cfcam's own, bit for bit.
Other
versions of ONNX Runtime, numpy or Pillow, another processor or number of threads may change the last digits: it
says by how much.
"""
