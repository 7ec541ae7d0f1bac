"""Files with the names, eras and gaps of v5.3, and few rows and features."""

import json

import numpy as np

from numerai_features.datasets import make_era_panel

NAMES = {
    "target_alpha_20": "target_cyrusd_20",
    "target_alpha_60": "target_cyrusd_60",
    "target_bravo_20": "target_ender_20",
    "target_bravo_60": "target_ender_60",
    "target_charlie_60": "target_teager2b_60",
}
FILES = {"train": (1, 574), "validation": (575, 1234), "live": (1235, 1235)}
LAST_RESOLVED = 1218  # later eras have no 60-day target yet


def write_v53(folder, rows_per_era=20):
    """Write all files that ``download`` gets; the benchmark begins at era 158."""
    folder.mkdir(parents=True)
    panel = make_era_panel(
        1235, rows_per_era, n_features=90, n_targets=6, random_state=0
    )
    frame = panel.to_frame().rename(columns=NAMES)
    numbers = frame["era"].astype(int)
    frame.loc[numbers > LAST_RESOLVED, "target_ender_60"] = np.nan
    frame["target"] = frame["target_ender_60"]
    frame.loc[numbers == 1235, ["target", *NAMES.values()]] = np.nan
    frame.loc[numbers == 1235, "era"] = "X"
    rng = np.random.default_rng(0)
    others = frame[["era"]].assign(
        v53_lgbm_ender20=rng.random(len(frame), np.float32),
        v53_lgbm_ender60=rng.random(len(frame), np.float32),
        numerai_meta_model=rng.random(len(frame), np.float32),
    )
    for name, (first, last) in FILES.items():
        own = numbers.between(first, last)
        frame[own].to_parquet(folder / f"{name}.parquet")
        there = others[own & (numbers >= 158)].drop(columns="numerai_meta_model")
        there.to_parquet(folder / f"{name}_benchmark_models.parquet")
    meta = others.loc[numbers.between(1133, 1234), ["era", "numerai_meta_model"]]
    meta.to_parquet(folder / "meta_model.parquet")
    features = panel.feature_names
    sets = {"small": features[:42], "medium": features[:70], "all": features}
    sets["fncv3_features"] = features[:3]
    metadata = {"feature_sets": sets, "targets": ["target", *NAMES.values()]}
    (folder / "features.json").write_text(json.dumps(metadata))
