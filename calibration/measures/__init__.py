"""Measures of maps: faithfulness, localisation, class sensitivity, stability; and maps to beat.

Functions for arrays, and objects with update / compute / reset for a loop over batches. They reach a
network through two callables, images -> probabilities and images, classes -> maps;
`EngineAccess` makes both from a ``.cam.onnx`` file.
"""

from .access import EngineAccess
from .base import Explain, Measure, Predict
from .baselines import CentreGaussian, Edges, Random, Uniform, baselines
from .class_sensitivity import ClassSensitivity
from .confidence import Adcc, Confidence, adcc, average_drop, average_increase, coherency, complexity, mask_images
from .insertion_deletion import Curves, InsertionDeletion, fill_images, insertion_deletion
from .localisation import Localisation, box_region, energy_inside, mask_region, pixel_precision, pointing_game
from .mosaics import cell_regions, choose_groups, make_mosaic
from .noise import GradientNoise, InputNoise, MaxSensitivity, gradient_noise
from .ranks import rank_biased_overlap, spearman
from .robustness import Robustness
from .transformations import Brightness, Jpeg, Shift, Transformation, Transformed

__all__ = [
    "Adcc",
    "Brightness",
    "CentreGaussian",
    "ClassSensitivity",
    "Confidence",
    "Curves",
    "Edges",
    "EngineAccess",
    "Explain",
    "GradientNoise",
    "InputNoise",
    "InsertionDeletion",
    "Jpeg",
    "Localisation",
    "MaxSensitivity",
    "Measure",
    "Predict",
    "Random",
    "Robustness",
    "Shift",
    "Transformation",
    "Transformed",
    "Uniform",
    "adcc",
    "average_drop",
    "average_increase",
    "baselines",
    "box_region",
    "cell_regions",
    "choose_groups",
    "coherency",
    "complexity",
    "energy_inside",
    "fill_images",
    "gradient_noise",
    "insertion_deletion",
    "make_mosaic",
    "mask_images",
    "mask_region",
    "pixel_precision",
    "pointing_game",
    "rank_biased_overlap",
    "spearman",
]
