"""What operators do to axes, against numpy: the layout that is followed finds every cell where numpy has put it."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.axes.algebra import (
    Axes,
    Root,
    best_known,
    blank,
    broadcast,
    count,
    forget,
    fresh,
    has_place,
    image_axes,
    is_assumed,
    joined,
    layout_of,
    plain_kind,
    planar,
    regroup,
    resized,
    sliced,
    without,
)

BATCH = Root("N", 7)
SIZES = (7, 3, 4, 6)
CELLS = np.arange(7 * 3 * 4 * 6).reshape(SIZES)
Step = tuple[str, tuple[int, ...]]


def follow(*steps: Step) -> tuple[Axes, np.ndarray]:
    """The image's axes and its numbered cells after reshapes ("to") and transpositions ("turn")."""
    axes, cells = image_axes(BATCH, SIZES), CELLS
    for what, values in steps:
        if what == "to":
            axes, cells = regroup(axes, values), cells.reshape(values)
        else:
            axes, cells = tuple(axes[i] for i in values), cells.transpose(values)
        assert tuple(count(axis) for axis in axes) == cells.shape
    return axes, cells


TURNED: dict[str, tuple[str, list[Step]]] = {
    "as it is": ("NCHW", []),
    "channels last": ("NHWC", [("turn", (0, 2, 3, 1))]),
    "there and back": ("NCHW", [("turn", (0, 2, 3, 1)), ("to", (7, 24, 3)), ("turn", (0, 2, 1)), ("to", SIZES)]),
    "tokens": ("NTC", [("to", (7, 3, 24)), ("turn", (0, 2, 1))]),
    "tokens by columns": ("NTC", [("turn", (0, 3, 2, 1)), ("to", (7, 24, 3))]),
    "windows": ("NTC", [("to", (7, 3, 2, 2, 2, 3)), ("turn", (0, 2, 4, 3, 5, 1)), ("to", (7, 24, 3))]),
    "windows undone": (
        "NCHW",
        [
            ("to", (7, 3, 2, 2, 2, 3)),
            ("turn", (0, 2, 4, 3, 5, 1)),
            ("to", (28, 6, 3)),
            ("to", (7, 2, 2, 2, 3, 3)),
            ("turn", (0, 5, 1, 3, 2, 4)),
            ("to", SIZES),
        ],
    ),
}


@pytest.mark.parametrize("name", TURNED)
def test_cells_are_found_where_numpy_put_them(name: str) -> None:
    kind, steps = TURNED[name]
    axes, cells = follow(*steps)
    layout = layout_of(axes)
    assert layout is not None
    assert layout.kind == kind
    np.testing.assert_array_equal(layout.to_nchw(cells), CELLS)


LOST: dict[str, list[Step]] = {
    "sizes that share no split": [("to", (7, 3, 3, 8))],
    "rows among the channels": [("turn", (0, 2, 1, 3))],
    "windows in the batch": [("to", (7, 3, 2, 2, 6)), ("turn", (0, 2, 1, 3, 4)), ("to", (14, 3, 2, 6))],
    "two axes": [("to", (7, 72))],
}


@pytest.mark.parametrize("name", LOST)
def test_without_both_sides_of_the_grid_there_is_no_layout(name: str) -> None:
    assert layout_of(follow(*LOST[name])[0]) is None


def test_blocks_whose_cells_are_channels_are_a_coarser_grid() -> None:
    """Pixel unshuffling: blocks of 2 x 3 cells, whose own cells count as channels."""
    axes, cells = follow(("to", (7, 3, 2, 2, 2, 3)), ("turn", (0, 2, 4, 1, 3, 5)), ("to", (7, 2, 2, 18)))
    layout = layout_of(axes)
    assert layout is not None
    assert (layout.kind, layout.grid((2, 2, 18))) == ("NHWC", (18, 2, 2))
    rows = layout.to_nchw(cells)[0, 0]
    np.testing.assert_array_equal(rows, CELLS[0, 0, ::2, ::3])


@pytest.mark.parametrize("keep", [True, False])
def test_a_mean_over_neighbours_leaves_coarser_rows(keep: bool) -> None:
    """Rows as 2 pairs: without the place in the pair, pairs are rows; without the pair, nothing is known."""
    axes, _ = follow(("to", (7, 3, 2, 2, 6)))
    neighbours = regroup(without(axes, [3], keep), (7, 3, 2, 6))
    layout = layout_of(neighbours)
    assert layout is not None
    assert (layout.kind, plain_kind(neighbours[2]), count(neighbours[2])) == ("NCHW", "H", 2)
    assert layout_of(regroup(without(axes, [2], keep), (7, 3, 2, 6))) is None


def test_a_mean_over_the_grid_leaves_no_place() -> None:
    axes = image_axes(BATCH, SIZES)
    assert without(axes, [2, 3], keep=False) == axes[:2]
    assert without(axes, [2, 3], keep=True) == (*axes[:2], (), ())


