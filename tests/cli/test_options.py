"""Values of options, checked before minutes are spent."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from cfcam.cli.options import check_name, json_object, needing
from cfcam.runtime.errors import MethodError, MissingDependencyError, OutputError


def test_a_json_object() -> None:
    assert json_object(None, "--settings") is None
    assert json_object('{"a": [1, null]}', "--settings") == {"a": [1, None]}
    with pytest.raises(typer.BadParameter, match=r"--settings: expected a JSON object such as .*, got: \[1\]"):
        json_object("[1]", "--settings")
    with pytest.raises(MethodError, match=r"--settings \{a: 1\}: ") as caught:
        json_object("{a: 1}", "--settings")
    assert "\n" not in str(caught.value)


def test_a_file_by_its_ending_and_its_place(tmp_path: Path) -> None:
    check_name(None, "--report", ".html")
    check_name(str(tmp_path / "new" / "R.HTML"), "--report", ".html")
    assert list(tmp_path.iterdir()) == [], "nothing is written yet"
    with pytest.raises(typer.BadParameter, match=r"--sheet: expected a name that ends in \.png or \.jpg, got r\.pdf"):
        check_name("r.pdf", "--sheet", ".png", ".jpg")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written there"):
        check_name(str(tmp_path / "file" / "r.html"), "--report", ".html")


def test_a_package_that_is_missing_names_the_extra() -> None:
    lacking = ModuleNotFoundError("No module named 'polygraphy.x'", name="polygraphy.x")
    words = r"^verifying needs polygraphy\.x: install cfcam\[rtx\]$"
    with pytest.raises(MissingDependencyError, match=words), needing("verifying", "rtx", "polygraphy"):
        raise lacking
    for error in (ModuleNotFoundError("No module named 'mine'", name="mine"), ImportError("broken")):
        with pytest.raises(ImportError) as caught, needing("verifying", "rtx", "polygraphy"):
            raise error
        assert caught.value is error
