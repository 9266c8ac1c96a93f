"""Did the explanation survive? A file in another precision, or an engine, against its float32 reference.

>>> from cfcam.calibration.verify import Thresholds, verify                              # doctest: +SKIP
>>> report = verify("dogs.fp16.cam.onnx", "dogs.cam.onnx", photos)                       # doctest: +SKIP
>>> bool(report), [failure.text for failure in report.failures]                          # doctest: +SKIP
(True, [])
"""

from .errors import GateError
from .results import SCHEMA, GateReport
from .run import verify
from .thresholds import Thresholds
from .verdict import Failure

__all__ = ["SCHEMA", "Failure", "GateError", "GateReport", "Thresholds", "verify"]
