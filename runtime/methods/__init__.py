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
from .fem import FemSettings, fem
from .finercam import FinerCamSettings, finercam
from .fusioncam import FusionCamSettings, fusioncam
from .gradcam import gradcam
from .gradcam_plus_plus import GradCamPlusPlusSettings, gradcam_plus_plus
from .hirescam import hirescam
from .kpcacam import KpcaCamSettings, kpcacam
from .layercam import layercam
from .probing import Probing
from .reciprocam import ReciproCamSettings, reciprocam
from .refinecam import refinecam
from .registry import Method, get_method, make_settings, method_names, register_probe, register_rule
from .scorecam import ScoreCamSettings, scorecam
from .segeigencam import segeigencam
from .xgradcam import xgradcam

__all__ = [
    "CamResult",
    "CfcamSettings",
    "FemSettings",
    "FinerCamSettings",
    "FloatArray",
    "FusionCamSettings",
    "GradCamPlusPlusSettings",
    "Grouping",
    "KpcaCamSettings",
    "Method",
    "PaperSettings",
    "Probing",
    "ReciproCamSettings",
    "ScoreCamSettings",
    "ablationcam",
    "eigencam",
    "eigengradcam",
    "fem",
    "finercam",
    "fusioncam",
    "get_method",
    "gradcam",
    "gradcam_plus_plus",
    "hirescam",
    "is_pooled",
    "kpcacam",
    "layercam",
    "make_settings",
    "method_names",
    "reciprocam",
    "refinecam",
    "register_probe",
    "register_rule",
    "scorecam",
    "segeigencam",
    "xgradcam",
]
