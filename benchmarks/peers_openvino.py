"""OpenVINO XAI's ReciproCAM, measured in an environment of its own: it needs releases that cfcam's tests do not have.

    .venv-openvino/bin/python benchmarks/peers_openvino.py MODEL.onnx ROUNDS     # JSON: CPU milliseconds, and versions

It explains without gradients: the rest of the network runs once for each cell of the layer, and all classes get a map
of whole numbers. Plain inference by ONNX Runtime and by OpenVINO are measured between its rounds. Imports nothing of
cfcam's. `unavailable` says why it has no row for a network.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["LABELS", "measured"]

LABELS = ("OpenVINO, no map", "OpenVINO XAI ReciproCAM")
_PLAIN = "plain"


def measured(python: Path, model: Path, rounds: int, *, tokens: bool) -> dict[str, Any]:
    """What `python`, of the other environment, says of `model`: ``ratios`` over plain inference by ONNX Runtime,
    ``versions``, and ``refused`` by label."""
    if not python.exists():
        return {"ratios": {}, "refused": dict.fromkeys(LABELS, "not installed"), "versions": ""}
    command = [str(python), __file__, str(model), str(rounds), "tokens" if tokens else "channels"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    plain = found["ms"].pop(_PLAIN)
    ratios = {label: value / plain for label, value in found["ms"].items()}
    return {"ratios": ratios, "refused": found["refused"], "versions": found["versions"]}


def _calls(path: str, *, tokens: bool) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    cv2, onnxruntime, openvino, xai = (
        importlib.import_module(name) for name in ("cv2", "onnxruntime", "openvino", "openvino_xai")
    )
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    core, config = openvino.Core(), {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    model = core.read_model(path)
    model.reshape({model.inputs[0].any_name: list(image.shape)})
    compiled = core.compile_model(model, "CPU", config)
    calls = {_PLAIN: lambda: session.run(None, {name: image}), LABELS[0]: lambda: compiled(image)}
    method = xai.Method.VITRECIPROCAM if tokens else xai.Method.RECIPROCAM
    try:
        explained = xai.insert_xai(model, task=xai.Task.CLASSIFICATION, explain_method=method)
    except (RuntimeError, ValueError) as error:
        return calls, {LABELS[1]: str(error).splitlines()[0]}
    both = core.compile_model(explained, "CPU", config)

    def run() -> object:
        found = list(both(image).values())
        chosen = int(np.asarray(found[0]).argmax())
        return cv2.resize(np.asarray(found[1])[0, chosen], (224, 224))

    calls[LABELS[1]] = run
    return calls, {}


def main() -> int:
    """Measure, interleaved, and print."""
    path, rounds, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    calls, refused = _calls(path, tokens=kind == "tokens")
    least = dict.fromkeys(calls, float("inf"))
    order = list(calls)
    for turn in range(rounds + 2):
        random.Random(turn).shuffle(order)
        for label in order:
            started = time.process_time_ns()
            calls[label]()
            if turn >= 2:
                least[label] = min(least[label], (time.process_time_ns() - started) / 1e6)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("openvino", "openvino_xai"))
    print(json.dumps({"ms": least, "refused": refused, "versions": versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
