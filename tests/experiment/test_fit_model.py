"""A model of an arm is what its library's own fit makes of the same rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from numerai_features.experiment import Experiment
from numerai_features.experiment._fit_model import ModelFit, Training
from numerai_features.experiment._inputs import Block

N_ROWS = 400
ORIGINALS, LATENTS = list("abcd"), ["latent_0", "latent_1"]


def fitted(folder, library, known, **params):
    """Return a model, the rows that it was trained on, and their targets."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (N_ROWS, 4), np.int8)
    latents = rng.normal(size=(N_ROWS, 2)).astype(np.float32)
    y = X[:, 0] + latents[:, 1] + rng.normal(size=N_ROWS)
    y[~known] = np.nan
    model = {"library": library, "n_jobs": 1, "device": "cpu"}
    model["params"] = {"n_estimators": 5, "min_child_samples": 5, **params}
    if library == "xgboost":
        del model["params"]["min_child_samples"]
    about = {"data": {"synthetic": {"n_eras": 4}}, "model": model}
    tables = Experiment.from_dict(about, output=folder / "out").tables
    blocks = [Block(ORIGINALS, X), Block(LATENTS, latents)]
    fit = ModelFit(tables, None, 0, blocks, X)
    rows = Training(pd.DataFrame({"target": y}), np.ones(N_ROWS), N_ROWS)
    table = pd.DataFrame(np.hstack([X, latents]), columns=[*ORIGINALS, *LATENTS])
    return fit(rows.targets, rows), table, y


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
@pytest.mark.parametrize("every", [1, 3], ids=["all known", "some known"])
def test_floats_beside_bins_with_unknown_targets(tmp_path, library, every):
    pytest.importorskip(library)
    known = np.arange(N_ROWS) % every == 0
    model, table, y = fitted(tmp_path, library, known)
    expected = clone(model).fit(table[known], y[known]).predict(table)
    np.testing.assert_allclose(model.predict(table), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "params",
    [
        {"tree_method": "approx"},
        {"tree_method": "exact"},
        {"booster": "gblinear", "verbosity": 0},
        {"missing": 2.0},
        {"feature_weights": [1, 0, 0, 0, 0, 0], "colsample_bytree": 0.2},
    ],
    ids=lambda params: next(iter(params)),
)
def test_what_blocks_of_rows_cannot_have_is_as_in_the_librarys_own_fit(
    tmp_path, params
):
    xgboost = pytest.importorskip("xgboost")
    if not params.keys() <= xgboost.XGBRegressor().get_params().keys():
        pytest.skip("this XGBoost has no such parameter")
    model, table, y = fitted(tmp_path, "xgboost", np.ones(N_ROWS, bool), **params)
    expected = clone(model).fit(table, y).predict(table)
    np.testing.assert_allclose(model.predict(table), expected, rtol=1e-6)
