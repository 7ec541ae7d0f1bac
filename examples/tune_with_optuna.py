"""A search with Optuna for the settings of `SupervisedAEMLP`, over folds of eras.

pip install 'numerai-features[tune]'
python examples/tune_with_optuna.py
"""

import optuna
from sklearn.model_selection import cross_val_score

from numerai_features import (
    EraWalkForward,
    SupervisedAEMLP,
    make_era_panel,
    make_era_scorer,
)

TARGET = "target_alpha_20"


def main(n_trials=8):
    panel = make_era_panel(n_eras=60, rows_per_era=100, random_state=0)
    X, y = panel.to_frame(targets=[]), panel.y(TARGET)
    folds = EraWalkForward(2, target=TARGET)
    corr = make_era_scorer("corr")

    def objective(trial):
        width = trial.suggest_categorical("width", [32, 64, 128])
        share = trial.suggest_float("dropout", 0.0, 0.5)
        net = SupervisedAEMLP(
            trial.suggest_categorical("n_components", [8, 16, 32]),
            decoder_units=16,
            hidden=(width, width // 2),
            dropout=(0.04, share, 0.1, share, share),
            learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            max_epochs=10,
            random_state=0,
        )
        # The splitter, the network and the scorer read the frame's column era.
        return cross_val_score(net, X, y, cv=folds, scoring=corr).mean()

    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=n_trials)
    print(f"CORR {study.best_value:.4f} with {study.best_params}")
    print("The best of several trials: score it on eras that no trial has seen.")


if __name__ == "__main__":
    main()
