"""Arguments, exit codes and messages of the console command."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from numerai_features import __version__
from numerai_features.cli._commands import COMMANDS
from numerai_features.cli._say import print_json
from numerai_features.cli._signals import (
    INTERRUPTED,
    TERMINATED,
    Terminated,
    ignore_ctrl_c,
    listen,
    listening,
)
from numerai_features.experiment import ExperimentError
from numerai_features.tournament import NoOpenRound, ServerError

UNUSABLE, WRONG, REFUSED, CLOSED = 1, 2, 3, 4
_STATUSES = """Exit status:
  0    done, or there was nothing to do
  1    data, files or a model cannot be used
  2    the arguments or the experiment file are wrong
  3    Numerai's server cannot be reached, or it refused
  4    there is no open round, or not yet
  130  stopped by Ctrl-C, 143 by SIGTERM: the same command goes on from there
"""

# Errors that data, files and parameters cause: only the message is printed. Any other
# error is a bug of this package and keeps its traceback.
_TOLD = (
    ValueError, OSError, ImportError, EOFError, MemoryError, NotImplementedError,
    RecursionError,
)  # fmt: skip


def program() -> None:
    """Run the console command as a whole process, and exit with its status."""
    sleep_sooner()
    listen()
    try:
        status = main()
    except KeyboardInterrupt:  # outside the block in which main handles it
        status = INTERRUPTED
    ignore_ctrl_c()
    sys.exit(status)


def sleep_sooner() -> None:
    """Let idle OpenMP threads, which train trees, sleep soon instead of spinning.

    By default, idle threads wait in a busy loop. If other processes need the same
    cores, the loop takes cores from the threads that it waits for: training took 2 to
    12 times as long. The OpenMP libraries read these environment variables when they
    are loaded. Values that the user has set are kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # GNU's; 300,000 by default
        os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM's, ms; 200 by default


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None uses those of the process.

    Returns
    -------
    int
        Exit status: 0 on success; 1 if data, files or a model cannot be used; 2 if the
        arguments or the experiment file are wrong; 3 if Numerai's server cannot be
        reached or refuses; 4 if there is no open round; 130 after Ctrl-C; 143 after
        SIGTERM.
    """
    given = _checked(argv)
    try:
        arguments = _make_parser().parse_args(given)
    except _UsageError as error:
        print(error, file=sys.stderr)
        if "--json" in (sys.argv[1:] if given is None else given):
            print_json({"error": error.problem, "status": WRONG})
        raise SystemExit(WRONG) from None
    with listening():
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            return _end(arguments, "Interrupted", INTERRUPTED)
        except Terminated:
            return _end(arguments, "Terminated", TERMINATED)


def _run(arguments: argparse.Namespace) -> int:
    """Run a command; print its result, or the error that the user's input causes."""
    aside: Any = contextlib.nullcontext()
    if arguments.json:  # progress and notes must not be mixed with the result
        aside = contextlib.redirect_stdout(sys.stderr)
    try:
        with aside:
            result = COMMANDS[arguments.command].run(arguments)
    except Exception as error:
        status = _status_of(error)
        text = str(error) or type(error).__name__
        if arguments.json:
            print_json({"error": text, "status": status or UNUSABLE})
        if status is None:
            raise
        told = text if isinstance(error, ExperimentError) else f"Error: {text}"
        print(told, file=sys.stderr)
        return status
    if arguments.json:
        print_json(result or {})
    return 0


def _status_of(error: Exception) -> int | None:
    """Return the exit status of an error; None if it is a bug of this package."""
    if isinstance(error, ExperimentError):
        return WRONG
    if isinstance(error, ServerError):
        return REFUSED
    if isinstance(error, NoOpenRound):
        return CLOSED
    return UNUSABLE if _is_told(error) else None


def _is_told(error: Exception) -> bool:
    """Whether to print only the message; pyarrow's errors share no builtin base."""
    arrow = sys.modules.get("pyarrow")
    return isinstance(error, _TOLD) or (
        arrow is not None and isinstance(error, arrow.ArrowException)
    )


def _end(arguments: argparse.Namespace, how: str, status: int) -> int:
    print(
        f"\n{how}. What is finished is kept: the same command resumes from there.",
        file=sys.stderr,
    )
    if arguments.json:
        print_json({"error": how, "status": status})
    return status


def _checked(argv: Sequence[str] | None) -> list[str] | None:
    if argv is None:
        return None
    is_list = isinstance(argv, Sequence) and not isinstance(argv, str)
    if not is_list or not all(isinstance(item, str) for item in argv):
        raise TypeError(
            f'argv must be a list of str, such as ["run", "a.toml"]; got {argv!r}.'
        )
    return list(argv)


class _UsageError(Exception):
    """The arguments are wrong; its text is the usage and the problem."""

    def __init__(self, parser: argparse.ArgumentParser, problem: str) -> None:
        super().__init__(f"{parser.format_usage()}{parser.prog}: error: {problem}")
        self.problem = problem


class _Parser(argparse.ArgumentParser):
    """A parser that raises an error, so that ``--json`` can have it, too."""

    def error(self, message: str) -> NoReturn:
        """Raise the error instead of printing it and leaving."""
        raise _UsageError(self, message)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="numerai-features",
        description="Latent features, more rows and honest, era-aware validation for "
        "Numerai.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"numerai-features {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help)
        command.add_arguments(own)
        quiet = "print nothing but errors and warnings"
        own.add_argument("--quiet", action="store_true", help=quiet)
        own.add_argument(
            "--json",
            action="store_true",
            help="print the result as one JSON object, and everything else to the "
            "standard error",
        )
    return parser
