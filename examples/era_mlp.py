"""The perceptron of a public recipe of 2026 against LightGBM, as an experiment.

The experiment is era_mlp.toml. Without a folder, the files are synthetic, and networks
and trees are small. With a folder of Numerai's files (features.json, train, validation
and their benchmark models), results are stored in runs/era_mlp, and the same command
resumes after Ctrl-C.

    python examples/era_mlp.py [FOLDER]
"""

import json
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from numerai_features import make_era_panel, make_lightgbm
from numerai_features.experiment import Experiment

EXPERIMENT = Path(__file__).with_name("era_mlp.toml")
TARGETS = {
    "target_alpha_60": "target_ender_60",
    "target_alpha_20": "target_ender_20",
    "target_bravo_60": "target_cyrusd_60",
    "target_bravo_20": "target_cyrusd_20",
}
SMALL = {
    "data": {"every": 1},
    "cv": {"first_test_era": 161, "test_eras": 40},
    "models": {"mlp": {"hidden": [64, 32, 16]}, "penalised": {"hidden": [64, 32, 16]}},
    "model": {"params": {"n_estimators": 200, "learning_rate": 0.05}, "n_jobs": 1},
}


def main(folder=None, output="runs/era_mlp", changes=None):
    """Run the experiment on a folder of Numerai's files; print and return its result.

    `changes` are tables of the experiment file, with the keys to replace.
    """
    if folder is None:
        with TemporaryDirectory() as made:
            write_files(Path(made))
            return main(made, Path(made, "out"), changed(SMALL, changes or {}))
    tables = tomllib.loads(EXPERIMENT.read_text(encoding="utf-8"))
    tables = with_targets_of(folder, changed(tables, changes or {}))
    result = Experiment.from_dict(tables, base=folder, output=output).run()
    print(result)
    return result


def changed(tables, changes):
    """Return nested tables with other values."""
    both = tables.keys() & changes.keys()
    inner = {k: changed(tables[k], changes[k]) for k in both if type(tables[k]) is dict}
    return {**tables, **changes, **inner}


def with_targets_of(folder, tables):
    """Return the tables with those targets alone that the files have."""
    there = json.loads(Path(folder, "features.json").read_text())["targets"]
    arms = {}
    for name, arm in tables["arms"].items():
        found = [target for target in arm.get("target", []) if target in there]
        arms[name] = {**arm, "target": found} if found else arm
    also = [target for target in tables["targets"]["also"] if target in there]
    targets = {**tables["targets"], "also": also or None}
    return {**tables, "targets": targets, "arms": arms}


def write_files(folder, rows_per_era=150):
    """Write synthetic rows as Numerai's files, with a benchmark that begins later."""
    panel = make_era_panel(n_eras=240, rows_per_era=rows_per_era, random_state=0)
    rows = panel.to_frame().rename(columns=TARGETS)
    sets = {"medium": panel.feature_names, "all": panel.feature_names}
    metadata = {"feature_sets": sets, "targets": list(TARGETS.values())}
    (folder / "features.json").write_text(json.dumps(metadata))
    # The benchmark has not seen the targets of the eras that it predicts.
    first, later = panel.eras <= 80, panel.eras > 96
    model = make_lightgbm("small", n_estimators=100, learning_rate=0.05, n_jobs=1)
    model.fit(panel.X[first], panel.y("target_alpha_60")[first])
    benchmark = pd.DataFrame(
        {"era": rows["era"], "v53_lgbm_ender60": model.predict(panel.X)}, rows.index
    )[later]
    for name, eras in (("train", ("0001", "0160")), ("validation", ("0161", "9999"))):
        for kind, frame in (("", rows), ("_benchmark_models", benchmark)):
            own = frame[frame["era"].between(*eras)]
            own.to_parquet(folder / f"{name}{kind}.parquet")


if __name__ == "__main__":
    main(*sys.argv[1:2])
