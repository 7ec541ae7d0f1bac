"""Latents that are categories: trees of LightGBM are told so."""

import numpy as np
import pytest

from numerai_features.datasets import EraPanel
from numerai_features.embedders import EraAutoencoder
from numerai_features.experiment import Experiment, ExperimentError
from numerai_features.experiment._eras import make_folds
from numerai_features.trees import make_lightgbm

TARGET = "target_alpha_20"
NET = {"n_components": 7, "hidden": [8], "random_units": [4, 6], "max_epochs": 2}
TABLES = {
    "data": {"synthetic": {"n_eras": 30, "rows_per_era": 40, "n_features": 12}},
    "targets": {"main": TARGET},
    "cv": {"n_splits": 1, "purge": 4},
    "latents": {
        "quantize": "uint8",
        "argmax": {"embedder": "EraAutoencoder", "output": "argmax", **NET},
    },
    "model": {
        "n_jobs": 1,
        "device": "cpu",
        "params": {
            "n_estimators": 10, "min_data_per_group": 1, "cat_smooth": 1,
            "colsample_bytree": 1, "max_cat_to_onehot": 1,
        },
    },
    "arms": {
        "raw": {},
        "with_era": {"era_feature": True},
        "argmax": {"latents": ["argmax"]},
        "argmax_with_era": {"latents": ["argmax"], "era_feature": True},
    },
}  # fmt: skip


def test_the_four_arms_are_those_of_plain_loops(tmp_path):
    experiment = Experiment.from_dict(TABLES, output=tmp_path)
    done = experiment.run(verbose=False)
    panel = EraPanel.open(done.experiment["data"]["panel"])
    [fold] = make_folds(done.experiment.tables, panel)
    net = EraAutoencoder(
        output="argmax",
        random_state=0,
        **{k: tuple(v) if isinstance(v, list) else v for k, v in NET.items()},
    )
    net.fit(panel.X[fold.train], eras=panel.eras[fold.train])
    for arm, recipe in TABLES["arms"].items():
        tables = []
        for rows in (fold.train, fold.test):
            blocks = [panel.X[rows].astype(np.float32)]
            if "latents" in recipe:
                blocks.append(net.transform(panel.X[rows]))
            if "era_feature" in recipe:
                blocks.append(panel.eras[rows, None])
            tables.append(np.hstack(blocks))
        model = make_lightgbm("small", random_state=0, n_jobs=1, device="cpu")
        model.set_params(**TABLES["model"]["params"])
        told = {"categorical_feature": [12]} if "latents" in recipe else {}
        model.fit(tables[0], panel.y(TARGET)[fold.train], **told)
        np.testing.assert_allclose(
            done.predictions[arm], model.predict(tables[1]), atol=1e-6
        )
        if told:  # a category it is, which makes other trees
            model.fit(tables[0], panel.y(TARGET)[fold.train])
            assert not np.allclose(done.predictions[arm], model.predict(tables[1]))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"embedder": "EraAutoencoder", "random_units": [3]}, r"2 or more.*\(3,\)"),
        (
            {"embedder": "EraAutoencoder", "random_units": [3, 4, 5]},
            r"latents\.l\.random_units: random_units must be the widths of two layers",
        ),
        (
            {"embedder": "EraAutoencoder", "output": "both", "n_components": 200},
            r"latents\.l\.n_components: n_components=200 must be at most 128",
        ),
        (
            {"embedder": "MaskedAutoencoder", "n_components": 13},
            r"latents\.l\.n_components: n_components=13 must be at most n_features=12",
        ),
        (
            {"embedder": "MaskedAutoencoder", "target_aware": True, "fit_on": "all"},
            r"latents\.l\.fit_on: got \"all\"; MaskedAutoencoder learns from targets",
        ),
    ],
)
def test_misfits_are_told(part, message):
    with pytest.raises(ExperimentError, match=message):
        Experiment.from_dict({**TABLES, "latents": {"l": part}, "arms": {}})
