"""Another precision for an explained file: the network that will run is made first, and differentiated afterwards.

`lower` is the whole way. Needs onnx and ONNX Runtime (for its quantiser and its float16 converter), no PyTorch.
"""

from .lower import Lowered, lower
from .plan import Plan

__all__ = ["Lowered", "Plan", "lower"]
