"""Every method behind one registry; importing this package registers them all.

`cfcam` is the default, `cfcam-paper` and `cfcam-released` are CF-CAM as published, and the
others are the well-known rules and probes to compare with. ``docs/method.md`` has the formulas.
"""

from .ablationcam import ablationcam
from .base import (
    CamResult,
    Grouping,
    Method,
    get_method,
    make_settings,
    method_names,
    register_probe,
    register_rule,
)
from .cfcam.method import CfcamSettings, is_pooled
from .channel_weights import GradCamPlusPlusSettings, gradcam_plus_plus, xgradcam
from .fusioncam import FusionCamSettings, fusioncam
from .principal import eigencam, eigengradcam
from .probing import Probing
from .published import PaperSettings
from .reciprocam import ReciproCamSettings, reciprocam
from .reference import gradcam, hirescam, layercam
from .scorecam import ScoreCamSettings, scorecam

__all__ = [
    "CamResult",
    "CfcamSettings",
    "FusionCamSettings",
    "GradCamPlusPlusSettings",
    "Grouping",
    "Method",
    "PaperSettings",
    "Probing",
    "ReciproCamSettings",
    "ScoreCamSettings",
    "ablationcam",
    "eigencam",
    "eigengradcam",
    "fusioncam",
    "get_method",
    "gradcam",
    "gradcam_plus_plus",
    "hirescam",
    "is_pooled",
    "layercam",
    "make_settings",
    "method_names",
    "reciprocam",
    "register_probe",
    "register_rule",
    "scorecam",
    "xgradcam",
]
