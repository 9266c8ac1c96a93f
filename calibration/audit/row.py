"""A row of an audit: one photo, flat, and how Parquet stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["COLUMNS", "EARLIER", "FIGURES", "SCHEMA", "UNREPEATED", "Row", "arrow", "arrow_schema", "empty_row"]

#: The version that is written into every part.
SCHEMA = "cfcam.audit-rows/2"

#: What is read as well, and the columns that it lacks.
EARLIER = {"cfcam.audit-rows/1": ("certified_grey_levels", "certified_why_not")}

Row = dict[str, Any]

#: Column -> (type, what it says). Fractions are of the model's input, from its left or upper edge.
COLUMNS: dict[str, tuple[str, str]] = {
    "image": ("string", "the photo's path"),
    "sha256": ("string", "hash of the file's bytes; empty where it could not be read"),
    "target": ("int64", "index of the predicted class, which is explained"),
    "label": ("string", "its label"),
    "probability": ("float64", "its probability"),
    "margin": ("float64", "how far the probability is above that of the second class"),
    "annotated": ("int64", "index of the annotated class; null where none is known"),
    "empty": ("bool", "whether there is no map"),
    "grid": ("list<uint8>", "the map on its grid, row by row, 255 at its maximum"),
    "grid_height": ("int64", "rows of the grid"),
    "grid_width": ("int64", "columns of the grid"),
    "area": ("float64", "share of the input where the map is at least half its maximum"),
    "border": ("float64", "share of the map's sum within a tenth of the side from the border"),
    "centre_x": ("float64", "the map's centre of mass, as a fraction of the width"),
    "centre_y": ("float64", "the same, of the height"),
    "spread": ("float64", "root mean square distance from that centre, in the same fractions"),
    "peak_x": ("float64", "the map's maximum, as a fraction of the width"),
    "peak_y": ("float64", "the same, of the height"),
    "energy_inside": ("float64", "share of the map's sum on the annotated object"),
    "box_share": ("float64", "share of the input that the annotated object takes"),
    "class_sensitivity": ("float64", "1 - correlation with the map of the second class, both at contrast 0"),
    "noise_agreement": ("float64", "rank correlation with the map of the photo with noise"),
    "drop_without": (
        "float64",
        "share of the probability above chance (1 / classes) that is lost without the map's highest fifth",
    ),
    "keep_only": (
        "float64",
        "share of the probability above chance (1 / classes) that is left with the map's highest fifth alone",
    ),
    "without_object": (
        "float64",
        "share of the probability above chance (1 / classes) that is left without the annotated object",
    ),
    "certified_grey_levels": (
        "float64",
        "largest change of all pixels, in levels of 0 to 255, under which the map's top cells provably stay on top; 0 "
        "where nothing was proved",
    ),
    "certified_why_not": ("string", "why nothing was proved"),
    "outlier": ("float64", "distance from the reference profile"),
    "outlier_column": ("string", "the column that is farthest from the profile"),
    "findings": ("list<string>", "names of what was found"),
    "rungs": ("list<string>", "what was measured"),
    "ms": ("float64", "milliseconds from opening the photo to the last rung, on the plan's clock"),
    "over": ("bool", "whether that is more than the budget"),
    "slice": ("string", "the photo's row of the metadata, as JSON"),
    "worker": ("string", "number of the process"),
    "error": ("string", "why the photo could not be audited"),
}

#: All but the maps, which are most of a row's bytes.
FIGURES = tuple(name for name in COLUMNS if name != "grid")

#: What differs from run to run; given the plan, everything else is the same to the last bit.
UNREPEATED = ("ms", "over", "worker")


def empty_row(image: str, sha256: str) -> Row:
    """A row that says nothing yet about a photo."""
    row: Row = dict.fromkeys(COLUMNS)
    return row | {"image": image, "sha256": sha256, "findings": [], "rungs": [], "over": False}


def arrow() -> Any:
    """pyarrow, with what rows need of it. Raises `MissingDependencyError`."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError("an audit's rows need pyarrow: install cfcam[audit]") from error
    return pyarrow


def arrow_schema() -> pyarrow.Schema:
    """How Parquet stores rows, with the schema's version in its metadata."""
    pa = arrow()
    kinds = {
        "string": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "list<uint8>": pa.list_(pa.uint8()),
        "list<string>": pa.list_(pa.string()),
    }
    fields = [pa.field(name, kinds[kind]) for name, (kind, _) in COLUMNS.items()]
    return pa.schema(fields, metadata={"cfcam.schema": SCHEMA})
