"""Damaged ONNX files, and a process of its own that tries them.

Run as ``python onnx_fuzz.py FOLDER SECONDS FIRST``: differentiates or exports every ``*.onnx`` in the folder, in the
order of the names, and prints a JSON line for each: its name, "done" or the class of the error, and the message.
"""

from __future__ import annotations

import json
import math
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

__all__ = ["damaged_bytes", "damaged_graphs", "try_all"]


def damaged_bytes(data: bytes, rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Truncations, flipped bits, bytes that were overwritten, moved, repeated or cut out."""
    for i in range(count):
        kind = ("cut", "flip", "overwrite", "repeat", "remove", "many")[i % 6]
        changed = bytearray(data)
        at = rng.randrange(len(data))
        # Weights are most of a file: half of the places are near the start or the end.
        if rng.random() < 0.5:
            at = rng.choice([at % 400, len(data) - 1 - at % 2500]) % len(data)
        if kind == "cut":
            del changed[at:]
        elif kind == "flip":
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == "overwrite":
            changed[at : at + 4] = rng.randbytes(4)
        elif kind == "repeat":
            changed[at:at] = changed[at : at + rng.randrange(1, 60)]
        elif kind == "remove":
            del changed[at : at + rng.randrange(1, 60)]
        else:
            for _ in range(20):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        yield f"{kind}_{i}", bytes(changed)


def damaged_graphs(model: ModelProto, rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """One thing wrong with the graph, in a file that is whole."""
    kinds = sorted(_EDITS)
    for i in range(count):
        kind = kinds[i % len(kinds)]
        changed = ModelProto()
        changed.CopyFrom(model)
        _EDITS[kind](changed, rng)
        yield f"{kind}_{i}", changed.SerializeToString()


def _node(model: ModelProto, rng: random.Random, **wanted: Any):
    fitting = [n for n in model.graph.node if all(len(getattr(n, k)) >= v for k, v in wanted.items())]
    return rng.choice(fitting)


def _drop_input(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng, input=1)
    del node.input[rng.randrange(len(node.input))]


def _empty_input(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng, input=1)
    node.input[rng.randrange(len(node.input))] = ""


def _exchange_inputs(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng, input=2)
    first, second = rng.sample(range(len(node.input)), 2)
    node.input[first], node.input[second] = node.input[second], node.input[first]


def _other_input(model: ModelProto, rng: random.Random) -> None:
    names = [o for n in model.graph.node for o in n.output] + [t.name for t in model.graph.initializer]
    node = _node(model, rng, input=1)
    node.input[rng.randrange(len(node.input))] = rng.choice(names)


def _drop_output(model: ModelProto, rng: random.Random) -> None:
    del _node(model, rng, output=1).output[:]


def _more_outputs(model: ModelProto, rng: random.Random) -> None:
    _node(model, rng, output=1).output.extend(["extra_1", "extra_2"])


def _same_output(model: ModelProto, rng: random.Random) -> None:
    first, second = rng.sample(list(model.graph.node), 2)
    first.output[0] = second.output[0]


def _cycle(model: ModelProto, rng: random.Random) -> None:
    early, late = sorted(rng.sample(range(len(model.graph.node)), 2))
    node = model.graph.node[early]
    if node.input:
        node.input[0] = model.graph.node[late].output[0]


def _reversed_order(model: ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _drop_node(model: ModelProto, rng: random.Random) -> None:
    del model.graph.node[rng.randrange(len(model.graph.node))]


def _unknown_operator(model: ModelProto, rng: random.Random) -> None:
    _node(model, rng).op_type = rng.choice(["Nonsense", "", "relu", "Relu6", "NonZero", "LSTM", "Loop", "If"])


def _unknown_domain(model: ModelProto, rng: random.Random) -> None:
    _node(model, rng).domain = rng.choice(["vendor", "com.microsoft", "ai.onnx.ml"])


def _other_operator(model: ModelProto, rng: random.Random) -> None:
    first, second = rng.sample(list(model.graph.node), 2)
    first.op_type = second.op_type


def _attribute_of_other_type(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    if not node.attribute:
        node.attribute.append(helper.make_attribute("axis", "one"))
        return
    name = rng.choice(list(node.attribute)).name
    kept = [a for a in node.attribute if a.name != name]
    value = rng.choice([2.5, "text", [1.5, 2.5], [], -7, [10**12], 2**62])
    made = helper.make_attribute(name, value) if value != [] else helper.make_attribute(name, [1, 2, 3, 4, 5, 6, 7])
    del node.attribute[:]
    node.attribute.extend([*kept, made])


def _odd_integers(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    for item in node.attribute:
        for position in range(len(item.ints)):
            item.ints[position] = rng.choice([-1, 0, 10**6, 2**31, 2**62, -(2**62)])
        if item.HasField("i"):
            # ONNX's version converter keeps 32 bits: a multiple of 2^32 would turn into 0.
            item.i = rng.choice([-1, 0, 99, 2**40 + 1, -(2**62) + 1])


def _drop_weight(model: ModelProto, rng: random.Random) -> None:
    if model.graph.initializer:
        del model.graph.initializer[rng.randrange(len(model.graph.initializer))]


def _weight(model: ModelProto, rng: random.Random) -> TensorProto:
    return rng.choice(list(model.graph.initializer))


def _other_weight_type(model: ModelProto, rng: random.Random) -> None:
    _weight(model, rng).data_type = rng.choice([0, TensorProto.INT64, TensorProto.STRING, TensorProto.DOUBLE, 99, 17])


def _huge_weight(model: ModelProto, rng: random.Random) -> None:
    tensor = _weight(model, rng)
    tensor.dims[:] = rng.choice([[2**40], [2**31, 2**31, 2**31], [10**6, 10**6]])


def _negative_weight(model: ModelProto, rng: random.Random) -> None:
    _weight(model, rng).dims[:] = rng.choice([[-1], [-4, -5], [3, -7], [0], [0, 5]])


def _short_weight(model: ModelProto, rng: random.Random) -> None:
    tensor = _weight(model, rng)
    tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]


def _not_a_number(model: ModelProto, rng: random.Random) -> None:
    tensor = _weight(model, rng)
    tensor.raw_data = b"\xff" * len(tensor.raw_data)


def _odd_image(model: ModelProto, rng: random.Random) -> None:
    shape = model.graph.input[0].type.tensor_type.shape
    dim = shape.dim[rng.randrange(len(shape.dim))]
    dim.dim_value = rng.choice([0, -1, -(2**62), 2**62, 2**31, 1, 7])


def _image_of_unknown_shape(model: ModelProto, rng: random.Random) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


def _image_without_type(model: ModelProto, rng: random.Random) -> None:
    rng.choice([*model.graph.input, *model.graph.output]).ClearField("type")


def _image_of_other_type(model: ModelProto, rng: random.Random) -> None:
    model.graph.input[0].type.tensor_type.elem_type = rng.choice([0, 2, 7, 8, 9, 99])


def _sequence(model: ModelProto, rng: random.Random) -> None:
    info = rng.choice([*model.graph.input, *model.graph.output])
    info.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def _lying_value(model: ModelProto, rng: random.Random) -> None:
    name = rng.choice([o for n in model.graph.node for o in n.output])
    shape = rng.choice([[1, 2, 3], [2**40, 2], ["N", 5, 5, 5], []])
    model.graph.value_info.append(helper.make_tensor_value_info(name, rng.choice([1, 7, 8]), shape))


def _no_outputs(model: ModelProto, rng: random.Random) -> None:
    del model.graph.output[:]


def _no_inputs(model: ModelProto, rng: random.Random) -> None:
    del model.graph.input[:]


def _other_opset(model: ModelProto, rng: random.Random) -> None:
    model.opset_import[0].version = rng.choice([0, -1, 1, 3, 6, 8, 99, 2**40])


def _two_opsets(model: ModelProto, rng: random.Random) -> None:
    model.opset_import.append(helper.make_opsetid("", rng.choice([9, 17, 21])))


def _no_opset(model: ModelProto, rng: random.Random) -> None:
    del model.opset_import[:]


def _other_ir(model: ModelProto, rng: random.Random) -> None:
    model.ir_version = rng.choice([0, 1, 2, 99, 2**40])


def _name_of_ours(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng, output=1)
    old, new = node.output[0], rng.choice(["cam_target", "cam_activations", "cam_class"])
    for other in model.graph.node:
        for names in (other.input, other.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new


def _calls_itself(model: ModelProto, rng: random.Random) -> None:
    call = helper.make_node("Round", ["v"], ["r"], domain="local")
    model.functions.append(
        helper.make_function(
            "local", "Round", ["v"], ["r"], [call], [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
        )
    )
    model.opset_import.append(helper.make_opsetid("local", 1))
    node = _node(model, rng, input=1, output=1)
    node.domain, node.op_type = "local", "Round"


def _external(model: ModelProto, location: str, offset: str, length: str | None, rng: random.Random) -> None:
    tensor = _weight(model, rng)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value


def _external_elsewhere(model: ModelProto, rng: random.Random) -> None:
    place = rng.choice(["../secret.bin", "/etc/hostname", "sub/../../secret.bin", "link.bin", "none.bin", "", "."])
    _external(model, place, "0", None, rng)


def _external_offset(model: ModelProto, rng: random.Random) -> None:
    offset = rng.choice([str(2**62), "-4096", "text", str(10**30)])
    _external(model, "data.bin", offset, rng.choice([None, "16", str(2**50), "-1"]), rng)


_EDITS: dict[str, Callable[[ModelProto, random.Random], None]] = {
    edit.__name__.strip("_"): edit
    for edit in (
        _drop_input, _empty_input, _exchange_inputs, _other_input, _drop_output, _more_outputs, _same_output, _cycle,
        _reversed_order, _drop_node, _unknown_operator, _unknown_domain, _other_operator, _attribute_of_other_type,
        _odd_integers, _drop_weight, _other_weight_type, _huge_weight, _negative_weight, _short_weight,
        _not_a_number, _odd_image, _image_of_unknown_shape, _image_without_type, _image_of_other_type, _sequence,
        _lying_value, _no_outputs, _no_inputs, _other_opset, _two_opsets, _no_opset, _other_ir, _name_of_ours,
        _calls_itself, _external_elsewhere, _external_offset,
    )
}  # fmt: skip


def try_all(folder: Path, seconds: int = 20) -> list[dict[str, str]]:
    """What becomes of every file of `folder`; a process that dies is reported and replaced."""
    results: list[dict[str, str]] = []
    waiting = sorted(folder.glob("*.onnx"))
    while waiting:
        command = [sys.executable, __file__, str(folder), str(seconds), waiting[0].name]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(text) for text in run.stdout.splitlines() if text.startswith("{")]
        # The last word on a file counts.
        said = {line["name"]: line for line in lines}
        if not said:
            raise RuntimeError(f"the process could not start: {run.stderr[-600:]}")
        results += said.values()
        waiting = [p for p in waiting if p.name not in said]
    return results


def _guarded(attempt: Callable[[Path], tuple[str, str]], path: Path) -> tuple[str, str]:
    from cfcam.runtime.errors import CfcamError

    try:
        return attempt(path)
    except CfcamError as error:
        return "refused", str(error)
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return type(error).__name__, f"{error} ({where.filename}:{where.lineno})"


def _differentiated(path: Path) -> tuple[str, str]:
    from cfcam.export.graph import load_model
    from cfcam.export.reverse import differentiate

    source = load_model(path)
    return _judged(path, source, differentiate(source).model)


def _exported(path: Path) -> tuple[str, str]:
    from cfcam.export.onnx_export import export_onnx

    written = path.parent.parent / "out" / path.name
    export_onnx(path, written)
    written.unlink()
    return "exported", ""


def _judged(path: Path, source: ModelProto, made: ModelProto) -> tuple[str, str]:
    """Harmless damage leaves a model that runs: then what was made runs too, and has the same plain outputs."""
    names = [o.name for o in source.graph.output]
    # Said first, in case ONNX Runtime takes the process with it.
    _say(path, "done, source does not run", "")
    try:
        feeds = _feeds(source)
        plain = _run(source, feeds, names)
    except Exception as error:
        return "done, source does not run", str(error)
    batch = next(i for i in made.graph.input if i.name == "cam_target").type.tensor_type.shape.dim[0]
    _say(path, "the made file does not run", "")
    feeds["cam_target"] = np.full(batch.dim_value or len(next(iter(feeds.values()))), -1)
    try:
        values = _run(made, feeds, names)
    except Exception as error:
        return "the made file does not run", str(error)
    for a, b in zip(plain, values, strict=True):
        if not np.allclose(a, b, rtol=1e-4, atol=1e-5 * max(np.abs(a).max(initial=0), 1e-6), equal_nan=True):
            return "wrong", f"plain outputs differ by {np.abs(a - b).max()}"
    return "done", ""


def _feeds(model: ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    weights = {t.name for t in model.graph.initializer}
    feeds = {}
    for info in model.graph.input:
        if info.name not in weights:
            shape = [d.dim_value if d.HasField("dim_value") else 2 for d in info.type.tensor_type.shape.dim]
            if min(shape) < 0 or math.prod(shape) > 10**7:
                raise ValueError(f"no input can have the shape {shape}")
            kind = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
            feeds[info.name] = rng.standard_normal(shape).astype(kind)
    return feeds


def _run(model: ModelProto, feeds: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(v) for v in session.run(outputs, feeds)]


def _main(folder: Path, seconds: int, first: str) -> None:
    def stop(*_: object) -> None:
        raise TimeoutError(f"still busy after {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    for number, path in enumerate(sorted(folder.glob("*.onnx"))):
        if path.name < first:
            continue
        signal.alarm(seconds)
        # In case the process dies.
        _say(path, "died", "")
        # Every third goes all the way, proof and file included.
        kind, message = _guarded(_exported if number % 3 == 0 else _differentiated, path)
        signal.alarm(0)
        _say(path, kind, message)


def _say(path: Path, kind: str, message: str) -> None:
    print(json.dumps({"name": path.name, "kind": kind, "message": message}), flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
