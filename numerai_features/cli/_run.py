"""The commands ``run`` and ``demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from numerai_features.cli._experiment import Experiment, read_experiment
from numerai_features.cli._files import replacing

if TYPE_CHECKING:
    import pandas as pd

DEMO = Path(__file__).with_name("_demo.toml")


def run_command(file: str | Path, *, output: str | None, quiet: bool) -> None:
    """Run the comparison of an experiment file, or go on with it.

    Parameters
    ----------
    file : path
        The experiment file.
    output : str or None
        Overrides the file's ``output.folder``.
    quiet : bool
        Whether to print nothing.

    Raises
    ------
    ExperimentError
        If the file is wrong, or the output folder holds another experiment.
    ValueError, OSError, ImportError
        If the data, the folds or the model cannot be made.
    """
    start = time.perf_counter()
    experiment = read_experiment(file, output=output)
    text = run_experiment(experiment, quiet=quiet)
    if not quiet:
        print(f"\n{text}\n\nEverything is in {experiment.folder}")
        print(f"{time.perf_counter() - start:.0f} seconds.")


def run_experiment(experiment: Experiment, *, quiet: bool = False) -> str:
    """Run a comparison, write its results, and return them as text.

    Parameters
    ----------
    experiment : Experiment
        What `read_experiment` returns.
    quiet : bool, default=False
        Whether to print nothing.

    Returns
    -------
    str
        The tables to print.
    """
    from numerai_features.cli._compare import make_folds, make_model, run_folds
    from numerai_features.cli._folds import FoldStore
    from numerai_features.cli._panel import data_signature, load_panel
    from numerai_features.cli._results import format_results, judge, write_results

    make_model(experiment)  # a wrong model shall not be told after hours of reading
    identity = experiment.identity() | {"signature": data_signature(experiment)}
    store = FoldStore(experiment.folder / "folds", identity)
    _write_text(experiment.folder / "experiment.toml", experiment.to_toml())
    panel = load_panel(experiment, verbose=not quiet)
    folds = make_folds(experiment, panel)
    if not quiet:
        print(f"{panel}\n{len(experiment.arms)} arms, {len(folds)} folds.")
    run_folds(experiment, panel, folds, store, quiet=quiet)
    results = judge(experiment, panel, folds, store)
    write_results(results, experiment.folder)
    starts = [int(panel.eras[fold.test].min()) for fold in folds]
    note = _draw(results.scores, starts, experiment)
    return format_results(results, experiment) + note


def _draw(scores: pd.DataFrame, starts: list[int], experiment: Experiment) -> str:
    """Draw the figure; return a note where matplotlib is missing."""
    from numerai_features.cli._figure import draw_cumulative

    try:
        draw_cumulative(
            scores, starts, experiment, experiment.folder / "cumulative.png"
        )
    except ImportError as error:
        return f"\n\nNo figure: {error}"
    return ""


def _write_text(file: Path, text: str) -> None:
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
