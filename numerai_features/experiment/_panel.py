"""The panel of an experiment: made once, and reused while nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features import __version__
from numerai_features._progress import stage
from numerai_features._whole import sweep
from numerai_features.datasets import (
    EraPanel,
    SyntheticTruth,
    make_era_panel,
    read_numerai,
)
from numerai_features.datasets._truth import check_truth_file, truth_file
from numerai_features.experiment._columns import targets_of
from numerai_features.experiment._file import ExperimentError
from numerai_features.experiment._references import REFERENCES, file_signature

if TYPE_CHECKING:
    from numerai_features.experiment._experiment import Experiment

_MADE_OF = "made_of"  # key of the data's signature in the panel's info
_NOT_ROWS = {"panel", *REFERENCES, *(f"{name}_column" for name in REFERENCES)}


def data_signature(experiment: Experiment) -> dict[str, Any]:
    """Return the settings, and the files' sizes and times, that a panel depends on."""
    settings = {k: v for k, v in experiment["data"].items() if k not in _NOT_ROWS}
    signature = {"data": settings, "features": experiment["features"]["set"]}
    if settings["files"] is None:
        return signature | {"version": __version__}
    files = [*settings["files"], *filter(None, [settings["metadata"]])]
    signature["targets"] = targets_of(experiment.tables)
    signature["files"] = [file_signature(file) for file in files]
    return signature


def load_panel(experiment: Experiment, *, verbose: bool) -> EraPanel:
    """Open the experiment's panel, or make it.

    Parameters
    ----------
    experiment : Experiment
        The experiment with the data and the panel's folder.
    verbose : bool
        Whether to show progress.

    Returns
    -------
    EraPanel

    Raises
    ------
    ExperimentError
        If the folder holds a panel that no experiment made, or anything else.
    ValueError, OSError
        If the data cannot be read, or the panel is damaged.
    """
    folder = Path(experiment["data"]["panel"])
    made_of = {_MADE_OF: data_signature(experiment)}
    panel = _panel_there(folder)
    if panel is not None:
        if _MADE_OF not in panel.info:
            raise ExperimentError(
                f"{folder} is a panel, but no experiment made it, so it is not "
                "replaced. Set data.panel to another folder, or delete this one."
            )
        if "changes" in panel.info:
            raise ExperimentError(
                f"Rows or targets were added to {folder} after an experiment made it, "
                "so it is neither used nor replaced. Set data.panel to another folder, "
                "or delete this one."
            )
        if panel.info[_MADE_OF] == made_of[_MADE_OF]:
            with _way_out(folder), stage("checking the panel", hidden=not verbose):
                panel.verify()  # takes little time compared with the fits
            sweep(truth_file(folder))  # of a run that ended right after writing it
            if experiment["data"]["files"] is not None or _has_truth(panel):
                return panel
    try:
        if experiment["data"]["files"] is None:
            with stage("making synthetic rows", hidden=not verbose):
                _make_synthetic(experiment, folder, made_of)
        else:
            _read_files(experiment, folder, made_of, verbose)
    except FileExistsError as error:
        raise ExperimentError(
            f"{error} The path is set by data.panel in the experiment's file."
        ) from error
    return EraPanel.open(folder)


def _panel_there(folder: Path) -> EraPanel | None:
    """Open the panel of a folder; None if there is none, or an incomplete one."""
    with _way_out(folder):
        try:
            return EraPanel.open(folder)
        except FileNotFoundError:
            return None


def _has_truth(panel: EraPanel) -> bool:
    """Whether the truth beside a synthetic panel is whole and belongs to it.

    It is missing or another one's if a run ended between the writing of the two.
    """
    try:
        SyntheticTruth.open(panel)
    except (FileNotFoundError, ValueError):
        return False
    return True


@contextmanager
def _way_out(folder: Path) -> Iterator[None]:
    """Add to errors about a panel that the run can make it again."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"{error} Or delete {folder}: then the run makes the panel again."
        ) from error


def _read_files(
    experiment: Experiment, folder: Path, made_of: dict[str, Any], verbose: bool
) -> None:
    data = experiment["data"]
    read_numerai(
        data["files"],
        folder,
        metadata=data["metadata"],
        features=experiment["features"]["set"],
        targets=targets_of(experiment.tables),
        every=data["every"],
        overwrite=True,
        info=made_of,
        verbose=verbose,
    )


def _make_synthetic(
    experiment: Experiment, folder: Path, made_of: dict[str, Any]
) -> None:
    chosen = experiment["features"]["set"]
    settings = dict(experiment["data"]["synthetic"])
    if isinstance(settings["rows_per_era"], list):
        settings["rows_per_era"] = tuple(settings["rows_per_era"])
    check_truth_file(folder)
    panel, truth = make_era_panel(**settings, return_truth=True)
    features = None if chosen == "all" else chosen
    every = experiment["data"]["every"]
    panel = panel.select(every=every, features=features)
    panel.info |= made_of
    panel.save(folder, overwrite=True)
    truth.select(every=every)._save(EraPanel.open(folder))