def with_class_token() -> Axes:
    """(7, 1 + 24, 3)."""
    grid, _ = follow(("to", (7, 3, 24)), ("turn", (0, 2, 1)))
    token = (grid[0], fresh("?", 1), grid[2])
    return joined([token, grid], [1, 24], 1, (7, 25, 3))


def test_tokens_of_no_place_stand_before_and_behind_the_grid() -> None:
    layout = layout_of(with_class_token())
    assert layout is not None
    assert (layout.kind, layout.prefix, layout.suffix, layout.grid((25, 3))) == ("NTC", 1, 0, (3, 4, 6))
    grid, _ = follow(("to", (7, 3, 24)), ("turn", (0, 2, 1)))
    behind = layout_of(joined([grid, None], [24, 2], 1, (7, 26, 3)))
    assert behind is not None
    assert (behind.prefix, behind.suffix) == (0, 2)


def test_a_cut_finds_the_grid_of_the_tokens_again_or_loses_it() -> None:
    tokens = with_class_token()
    whole = (tokens[0], sliced(tokens[1], 1, 24), tokens[2])
    layout = layout_of(whole)
    assert layout is not None
    assert (layout.prefix, layout.grid((24, 3))) == (0, (3, 4, 6))
    for start, size in ((0, 24), (2, 23), (-1, 24)):
        assert layout_of((tokens[0], sliced(tokens[1], start, size), tokens[2])) is None
    assert sliced(tokens[1], 0, 25) is tokens[1]


def test_cut_rows_are_rows() -> None:
    rows = image_axes(BATCH, SIZES)[2]
    assert (plain_kind(sliced(rows, 1, 2)), count(sliced(rows, 1, 2))) == ("H", 2)
    assert resized(rows, 4) is rows
    halves = regroup(image_axes(BATCH, SIZES), (7, 3, 2, 2, 6))
    assert plain_kind(resized(halves[3], 5)) == "T", "places, but neither rows nor columns"


def test_grids_put_behind_each_other_have_no_place() -> None:
    axes = image_axes(BATCH, SIZES)
    assert plain_kind(joined([axes, axes], [3, 3], 1, (7, 6, 4, 6))[1]) == "C"
    assert plain_kind(joined([axes, axes], [7, 7], 0, (14, 3, 4, 6))[0]) == "?"
    assert layout_of(joined([axes, axes], [3, 3], 1, (7, 6, 4, 6))) is not None


def test_element_by_element_the_side_that_knows_places_decides() -> None:
    axes = image_axes(BATCH, SIZES)
    unknown = tuple(fresh("?", size) for size in SIZES)
    assert broadcast([unknown, axes], SIZES, BATCH) == axes
    bias = (fresh("C", 3), (), ())
    assert broadcast([bias, axes], SIZES, BATCH) == (axes[0], bias[0], *axes[2:]), "the first that knows the channels"
    assert best_known([fresh("?", 4), axes[1], axes[2]], 4) == axes[2]
    assert plain_kind(best_known([], 4)) == "?"


def test_convolutions_keep_rows_and_columns_and_take_those_of_others_as_assumed() -> None:
    image = image_axes(BATCH, SIZES)
    made = planar(image, (7, 16, 2, 3), BATCH)
    assert made is not None
    assert [plain_kind(axis) for axis in made] == ["N", "C", "H", "W"]
    assert not is_assumed(made)
    unknown = (image[0], *(fresh("?", size) for size in SIZES[1:]))
    other = planar(unknown, (7, 16, 2, 3), BATCH)
    assert other is not None
    assert layout_of(other) is not None
    assert is_assumed(other)
    turned = planar((image[0], image[1], image[3], image[2]), (7, 16, 3, 2), BATCH)
    assert turned is not None
    assert layout_of(turned) is None, "columns where rows belong"
    assert planar(image[:3], (7, 16, 2), BATCH) is None


def test_an_only_row_that_is_enlarged_is_rows() -> None:
    image = image_axes(BATCH, (7, 3, 1, 6))
    assert image[2] == ()
    made = planar(image, (7, 3, 2, 12), BATCH)
    assert made is not None
    assert (plain_kind(made[2]), plain_kind(made[3])) == ("H", "W")


def test_the_batch_is_known_by_its_size() -> None:
    assert blank(BATCH, 7)[0].root is BATCH
    assert plain_kind(blank(BATCH, 5)) == "?"
    assert fresh("H", 1) == ()


def test_what_is_picked_is_no_longer_whole() -> None:
    axes, _ = follow(("to", (7, 3, 2, 2, 6)))
    assert not has_place(forget(axes[2], axes[3])), "the pairs of rows, after one row of each was picked"
    assert forget(axes[4], axes[3]) is axes[4]
