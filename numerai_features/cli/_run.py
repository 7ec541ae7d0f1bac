"""The commands ``run`` and ``demo``."""

from __future__ import annotations

import argparse
import os
import time
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from numerai_features.cli._say import say, say_next
from numerai_features.experiment import Experiment
from numerai_features.experiment._schema import describe
from numerai_features.experiment._tables import ARM, EXPERIMENT, LATENTS_OPTIONS

if TYPE_CHECKING:
    import pandas as pd

_DEMO = files("numerai_features.experiment").joinpath("demo.toml")


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add the experiment file, and whether it is trusted."""
    parser.add_argument("experiment", help="the experiment file (TOML)")
    parser.add_argument(
        "--trusted",
        action="store_true",
        help="allow settings that can access other machines, or files outside the "
        "experiment's folders",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``run``, and the schema of experiment files to its help."""
    parser.description = (
        "Train the same model on the original features, on originals plus latents, and "
        "on originals plus random columns, over the same folds of eras. Finished fits "
        "are kept: after Ctrl-C, the same command resumes."
    )
    parser.epilog = "\n".join(
        [
            "Contents of an experiment file:\n",
            describe(EXPERIMENT),
            describe(LATENTS_OPTIONS, ("latents", "NAME")),
            describe(ARM, ("arms", "NAME")),
        ]
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_experiment(parser)
    _add_common(parser, "output folder (overrides output.folder of the file)")


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``demo``."""
    parser.description = "Run a comparison on a synthetic panel, in a minute or two."
    _add_common(parser, "output folder (default: runs/demo)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run or resume the experiment of a file."""
    told = _run_file(arguments.experiment, arguments, trusted=arguments.trusted)
    say_next(arguments, "fit", arguments.experiment, "--arm", "ARM")
    return told


def demo(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the experiment that is included in the package."""
    with as_file(_DEMO) as file:
        return _run_file(file, arguments, trusted=False)


def _add_common(parser: argparse.ArgumentParser, output_help: str) -> None:
    parser.add_argument("--output", metavar="FOLDER", help=output_help)


def _run_file(
    file: str | os.PathLike[str], arguments: argparse.Namespace, *, trusted: bool
) -> dict[str, Any]:
    start = time.perf_counter()
    # the next lines import libraries, which takes seconds
    say(arguments, f"Reading {os.fspath(file)}")
    experiment = Experiment.from_file(file, arguments.output, trusted=trusted)
    result = experiment.run(verbose=not arguments.quiet)
    say(arguments, f"\n{result}\n\nEverything is in {experiment.folder}")
    say(arguments, f"{time.perf_counter() - start:.0f} seconds.")
    return {
        "folder": experiment.folder,
        "arms": _by_arm(result.summary),
        "differences": _by_arm(result.differences),
        "notes": list(result.notes),
    }


def _by_arm(table: pd.DataFrame) -> dict[str, Any]:
    """Return the rows of a table by their arm."""
    return {str(arm): row for arm, row in table.to_dict("index").items()}
