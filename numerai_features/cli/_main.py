"""Arguments, exit codes and messages of the console command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from numerai_features import __version__
from numerai_features.cli._commands import COMMANDS
from numerai_features.cli._signals import (
    INTERRUPTED,
    TERMINATED,
    Terminated,
    ignore_ctrl_c,
    listen,
    listening,
)
from numerai_features.experiment import ExperimentError

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
        Exit status: 0 on success; 1 if data or a model cannot be used; 2 if the
        arguments or the experiment file are wrong; 130 after Ctrl-C; 143 after SIGTERM.
    """
    arguments = _make_parser().parse_args(_checked(argv))
    with listening():
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            return _end("Interrupted", INTERRUPTED)
        except Terminated:
            return _end("Terminated", TERMINATED)


def _run(arguments: argparse.Namespace) -> int:
    """Run a command; print the errors that the user's input causes."""
    try:
        COMMANDS[arguments.command].run(arguments)
    except ExperimentError as error:
        print(error, file=sys.stderr)
        return 2
    except Exception as error:
        if not _is_told(error):
            raise
        print(f"Error: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def _is_told(error: Exception) -> bool:
    """Whether to print only the message; pyarrow's errors share no builtin base."""
    arrow = sys.modules.get("pyarrow")
    return isinstance(error, _TOLD) or (
        arrow is not None and isinstance(error, arrow.ArrowException)
    )


def _end(how: str, status: int) -> int:
    print(
        f"\n{how}. Finished fits are kept: the same command resumes from there.",
        file=sys.stderr,
    )
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


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="numerai-features",
        description="Latent features, more rows and honest, era-aware validation for "
        "Numerai.",
    )
    version = f"numerai-features {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help))
    return parser
