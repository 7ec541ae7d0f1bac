"""The tables of an experiment file: all of the schema. A new field is a new entry."""

from __future__ import annotations

from numerai_features.experiment._schema import Field, Table

WINDOW = ("test_eras", "first_test_era", "min_train_eras", "max_train_eras")
"""Fields of ``[cv]`` that are allowed only with walk-forward."""

_SYNTHETIC = Table(
    "a panel of numerai_features.datasets.make_era_panel, instead of files",
    {
        "n_eras": Field("number of eras", (int,), 120, minimum=2),
        "rows_per_era": Field(
            "rows of each era, or two bounds within which their number is drawn",
            (int, list),
            300,
            minimum=5,
            items=int,
        ),
        "n_features": Field("number of features", (int,), 60, minimum=1),
        "n_factors": Field(
            "number of latent factors that generate them", (int,), 8, minimum=1
        ),
        "structure": Field(
            "how the features depend on the factors",
            default="linear",
            choices=("linear", "curved", "none"),
        ),
        "n_targets": Field("number of targets", (int,), 4, minimum=1),
        "horizon": Field(
            "number of eras that the first target spans", (int,), 4, minimum=1
        ),
        "group_size": Field(
            "number of features in a correlated group", (int,), 10, minimum=1
        ),
        "missing_share": Field(
            "share of features that are missing in the first eras",
            (float,),
            0.1,
            minimum=0,
        ),
        "random_state": Field("seed (default: the experiment's)", (int,), minimum=0),
    },
    optional=True,
)

EXPERIMENT = Table(
    fields={
        "seed": Field("seed of all random draws", (int,), 0, minimum=0),
        "seeds": Field(
            "number of seeds that each arm is trained with; scores are their means",
            (int,),
            1,
            minimum=1,
            neutral=True,
        ),
    },
    tables={
        "data": Table(
            "the rows: either files or [data.synthetic]",
            {
                "files": Field(
                    "parquet files, relative to the experiment file",
                    (list,),
                    items=str,
                ),
                "metadata": Field(
                    "features.json (default: the one beside the first file)", (str,)
                ),
                "every": Field("keep every n-th era", (int,), 1, minimum=1),
                "benchmark": Field(
                    "parquet files with a benchmark's predictions, matched by id; for "
                    "BMC",
                    (str, list),
                    items=str,
                    neutral=True,
                ),
                "benchmark_column": Field(
                    "its column (default: the only one)", (str,), neutral=True
                ),
                "meta_model": Field(
                    "parquet files with the meta model's predictions, matched by id; "
                    "for MMC",
                    (str, list),
                    items=str,
                    neutral=True,
                ),
                "meta_model_column": Field(
                    "its column (default: the only one)", (str,), neutral=True
                ),
                "panel": Field(
                    "folder of the int8 panel made of these rows, reused if files and "
                    "settings are the same (default: OUTPUT/panel)",
                    (str,),
                    neutral=True,
                ),
            },
            {"synthetic": _SYNTHETIC},
        ),
        "features": Table(
            "the features",
            {
                "set": Field(
                    "a feature set or feature names", (str, list), "all", items=str
                )
            },
        ),
        "targets": Table(
            "the targets",
            {
                "main": Field(
                    "the target to learn and score; of a list, the first one in the "
                    "data. The longest target sets the purge (default: "
                    "the first target of synthetic data)",
                    (str, list),
                    items=str,
                ),
                "also": Field(
                    "further targets: of supervised embedders, and of arms that name "
                    "them",
                    (list,),
                    items=str,
                ),
            },
        ),
        "cv": Table(
            "the folds",
            {
                "scheme": Field(
                    "train on eras before the test eras, or on both sides of them",
                    default="walk-forward",
                    choices=("walk-forward", "k-fold"),
                ),
                "test_eras": Field(
                    "number of eras of a walk-forward test block, instead of n_splits",
                    (int,),
                    minimum=1,
                ),
                "n_splits": Field("number of folds", (int,), 5, minimum=1),
                "first_test_era": Field(
                    "first walk-forward test era, such as the first validation era "
                    "(default: after a first block, or min_train_eras)",
                    (int, str),
                ),
                "min_train_eras": Field(
                    "shortest walk-forward training window", (int,), minimum=1
                ),
                "max_train_eras": Field(
                    "longest walk-forward training window (default: no limit)",
                    (int,),
                    minimum=1,
                ),
                "purge": Field(
                    "number of eras left out between training and test; auto: 8 for "
                    "20-day targets, 16 for all others",
                    (int,),
                    "auto",
                    choices=("auto",),
                    minimum=0,
                ),
                "embargo": Field(
                    "number of further eras left out after a test block",
                    (int,),
                    0,
                    minimum=0,
                ),
            },
        ),
        "latents": Table(
            "embedders; without [arms], each is an arm: originals and its latents",
            {
                "quantize": Field(
                    "type of the latents: float32, 5 bins or 255 bins",
                    default="uint8",
                    choices=("none", "int8", "uint8"),
                ),
                "pca": Field(
                    "without [arms]: whether to add an arm with principal components, "
                    "as many as the largest number of latents of any arm",
                    (bool,),
                    True,
                ),
                "random_columns": Field(
                    "without [arms]: whether to add an arm with random columns, as "
                    "many as the largest number of latents of any arm",
                    (bool,),
                    True,
                ),
            },
            named="embedder = a class of numerai_features.embedders, and its "
            "parameters; features, select and fit_on, see below",
        ),
        "augment": Table(
            "augmenters, for arms that name them",
            named="augmenter = a class of numerai_features.augmenters, and its "
            "parameters; of DreamAugmenter, embedder = a [latents] table",
        ),
        "models": Table(
            "models, for arms that name them; without [arms], each is an arm",
            named='model = "LightGBM" or "XGBoost", and the keys of [model]; or '
            '"Ridge", "EraBoostedRegressor" (regressor = a [models] table with trees; '
            "default: [model]), or a class of numerai_features.embedders that "
            "predicts, and its parameters",
        ),
        "arms": Table(
            "what is compared (default: originals, an arm for each [latents.NAME], "
            "principal components, random columns, an arm for each [models.NAME]); "
            "differences are from the first arm",
            named="an arm, see below",
        ),
        "model": Table(
            "the model of arms that name none",
            {
                "library": Field(
                    "tree library",
                    default="lightgbm",
                    choices=("lightgbm", "xgboost"),
                ),
                "preset": Field(
                    "set of Numerai's published parameters",
                    default="small",
                    choices=("small", "large", "deep"),
                ),
                "device": Field(
                    "auto, cpu, gpu (LightGBM's OpenCL) or cuda", (str,), "auto"
                ),
                "n_jobs": Field("number of threads; -1: all", (int,), -1, neutral=True),
                "params": Field("parameters that override the preset", (dict,), {}),
            },
        ),
        "report": Table(
            "how results are summarised; it can be changed after the fits",
            {
                "weights": Field(
                    "weights of CORR and of MMC (BMC without a meta model) in payout",
                    (list,),
                    [3, 15],
                    items=float,
                    neutral=True,
                ),
                "periods": Field(
                    "periods of test eras that get their own tables, as in "
                    '["0575-0800", "0801-1200"]',
                    (list,),
                    items=str,
                    neutral=True,
                ),
            },
        ),
        "output": Table(
            "the results",
            {
                "folder": Field(
                    "output folder, relative to the current folder (default: runs/NAME "
                    "OF THE FILE)",
                    (str,),
                    neutral=True,
                )
            },
        ),
    },
)

