"""Localisation in the table is what the measure says alone."""

from cfcam.calibration.measures import Localisation


def test_columns_are_those_of_the_measure(case):
    case.same(Localisation().update(case.maps, case.region))
