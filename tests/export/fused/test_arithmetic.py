"""Small pieces of arithmetic."""

import numpy as np
from cfcam.export.fused.arithmetic import as_index, both_axes, gather_rows, ratio

from .building import evaluated


def test_ratio_of_nothing_is_nothing():
    top, size = np.array([[0, 3, 4]], np.float32), np.array([[0, 2, 8]], np.float32)
    (found,) = evaluated(lambda e, v: [ratio(e, v["a"], v["b"])], a=top, b=size)
    np.testing.assert_array_equal(found, [[0, 1.5, 0.5]])


def test_an_index_is_in_range_whatever_it_is_made_of():
    values = np.array([[-3, 2, 99, np.nan, np.inf]], np.float32)
    (found,) = evaluated(lambda e, v: [as_index(e, v["a"], 4)], a=values)
    assert found[0, :3].tolist() == [0, 2, 3]
    assert ((found >= 0) & (found < 4)).all()


def test_rows_of_each_image():
    table, rows = np.arange(12, dtype=np.float32).reshape(2, 3, 2), np.array([[2, 0], [1, 1]])
    (found,) = evaluated(lambda e, v: [gather_rows(e, v["t"], v["r"])], t=table, r=rows)
    np.testing.assert_array_equal(found, [[[4, 5], [0, 1]], [[8, 9], [8, 9]]])


def test_a_product_for_each_axis():
    maps, rows, columns = (
        np.random.default_rng(i).random(s, np.float32) for i, s in enumerate([(2, 3, 4), (5, 3), (6, 4)])
    )
    (found,) = evaluated(lambda e, v: [both_axes(e, v["m"], rows, columns)], m=maps)
    np.testing.assert_allclose(found, np.einsum("ah,nhw,bw->nab", rows, maps, columns), rtol=1e-5)
