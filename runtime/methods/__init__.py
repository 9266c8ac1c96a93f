"""Every method behind one registry; importing this package registers them all.

`cfcam` is the default, `gradcam`, `hirescam` and `layercam` are reference points, and
`cfcam-paper` and `cfcam-released` are CF-CAM as published. ``docs/method.md`` has the formulas.
"""

from .base import CamResult, Grouping, Method, get_method, make_settings, method_names, register_rule
from .cfcam import CfcamSettings, is_pooled
from .published import PaperSettings
from .reference import gradcam, hirescam, layercam

__all__ = [
    "CamResult",
    "CfcamSettings",
    "Grouping",
    "Method",
    "PaperSettings",
    "get_method",
    "gradcam",
    "hirescam",
    "is_pooled",
    "layercam",
    "make_settings",
    "method_names",
    "register_rule",
]
