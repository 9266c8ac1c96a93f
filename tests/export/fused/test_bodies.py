"""Loops."""

import numpy as np
from cfcam.export.fused.bodies import loop

from .building import evaluated


def test_what_is_carried_what_is_left_behind_and_when_to_stop():
    def build(e, values):
        around = values["a"] * 2.0

        def turn(body, number, state):
            inner = body.emitter
            after = state[0] + body.outer(around)
            total = inner.reduce("ReduceSum", after, [0, 1], keepdims=False)
            return total < 30.0, [after], [inner.cast(number, 1)]

        ends, rows = loop(e, "t_loop", e.constant(np.array(9)), [values["a"]], turn, scanned=1)
        return [*ends, *rows]

    end, turns = evaluated(build, a=np.array([[1, 2]], np.float32))
    # 3 + 6 t: 9, 15, 21, 27, 33
    np.testing.assert_array_equal(end, [[11, 22]])
    np.testing.assert_array_equal(turns, [0, 1, 2, 3, 4])
