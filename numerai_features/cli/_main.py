"""Arguments, exit codes and messages of the console command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from numerai_features import __version__
from numerai_features.cli._commands import COMMANDS
from numerai_features.experiment import ExperimentError

_INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT


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
        or the experiment file are wrong; 130 after Ctrl-C.
    """
    arguments = _make_parser().parse_args(argv)
    try:
        COMMANDS[arguments.command].run(arguments)
    except ExperimentError as error:
        print(error, file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted. What is finished is kept: the same command goes on from "
            "there.",
            file=sys.stderr,
        )
        return _INTERRUPTED
    return 0


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
