"""Every method behind one registry; importing this package registers them all.

`cfcam` is the default, `cfcam-paper` and `cfcam-released` are CF-CAM as published, and the
others are the well-known rules to compare with. ``docs/method.md`` has the formulas.
"""

from .base import CamResult, Grouping, Method, get_method, make_settings, method_names, register_rule
from .cfcam import CfcamSettings, is_pooled
from .channel_weights import GradCamPlusPlusSettings, gradcam_plus_plus, xgradcam
from .principal import eigencam, eigengradcam
from .published import PaperSettings
from .reference import gradcam, hirescam, layercam

__all__ = [
    "CamResult",
    "CfcamSettings",
    "GradCamPlusPlusSettings",
    "Grouping",
    "Method",
    "PaperSettings",
    "eigencam",
    "eigengradcam",
    "get_method",
    "gradcam",
    "gradcam_plus_plus",
    "hirescam",
    "is_pooled",
    "layercam",
    "make_settings",
    "method_names",
    "register_rule",
    "xgradcam",
]