LATENTS_OPTIONS = Table(
    "which features and rows the embedder gets",
    {
        "features": Field(
            "a feature set or feature names (default: all)", (str, list), items=str
        ),
        "select": Field(
            "a choice of features on the training rows of each fold: {n = 100}, the "
            "most important ones of [model] (or of model = a [models] table with "
            "trees), or {max_correlation = 0.95}, those that are not more correlated "
            "with an earlier one",
            (dict,),
        ),
        "fit_on": Field(
            "rows to fit the embedder to: the training rows of the fold, or all rows, "
            "without targets; only for embedders that do not need targets",
            default="train",
            choices=("train", "all"),
        ),
        "residual_to": Field(
            "train the embedder on what the benchmark leaves of the targets in each "
            "era; only for networks that learn from targets",
            choices=("benchmark",),
        ),
    },
)
"""Keys of ``[latents.NAME]`` that are not parameters of its embedder."""

ARM = Table(
    "an arm",
    {
        "latents": Field(
            'names of [latents] tables; also "pca" and "random"',
            (list,),
            [],
            items=str,
            empty=True,
        ),
        "augment": Field("[augment] tables that add rows", (str, list), items=str),
        "only_new_rows": Field(
            "whether to train on the added rows alone", (bool,), False
        ),
        "model": Field("a [models] table (default: [model])", (str,)),
        "features": Field(
            "the model's features: a set, names, or [] for latents alone (default: "
            "all)",
            (str, list),
            items=str,
            empty=True,
        ),
        "target": Field(
            "targets to train on, of [targets]; predictions of several are ranked and "
            "averaged (default: targets.main)",
            (str, list),
            items=str,
        ),
        "residual_to": Field(
            "train on what the benchmark leaves of the targets in each era",
            choices=("benchmark",),
        ),
        "proportion": Field(
            "share of the benchmark's fit that residual_to subtracts",
            (float,),
            1.0,
            minimum=0,
            maximum=1,
        ),
        "era_feature": Field("whether the era is a feature", (bool,), False),
        "benchmark_feature": Field(
            "whether the benchmark's prediction is a feature", (bool,), False
        ),
        "shrink": Field(
            "a [latents] table with an autoencoder: predictions of rows that are "
            "unfamiliar to it are shrunk",
            (str,),
        ),
        "blend": Field(
            "arms and their weights, instead of all other keys: the weighted mean of "
            "their ranked predictions",
            (dict,),
        ),
    },
    {
        "neutralize": Table(
            "what is taken out of the predictions in each era",
            {
                "to": Field(
                    "the features or the benchmark",
                    default="features",
                    choices=("features", "benchmark"),
                ),
                "features": Field(
                    "a feature set or feature names (default: all)",
                    (str, list),
                    items=str,
                ),
                "proportion": Field(
                    "share that is taken out", (float,), 1.0, minimum=0, maximum=1
                ),
            },
            optional=True,
        )
    },
)
"""Keys of ``[arms.NAME]``."""
