"""The Jane Street winner's network on a synthetic panel.

It is trained on two targets, stopped early on the last training eras, and scored on
later eras.

    python examples/supervised_autoencoder.py
"""

import numpy as np

from numerai_features import (
    EraHoldout,
    SupervisedAEMLP,
    era_scores,
    make_era_panel,
)
from numerai_features.metrics import summarize_scores


def main():
    panel = make_era_panel(n_eras=80, rows_per_era=200, random_state=0)
    main_target, other = "target_alpha_20", "target_alpha_60"
    y = np.column_stack([panel.y(main_target), panel.y(other)])
    # Purge for the longer target, which spans 60 days.
    [(train, test)] = EraHoldout(0.25, purge=16).split(panel.X, groups=panel.eras)

    net = SupervisedAEMLP(max_epochs=20, random_state=0, verbose=1)
    net.fit(panel.X[train], y[train], eras=panel.eras[train])
    print(f"epoch {net.best_epoch_[0]} of {net.n_iter_} was the best")

    prediction = net.predict(panel.X[test])
    scores = era_scores(y[test, 0], prediction, panel.eras[test])
    print(summarize_scores(scores))


if __name__ == "__main__":
    main()
