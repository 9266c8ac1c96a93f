"""Utilities on ONNX graphs: loading, asking, small passes, cutting. Needs the onnx package only."""

from .batchnorm import fold_batch_norms
from .branches import take_known_branches
from .extraction import extract, value_info
from .folding import fold_constants
from .graph import Graph, Shape, attribute
from .loading import LARGE_WEIGHT, load_model, save_model, tensor_bytes, without_weights
from .normalise import MINIMUM_OPSET, PREFERRED_OPSET, normalise, open_graph
from .pruning import prune, share_subexpressions

__all__ = [
    "LARGE_WEIGHT",
    "MINIMUM_OPSET",
    "PREFERRED_OPSET",
    "Graph",
    "Shape",
    "attribute",
    "extract",
    "fold_batch_norms",
    "fold_constants",
    "load_model",
    "normalise",
    "open_graph",
    "prune",
    "save_model",
    "share_subexpressions",
    "take_known_branches",
    "tensor_bytes",
    "value_info",
    "without_weights",
]
