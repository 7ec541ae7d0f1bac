"""A model that is fitted: it predicts, is exported, and tells of unfamiliar rows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features._names import some_names
from numerai_features._sealed import SealError, read_sealed
from numerai_features.experiment._file import as_path
from numerai_features.experiment._tree_file import (
    ABOUT,
    FORMAT,
    MODEL,
    MODEL_KIND,
    read_tree,
)

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.experiment._evaluation import Evaluation

PathLike = str | os.PathLike[str]


class FittedModel:
    """An arm of an experiment, fitted on all eras with a target.

    `Experiment.fit` makes it, and `open` reads it. It is stored as the plain data that
    `export` writes, and `predict` runs the same code as the exported file. So
    predictions here and on Numerai's servers are the same, to the bit.

    Parameters
    ----------
    folder : path
        The folder that it was fitted into.

    Attributes
    ----------
    folder : pathlib.Path
        The folder.
    record : dict
        What it is: ``"arm"``, ``"seeds"``, ``"targets"`` (the first is the scored one),
        ``"n_eras"``, ``"first_era"`` and ``"last_era"`` of the training rows,
        ``"purge"``, ``"benchmark"`` (the column that it needs), ``"files"``,
        ``"version"`` of Numerai's data (None if the files' folder does not tell), and
        ``"versions"`` of the libraries that fitted it.

    See Also
    --------
    Experiment.fit : Makes it.

    Examples
    --------
    >>> import tempfile
    >>> from numerai_features.datasets import EraPanel
    >>> from numerai_features.experiment import Experiment
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     experiment = Experiment.from_dict(
    ...         {
    ...             "data": {"synthetic": {"n_eras": 12, "rows_per_era": 50}},
    ...             "models": {"ridge": {"model": "Ridge"}},
    ...             "arms": {"ridge": {"model": "ridge"}},
    ...         },
    ...         output=folder,
    ...     )
    ...     model = experiment.fit(verbose=False)
    ...     rows = EraPanel.open(experiment["data"]["panel"]).to_frame(targets=[])
    >>> model
    FittedModel('ridge': 60 features, 12 eras from 0001 to 0012)
    >>> model.predict(rows.tail(50)).shape
    (50, 1)
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = as_path(folder, "folder")
        self.record, self._tree = _read(self.folder)

    @classmethod
    def open(cls, folder: PathLike) -> FittedModel:
        """Read a model from the folder that it was fitted into.

        Parameters
        ----------
        folder : path
            The folder.

        Returns
        -------
        FittedModel

        Raises
        ------
        FileNotFoundError
            If there is no model in the folder, or its fit has not ended.
        ValueError
            If the file is damaged, or of another version's format.
        """
        return cls(folder)

    def __repr__(self) -> str:
        about = self.record
        return (
            f"FittedModel({about['arm']!r}: {about['n_features']} features, "
            f"{about['n_eras']} eras from {about['first_era']} to {about['last_era']})"
        )

    @property
    def feature_names(self) -> list[str]:
        """Names of the features that the model needs."""
        return list(self._tree["model"]["features"])

    @property
    def benchmark(self) -> str | None:
        """The column of the benchmark's predictions that it needs, or None."""
        name: str | None = self._tree["model"]["benchmark"]
        return name

    def predict(
        self, live: Any, benchmark: Any = None, *, rank: str | None = "era"
    ) -> pd.DataFrame:
        """Predict rows, such as those of ``live.parquet``.

        Parameters
        ----------
        live : path or DataFrame of shape (n_rows, n_columns)
            The rows, with ids as their index and the model's features as columns.
            Without a column ``era``, all rows are of one era.
        benchmark : path or DataFrame, default=None
            The benchmark's predictions by id, such as
            ``live_benchmark_models.parquet``; only for a model that needs them (see
            `benchmark`).
        rank : {"era", None}, default="era"
            "era": predictions are ranked within their era, between 0 and 1, as Numerai
            takes them. None: they are returned as they are.

        Returns
        -------
        DataFrame of shape (n_rows, 1)
            Column ``prediction``, with the ids as index.

        Raises
        ------
        ValueError
            If features are gone, or the benchmark is missing, or has no prediction for
            a row.
        """
        from numerai_features.export import _runtime

        if rank not in ("era", None):
            raise ValueError(f"rank must be 'era' or None; got {rank!r}.")
        model = self._tree["model"]
        frame = self._rows(live)
        values = self._benchmark_values(benchmark)
        if rank == "era":
            found = _runtime._answer(model, frame, values)
        else:
            import pandas as pd

            raw = _runtime.raw_predictions(model, frame, values)
            found = pd.DataFrame({model["name"]: raw}, index=frame.index)
        return found.rename_axis("id")

    def export(
        self,
        path: PathLike,
        *,
        image: str = "3.13",
        trees: str = "library",
        neutralize: Any = None,
        proportion: float = 1.0,
        benchmark: str | None = None,
        rank: str | None = "era",
        name: str = "prediction",
    ) -> Path:
        """Write the model as one pickle for Numerai's model uploads.

        Parameters
        ----------
        path : path
            The file to write, such as ``"model.pkl"``. An existing file is replaced.
        image : {"3.10", "3.11", "3.12", "3.13", "3.14"}, default="3.13"
            The version of Python of the image that will run the file.
        trees : {"library", "numpy"}, default="library"
            What evaluates trees; see `export_predict`.
        neutralize : list of str, "benchmark" or None, default=None
            What the predictions are neutralised to within their era; see
            `export_predict`.
        proportion : float, default=1.0
            Share of the fit that `neutralize` subtracts, from 0 to 1.
        benchmark : str, default=None
            The benchmark's column, if `neutralize` needs one and the model does not.
        rank : {"era", None}, default="era"
            Whether predictions are ranked within their era.
        name : str, default="prediction"
            Name of the column of predictions.

        Returns
        -------
        Path
            The path of the file.
        """
        from numerai_features.export._export import write_predictor

        model = self._tree["model"]
        return write_predictor(
            model["predictor"],
            model["features"],
            path,
            image=image,
            trees=trees,
            version=self.record["version"],
            told_as="FittedModel.export",
            neutralize=neutralize,
            proportion=proportion,
            benchmark=self.benchmark if benchmark is None else benchmark,
            rank=rank,
            name=name,
        )

    def evaluate(
        self,
        files: Any,
        *,
        benchmark: Any = None,
        meta_model: Any = None,
        benchmark_column: str | None = None,
        meta_model_column: str | None = None,
        from_era: Any = None,
        verbose: bool = True,
    ) -> Evaluation:
        """Score the model's predictions of eras that it was not fitted on.

        Eras of the training rows, and as many after them as the purge has, are left
        out.

        Parameters
        ----------
        files : path or list of paths
            Parquet files with resolved eras, such as ``validation.parquet``.
        benchmark, meta_model : path or list of paths, default=None
            Parquet files with their predictions by id; for BMC and MMC.
        benchmark_column, meta_model_column : str, default=None
            Their column; None: the one that the model needs, or the only one.
        from_era : int or str, default=None
            The first era to score.
        verbose : bool, default=True
            Whether to show progress.

        Returns
        -------
        Evaluation

        Raises
        ------
        ValueError
            If no era is left, or the files cannot be used.
        """
        from numerai_features.experiment._evaluate import evaluate

        column = self.benchmark if benchmark_column is None else benchmark_column
        if self.benchmark not in (None, column):
            raise ValueError(
                f"benchmark_column must be {self.benchmark!r}, which the model "
                f"{self.record['arm']!r} needs; got {column!r}. Leave it out."
            )
        columns = {"benchmark": column, "meta_model": meta_model_column}
        given = {"benchmark": benchmark, "meta_model": meta_model}
        return evaluate(self, files, given, columns, from_era, verbose=verbose)

    def check_features(self, names: Iterable[str]) -> list[str]:
        """Compare the columns of other rows with the features of the model.

        Parameters
        ----------
        names : iterable of str
            Names of the columns, such as those of ``live.parquet``.

        Returns
        -------
        list of str
            Features that the files of the fit did not have. The model does not use
            them; fit it again to use them.

        Raises
        ------
        ValueError
            If features of the model are gone.
        """
        from numerai_features.experiment._live import features_of

        there = list(names)
        own, known = self.feature_names, set(self._tree["known"])
        gone = [name for name in own if name not in set(there)]
        if gone:
            version = self.record["version"]
            told = f"data of version {version}" if version else "other data"
            again = (
                f"download the rows of {version}"
                if version
                else ("pass rows of the version that it was fitted on")
            )
            raise ValueError(
                f"{len(gone)} of the {len(own)} features of the model "
                f"{self.record['arm']!r} are gone: {some_names(gone)}. It was fitted "
                f"on {told} ({', '.join(self.record['files']) or 'synthetic rows'}): "
                f"{again}, or fit it again to these."
            )
        return [name for name in features_of(there) if name not in known]

    def unfamiliar(self, live: Any) -> list[str]:
        """Return sentences on eras that are unlike all training eras.

        Parameters
        ----------
        live : path or DataFrame of shape (n_rows, n_columns)
            Rows as in `predict`.

        Returns
        -------
        list of str
            Empty if no era is unlike all training eras, by the means of features and
            of products of two, and no feature has one value that varied in the last 52
            training eras.
        """
        from numerai_features.experiment._familiar import unlike
        from numerai_features.export import _runtime

        frame, names = self._rows(live), self.feature_names
        _runtime._check_frame(frame, "live")
        cells = _runtime._cells(frame, names)
        eras = {}
        for rows in _runtime._eras(frame):
            label = frame["era"].iloc[rows[0]] if "era" in frame.columns else "X"
            eras[str(label)] = cells[rows]
        return unlike(self._tree["training"], names, eras)

    def _rows(self, live: Any) -> pd.DataFrame:
        """Return rows as a frame with their ids as index; check the features."""
        import pandas as pd

        from numerai_features.experiment._live import columns_of_file, read_rows

        if isinstance(live, pd.DataFrame):
            self.check_features(map(str, live.columns))
            has_ids = "id" in live.columns and live.index.name != "id"
            return live.set_index("id") if has_ids else live
        _check_kind(live, "live")
        file = as_path(live, "live")
        self.check_features(columns_of_file(file))
        return read_rows(file, ["era", *self.feature_names], "live")

    def _benchmark_values(self, benchmark: Any) -> pd.DataFrame | None:
        import pandas as pd

        from numerai_features.experiment._live import read_rows

        column = self.benchmark
        if column is None:
            return None
        if benchmark is None:
            raise ValueError(
                f"benchmark is None, but the model {self.record['arm']!r} needs the "
                f"predictions of {column!r}. Pass live_benchmark_models.parquet "
                "(--benchmark on the command line)."
            )
        if not isinstance(benchmark, pd.DataFrame):
            _check_kind(benchmark, "benchmark")
            return read_rows(as_path(benchmark, "benchmark"), [column], "benchmark")
        has_ids = "id" in benchmark.columns and benchmark.index.name != "id"
        return benchmark.set_index("id") if has_ids else benchmark


def _check_kind(rows: Any, name: str) -> None:
    if not isinstance(rows, str | os.PathLike):
        raise TypeError(
            f"{name} must be the path of a parquet file or a pandas DataFrame; got "
            f"{type(rows).__module__.partition('.')[0]}'s {type(rows).__name__}. Pass "
            "the path, or convert it (to_pandas of polars)."
        )


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a model is, and its data."""
    file = folder / MODEL
    try:
        record, tree = read_sealed(
            file, kind=MODEL_KIND, same_version=False, read=read_tree
        )
    except FileNotFoundError:
        begun = (folder / ABOUT).exists()
        way = "Its fit has not ended: run it again" if begun else "Fit a model first"
        raise FileNotFoundError(
            f"There is no {file}. {way} (Experiment.fit, or numerai-features fit)."
        ) from None
    except SealError as error:
        raise ValueError(f"{error} Fit the model again.") from error
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{file} has the format {record.get('format')} of another version of "
            f"numerai-features; this one reads {FORMAT}. Fit the model again."
        )
    return record, tree
