"""The table of commands: a new command needs an entry here and a module like `_run`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numerai_features.cli import _fit, _run, _tournament, _zoo


@dataclass(frozen=True)
class Command:
    """One command of the console program.

    Attributes
    ----------
    help : str
        One line, for the list of commands.
    add_arguments : callable
        Adds the command's arguments and help text to its parser; ``--json`` and
        ``--quiet`` are added to every command.
    run : callable
        Runs the command with the parsed arguments, and returns what ``--json`` prints:
        a dict of JSON's types, paths and numbers; None for ``{}``. It imports heavy
        libraries itself, so that ``--help`` does not need them. It tells by `say`, and
        raises errors.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], dict[str, Any] | None]


COMMANDS = {
    "download": Command(
        "download Numerai's files, as far as they have changed",
        _tournament.add_download_arguments,
        _tournament.run_download,
    ),
    "prepare": Command(
        "make the panel of an experiment's files",
        _fit.add_prepare_arguments,
        _fit.prepare,
    ),
    "run": Command(
        "compare latents with the original features, over folds of eras",
        _run.add_run_arguments,
        _run.run,
    ),
    "fit": Command(
        "fit an arm of an experiment on all eras",
        _fit.add_fit_arguments,
        _fit.fit,
    ),
    "evaluate": Command(
        "score a fitted model on later eras",
        _fit.add_evaluate_arguments,
        _fit.evaluate,
    ),
    "predict": Command(
        "predict live rows with a fitted model, as a csv",
        _fit.add_predict_arguments,
        _fit.predict,
    ),
    "export": Command(
        "write a fitted model as one file for uploads",
        _fit.add_export_arguments,
        _fit.export,
    ),
    "submit": Command(
        "submit predictions for the open round, or upload a model",
        _tournament.add_submit_arguments,
        _tournament.run_submit,
    ),
    "weekly": Command(
        "wait for a round, predict it with a fitted model, and submit, once",
        _tournament.add_weekly_arguments,
        _tournament.run_weekly,
    ),
    "scores": Command(
        "show Numerai's scores of your models beside what was submitted",
        _tournament.add_scores_arguments,
        _tournament.run_scores,
    ),
    "demo": Command(
        "run a small comparison on synthetic data",
        _run.add_demo_arguments,
        _run.demo,
    ),
    "zoo": Command(
        "list experiments that are ready to run, or write one",
        _zoo.add_zoo_arguments,
        _zoo.run_zoo,
    ),
}
