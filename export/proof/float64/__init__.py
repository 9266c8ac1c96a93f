"""ONNX graphs in float64 on the CPU, for proofs. Needs the onnx package only.

ONNX Runtime's CPU has no float64 convolution, pooling, resizing and more; ONNX's reference
evaluator has them, minutes slow. Here the slow ones are written with BLAS, the rest is left to
the reference evaluator.
"""

from .evaluator import Evaluator

__all__ = ["Evaluator"]
