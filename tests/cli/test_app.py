"""Exit codes, one-line errors and clean streams, whatever happens inside a command."""

import logging
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from typing import Any

import pytest
from cfcam.cli import main
from cfcam.cli.data import data_file
from cfcam.runtime.errors import CfcamError


def cfcam(*arguments, stdout: Any = subprocess.PIPE, env=None):
    """`python -m cfcam.cli` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "cfcam.cli", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(env or {})},
        check=False,
    )


@pytest.fixture
def failing(monkeypatch):
    """Makes `inspect` raise; gives the function that sets what."""

    def set_error(error):
        def raise_it(path):
            raise error

        monkeypatch.setattr("cfcam.runtime.contract.modelfile.read_spec", raise_it)

    return set_error


def test_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cfcam {version('cfcam')}\n"


def test_help_lists_the_commands_and_loads_nothing_heavy():
    code = (
        "import sys; from cfcam.cli import main; rc = main(['--help']); "
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'scipy', 'sklearn', 'PIL', 'numpy'} & set(sys.modules))); "
        "sys.exit(rc)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("export", "explain", "inspect", "demo", "Exit codes"):
        assert command in done.stdout


def test_no_arguments_is_help_and_not_done(capsys):
    assert main([]) == 2
    assert "Usage: cfcam" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explian"], "No such command 'explian'"),
        (["inspect"], "Missing argument"),
        (["inspect", "x.onnx", "--jsn"], "No such option"),
        (["explain", "x.onnx", "a.png", "--batch", "0"], "--batch"),
        (["explain", "x.onnx", "a.png", "--settings", "{"], "not valid JSON"),
        (["explain", "x.onnx", "a.png", "--settings", "[1]"], "expected a JSON object"),
    ],
)
def test_wrong_usage_is_one_line_and_2(capsys, arguments, words):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cfcam: error: ")
    assert words in err
    assert len(err.splitlines()) == 1


def test_our_errors_are_one_line(failing, capsys):
    failing(CfcamError("a.onnx: something\nin two lines"))
    assert main(["inspect", "a.onnx"]) == 2
    assert capsys.readouterr() == ("", "cfcam: error: a.onnx: something in two lines\n")


def test_unforeseen_errors_are_one_line_that_asks_for_debug(failing, capsys):
    failing(ZeroDivisionError("oh"))
    assert main(["inspect", "a.onnx"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cfcam: error: ZeroDivisionError: oh")
    assert "--debug" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(failing, capsys, place):
    failing(ZeroDivisionError("oh"))
    arguments = ["inspect", "a.onnx"]
    arguments.insert(place, "--debug")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.splitlines()[0] == "cfcam: error: ZeroDivisionError: oh"
    assert "Traceback" in err


def test_debug_shows_what_an_error_was_made_from(failing, capsys):
    error = CfcamError("the model cannot be read")
    error.__cause__ = RuntimeError("line 7 of\nthe library's own listing")
    failing(error)
    assert main(["--debug", "inspect", "a.onnx"]) == 2
    first, _, rest = capsys.readouterr().err.partition("\n")
    assert first == "cfcam: error: the model cannot be read"
    assert "the library's own listing" in rest
    assert main(["inspect", "a.onnx"]) == 2
    assert "listing" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "logged"),
    [([], []), (["--verbose"], ["info"]), (["--debug"], ["debug", "info"])],
)
def test_what_is_logged_goes_to_stderr_when_asked(monkeypatch, tiny_path, capsys, options, logged):
    logger = logging.getLogger("cfcam.somewhere")
    level, handlers = logging.getLogger("cfcam").level, [*logging.getLogger("cfcam").handlers]

    def read(path):
        logger.debug("debug")
        logger.info("info")
        raise CfcamError("done")

    monkeypatch.setattr("cfcam.runtime.contract.modelfile.read_spec", read)
    for arguments in ([*options, "inspect", "a.onnx"], ["inspect", "a.onnx", *options]):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        lines = [line.removeprefix("cfcam.somewhere: ") for line in err.splitlines() if "cfcam.somewhere: " in line]
        assert (out, lines) == ("", logged)
    assert logging.getLogger("cfcam").level == level
    assert logging.getLogger("cfcam").handlers == handlers


def test_debug_after_two_dashes_is_a_file(capsys):
    assert main(["inspect", "--", "--debug"]) == 2
    assert capsys.readouterr().err == "cfcam: error: --debug: no such file\n"


def test_ctrl_c_is_one_line_and_has_its_exit_code(failing, capsys):
    failing(KeyboardInterrupt())
    assert main(["inspect", "a.onnx"]) == 130
    assert capsys.readouterr().err.strip() == "cfcam: interrupted"


def test_sigterm_ends_any_command_as_ctrl_c_does(monkeypatch, capsys):
    removed = []

    def stopped(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # a second one does not cut the tidying off
            removed.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("cfcam.runtime.contract.modelfile.read_spec", stopped)
    assert main(["inspect", "a.onnx"]) == 143
    assert removed == [True]
    assert capsys.readouterr().err == "cfcam: stopped by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("count", [1, 20])  # less and more than the buffer of stdout
def test_reader_that_goes_away_leaves_no_traceback(tiny_path, tmp_path, count):
    with data_file("two_dogs.jpg") as photo:
        for i in range(count):
            (tmp_path / f"{i}.jpg").write_bytes(photo.read_bytes())
    read, write = os.pipe()
    os.close(read)
    try:
        done = cfcam("explain", tiny_path("logits"), tmp_path, "--json", "-m", "gradcam", stdout=write)
    finally:
        os.close(write)
    assert done.stderr == ""
    assert done.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_behind_stdout_is_an_error(tiny_path):
    with open("/dev/full", "w") as full:
        done = cfcam("inspect", tiny_path("logits"), "--json", stdout=full)
    assert done.returncode == 2
    assert done.stderr == "cfcam: error: the output cannot be written (No space left on device)\n"


def test_names_that_the_terminal_cannot_show(tiny_path, tmp_path):
    missing = tmp_path / "hündchen-犬.jpg"
    done = cfcam("explain", tiny_path("logits"), missing, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 2
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stderr
