"""Quantising a plain classifier with QuantizeLinear / DequantizeLinear pairs, by ONNX Runtime's quantiser.

What is ours is where pairs must not be. (1) The quantiser drops a ReLU whose result is quantised, because rounding
to an unsigned type clips as well: a target layer would lose its ReLU. (2) A pair on the logits saturates for an
image more certain than any of the calibration, and a saturated score has the gradient zero: an empty map. (3) A
pair between a target layer and the pooling behind it makes the gradient of a pooled layer differ from cell to cell.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from ...runtime.contract.spec import OutputSpec
from ..errors import ExportError
from ..graph import Graph, open_graph, prune, save_model, share_subexpressions
from ..reverse.score import score_of
from .calibration_images import CalibrationImages
from .plan import Plan

__all__ = ["quantise"]

#: On the way from the classifier's last layer to an output of the model.
_BEHIND_SCORE = {"Cast", "Flatten", "Identity", "LogSoftmax", "Reshape", "Sigmoid", "Softmax", "Squeeze", "Transpose",
                 "Unsqueeze"}  # fmt: skip
_WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")
_CALIBRATORS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


def quantise(
    model: ModelProto,
    plan: Plan,
    images: CalibrationImages,
    folder: Path,
    *,
    score: OutputSpec,
    pooled: Sequence[str] = (),
    ranges: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ModelProto:
    """`model` with its weights (per channel) and activations in INT8, as `plan` says.

    folder: for files on the way. score: what the explained file says of its class scores.
    pooled: target layers that enter a pooling.
    ranges: a file in which the ranges of all values are kept; where it is there, no image is run.
    progress: told (batches done, all). Raises `ExportError`, also where nothing could be quantised.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    # By path: what is given as a model it moves the weights out of, into a file in the working directory.
    plain, target = folder / "float.onnx", folder / "quantised.onnx"
    save_model(model, plain)
    options: dict[str, Any] = {
        "ActivationSymmetric": plan.symmetric,
        "WeightSymmetric": True,
        "QDQKeepRemovableActivations": True,
        # TensorRT adds a bias in the arithmetic's own precision; ONNX Runtime's integer kernels want integers.
        "QuantizeBias": not plan.symmetric,
        # One batch at a time: a quantiser that holds all activations of all images needs gigabytes.
        "CalibStridedMinMax": 1,
        "CalibPercentile": plan.percentile,
    }
    layers: list[str] | None = None
    if plan.symmetric:
        # For TensorRT: pairs on what layers with weights read. One behind a convolution would part it from its ReLU.
        layers = list(_WITH_WEIGHTS)
        options["OpTypesToExcludeOutputQuantization"] = layers
    if ranges is not None:
        ranges.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        try:
            quantize_static(
                str(plain),
                str(target),
                _reader(model.graph.input[0].name, images, progress),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=layers,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QInt8 if plan.symmetric else QuantType.QUInt8,
                calibrate_method=getattr(CalibrationMethod, _CALIBRATORS[plan.calibrator]),
                nodes_to_exclude=[
                    *plan.float_nodes,
                    *(_first(model) if plan.float_first else []),
                    *_behind(model, score.score),
                ],
                calibration_cache_path=None if ranges is None else str(ranges),
                extra_options=options,
            )
        except Exception as error:  # its exceptions have no common base
            raise ExportError(f"ONNX Runtime's quantiser failed: {' '.join(str(error).split())}") from error
    graph, _ = open_graph(onnx.load(target))
    if not any(node.op_type == "QuantizeLinear" for node in graph.nodes):
        raise ExportError("nothing was quantised: the model has no operator that ONNX Runtime can quantise")
    for name in graph.output_names:
        _unquantise_upwards(graph, name)
    value = score_of(graph, score).value
    _unquantise_upwards(graph, value)
    for name in (value, *pooled):
        _unquantise(graph, name)
    share_subexpressions(graph)  # zero points, one vector for each weight
    prune(graph)
    return graph.to_model()


def _behind(model: ModelProto, score: str) -> list[str]:
    """Names of the nodes that the scores go through on their way to the outputs: probabilities are not rounded."""
    reached, names = {score}, []
    for node in model.graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            names.append(node.name)
    return names


def _first(model: ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv"][:1]


def _reader(name: str, images: CalibrationImages, progress: Callable[[int, int], None] | None) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Gives out one batch for each range that is set: ranges come one after the other."""

        def __init__(self) -> None:
            self._all, self._left, self._done = iter(images), 0, 0

        def __len__(self) -> int:
            return len(images)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = end_index - start_index

        def get_next(self) -> dict[str, Any] | None:  # type: ignore[override] - None ends it
            if not self._left:
                return None
            self._left -= 1
            self._done += 1
            if progress is not None:
                progress(self._done, len(images))
            return {name: next(self._all)}

    return Reader()


def _unquantise_upwards(graph: Graph, name: str) -> None:
    """Take away the pairs between `name` and the layer with weights that it comes from."""
    while (node := graph.producers.get(name)) is not None:
        if node.op_type == "DequantizeLinear":
            quantiser = graph.producers.get(node.input[0])
            if quantiser is None or quantiser.op_type != "QuantizeLinear":
                return
            source = quantiser.input[0]
            if name in graph.output_names:
                graph.nodes.remove(node)
                graph.rename(source, name)
            else:
                graph.replace_uses(name, source)
                name = source
        elif node.op_type in _BEHIND_SCORE:
            name = node.input[0]
        else:
            return


def _unquantise(graph: Graph, name: str) -> None:
    """Let what reads the quantised form of `name` read `name` itself."""
    for quantiser in [node for node in graph.consumers.get(name, ()) if node.op_type == "QuantizeLinear"]:
        for back in list(graph.consumers.get(quantiser.output[0], ())):
            if back.op_type == "DequantizeLinear" and back.output[0] not in graph.output_names:
                graph.replace_uses(back.output[0], name)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints, and advises at the top of Python's logging; what goes wrong it raises."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
