"""The Typer application, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from ..runtime.errors import CfcamError
from . import adopt, bench, build, check, compare, demo, evaluate, explain, export, inspect, layers, parts, verify
from . import tune as calibrate
from .exitcodes import DONE, NOT_DONE

__all__ = ["app", "run"]

app = typer.Typer(
    name="cfcam",
    help="Visual explanations that deploy: classifiers exported with their gradients inside.",
    epilog="Exit codes: 0 done; 1 done, but some inputs failed or a check was missed; 2 not done.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("export")(export.export)
app.command("layers")(layers.layers)
app.command("explain")(explain.explain)
app.command("inspect")(inspect.inspect)
app.command("check")(check.check)
app.command("build")(build.build)
app.command("adopt")(adopt.adopt)
app.command("calibrate")(calibrate.calibrate)
app.command("parts")(parts.parts)
app.command("evaluate")(evaluate.evaluate)
app.command("verify")(verify.verify)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("demo")(demo.demo)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"cfcam {version('cfcam')}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (before or after the command).")
    ] = False,
) -> None:
    pass


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Every error is one line on stderr; ``--debug``, anywhere before ``--``, adds the traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    arguments, debug = _take_debug(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an image may have a name that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with warnings.catch_warnings():
            if not debug and not sys.warnoptions:  # libraries warn about themselves
                warnings.simplefilter("ignore")
            code = app(arguments, standalone_mode=False, prog_name="cfcam")
            sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) went away
        _abandon_stdout()
        return NOT_DONE
    except SystemExit:  # Typer's own answer to a reader that went away
        return NOT_DONE
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except CfcamError as error:
        return _fail(error, str(error), debug)
    except Exception as error:
        if hasattr(error, "format_message"):  # wrong usage: Typer's, or Click's in older versions
            return _usage(error, debug)
        if isinstance(error, OSError) and error.filename is None and error.strerror:
            _abandon_stdout()
            return _fail(error, f"the output cannot be written ({error.strerror})", debug)
        text = " ".join(str(error).split()) or "no message"
        hint = "" if debug else " (a bug, or something that was not foreseen: run it again with --debug)"
        return _fail(error, f"{type(error).__name__}: {text}{hint}", debug)
    if code == 130:  # what Typer makes of Ctrl-C
        return _interrupted()
    return code if isinstance(code, int) else DONE


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return options + arguments[end:], len(options) < end


def _abandon_stdout() -> None:
    """Let what is still buffered go nowhere: the interpreter flushes once more at exit, and would complain."""
    with contextlib.suppress(OSError, ValueError):  # where no file is behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted() -> int:
    print("cfcam: interrupted", file=sys.stderr)
    return NOT_DONE


def _usage(error: Exception, debug: bool) -> int:
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help())
        return NOT_DONE
    path = context.command_path if context is not None else "cfcam"
    return _fail(error, f"{message} (see {path} --help)", debug)


def _fail(error: BaseException, message: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"cfcam: error: {' '.join(message.split())}", file=sys.stderr)
    return NOT_DONE
