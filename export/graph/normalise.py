"""Bringing any model into the one form that the other passes expect.

After `normalise`:

1. there are no model-local functions (inlined);
2. every constant is an initializer, none is a Constant node, none is listed as an input;
3. the default opset is at least `MINIMUM_OPSET`, converted to `PREFERRED_OPSET` where the
   converter can;
4. every node has a name, and no two share one;
5. Identity nodes are gone, except where they give an output its name;
6. Einsum equations are in small letters, without spaces.
"""

from __future__ import annotations

import string

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import onnx.version_converter
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...runtime.errors import CfcamError, ModelFileError
from ..errors import ExportError
from ..wording import first_line
from .checking import check_nodes, check_tensors, check_values
from .graph import Graph, attribute, captured_names, subgraphs
from .loading import LARGE_WEIGHT, tensor_bytes, without_weights

__all__ = ["MINIMUM_OPSET", "NEWEST_OPSET", "PREFERRED_OPSET", "normalise", "open_graph"]

#: The newest operator set whose operators were compared with the rules. A newer one may have
#: given an operator another meaning, which a rule would silently miss.
NEWEST_OPSET = 28

#: What the rules can write; older models must be converted.
MINIMUM_OPSET = 13
#: What older models are converted to.
PREFERRED_OPSET = 18

_EXPANDED = {"CenterCropPad", "RotaryEmbedding"}


def normalise(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """A normalised copy of `model`, and sentences about what was changed that users should know.

    Raises `ExportError` for a model that cannot be brought there, `ModelFileError` for one
    that is not valid ONNX.
    """
    result, large, notes = _normalised(model)
    result.graph.initializer.extend(large)
    return result, notes


def open_graph(model: ModelProto) -> tuple[Graph, list[str]]:
    """The normalised model as a `Graph`, and the notes. Large weights are shared with `model`, not copied.

    Raises what `normalise` raises.
    """
    result, large, notes = _normalised(model)
    return Graph(result, weights=large), notes


def _normalised(model: ModelProto) -> tuple[ModelProto, list[TensorProto], list[str]]:
    """(normalised model without its large weights, those weights, notes)."""
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise ModelFileError(
            f"the model is of IR version {model.ir_version}, the installed onnx package knows 1 to {onnx.IR_VERSION}: "
            "upgrade onnx, or export the model again with an older one"
        )
    try:
        check_tensors(model)
        check_values(model)
        return _passes(model)
    except CfcamError:
        raise
    except Exception as error:  # ONNX's C++ helpers and protobuf have no common base, nor a complete list
        raise ModelFileError(f"the model is not valid ONNX ({type(error).__name__}: {first_line(error)})") from error


def _passes(model: ModelProto) -> tuple[ModelProto, list[TensorProto], list[str]]:
    notes: list[str] = []
    initial = {t.name for t in model.graph.initializer}

    def whole(slim: ModelProto) -> ModelProto:
        # Weights that the source lists as inputs too are constants all the same.
        inputs = [i for i in slim.graph.input if i.name not in initial or i.name in weight_names]
        del slim.graph.input[:]
        slim.graph.input.extend(inputs)
        if slim.functions:
            notes.append(f"{len(slim.functions)} model-local functions were inlined")
            try:
                slim = onnx.inliner.inline_local_functions(slim, convert_version=True)
            except Exception as error:
                raise ModelFileError(f"the model's functions cannot be inlined ({first_line(error)})") from error
        _unique_node_names(slim)
        _drop_trailing_blanks(slim)
        _default_opset(slim)
        check_nodes(slim)
        slim = _expand_functions(slim)
        _one_import_per_domain(slim)
        _sort(slim)
        _free_negative_sizes(slim, notes)
        _lift_constants(slim)
        slim = _raise_opset(slim, notes)
        _lift_constants(slim)
        _unique_node_names(slim)
        _check_single_assignment(slim)
        _drop_identities(slim)
        _small_letters(slim)
        return slim

    large = [t for t in model.graph.initializer if tensor_bytes(t) > LARGE_WEIGHT]
    weight_names = {t.name for t in large}
    result = without_weights(model, whole, restore=False)
    inputs = [i for i in result.graph.input if i.name not in weight_names]
    del result.graph.input[:]
    result.graph.input.extend(inputs)
    return result, large, notes


def _drop_trailing_blanks(model: ModelProto) -> None:
    """An optional input that is left out at the end needs no name; ONNX Runtime 1.32 crashes on some."""
    for node in model.graph.node:
        while node.input and not node.input[-1]:
            del node.input[-1]


def _small_letters(model: ModelProto) -> None:
    """Einsum equations in small letters without spaces: TensorRT refuses what else ONNX allows.

    The letters keep their alphabetical order, which is that of the output where none is written.
    """
    for node in model.graph.node:
        if node.op_type != "Einsum" or node.domain not in ("", "ai.onnx"):
            continue
        equation = "".join(str(attribute(node, "equation", "")).split())
        letters = sorted({c for c in equation if c.isalpha()})
        if len(letters) <= len(string.ascii_lowercase):
            small = str.maketrans(dict(zip(letters, string.ascii_lowercase, strict=False)))
            kept = [a for a in node.attribute if a.name != "equation"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("equation", equation.translate(small))])


