"""Faithfulness in the table is what the measures say alone."""

from cfcam.calibration.measures import Adcc, ClassSensitivity, InsertionDeletion


def test_columns_are_those_of_the_measures(case):
    predict, explain, photo = case.access.predict, case.access.explain, (case.x, case.classes, case.maps)
    over_mean = InsertionDeletion(predict, steps=8, fill="mean").update(*photo)
    case.same(
        {
            **Adcc(predict, explain).update(*photo),
            **InsertionDeletion(predict, steps=8).update(*photo),
            **{f"{name}_mean": values for name, values in over_mean.items()},
            **ClassSensitivity(explain).update(case.x, case.classes, case.other),
        }
    )
