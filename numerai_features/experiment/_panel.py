"""The panel of an experiment: made once, and used again while nothing has changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features import __version__
from numerai_features._whole import whole_file
from numerai_features.datasets import EraPanel, make_era_panel, read_numerai
from numerai_features.experiment._file import ExperimentError

if TYPE_CHECKING:
    from numerai_features.experiment._experiment import Experiment

_SOURCE = "source.json"


def data_signature(experiment: Experiment) -> dict[str, Any]:
    """Return what the panel depends on: settings, and the files' sizes and times."""
    settings = {k: v for k, v in experiment["data"].items() if k != "panel"}
    signature = {"data": settings, "features": experiment["features"]["set"]}
    if settings["files"] is None:
        return signature | {"version": __version__}
    files = [*settings["files"], *filter(None, [settings["metadata"]])]
    signature["target"] = experiment["targets"]["main"]
    signature["files"] = [_file_signature(file) for file in files]
    return signature


def load_panel(experiment: Experiment, *, verbose: bool) -> EraPanel:
    """Open the experiment's panel, or make it.

    Parameters
    ----------
    experiment : Experiment
        Says which data, and where the panel is kept.
    verbose : bool
        Whether to show a progress bar.

    Returns
    -------
    EraPanel

    Raises
    ------
    ExperimentError
        If the folder holds a panel that no experiment made.
    ValueError, OSError
        If the data cannot be read.
    """
    folder = Path(experiment["data"]["panel"])
    signature = data_signature(experiment)
    made_of = _read_source(folder)
    if made_of == signature:
        return EraPanel.open(folder)
    if made_of is None and folder.exists():
        raise ExperimentError(
            f"{folder} is there, but no experiment made it, so it is not replaced. "
            "Give data.panel another folder, or delete this one."
        )
    if experiment["data"]["files"] is None:
        _make_synthetic(experiment, folder)
    else:
        _read_files(experiment, folder, verbose)
    with whole_file(folder / _SOURCE) as temporary:
        temporary.write_text(json.dumps(signature, indent=1), encoding="utf-8")
    return EraPanel.open(folder)


def _file_signature(file: str) -> dict[str, Any]:
    status = os.stat(file)
    return {"path": file, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _read_source(folder: Path) -> Any:
    try:
        return json.loads((folder / _SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _read_files(experiment: Experiment, folder: Path, verbose: bool) -> None:
    data = experiment["data"]
    read_numerai(
        data["files"],
        folder,
        metadata=data["metadata"],
        features=experiment["features"]["set"],
        targets=[experiment["targets"]["main"]],
        every=data["every"],
        overwrite=True,
        verbose=verbose,
    )


def _make_synthetic(experiment: Experiment, folder: Path) -> None:
    chosen = experiment["features"]["set"]
    settings = dict(experiment["data"]["synthetic"])
    if isinstance(settings["rows_per_era"], list):
        settings["rows_per_era"] = tuple(settings["rows_per_era"])
    panel = make_era_panel(**settings)
    features = None if chosen == "all" else chosen
    every = experiment["data"]["every"]
    panel.select(every=every, features=features).save(folder, overwrite=True)
