"""Arguments, exit codes and messages of the console command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from numerai_features import __version__
from numerai_features.cli._experiment import ExperimentError
from numerai_features.cli._run import DEMO, run_command
from numerai_features.cli._schema import EXPERIMENT, describe

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
    demo = arguments.command == "demo"
    file = DEMO if demo else arguments.experiment
    try:
        run_command(file, output=arguments.output, quiet=arguments.quiet)
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
    run = commands.add_parser(
        "run",
        help="compare latents with the original features, over folds of eras",
        description="Train the same model on the original features, on originals and "
        "latents, and on originals and random columns, over the same folds of eras. "
        "Finished fits are kept: after Ctrl-C the same command goes on.",
        epilog=f"What an experiment file may hold:\n\n{describe(EXPERIMENT)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("experiment", help="the experiment file (TOML)")
    demo = commands.add_parser(
        "demo",
        help="run a small comparison on synthetic data",
        description="Run a comparison on a synthetic panel, in a minute or two.",
    )
    _add_common(run, "overrides output.folder of the file")
    _add_common(demo, "where results go (default: runs/demo)")
    return parser


def _add_common(parser: argparse.ArgumentParser, output_help: str) -> None:
    parser.add_argument("--output", metavar="FOLDER", help=output_help)
    quiet = "print nothing but errors"
    parser.add_argument("--quiet", action="store_true", help=quiet)
