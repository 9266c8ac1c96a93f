"""The Typer application, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer

from ..runtime.errors import CfcamError, PhotoWarning
from ..runtime.shown import shown_message
from . import (
    adopt,
    audit,
    bench,
    build,
    check,
    compare,
    demo,
    evaluate,
    explain,
    export,
    inspect,
    layers,
    parts,
    serve,
    stream,
    triton,
    tune,
    verify,
)
from .console import DONE, NOT_DONE, note, stderr

__all__ = ["app", "run"]

#: What is called by each name; the group of commands `audit` beside them.
_COMMANDS: dict[str, Callable[..., Any]] = {
    "export": export.export,
    "layers": layers.layers,
    "explain": explain.explain,
    "stream": stream.stream,
    "triton": triton.triton,
    "inspect": inspect.inspect,
    "check": check.check,
    "build": build.build,
    "adopt": adopt.adopt,
    "tune": tune.tune,
    "calibrate": tune.tune,  # its name before, which is not shown; `_options` says so
    "parts": parts.parts,
    "evaluate": evaluate.evaluate,
    "verify": verify.verify,
    "bench": bench.bench,
    "serve": serve.serve,
    "compare": compare.compare,
    "demo": demo.demo,
}


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"cfcam {version('cfcam')}")
        raise typer.Exit()


def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="As --verbose, in detail; and what an error was made from, as a traceback.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Say on stderr what is being done (before or after the command).")
    ] = False,
) -> None:
    if context.invoked_subcommand == "calibrate":
        print("cfcam: 'cfcam calibrate' is now called 'cfcam tune'; the old name will go", file=sys.stderr)


def _with(commands: Iterable[str], groups: Iterable[str]) -> typer.Typer:
    """The application with some of its commands: Typer takes as long to look at all options as numpy to be imported."""
    made = typer.Typer(
        name="cfcam",
        help="Visual explanations that deploy: classifiers exported with their gradients inside.",
        epilog="Exit codes: 0 done; 1 done, but some inputs failed or a check was missed; 2 not done; 130 stopped by "
        "Ctrl-C, 143 by SIGTERM.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_options)
    for name in commands:
        made.command(name, hidden=name == "calibrate")(_COMMANDS[name])
    if "audit" in groups:
        made.add_typer(audit.app, name="audit")
    return made


app = _with(_COMMANDS, ["audit"])


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Every error is one line on stderr. Anywhere before ``--``, ``--verbose`` adds what is logged under ``cfcam``, and
    ``--debug`` everything that is logged, with the traceback of an error and of the errors that it was made from.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    arguments, debug = _take(arguments, "--debug")
    arguments, verbose = _take(arguments, "--verbose")
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):  # an image may have a name that the terminal cannot show
            output.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    level = logging.DEBUG if debug else logging.INFO if verbose else None
    try:
        with _stoppable(), warnings.catch_warnings(), _logging(level):
            if not debug and not sys.warnoptions:  # libraries warn about themselves
                warnings.simplefilter("ignore")
            warnings.simplefilter("always", PhotoWarning)
            warnings.showwarning = _show_warning
            asked = _with(arguments[:1], []) if arguments and arguments[0] in _COMMANDS else app
            code = asked(arguments, standalone_mode=False, prog_name="cfcam")
            sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) went away
        _abandon_stdout()
        return NOT_DONE
    except SystemExit:  # Typer's own answer to a reader that went away
        return NOT_DONE
    except (KeyboardInterrupt, typer.Abort):
        return _stopped(signal.SIGINT)
    except _Stopped as stopped:
        return _stopped(stopped.signal)
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
        return _stopped(signal.SIGINT)
    return code if isinstance(code, int) else DONE


def _show_warning(message: Warning | str, category: type[Warning], filename: str, line: int, *more: Any) -> None:
    """Ours are remarks like any other; those of libraries look as they do elsewhere."""
    if issubclass(category, PhotoWarning):
        note(f"cfcam: warning: {message}", stderr())
    else:
        print(warnings.formatwarning(message, category, filename, line), end="", file=sys.stderr)


def _take(arguments: list[str], option: str) -> tuple[list[str], bool]:
    """The arguments without `option`, and whether it was there, before or after the command."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    others = [argument for argument in arguments[:end] if argument != option]
    return others + arguments[end:], len(others) < end


@contextlib.contextmanager
def _logging(level: int | None) -> Iterator[None]:
    """What is logged under ``cfcam``, from `level` on, goes to stderr; nowhere with None."""
    logger = logging.getLogger("cfcam")
    before = logger.level
    handler = logging.NullHandler() if level is None else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(before if level is None else level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _abandon_stdout() -> None:
    """Let what is still buffered go nowhere: the interpreter flushes once more at exit, and would complain."""
    with contextlib.suppress(OSError, ValueError):  # where no file is behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Stopped(BaseException):
    """A signal that asks the process to end: what is unfinished is removed on the way out, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM, which `timeout` and schedulers send, and the end of the terminal raise `_Stopped` in the block."""

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not cut off the tidying
        raise _Stopped(number)

    if threading.current_thread() is not threading.main_thread():  # no other may set it
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What is ignored stays so: that is how `nohup` works.
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(number: signal.Signals) -> int:
    print("cfcam: interrupted" if number == signal.SIGINT else f"cfcam: stopped by {number.name}", file=sys.stderr)
    return 128 + number


def _usage(error: Exception, debug: bool) -> int:
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help())
        return NOT_DONE
    path = context.command_path if context is not None else "cfcam"
    return _fail(error, f"{message} (see {path} --help)", debug)


def _fail(error: BaseException, message: str, debug: bool) -> int:
    print(f"cfcam: error: {shown_message(message)}", file=sys.stderr)
    if debug:
        import traceback

        traceback.print_exception(error)
    return NOT_DONE
