"""No test falls between the run without PyTorch and the one with it."""

from types import SimpleNamespace
from typing import Any

from two_runs import still_to_run, write_passed


def item(name: str, *markers: str) -> Any:
    return SimpleNamespace(nodeid=name, get_closest_marker=lambda marker: marker if marker in markers else None)


def report(name: str, when: str = "call") -> Any:
    return SimpleNamespace(nodeid=name, when=when)


def test_only_what_has_passed_elsewhere_is_left_out(tmp_path):
    file = tmp_path / "passed.txt"
    # A test that was skipped has a report of its setup alone; one in a module that was skipped has none.
    write_passed([report("t.py::b[é-1]"), report("t.py::a"), report("t.py::skipped", "setup"), report("t.py::i")], file)
    items = [item("t.py::a"), item("t.py::skipped"), item("t.py::b[é-1]"), item("t.py::b[é-2]"), item("new.py::a")]
    items.append(item("t.py::i", "everywhere"))
    run, left_out = still_to_run(items, file)
    assert [one.nodeid for one in run] == ["t.py::skipped", "t.py::b[é-2]", "new.py::a", "t.py::i"]
    assert [one.nodeid for one in left_out] == ["t.py::a", "t.py::b[é-1]"]
