"""Outputs of an ONNX file that are no tensors of numbers: dictionaries, sequences, names of classes.

Services and scikit-learn's converter end a classifier in ``ZipMap``, which makes a dictionary from label to
probability, and in the name of the top class. Such outputs are left out, the scores in front of them become an output,
and the labels are kept.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..graph.graph import attribute

__all__ = ["tensor_outputs"]

_UNPACKED = {"ZipMap", "SequenceConstruct", "SplitToSequence", "Identity", "Cast", "Reshape", "Squeeze", "SequenceAt"}
_LABELS = {"ZipMap": ("classlabels_strings", "classlabels_int64s"), "LabelEncoder": ("values_strings",)}


def tensor_outputs(model: ModelProto) -> tuple[ModelProto, tuple[str, ...] | None, list[str]]:
    """(the model with outputs that are tensors of numbers, labels that the others named, notes).

    The model itself is not changed; it is given back where there is nothing to do.
    """
    others = [info for info in model.graph.output if not _is_numbers(info)]
    if not others:
        return model, None, []
    made = ModelProto()
    made.CopyFrom(model)
    makers = {output: node for node in made.graph.node for output in node.output}
    labels: tuple[str, ...] | None = None
    added: list[str] = []
    for info in others:
        made.graph.output.remove(info)
        name = info.name
        while (node := makers.get(name)) is not None and (node.op_type in _UNPACKED or node.op_type in _LABELS):
            labels = labels or _labels(node)
            name = node.input[0]
        if node is not None and node.op_type == "ArrayFeatureExtractor":
            labels = labels or _strings(made, node.input[0])
            continue
        known = {output.name for output in made.graph.output}
        if node is not None and node.op_type not in ("ArgMax", "TopK") and name not in known:
            made.graph.output.append(helper.make_empty_tensor_value_info(name))
            added.append(name)
    _drop_unread(made)
    left_out = ", ".join(f"'{info.name}'" for info in others)
    instead = "".join(f"; '{name}' holds what it was made of" for name in added)
    kept = "; its labels were kept" if labels else ""
    return made, labels, [f"{left_out}: no tensor of numbers, left out{instead}{kept}"]


def _is_numbers(info: object) -> bool:
    kind = info.type  # type: ignore[attr-defined]
    return kind.WhichOneof("value") in (None, "tensor_type") and kind.tensor_type.elem_type != TensorProto.STRING


def _labels(node: NodeProto) -> tuple[str, ...] | None:
    for name in _LABELS.get(node.op_type, ()):
        found = attribute(node, name)
        if found:
            return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in found)
    return None


def _strings(model: ModelProto, name: str) -> tuple[str, ...] | None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor).reshape(-1)
            return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in values)
    return None


def _drop_unread(model: ModelProto) -> None:
    """Take out the nodes that no output needs any more: the passes know no dictionaries."""
    needed = {info.name for info in model.graph.output}
    kept: list[NodeProto] = []
    for node in reversed(model.graph.node):
        if node.attribute and any(item.HasField("g") or item.graphs for item in node.attribute):
            kept.append(node)  # a body may read anything
            needed.update(node.input)
        elif needed & set(node.output):
            kept.append(node)
            needed.update(node.input)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    read = {name for node in copies for name in node.input}
    weights = [
        tensor for tensor in model.graph.initializer if tensor.name in read or tensor.data_type != TensorProto.STRING
    ]
    if len(weights) < len(model.graph.initializer):
        copied = [TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
        del model.graph.initializer[:]
        model.graph.initializer.extend(copied)
