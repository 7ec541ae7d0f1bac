"""An ensemble of networks, each stopped early on another fold of eras.

The prediction is the mean of theirs.

    python examples/ensemble_of_folds.py
"""

import numpy as np

from numerai_features import (
    EraHoldout,
    EraKFold,
    SupervisedAEMLP,
    era_scores,
    make_era_panel,
)

TARGET = "target_alpha_20"


class Fold:
    """One fold of a splitter, as a splitter for `validation`."""

    def __init__(self, splitter, number):
        self.splitter, self.number = splitter, number

    def split(self, X, y=None, groups=None):
        yield list(self.splitter.split(X, y, groups))[self.number]


def main(n_folds=4):
    panel = make_era_panel(n_eras=80, rows_per_era=200, random_state=0)
    X, y, eras = panel.X, panel.y(TARGET), panel.eras
    [(train, test)] = EraHoldout(0.25, target=TARGET).split(X, groups=eras)
    folds = EraKFold(n_folds, target=TARGET)
    predictions = []
    for number in range(n_folds):
        net = SupervisedAEMLP(
            16, decoder_units=16, hidden=(128, 64), dropout=(0.04, 0.4, 0.1, 0.4, 0.4),
            max_epochs=10, validation=Fold(folds, number), random_state=number,
        )  # fmt: skip
        net.fit(X[train], y[train], eras=eras[train])
        predictions.append(net.predict(X[test]))
        print(f"fold {number + 1}: {corr(y, predictions[-1], eras, test):.4f}")
    print(f"their mean: {corr(y, np.mean(predictions, axis=0), eras, test):.4f}")


def corr(y, prediction, eras, rows):
    return era_scores(y[rows], prediction, eras[rows]).mean()


if __name__ == "__main__":
    main()
