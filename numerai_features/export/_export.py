"""Write a fitted pipeline as one file that Numerai's servers run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numerai_features._arguments import ROWS, Finite, Methods, checked
from numerai_features._compat import StrOptions, validate_parameter_constraints
from numerai_features.export._images import IMAGES
from numerai_features.export._model import assembled, model_data
from numerai_features.export._pickle import write_function
from numerai_features.export._trees import by_numpy, fit_for_image

_OPTIONS: dict[str, list[Any]] = {
    "path": [str, os.PathLike],
    "image": [StrOptions(set(IMAGES))],
    "neutralize": [ROWS, StrOptions({"benchmark"}), None],
    "proportion": [Finite(0, 1)],
    "benchmark": [str, None],
    "rank": [StrOptions({"era"}), None],
    "name": [str],
    "trees": [StrOptions({"library", "numpy"})],
}


@checked(pipeline=[Methods(["predict"])], feature_names=[ROWS, None], **_OPTIONS)
def export_predict(
    pipeline: Any,
    path: str | os.PathLike[str],
    *,
    image: str = "3.13",
    neutralize: Any = None,
    proportion: float = 1.0,
    benchmark: str | None = None,
    rank: str | None = "era",
    name: str = "prediction",
    feature_names: Any = None,
    trees: str = "library",
) -> Path:
    """Write a fitted pipeline as one pickle for Numerai's model uploads.

    The pickle is a function that takes ``live.parquet`` as a frame and returns a frame
    of predictions. It needs numpy and pandas, and LightGBM or XGBoost if the pipeline
    has such a model, but not this package, scikit-learn, torch or umap. It holds the
    source of its code, which can be read, and the fitted numbers.

    Parameters
    ----------
    pipeline : estimator
        A fitted regressor: a Pipeline, a model, a blend, a search. It may consist of
        the embedders and regressors of this package, of scikit-learn's Pipeline,
        ColumnTransformer, FeatureUnion, StandardScaler, PCA, linear models,
        VotingRegressor and StackingRegressor, and of the regressors and boosters of
        LightGBM and XGBoost.
    path : str or path
        The file to write, such as ``"model.pkl"``. An existing file is replaced.
    image : {"3.10", "3.11", "3.12", "3.13", "3.14"}, default="3.13"
        The version of Python of the image that will run the file. Choose the same for
        the upload. It decides which version of XGBoost must read the trees.
    neutralize : list of str, "benchmark" or None, default=None
        Names of features that predictions are neutralised to within their era, or
        "benchmark" to neutralise to `benchmark`. Predictions are gaussianised first,
        as in ``EraNeutralizer(EraRanker(pipeline, output="gauss"))``.
    proportion : float, default=1.0
        Share of the fit that `neutralize` subtracts, from 0 to 1.
    benchmark : str, default=None
        Name of the column of ``live_benchmark_models.parquet`` to neutralise to, which
        may be a feature of the pipeline, too. Required if the pipeline has it as a
        feature, or if `neutralize` or an EraNeutralizer in it uses a benchmark.
        The function then has two parameters.
    rank : {"era", None}, default="era"
        "era": predictions are ranked within their era, between 0 and 1. None: they are
        returned as they are, and must be between 0 and 1.
    name : str, default="prediction"
        Name of the column of predictions.
    feature_names : list of str, default=None
        Names of the features, in order; required if the pipeline was fitted without.
    trees : {"library", "numpy"}, default="library"
        What evaluates the trees of LightGBM and XGBoost. "library": the library itself,
        of the image's version. "numpy": code in the file, to the last bit, so that no
        library is needed; it refuses trees that it cannot evaluate exactly, such as
        those of XGBoost's categories.

    Returns
    -------
    Path
        The path of the file.

    Raises
    ------
    TypeError
        If a part of the pipeline is of a class that cannot be exported. The message
        names the part, and what to use instead.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from numerai_features.compose import LatentFeatures
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import FactorAnalysisEmbedder
    >>> from numerai_features.export import export_predict
    >>> panel = make_era_panel(n_eras=8, rows_per_era=50, n_features=20,
    ...                        random_state=0)
    >>> frame = panel.to_frame(targets=[])
    >>> pipeline = make_pipeline(LatentFeatures(FactorAnalysisEmbedder(3)), Ridge())
    >>> pipeline = pipeline.fit(frame, panel.y("target_alpha_20"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = export_predict(pipeline, Path(folder) / "model.pkl")
    ...     predict = pd.read_pickle(file)
    >>> predict(frame.tail(4).assign(era="X"))["prediction"].tolist()
    [0.375, 0.625, 0.875, 0.125]
    """
    _check_name(name)
    file = _file_to_write(path)
    model = model_data(
        pipeline,
        IMAGES[image],
        neutralize=neutralize,
        proportion=proportion,
        benchmark=benchmark,
        rank=rank,
        name=name,
        feature_names=feature_names,
        trees=trees,
    )
    write_function(model, file, image=image)
    return file


def write_predictor(
    predictor: dict[str, Any],
    names: list[str],
    path: str | os.PathLike[str],
    *,
    image: str,
    trees: str,
    version: str | None,
    told_as: str,
    **options: Any,
) -> Path:
    """Write a model that is plain data already; see `export_predict`.

    Parameters
    ----------
    predictor : dict
        The node of a model, whose trees are those of a library.
    names : list of str
        Names of its columns.
    version : str or None
        Version of the data that it was fitted on.
    told_as : str
        The function that is called, for messages.
    """
    given = {"path": path, "image": image, "trees": trees, **options}
    validate_parameter_constraints(_OPTIONS, given, caller_name=told_as)
    _check_name(options["name"])
    file = _file_to_write(path)
    if trees == "numpy":
        predictor = by_numpy(predictor)
    else:
        fit_for_image(predictor, IMAGES[image])
    model = assembled(predictor, names, **options)
    write_function(model, file, image=image, version=version)
    return file


def _file_to_write(path: str | os.PathLike[str]) -> Path:
    """Return a path at which a file can be written."""
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(
            f"path: {file} is a folder; expected a file, such as {file / 'model.pkl'}."
        )
    if not file.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {file.parent}. Make it.")
    return file


def _check_name(name: str) -> None:
    if not name:
        raise ValueError("name is empty; expected the name of a column.")
