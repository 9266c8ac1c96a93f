"""The measures of `cfcam evaluate`, in the order of the table's columns."""

from .faithfulness import ADCC, CLASS_SENSITIVITY, INSERTION_DELETION, INSERTION_DELETION_MEAN
from .localisation import LOCALISATION, MOSAICS
from .registry import register_measure
from .stability import GRADIENT_NOISE, INPUT_NOISE, MAX_SENSITIVITY, ROBUSTNESS, TRANSFORMED

for _measure in (
    ADCC,
    INSERTION_DELETION,
    CLASS_SENSITIVITY,
    GRADIENT_NOISE,
    LOCALISATION,
    INSERTION_DELETION_MEAN,
    INPUT_NOISE,
    TRANSFORMED,
    MAX_SENSITIVITY,
    ROBUSTNESS,
    MOSAICS,
):
    register_measure(_measure)