def _sort(model: ModelProto) -> None:
    """Nodes in the order in which they can be computed, as they were where that is already so.

    ONNX asks writers for that, not all of them comply, and ONNX Runtime does not mind.
    Raises `ModelFileError` for a cycle.
    """
    nodes = list(model.graph.node)
    makers = {o: i for i, node in enumerate(nodes) for o in node.output if o}
    needs = [{makers[n] for n in {*node.input, *captured_names(node)} if n in makers} for node in nodes]
    if all(j < i for i, before in enumerate(needs) for j in before):
        return
    order: list[int] = []
    state = [0] * len(nodes)  # 0 untouched, 1 waiting for its inputs, 2 placed
    for start in range(len(nodes)):
        stack = [start]
        while stack:
            i = stack[-1]
            if state[i] == 0:
                state[i] = 1
                for j in sorted(needs[i], reverse=True):
                    if state[j] == 1:
                        raise ModelFileError(
                            f"the graph has a cycle: node '{nodes[i].name}' ({nodes[i].op_type}) needs what "
                            f"'{nodes[j].name}' ({nodes[j].op_type}) makes, and the other way round"
                        )
                    if state[j] == 0:
                        stack.append(j)
                continue
            stack.pop()
            if state[i] == 1:
                state[i] = 2
                order.append(i)
    kept = [NodeProto.FromString(nodes[i].SerializeToString()) for i in order]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _expand_functions(model: ModelProto) -> ModelProto:
    """Standard operators without a rule of their own that ONNX itself defines by others are written out."""
    kinds = {n.op_type for n in model.graph.node if n.domain in ("", "ai.onnx")} & _EXPANDED
    if not kinds:
        return model
    # The inliner asks for the types of all values, and looks for those of constants among the inputs only.
    listed = {i.name for i in model.graph.input}
    constants = [t for t in model.graph.initializer if t.name not in listed]
    model.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in constants)
    model = onnx.shape_inference.infer_shapes(model)
    model = onnx.inliner.inline_selected_functions(
        model, [("", kind) for kind in sorted(kinds)], inline_schema_functions=True
    )
    kept = [i for i in model.graph.input if i.name in listed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model


def _one_import_per_domain(model: ModelProto) -> None:
    """``ai.onnx`` is another name of the default domain, and some writers list both."""
    versions = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in versions.items())


def _free_negative_sizes(model: ModelProto, notes: list[str]) -> None:
    """A size of -1 is how some exporters write "any"."""
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if not info.type.HasField("tensor_type"):
            continue
        for dim in info.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 0:
                if info in model.graph.input:
                    notes.append(f"a size of {dim.dim_value} of input '{info.name}' was read as free")
                dim.ClearField("dim_value")


def _lift_constants(model: ModelProto) -> None:
    kept: list[NodeProto] = []
    for node in model.graph.node:
        tensor = _constant_tensor(node)
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
    if len(kept) < len(model.graph.node):
        kept = [NodeProto.FromString(n.SerializeToString()) for n in kept]
        del model.graph.node[:]
        model.graph.node.extend(kept)


