"""LightGBM's binned rows, made of a table column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numerai_features._arguments import COUNT, ROWS, TABLE, THREADS, Methods, checked
from numerai_features._optional import import_optional
from numerai_features._scratch import give_back
from numerai_features._validation import frame_to_array
from numerai_features.trees._dmatrix import (
    block_of,
    check_ref,
    read_beside,
    read_cells,
)
from numerai_features.trees._lightgbm import MAX_BIN, SUBSAMPLE_FOR_BIN
from numerai_features.trees._tables import rows_of, takes_arrow, tree_table

if TYPE_CHECKING:
    from lightgbm import Dataset


@checked(
    X=[TABLE],
    y=[ROWS, None],
    sample_weight=[ROWS, None],
    feature_names=[ROWS, None],
    categorical_feature=[ROWS, None],
    max_bin=[COUNT],
    subsample_for_bin=[COUNT],
    ref=[Methods(["construct", "num_data", "get_label"]), None],
    n_jobs=THREADS,
)
def lightgbm_dataset(
    X: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    feature_names: Any = None,
    categorical_feature: Any = None,
    max_bin: int = MAX_BIN,
    subsample_for_bin: int = SUBSAMPLE_FOR_BIN,
    ref: Any = None,
    n_jobs: int | None = None,
) -> Dataset:
    """Bin rows for ``lightgbm.train`` without a copy of the table in memory.

    LightGBM keeps one byte a cell of its own, and while it finds the bins a sample of
    rows. It reads the columns of `tree_table`, which of rows on disk are on disk.
    Before version 4.7 it gets an array of them in memory.

    Parameters
    ----------
    X : array-like, frame, PanelRows or EraPanel of shape (n_rows, n_features)
        Integers or floats; NaN is missing. A frame's column ``era`` is left out.
    y : array-like of shape (n_rows,), default=None
        Target. Rows whose target is NaN are left out.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the rows.
    feature_names : list of str, default=None
        Names of the columns; by default those of a frame or panel, else ``Column_0``
        and so on.
    categorical_feature : list of str or int, default=None
        Columns that are categories, such as `LatentFeatures.categorical_columns_`.
    max_bin : int, default=63
        Number of bins, as in `make_lightgbm`.
    subsample_for_bin : int, default=20000
        Number of rows that bins are found from. They take 12 bytes for each of their
        cells that is not 0.
    ref : lightgbm.Dataset, default=None
        Training rows, whose bins are used: pass it for rows to validate on.
    n_jobs : int, default=None
        Number of threads; None: OpenMP's default.

    Returns
    -------
    lightgbm.Dataset
        Constructed. Pass ``force_col_wise=True`` in the parameters of
        ``lightgbm.train``: LightGBM would otherwise copy its bins once more.

    Raises
    ------
    ImportError
        If LightGBM is not installed.
    ValueError
        If X is not numeric, y or the weights have other rows, or `ref` has other
        columns, or another order of them.

    See Also
    --------
    PanelLGBMRegressor : The same as a regressor of scikit-learn.
    quantile_dmatrix : The same for XGBoost.

    Examples
    --------
    >>> import lightgbm
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.trees import lightgbm_dataset
    >>> panel = make_era_panel(n_eras=20, rows_per_era=50, random_state=0)
    >>> rows = lightgbm_dataset(panel, panel.y("target_alpha_20"))
    >>> rows.num_data(), rows.num_feature()
    (1000, 60)
    >>> parameters = {"force_col_wise": True, "verbosity": -1}
    >>> lightgbm.train(parameters, rows, num_boost_round=5).num_trees()
    5
    """
    lightgbm = import_optional(
        "lightgbm", extra="lightgbm", needed_by="lightgbm_dataset"
    )
    table, names = read_cells(X, feature_names)
    if ref is not None:
        _check_same_columns(ref, table.shape[1], names)
    known, parts = read_beside(X, y, sample_weight, len(table))
    columns = tree_table(table, names)
    if not known.all():
        columns = rows_of(columns, known, block_of(table, slice(1)))
        parts = {name: values[known] for name, values in parts.items()}
    params = {
        "max_bin": max_bin,
        "bin_construct_sample_cnt": subsample_for_bin,
        "verbosity": -1,
    }
    if n_jobs is not None:
        params["num_threads"] = n_jobs
    categories = "auto" if categorical_feature is None else list(categorical_feature)
    rows: Dataset = lightgbm.Dataset(
        columns if takes_arrow() else frame_to_array(columns),
        reference=ref,
        feature_name=columns.column_names,
        categorical_feature=categories,
        params=params,
        **parts,
    )
    rows.construct()
    del columns, table
    give_back()
    return rows


def _check_same_columns(ref: Dataset, n_columns: int, names: list[str] | None) -> None:
    """Raise if the rows whose bins are used have other columns."""
    ref.construct()  # as it would be below; before, it does not know its columns
    others = ref.get_feature_name()
    if names is None or others == [f"Column_{j}" for j in range(len(others))]:
        others = []
    else:
        names = [name.replace(" ", "_") for name in names]  # as LightGBM renames them
    check_ref(ref.num_feature(), others, n_columns, names)
