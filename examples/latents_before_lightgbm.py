"""Codes of a supervised autoencoder beside the features, ahead of LightGBM.

With `cross_fit`, a training row's code comes from a network that was not trained on the
row's target. The printed scores show, with and without it, by how much CORR is higher
on training eras than on later eras.

    python examples/latents_before_lightgbm.py
"""

import pandas as pd
from sklearn.pipeline import make_pipeline

from numerai_features import (
    EraHoldout,
    LatentFeatures,
    SupervisedAEMLP,
    era_scores,
    make_era_panel,
    make_lightgbm,
)

TARGET = "target_alpha_20"


def main():
    panel = make_era_panel(n_eras=80, rows_per_era=200, random_state=0)
    X = panel.to_frame(targets=[])
    # Cross-fitting reads off the target's name how many eras to purge.
    y = pd.Series(panel.y(TARGET), index=X.index, name=TARGET)
    holdout = EraHoldout(0.25, target=TARGET)
    [(train, test)] = holdout.split(X, groups=panel.eras)
    for cross_fit in (None, 3):
        net = SupervisedAEMLP(
            16, decoder_units=16, hidden=(128, 64), dropout=(0.04, 0.4, 0.1, 0.4, 0.4),
            max_epochs=10, cross_fit=cross_fit, random_state=0,
        )  # fmt: skip
        latents = LatentFeatures(net, quantize="uint8")
        model = make_pipeline(latents, make_lightgbm("small", n_estimators=200))
        model.fit(X.iloc[train], y.iloc[train])
        corr = [
            era_scores(
                y.iloc[rows].to_numpy(), model.predict(X.iloc[rows]), panel.eras[rows]
            ).mean()
            for rows in (train, test)
        ]
        print(f"cross_fit={cross_fit}: CORR {corr[0]:.3f} in training, {corr[1]:.4f}")


if __name__ == "__main__":
    main()
