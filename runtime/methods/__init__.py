"""Every method by name. This is the one place that fills the registry: a new method's module is imported here.

`cfcam` is the default, `cfcam-paper` and `cfcam-released` are CF-CAM as published, and the others are the well-known
rules and probes to compare with. ``docs/method.md`` has the formulas.
"""

from .ablationcam import ablationcam
from .base import CamResult, FloatArray, Grouping
from .cfcam.method import CfcamSettings, is_pooled
from .cfcam.published import PaperSettings
from .eigencam import eigencam
from .eigengradcam import eigengradcam
from .fusioncam import FusionCamSettings, fusioncam
from .gradcam import gradcam
from .gradcam_plus_plus import GradCamPlusPlusSettings, gradcam_plus_plus
from .hirescam import hirescam
from .layercam import layercam
from .probing import Probing
from .reciprocam import ReciproCamSettings, reciprocam
from .registry import Method, get_method, make_settings, method_names, register_probe, register_rule
from .scorecam import ScoreCamSettings, scorecam
from .xgradcam import xgradcam

__all__ = [
    "CamResult",
    "CfcamSettings",
    "FloatArray",
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
