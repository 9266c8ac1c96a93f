"""Which method explains a model best, on which photos, and how sure that is: `cfcam evaluate` as functions and objects.

>>> from cfcam.calibration.evaluate import Evaluator, evaluate, make_plan, make_table   # doctest: +SKIP
>>> with Explainer("dogs.cam.onnx") as explainer:                                       # doctest: +SKIP
...     found = evaluate(explainer, photos, make_plan(explainer, methods=["cfcam", "gradcam"]))
...     make_table(found).comparisons
"""

from .annotations import Annotation, AnnotationError, Annotations, read_boxes, read_masks
from .evaluator import Evaluator, evaluate
from .instruments import Context, Figure, Instrument, Sample, all_instruments, get_instrument, register_instrument
from .journal import Journal
from .pictures import Case, contact_sheet, pick_cases, save_sheet
from .plan import ANNOTATED, Plan, make_plan
from .report import machine, render_report, save_report
from .results import SCHEMA, Evaluation, Measured
from .rows import BASELINES, CONTROLS, Contender, make_contenders
from .shared import Arrays, SharedEngine
from .table import Cell, Comparison, Table, make_table

__all__ = [
    "ANNOTATED",
    "BASELINES",
    "CONTROLS",
    "SCHEMA",
    "Annotation",
    "AnnotationError",
    "Annotations",
    "Arrays",
    "Case",
    "Cell",
    "Comparison",
    "Contender",
    "Context",
    "Evaluation",
    "Evaluator",
    "Figure",
    "Instrument",
    "Journal",
    "Measured",
    "Plan",
    "Sample",
    "SharedEngine",
    "Table",
    "all_instruments",
    "contact_sheet",
    "evaluate",
    "get_instrument",
    "machine",
    "make_contenders",
    "make_plan",
    "make_table",
    "pick_cases",
    "read_boxes",
    "read_masks",
    "register_instrument",
    "render_report",
    "save_report",
    "save_sheet",
]
