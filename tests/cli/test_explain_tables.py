"""What the table says of several classes."""

from cfcam.cli.explain_tables import print_results


def entry(target, label, **more):
    return {
        "image": "a.jpg",
        "target": target,
        "label": label,
        "probability": 0.25,
        "peak": [0.5, 0.25],
        "output": None,
        **more,
    }


def test_a_class_and_the_one_that_it_is_set_against(capsys):
    print_results(
        [entry(3, "dog", against={"target": 4, "label": "cat"}), entry(5, "5", against={"target": 6, "label": "6"})]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split("  ")[1].strip() == "dog (3) against cat (4)"
    assert lines[2].split("  ")[1].strip() == "5 against 6"


def test_the_best_classes_are_listed_once_for_a_photo(capsys):
    best = [{"label": "dog", "probability": 0.25}, {"label": "cat", "probability": 0.125}]
    print_results([entry(3, "dog", top=best), entry(4, "cat", top=best)])
    out = capsys.readouterr().out
    assert out.count("2. cat") == 1
    assert "12.5%" in out
