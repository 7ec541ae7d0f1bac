"""Check an exported file as Numerai's server would run it, and its predictions."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import Methods, Whole, checked
from numerai_features._eras import encode_eras
from numerai_features._validation import ERA_COLUMN, as_frame, is_frame
from numerai_features._warn import warn
from numerai_features.export._model import known_names
from numerai_features.export._place import takes_era_out
from numerai_features.export._process import BYTES, SECONDS, serve

_TOLERANCE = 1e-6
_FEW = 0.05  # share of rows
_MOST_TIED = 0.5  # share of rows, if nothing is known of training
_MORE_TIED = 0.1  # share of rows beyond that in training
_SPREAD = 2.0  # times as large or as small as in training


@dataclass(frozen=True)
class ExportCheck:
    """What `check_export` found: the file passed.

    Attributes
    ----------
    n_rows : int
        Number of live rows.
    n_parameters : int
        1, or 2 if the function takes the benchmark's predictions.
    python, numpy, pandas : str
        The versions that it ran with.
    seconds : float
        Time to read the file and the rows and to predict, on one CPU.
    peak_anonymous, peak_resident : int
        Peak anonymous memory, and peak resident memory, in bytes; 0 if the system does
        not tell. Resident memory includes pages of files.
    max_difference : float or None
        Largest absolute difference from the pipeline's predictions before ranking;
        None if no pipeline was passed.
    share_tied : float
        Share of the rows whose prediction before ranking equals another row's in its
        era.
    spread : float
        Standard deviation of the predictions before ranking within their era, mean
        over the rows.
    warnings : tuple of str
        What is unusual, although Numerai would accept it.
    """

    n_rows: int
    n_parameters: int
    python: str
    numpy: str
    pandas: str
    seconds: float
    peak_anonymous: int
    peak_resident: int
    max_difference: float | None
    share_tied: float
    spread: float
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.n_rows:,} rows in {self.seconds:.1f} s of {SECONDS} s, with "
            f"{self.peak_resident / 2**20:,.0f} MiB of {BYTES >> 20:,} MiB",
            f"Python {self.python}, numpy {self.numpy}, pandas {self.pandas}",
        ]
        if self.max_difference is not None:
            lines.append(
                f"largest difference from the pipeline: {self.max_difference:.1e}"
            )
        return "\n".join([*lines, *(f"Warning: {told}" for told in self.warnings)])


@checked(
    path=[str, os.PathLike],
    pipeline=[Methods(["predict"]), None],
    python=[str, os.PathLike, None],
    seconds=[Whole(1)],
)
def check_export(
    path: str | os.PathLike[str],
    live: Any,
    pipeline: Any = None,
    *,
    benchmark: Any = None,
    train: Any = None,
    python: str | os.PathLike[str] | None = None,
    seconds: int = SECONDS,
) -> ExportCheck:
    """Run an exported file as Numerai's server does, and check what it returns.

    The file is read by ``pandas.read_pickle`` and called in a new process, on one CPU.
    That process cannot import this package, torch or umap; nor scipy and scikit-learn,
    unless the file has trees of LightGBM or XGBoost. What it returns is checked as the
    server does, and by ``numerai_tools.submissions``; the predictions before ranking
    are compared with the pipeline's, because ranks hide that all of them are shifted.

    Parameters
    ----------
    path : str or path
        The file that `export_predict` has written.
    live : frame or path
        The rows to predict: ``live.parquet``, whole.
    pipeline : estimator, default=None
        The fitted pipeline that was exported, to compare with.
    benchmark : frame or path, default=None
        ``live_benchmark_models.parquet``, for a function of two parameters.
    train : frame or path, default=None
        Rows like those of training, such as the last 20 training eras. They tell how
        many ties and how much spread predictions usually have. If the function has two
        parameters, `benchmark` must cover these rows, too.
    python : str or path, default=None
        The interpreter that runs the file, such as that of an environment with the
        versions of the image. None: this one.
    seconds : int, default=600
        The limit of time.

    Returns
    -------
    ExportCheck

    Raises
    ------
    ValueError
        If the function fails, or Numerai would not accept what it returns, or its
        predictions differ from the pipeline's by more than 1e-6 of their size. If the
        function failed, the error's notes have its traceback.
    FileNotFoundError
        If there is no such file.

    Warns
    -----
    UserWarning
        If many rows have equal predictions, or predictions have another spread than on
        `train`, or time or memory are more than half of what Numerai allows.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.linear_model import Ridge
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.export import check_export, export_predict
    >>> panel = make_era_panel(n_eras=8, rows_per_era=50, n_features=20,
    ...                        random_state=0)
    >>> frame = panel.to_frame(targets=[])
    >>> features = frame.drop(columns="era")
    >>> model = Ridge().fit(features, panel.y("target_alpha_20"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = export_predict(model, Path(folder) / "model.pkl")
    ...     found = check_export(file, frame.tail(50).assign(era="X"), model)
    >>> found.n_rows, found.n_parameters, found.max_difference < 1e-9
    (50, 1, True)
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"path: there is no file {file}.")
    rows = {"live": live, "benchmark": benchmark, "train": train}
    tables = {name: _read(table, name) for name, table in rows.items()}
    if tables["live"] is None or tables["live"].empty:
        raise ValueError("live has no rows; expected the rows to predict.")
    interpreter = sys.executable if python is None else os.fspath(python)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copyfile(file, place / "model.pkl")
        for name, table in tables.items():
            if table is not None:
                _write(table, name, place / f"{name}.parquet")
        told = serve(place, file, interpreter, seconds)
        raw = np.load(place / "raw.npy")
        before = place / "raw_train.npy"
        known = np.load(before) if before.exists() else None
        _check_submission(file, place / "answer.parquet", tables["live"])
    difference = None
    if pipeline is not None:
        expected = _expected(pipeline, tables["live"], tables["benchmark"], told)
        difference = _difference(file, raw, expected)
    shares, spreads, n_rows = _ties_and_spread(raw, tables["live"])
    share = float(np.average(shares, weights=n_rows))
    spread = float(np.average(spreads, weights=n_rows))
    usual = None if known is None else _ties_and_spread(known, tables["train"])
    found = [*_told_limits(told), *_told_distribution(share, spread, usual)]
    for message in found:
        warn(f"{file}: {message}")
    return ExportCheck(
        n_rows=len(raw),
        n_parameters=told["n_parameters"],
        python=told["python"],
        numpy=told["numpy"],
        pandas=told["pandas"],
        seconds=told["seconds"],
        peak_anonymous=told["anonymous"],
        peak_resident=told["resident"],
        max_difference=difference,
        share_tied=share,
        spread=spread,
        warnings=tuple(found),
    )


def _read(table: Any, name: str) -> Any:
    """Return a table as a pandas frame with the ids as index; None for None."""
    import narwhals.stable.v2 as nw
    import pandas as pd
    import pyarrow as pa

    if table is None:
        return None
    if isinstance(table, str | os.PathLike):
        file = Path(table)
        if not file.is_file():
            raise FileNotFoundError(f"{name}: there is no file {file}.")
        try:
            frame = pd.read_parquet(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{name}: {file} is no parquet file: {error}") from error
    else:
        known = as_frame(table, name)
        if not is_frame(known):
            raise ValueError(
                f"{name} is a {type(table).__name__}; expected a frame, or the path of "
                "a parquet file."
            )
        frame = nw.from_native(known, eager_only=True).to_pandas()
    frame = frame.set_index("id") if "id" in frame.columns else frame
    if frame.index.nlevels > 1:
        raise ValueError(
            f"{name} has an index of {frame.index.nlevels} levels; expected the ids."
        )
    return frame


def _write(table: Any, name: str, file: Path) -> None:
    import pyarrow as pa

    try:
        table.to_parquet(file)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be written as a parquet file: {error}. Each column must "
            "hold numbers, or text."
        ) from error


def _check_submission(file: Path, answer: Path, live: Any) -> None:
    """Raise if numerai-tools would refuse a submission of the predictions."""
    import pandas as pd
    from numerai_tools import submissions

    predictions = pd.read_parquet(answer)
    column = predictions.columns[0]
    table = predictions[[column]].set_axis(["prediction"], axis="columns")
    table = table.rename_axis("id").reset_index()
    try:
        ids, name = submissions.validate_headers_numerai(table)
        mine, _ = submissions.validate_ids_numerai(pd.Series(live.index), table, ids)
        submissions.validate_values(mine, name)
    except AssertionError as error:
        raise ValueError(
            f"{file}: numerai-tools refuses the predictions: {error}."
        ) from error


def _expected(
    pipeline: Any, live: Any, benchmark: Any, told: dict[str, Any]
) -> NDArray[np.float64]:
    """Return the pipeline's own predictions of the live rows."""
    names, column = told["features"], told["benchmark"]
    options = {}
    if column is not None:
        values = benchmark[column].reindex(live.index)
        live = live.assign(**{column: values})
        if told["to_benchmark"]:
            options["benchmark"] = values
    table = live[names]
    has_eras = ERA_COLUMN in live.columns and takes_era_out(pipeline)
    if _is_xgboosts(pipeline):
        import xgboost

        known = pipeline.feature_names
        table = xgboost.DMatrix(table.to_numpy(), feature_names=known)
    elif known_names(pipeline) is None:
        table = table.to_numpy()
        if has_eras and "eras" in inspect.signature(pipeline.predict).parameters:
            options["eras"] = live[ERA_COLUMN].to_numpy()
    elif has_eras:
        table = table.assign(**{ERA_COLUMN: live[ERA_COLUMN]})
    return np.asarray(pipeline.predict(table, **options), np.float64).reshape(-1)


def _is_xgboosts(pipeline: Any) -> bool:
    """Whether a pipeline is a Booster of XGBoost, which takes its own tables."""
    kind = type(pipeline)
    return kind.__module__.startswith("xgboost") and kind.__name__ == "Booster"


def _difference(
    file: Path, raw: NDArray[np.float64], expected: NDArray[np.float64]
) -> float:
    """Return the largest difference from what was expected; raise if it is large."""
    if raw.shape != expected.shape:
        raise ValueError(
            f"pipeline predicts {expected.shape[0]} numbers for the live rows, and "
            f"{file} {raw.shape[0]}. Is it the pipeline that was exported?"
        )
    apart = np.abs(raw - expected)
    worst = float(apart.max())
    if not worst <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        first, n_apart = int(apart.argmax()), int((apart > _TOLERANCE).sum())
        advice = "Is it the pipeline that was exported?"
        if n_apart <= _FEW * len(raw):
            advice += (
                " If it quantises latents, rows of training may lie on the edges of "
                "bins; pass other rows as live."
            )
        raise ValueError(
            f"{file} predicts {raw[first]:g} for row {first}, before ranking, and the "
            f"pipeline {expected[first]:g}; {n_apart} of {len(raw)} rows differ. "
            f"{advice}"
        )
    return worst


def _ties_and_spread(
    raw: NDArray[np.float64], frame: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Return the share of tied rows, the deviation and the rows of each era."""
    eras = np.zeros(len(raw)) if ERA_COLUMN not in frame.columns else frame[ERA_COLUMN]
    found = []
    for _, rows in encode_eras(eras).rows_by_era():
        own = raw[rows]
        counts = np.unique(own, return_counts=True)[1]
        found.append((counts[counts > 1].sum() / len(own), own.std(), len(own)))
    shares, spreads, n_rows = np.array(found).T
    return shares, spreads, n_rows.astype(np.intp)


def _told_limits(told: dict[str, Any]) -> list[str]:
    """Return what to say of time and memory."""
    found = []
    if told["seconds"] > SECONDS / 2:
        found.append(f"it takes {told['seconds']:.0f} s; Numerai allows {SECONDS} s.")
    if told["resident"] > BYTES / 2:
        found.append(
            f"it needs {told['resident'] >> 20:,} MiB; Numerai allows "
            f"{BYTES >> 20:,} MiB."
        )
    if not told["ranked"]:
        found.append(
            "its predictions are not ranked; another week's may be outside of 0 to 1."
        )
    return found


def _told_distribution(share: float, spread: float, usual: Any) -> list[str]:
    """Return what to say of ties and spread, beside those of training."""
    most, than, found = _MOST_TIED, "", []
    if usual is not None:
        shares, spreads, n_rows = usual
        before = float(shares[n_rows > 1].max(initial=0))
        most, than = before + _MORE_TIED, f"; on train at most {before:.0%} of an era"
        common = float(np.median(spreads[n_rows > 1])) if (n_rows > 1).any() else 0.0
        ratio = spread / common if common > 0 else 1.0
        if not 1 / _SPREAD <= ratio <= _SPREAD:
            found.append(
                f"before ranking, live predictions have a standard deviation of "
                f"{spread:.3g}, {ratio:.2g} times that on train."
            )
    if share > most:
        found.append(
            f"{share:.0%} of the live rows have the prediction of another row{than}. "
            "Are features missing?"
        )
    return found