def _constant_tensor(node: NodeProto) -> TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.attribute) != 1:
        return None
    item = node.attribute[0]
    value = helper.get_attribute_value(item)
    if item.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(value)
        return tensor
    kinds = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
    if item.name in kinds:
        return numpy_helper.from_array(np.array(value, dtype=kinds[item.name]))
    return None


def _default_opset(model: ModelProto) -> int:
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    if version is None:
        raise ExportError("the model imports no default operator set (ai.onnx): it has no operator that can be derived")
    if version < 1:
        raise ModelFileError(f"the model imports opset {version}, which does not exist: the file is damaged")
    if version > NEWEST_OPSET:
        raise ExportError(
            f"opset {version} is newer than the newest that is known here ({NEWEST_OPSET}): "
            "export the model again with an older opset, or upgrade cfcam"
        )
    return version


def _raise_opset(model: ModelProto, notes: list[str]) -> ModelProto:
    version = _default_opset(model)
    if version >= PREFERRED_OPSET:
        return model
    failures = []
    for target in (PREFERRED_OPSET, MINIMUM_OPSET):
        if version >= target:
            break
        try:
            converted = _convert(model, target)
        except Exception as error:
            failures.append(f"to {target}: {first_line(error)}")
            continue
        notes.append(f"converted from opset {version} to {target}")
        return converted
    if version >= MINIMUM_OPSET:
        return model
    raise ExportError(
        f"opset {version} is older than {MINIMUM_OPSET} and ONNX's converter failed ({'; '.join(failures)}): "
        "export the model again with a newer opset"
    )


def _convert(slim: ModelProto, target: int) -> ModelProto:
    # The converter's in-memory form wants a name on every node and knows the default domain only.
    metadata = list(slim.metadata_props)
    others = [o for o in slim.opset_import if o.domain not in ("", "ai.onnx")]
    if slim.ir_version < 4:
        slim.ir_version = 4
    converted = onnx.version_converter.convert_version(slim, target)
    present = {o.domain for o in converted.opset_import}
    converted.opset_import.extend(o for o in others if o.domain not in present)
    if not converted.metadata_props:
        converted.metadata_props.extend(metadata)
    converted.ir_version = max(slim.ir_version, 8 if target >= 15 else 7)
    return converted


def _unique_node_names(model: ModelProto) -> None:
    seen: set[str] = set()
    for node in model.graph.node:
        base = node.name or f"{node.op_type}_{next((o for o in node.output if o), '')}"
        name, count = base, 0
        while name in seen:
            count += 1
            name = f"{base}_{count}"
        node.name = name
        seen.add(name)


def _check_single_assignment(model: ModelProto) -> None:
    seen = {i.name for i in model.graph.input} | {t.name for t in model.graph.initializer}
    for node in model.graph.node:
        for name in node.input:
            if name and name not in seen:
                raise ModelFileError(
                    f"node '{node.name}' ({node.op_type}) reads '{name}', which no earlier node, input or weight makes"
                )
        for name in node.output:
            if name and name in seen:
                raise ModelFileError(f"value '{name}' is made twice, again by node '{node.name}' ({node.op_type})")
            seen.add(name)
    for output in model.graph.output:
        if output.name not in seen:
            raise ModelFileError(f"output '{output.name}' is made by no node")


def _drop_identities(model: ModelProto) -> None:
    outputs = {o.name for o in model.graph.output}
    if any(True for node in model.graph.node for _ in subgraphs(node)):
        return  # bodies may capture the names
    names: dict[str, str] = {}
    kept: list[NodeProto] = []
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = names.get(name, name)
        if _is_identity(node) and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    if names:
        kept = [NodeProto.FromString(n.SerializeToString()) for n in kept]
        del model.graph.node[:]
        model.graph.node.extend(kept)


def _is_identity(node: NodeProto) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Identity":
        return True
    # Without a training_mode input, Dropout copies its input and the mask is rarely wanted.
    plain = len([n for n in node.input if n]) <= 2 and len([n for n in node.output if n]) == 1
    return node.op_type == "Dropout" and plain and not attribute(node, "training_mode", 0)
