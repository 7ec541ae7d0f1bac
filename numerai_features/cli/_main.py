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

# What comes of data, files and parameters; anything else is a fault of ours, and its
# traceback is wanted.
_TOLD = (
    ValueError, OSError, ImportError, EOFError, MemoryError, NotImplementedError,
    RecursionError,
)  # fmt: skip


def program() -> None:
    """Be the console command's process, from its start to its end."""
    sleep_sooner()
    listen()
    try:
        status = main()
    except KeyboardInterrupt:  # in a moment in which it began or ended
        status = INTERRUPTED
    ignore_ctrl_c()
    sys.exit(status)


def sleep_sooner() -> None:
    """Have the threads of OpenMP, by which trees are trained, wait asleep.

    They wait for each other in a loop, which on a machine whose cores others want, too,
    takes them from those that they wait for: training took 2 to 12 times as long. What
    is set here is read when a library is loaded, and stays where the user has set it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # GNU's; 300,000 by default
        os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM's, ms; 200 by default


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None is the process's own.

    Returns
    -------
    int
        Exit status: 0; 1 where data or a model cannot be used; 2 where the arguments
        or the experiment file are wrong; 130 after Ctrl-C; 143 after SIGTERM.
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
    """Run a command; tell what goes wrong with what the user gave it."""
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
    """Whether a message says all; pyarrow's errors are of no common other kind."""
    arrow = sys.modules.get("pyarrow")
    return isinstance(error, _TOLD) or (
        arrow is not None and isinstance(error, arrow.ArrowException)
    )


def _end(how: str, status: int) -> int:
    print(
        f"\n{how}. What is finished is kept: the same command goes on from there.",
        file=sys.stderr,
    )
    return status


def _checked(argv: Sequence[str] | None) -> list[str] | None:
    if argv is None:
        return None
    is_list = isinstance(argv, Sequence) and not isinstance(argv, str)
    if not is_list or not all(isinstance(item, str) for item in argv):
        raise TypeError(
            f'argv must be a list of texts, such as ["run", "a.toml"]; got {argv!r}.'
        )
    return list(argv)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="numerai-features",
        description="Latent features, more rows and honest validation for Numerai.",
    )
    version = f"numerai-features {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help))
    return parser
