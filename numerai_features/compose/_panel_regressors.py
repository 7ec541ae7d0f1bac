"""LightGBM and XGBoost on tables that are larger than memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from numerai_features._arguments import COUNT, MODEL, SPLITTER, Finite
from numerai_features._blocks import row_blocks
from numerai_features._optional import import_optional
from numerai_features._scratch import give_back
from numerai_features._validation import (
    column_names,
    frame_of,
    frame_to_array,
    is_frame,
    named_rows,
)
from numerai_features.compose._era_regressor import EraRegressor
from numerai_features.compose._one_target import one_target
from numerai_features.model_selection import EraHoldout
from numerai_features.model_selection._folds import no_folds, read_folds
from numerai_features.trees import make_lightgbm, make_xgboost, tree_table
from numerai_features.trees._fit import fit_lightgbm, fit_xgboost, ignored_by_blocks
from numerai_features.trees._tables import takes_arrow

_BLOCK_BYTES = 64 << 20  # of rows to predict, as floats


class _PanelRegressor(EraRegressor):
    """A tree library's regressor, fed from a table's rows without a copy in memory."""

    _parameter_constraints = {
        "regressor": [MODEL, None],
        "validation": [Finite(0, 1, "neither"), COUNT, SPLITTER, None],
        "patience": [COUNT],
    }

    _predicts_by_era = False

    def __init__(self, regressor=None, *, validation=None, patience=100):
        self.regressor = regressor
        self.validation = validation
        self.patience = patience

    def _parts(self):
        return [("regressor", self._unfitted())]

    def _unfitted(self):
        return self._make() if self.regressor is None else self.regressor

    def _checked(self):
        """Return a clone of the regressor, to be fitted."""
        model, kind = self._unfitted(), self._kind()
        if not isinstance(model, kind):
            raise TypeError(
                f"regressor must be a {kind.__module__.partition('.')[0]}."
                f"{kind.__name__}, or None; got {type(model).__name__}."
            )
        return clone(model)

    def _fit_rows(self, given):
        given = one_target(given, self)
        train, valid = self._split(given)
        self.regressor_ = self._train_on(self._checked(), train, valid)
        give_back()

    def _split(self, given):
        """Return the rows to train on, and those for early stopping or None."""
        if self.validation is None:
            return given, None
        # A splitter counts all rows, also those without a target; a number of eras is
        # of those that have one.
        splitter, whole = self.validation, given.whole
        if not hasattr(splitter, "split"):
            if given.rows.eras is None:
                raise ValueError(
                    f"validation={splitter!r} holds out the last eras, but there are "
                    "no eras. Pass eras=, or validation=None."
                )
            splitter, whole = EraHoldout(splitter), given
        rows = whole.rows
        folds = splitter.split(whole.table, whole.y, rows.groups)
        *_, last = [None, *read_folds(folds, rows.n_rows, "validation")]
        if last is None:
            raise no_folds(self.validation, "validation")
        parts = []
        for places, purpose in zip(last, ("train on", "hold out"), strict=True):
            chosen = np.zeros(rows.n_rows, bool)
            chosen[places] = True
            chosen = chosen[rows.labelled]
            if not chosen.any():
                raise ValueError(
                    f"validation={self.validation!r} leaves no row with a target to "
                    f"{purpose}. Hold out other rows, or pass validation=None."
                )
            parts.append(given.take(chosen))
        return parts

    def _predict_rows(self, given):
        X, names = given.rows.X, given.rows.feature_names
        step = max(1, _BLOCK_BYTES // (4 * X.shape[1]))
        out = np.empty(len(X))
        for rows in row_blocks(len(X), X.shape[1], step):
            out[rows] = self.regressor_.predict(self._shown(named_rows(X[rows], names)))
        return out

    def _shown(self, table):
        """Return rows as the regressor was fitted with them."""
        return table

    def __sklearn_tags__(self):
        # Not those of the regressor: XGBoost 2 has tags of an older kind.
        tags = super(EraRegressor, self).__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.regressor_tags.poor_score = True
        return tags


class PanelLGBMRegressor(_PanelRegressor):
    """LightGBM, trained on a table that memory need not hold.

    LightGBM bins its rows column by column. Here the columns of a table that is mapped
    from a file, such as the rows of a panel, are written to a file without a name
    beside it, from which LightGBM reads them: what stays in memory is LightGBM's own
    byte a cell, and during binning a sample of rows. The trees are those of
    ``regressor.fit``.

    The regressor gets ``force_col_wise=True``, unless it has that parameter or
    ``force_row_wise``: LightGBM would otherwise copy its bins once more.

    Parameters
    ----------
    regressor : LGBMRegressor, default=None
        A clone is fitted. None: ``make_lightgbm()``.
    validation : float, int, splitter or None, default=None
        Rows held out for early stopping. A float is a share of the eras, an int a
        number of them: the last ones, with the eras before them purged (`EraHoldout`).
        A splitter: its last fold. None: all trees are kept.
    patience : int, default=100
        Number of trees without a better loss of the held-out rows, after which training
        stops; the trees up to the best are kept.

    Attributes
    ----------
    regressor_ : LGBMRegressor
        The fitted model, which needs LightGBM only.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the training rows; None if there were no eras.
    n_features_in_ : int
        Number of features seen in fit, without ``era``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    EraPanel.as_X : The rows of a panel as such a table.
    PanelXGBRegressor : The same for XGBoost.

    Examples
    --------
    >>> from numerai_features import LatentFeatures, PanelLGBMRegressor, make_era_panel
    >>> from numerai_features import FactorAnalysisEmbedder, make_lightgbm
    >>> from sklearn.pipeline import make_pipeline
    >>> panel = make_era_panel(n_eras=20, rows_per_era=50, random_state=0)
    >>> trees = make_lightgbm(device="cpu", n_estimators=5)
    >>> model = make_pipeline(
    ...     LatentFeatures(FactorAnalysisEmbedder(3), quantize="uint8"),
    ...     PanelLGBMRegressor(trees),
    ... )
    >>> model.fit(panel.as_X(), panel.y("target_alpha_20")).predict(panel.as_X()).shape
    (1000,)
    """

    def _make(self):
        return make_lightgbm()

    def _kind(self):
        lightgbm = import_optional(
            "lightgbm", extra="lightgbm", needed_by="PanelLGBMRegressor"
        )
        return lightgbm.LGBMRegressor

    def _shown(self, table):
        if takes_arrow():
            return tree_table(table)
        # Earlier versions read no polars, and warn of arrays that they were fitted on.
        if is_frame(table):
            return frame_of(frame_to_array(table), columns=column_names(table))
        return frame_of(table, columns=[f"Column_{j}" for j in range(table.shape[1])])

    def _train_on(self, model, train, valid):
        import lightgbm

        options: dict[str, Any] = {"sample_weight": train.rows.weights}
        if valid is not None:
            stop = lightgbm.early_stopping(self.patience, verbose=False)
            options["callbacks"] = [stop]
            shown, y = self._shown(valid.table), valid.rows.y[:, 0]
            if takes_arrow():  # the names of later versions
                options |= {"eval_X": shown, "eval_y": y}
            else:
                options["eval_set"] = [(shown, y)]
            if valid.rows.weights is not None:
                options["eval_sample_weight"] = [valid.rows.weights]
        shown = self._shown(train.table)
        return fit_lightgbm(model, shown, train.rows.y[:, 0], **options)


class PanelXGBRegressor(_PanelRegressor):
    """XGBoost, trained on a table that memory need not hold.

    XGBoost gets the rows block by block (`quantile_dmatrix`), so that no copy of the
    table is made. What stays in memory are its own two to two and a half bytes a cell,
    or, with `external_memory`, less: see there. The trees are those of
    ``regressor.fit``.

    Parameters
    ----------
    regressor : XGBRegressor, default=None
        A clone is fitted. None: ``make_xgboost()``.
    validation, patience
        As in `PanelLGBMRegressor`.
    external_memory : bool, default=False
        Whether XGBoost keeps its bins in files, as in `quantile_dmatrix`.

    Attributes
    ----------
    regressor_ : XGBRegressor
        The fitted model, which needs XGBoost only.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the training rows; None if there were no eras.
    n_features_in_ : int
        Number of features seen in fit, without ``era``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    PanelLGBMRegressor : The same for LightGBM.

    Examples
    --------
    >>> from numerai_features import PanelXGBRegressor, make_era_panel, make_xgboost
    >>> panel = make_era_panel(n_eras=20, rows_per_era=50, random_state=0)
    >>> model = PanelXGBRegressor(make_xgboost(device="cpu", n_estimators=5))
    >>> model = model.fit(panel.as_X(), panel.y("target_alpha_20"))
    >>> model.predict(panel.as_X()).shape
    (1000,)
    """

    _parameter_constraints = {
        **_PanelRegressor._parameter_constraints,
        "external_memory": ["boolean"],
    }

    def __init__(
        self, regressor=None, *, validation=None, patience=100, external_memory=False
    ):
        super().__init__(regressor, validation=validation, patience=patience)
        self.external_memory = external_memory

    def _make(self):
        return make_xgboost()

    def _kind(self):
        xgboost = import_optional(
            "xgboost", extra="xgboost", needed_by="PanelXGBRegressor"
        )
        return xgboost.XGBRegressor

    def _train_on(self, model, train, valid):
        ignored = ignored_by_blocks(model)
        if ignored:
            raise ValueError(
                f"PanelXGBRegressor does not support that its regressor has {ignored}"
            )
        return fit_xgboost(
            model,
            *_of(train)[:2],
            sample_weight=train.rows.weights,
            valid=None if valid is None else _of(valid),
            patience=self.patience,
            external_memory=self.external_memory,
        )


def _of(given: Any) -> tuple[Any, Any, Any]:
    return given.table, given.rows.y[:, 0], given.rows.weights
