"""Which method explains a model best, on which photos, and how sure that is: `cfcam evaluate` as functions and objects.

>>> from cfcam.calibration.evaluate import Evaluator, evaluate, make_plan, make_table   # doctest: +SKIP
>>> with Explainer("dogs.cam.onnx") as explainer:                                       # doctest: +SKIP
...     evaluation = evaluate(explainer, photos, make_plan(explainer, methods=["cfcam", "gradcam"]))
...     make_table(evaluation).comparisons
"""

from ...runtime.moved import old_names
from .annotations import Annotation, AnnotationError, Annotations, read_boxes, read_masks
from .evaluator import Evaluator, evaluate, run_identity
from .journal import Journal, cached_journal
from .plan import ANNOTATED, Plan, make_plan
from .report import machine, render_report, save_report
from .report.pictures import Case, contact_sheet, pick_cases, save_sheet
from .results import SCHEMA, Evaluation, Measured
from .rows import BASELINES, CONTROLS, Row, make_rows
from .shared import Arrays, SharedEngine
from .table import Cell, Comparison, Table, make_table
from .table_measures.registry import (
    Column,
    Context,
    Sample,
    TableMeasure,
    all_measures,
    get_measure,
    register_measure,
)

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
    "Column",
    "Comparison",
    "Context",
    "Evaluation",
    "Evaluator",
    "Journal",
    "Measured",
    "Plan",
    "Row",
    "Sample",
    "SharedEngine",
    "Table",
    "TableMeasure",
    "all_measures",
    "cached_journal",
    "contact_sheet",
    "evaluate",
    "get_measure",
    "machine",
    "make_plan",
    "make_rows",
    "make_table",
    "pick_cases",
    "read_boxes",
    "read_masks",
    "register_measure",
    "render_report",
    "run_identity",
    "save_report",
    "save_sheet",
]

__getattr__ = old_names(
    __name__,
    {
        "Contender": Row,
        "Figure": Column,
        "Instrument": TableMeasure,
        "all_instruments": all_measures,
        "get_instrument": get_measure,
        "make_contenders": make_rows,
        "register_instrument": register_measure,
    },
)
