"""Did the explanation survive? A file in another precision, or an engine, against its float32 reference.

>>> from cfcam.calibration.verify import Thresholds, verify                              # doctest: +SKIP
>>> report = verify("dogs.fp16.cam.onnx", "dogs.cam.onnx", photos)                       # doctest: +SKIP
>>> bool(report), [failure.text for failure in report.failures]                          # doctest: +SKIP
(True, [])
"""

from ...runtime.moved import old_names
from .results import SCHEMA, VerifyReport
from .run import verify
from .thresholds import Thresholds, VerifyError
from .verdict import Failure, Undecided

__all__ = ["SCHEMA", "Failure", "Thresholds", "Undecided", "VerifyError", "VerifyReport", "verify"]

__getattr__ = old_names(__name__, {"GateError": VerifyError, "GateReport": VerifyReport})
