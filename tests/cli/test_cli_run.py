"""The comparison, end to end on a tiny synthetic panel."""

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numerai_tools.scoring import numerai_corr

from numerai_features.cli import _compare, _run, main
from numerai_features.cli._compare import _as_array, random_columns
from numerai_features.cli._experiment import ExperimentError, read_experiment
from numerai_features.cli._run import run_experiment
from numerai_features.compose import LatentFeatures
from numerai_features.datasets import EraPanel
from numerai_features.embedders import FactorAnalysisEmbedder, SupervisedAEMLP
from numerai_features.model_selection import EraWalkForward

EXPERIMENT = """
seed = 3
[data.synthetic]
n_eras = 30
rows_per_era = 40
n_features = 12
n_factors = 3
horizon = 2
[cv]
n_splits = 2
purge = 3
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = 3
[latents.turned]
embedder = "FactorAnalysisEmbedder"
n_components = 2
rotation = "varimax"
[model]
n_jobs = 1
device = "cpu"
params = { n_estimators = 8, colsample_bytree = 0.5 }
"""
ARMS = ["originals", "+ fa", "+ turned", "+ random"]


def write(folder, text=EXPERIMENT):
    file = folder / "tiny.toml"
    file.write_text(text, encoding="utf-8")
    return file


def run(folder, text=EXPERIMENT):
    experiment = read_experiment(write(folder, text), output=folder / "out")
    return run_experiment(experiment, quiet=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    return folder / "out", run(folder)


@pytest.fixture
def fits(monkeypatch):
    """Count what is fitted."""
    fits = []
    original = _compare._FoldWork.run

    def counted(self, arm, **kwargs):
        fits.append((arm, self.fold.number))
        return original(self, arm, **kwargs)

    monkeypatch.setattr(_compare._FoldWork, "run", counted)
    return fits


def plain_folds(panel):
    y = panel.y("target_alpha_10")
    splitter = EraWalkForward(2, purge=3)
    for train, test in splitter.split(panel.X, y, groups=panel.eras):
        yield train, test, y


def plain_model():
    return lightgbm.LGBMRegressor(
        n_estimators=8, learning_rate=0.01, max_depth=5, num_leaves=31, max_bin=63,
        colsample_bytree=0.5, n_jobs=1, random_state=3, verbosity=-1,
    )  # fmt: skip


def test_files_that_are_written(done):
    folder, text = done
    names = {path.name for path in folder.iterdir()}
    parquet = {"predictions.parquet", "scores.parquet", "summary.parquet"}
    assert names == parquet | {"cumulative.png", "experiment.toml", "folds", "panel"}
    assert len(list((folder / "folds").glob("*.parquet"))) == 8
    assert (folder / "cumulative.png").read_bytes().startswith(b"\x89PNG")
    assert "walk-forward, 20 eras" in text
    assert all(f"\n{arm} " in text for arm in ARMS)
    assert "Arm less originals, mean CORR with 95 % interval" in text


def test_predictions_cover_every_test_row_once(done):
    predictions = pd.read_parquet(done[0] / "predictions.parquet")
    assert list(predictions.columns) == ["era", "target", "fold", *ARMS]
    assert predictions.index.name == "id"
    assert predictions.index.is_unique
    assert (predictions[ARMS].dtypes == np.float32).all()
    assert list(predictions["era"].unique()) == [f"{n:04d}" for n in range(11, 31)]
    assert predictions.groupby("fold")["era"].agg(
        ["min", "max"]
    ).to_numpy().tolist() == [
        ["0011", "0020"],
        ["0021", "0030"],
    ]


def test_scores_are_those_of_numerai_tools(done):
    predictions = pd.read_parquet(done[0] / "predictions.parquet")
    scores = pd.read_parquet(done[0] / "scores.parquet")
    summary = pd.read_parquet(done[0] / "summary.parquet")
    expected = {}
    for era, rows in predictions.reset_index(drop=True).groupby("era"):
        rows = rows.reset_index(drop=True).astype({"target": float})
        expected[int(era)] = numerai_corr(rows[ARMS].astype(float), rows["target"])
    expected = pd.DataFrame(expected).T
    np.testing.assert_allclose(scores, expected[ARMS], rtol=1e-12)
    assert list(scores.index) == list(expected.index)
    np.testing.assert_allclose(summary["mean"], expected[ARMS].mean())
    np.testing.assert_allclose(summary["sd"], expected[ARMS].std(ddof=0))
    difference = (expected["+ fa"] - expected["originals"]).mean()
    np.testing.assert_allclose(summary.loc["+ fa", "mean_difference"], difference)
    assert summary["n_latents"].tolist() == [0, 3, 2, 3]
    assert (summary["model_seconds"] > 0).all()


def test_originals_are_a_plain_lightgbm_loop(done):
    panel = EraPanel.open(done[0] / "panel")
    expected = []
    for train, test, y in plain_folds(panel):
        model = plain_model().fit(panel.X[train], y[train])
        expected.append(model.booster_.predict(panel.X[test]))
    predictions = pd.read_parquet(done[0] / "predictions.parquet")
    expected = np.concatenate(expected).astype(np.float32)
    np.testing.assert_array_equal(predictions["originals"], expected)
    assert predictions["originals"].nunique() > 20


def test_latent_arm_is_a_plain_loop_over_latent_features(done):
    panel = EraPanel.open(done[0] / "panel")
    expected = []
    for train, test, y in plain_folds(panel):
        latents = LatentFeatures([("fa", FactorAnalysisEmbedder(3))], quantize="uint8")
        X = latents.fit_transform(panel.X[train], eras=panel.eras[train])
        model = plain_model().fit(X, y[train])
        expected.append(model.booster_.predict(latents.transform(panel.X[test])))
    predictions = pd.read_parquet(done[0] / "predictions.parquet")
    expected = np.concatenate(expected).astype(np.float32)
    np.testing.assert_array_equal(predictions["+ fa"], expected)


def test_resume_fits_only_what_is_missing(done, tmp_path, fits, capsys):
    run(tmp_path)
    assert len(fits) == 8
    first = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    (tmp_path / "out" / "folds" / "002.fa.parquet").unlink()
    fits.clear()
    assert main(["run", str(write(tmp_path)), "--output", str(tmp_path / "out")]) == 0
    assert fits == [("fa", 2)]
    assert "7 of 8 fits are done already and are kept." in capsys.readouterr().out
    again = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    pd.testing.assert_frame_equal(first, again)
    reference = pd.read_parquet(done[0] / "predictions.parquet")
    pd.testing.assert_frame_equal(first, reference)


def test_ctrl_c_keeps_what_is_finished(tmp_path, monkeypatch, fits, capsys):
    counted = _compare._FoldWork.run

    def interrupted(self, arm, **kwargs):
        if (arm, self.fold.number) == ("turned", 1):
            raise KeyboardInterrupt
        return counted(self, arm, **kwargs)

    command = ["run", str(write(tmp_path)), "--output", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(_compare._FoldWork, "run", interrupted)
        assert main(command) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert fits == [("originals", 1), ("fa", 1)]
    assert main(command) == 0
    assert len(fits) == len(set(fits)) == 8


def test_another_experiment_in_the_folder_is_refused(tmp_path):
    run(tmp_path, EXPERIMENT.replace("[latents.turned]", "[latents.other]"))
    message = (
        r"holds results of another experiment:\n"
        r"  latents\.other: .* then, not set now\n"
        r"  latents\.turned: not set then, .* now\n"
        r"  model\.params\.n_estimators: 8 then, 9 now\n"
        r"Choose another output folder \(--output\), or delete that one"
    )
    with pytest.raises(ExperimentError, match=message):
        run(tmp_path, EXPERIMENT.replace("n_estimators = 8", "n_estimators = 9"))


def test_fewer_threads_are_the_same_experiment(tmp_path, fits):
    run(tmp_path)
    fits.clear()
    run(tmp_path, EXPERIMENT.replace("n_jobs = 1", "n_jobs = 2"))
    assert fits == []


def test_panel_of_others_is_not_replaced(tmp_path):
    (tmp_path / "out" / "panel").mkdir(parents=True)
    (tmp_path / "out" / "panel" / "precious").touch()
    with pytest.raises(ExperimentError, match=r"did not make it.*data\.panel another"):
        run(tmp_path)
    assert (tmp_path / "out" / "panel" / "precious").exists()


def test_without_matplotlib_the_rest_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert "No figure: cumulative.png needs matplotlib" in run(tmp_path)
    assert not (tmp_path / "out" / "cumulative.png").exists()
    assert (tmp_path / "out" / "summary.parquet").exists()


@pytest.mark.parametrize("quantize", ["none", "int8", "uint8"])
def test_random_columns_are_of_the_latents_type(tmp_path, monkeypatch, quantize):
    seen = {}

    def noted(originals, latents, names):
        seen.setdefault(names[0].split("__")[0], latents)
        return beside(originals, latents, names)

    beside = _compare._beside
    monkeypatch.setattr(_compare, "_beside", noted)
    run(tmp_path, EXPERIMENT.replace("[latents.fa]", f"[latents]\nquantize='{quantize}'"
                                     "\n[latents.fa]"))  # fmt: skip
    fa, random = seen["fa"], seen["random"]
    assert fa.dtype == random.dtype == (np.float32 if quantize == "none" else quantize)
    assert fa.shape == random.shape
    if quantize != "none":
        n_bins = 5 if quantize == "int8" else 255
        for column in random.T:  # the factors may have ties
            counts = np.bincount(column, minlength=n_bins)
            assert len(counts) == n_bins
            assert np.ptp(counts) <= 1
        assert fa.max() < n_bins


def test_random_columns_belong_to_the_row():
    whole = random_columns(0, 50, 4, slice(0, 50))
    some = np.array([3, 7, 49])
    np.testing.assert_array_equal(random_columns(0, 50, 2, some), whole[some, :2])
    np.testing.assert_array_equal(random_columns(0, 60, 4, slice(5, 9)), whole[5:9])
    assert abs(random_columns(1, 50, 4, slice(0, 50)) - whole).min() > 0
    assert abs(np.corrcoef(random_columns(0, 4000, 4, slice(0, 4000)).T)[0, 1]) < 0.05


def test_old_lightgbm_gets_one_array_of_the_same_values():
    table = pa.table(
        {"a": np.array([0, 4], np.int8), "b": np.array([9, 250], np.uint8)}
    )
    array = _as_array(table)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, [[0, 9], [4, 250]])
    beside = table.append_column("c", pa.array(np.array([0.5, 1.5], np.float32)))
    assert _as_array(beside).dtype == np.float32


@pytest.mark.parametrize(
    ("old", "new", "title"),
    [
        ("n_splits = 2", "scheme = 'k-fold'\nn_splits = 2", "k-fold, 30 eras"),
        ("n_splits = 2", "test_eras = 8\nmax_train_eras = 6", "walk-forward, 22 eras"),
        ("seed = 3", "seed = 3\nlatents.random_columns = false", "20 eras"),
        ("[model]", "[model]\nlibrary = 'xgboost'", "20 eras"),
        ("[cv]", "[features]\nset = ['feature_0003', 'feature_0001']\n[cv]", "20 eras"),
    ],
)
def test_other_settings(tmp_path, old, new, title):
    text = EXPERIMENT.replace("n_components = 3", "n_components = 1")
    text = text.replace("n_components = 2", "n_components = 1").replace(old, new)
    if "random_columns" in new:
        text = text.replace(new, "seed = 3").replace(
            "[latents.fa]", "[latents]\nrandom_columns = false\n[latents.fa]"
        )
    assert title in (told := run(tmp_path, text))
    assert ("+ random" in told) == ("random_columns" not in new)


def test_baseline_alone_has_no_differences(tmp_path):
    text = EXPERIMENT[: EXPERIMENT.index("[latents")]
    text += EXPERIMENT[EXPERIMENT.index("[model]") :]
    assert "Arm less" not in run(tmp_path, text)


def test_too_few_eras_for_intervals_are_told(tmp_path):
    text = EXPERIMENT.replace("n_eras = 30", "n_eras = 13").replace(
        "n_splits = 2", "n_splits = 2\ntest_eras = 9"
    )
    told = run(tmp_path, text)
    assert (
        "No intervals for the differences: 4 eras are too few for blocks of 3" in told
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("purge = 3", "purge = 40", "Fold 0 .* has no training era left after a purge"),
        ("n_components = 3", "n_components = 13", "n_components"),
        ("n_estimators = 8", "num_leaves = 0", "LightGBM refuses model.params"),
        ('device = "cpu"', 'device = "tpu"', "device must be .*got 'tpu'"),
        (
            "[cv]",
            "[targets]\nmain = 'target_alph_10'\n[cv]",
            "Did you mean 'target_alph",
        ),
    ],
)
def test_errors_of_the_library_are_one_message(tmp_path, capsys, old, new, message):
    file = write(tmp_path, EXPERIMENT.replace(old, new))
    assert main(["run", str(file), "--output", str(tmp_path / "out"), "--quiet"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    with pytest.raises(ValueError, match=message):
        raise ValueError(told.err)
    assert told.err.startswith("Error: ")
    assert "Traceback" not in told.err


def test_quiet_prints_nothing(tmp_path, capsys):
    command = ["run", str(write(tmp_path)), "--output", str(tmp_path / "o"), "--quiet"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == ""


def test_demo_runs_the_packaged_file(monkeypatch, tmp_path):
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_run, "run_experiment", lambda e, quiet: ran.append(e) or "")
    assert main(["demo"]) == 0
    assert ran[0].folder == tmp_path / "runs" / "demo"
    synthetic = ran[0]["data"]["synthetic"]
    names = [
        "n_eras",
        "rows_per_era",
        "n_features",
        "n_factors",
        "horizon",
        "random_state",
    ]
    assert [synthetic[name] for name in names] == [240, 500, 200, 16, 4, 0]


def test_truncated_parquet_is_told(tmp_path, capsys):
    (tmp_path / "train.parquet").write_bytes(b"PAR1" + bytes(20))
    text = EXPERIMENT[: EXPERIMENT.index("[data")]
    text += "[data]\nfiles = ['train.parquet']\n[targets]\nmain = 'target_x_20'\n"
    text += "[features]\nset = ['feature_a']\n"
    command = ["run", str(write(tmp_path, text)), "--output", str(tmp_path / "out")]
    assert main(command) == 1
    assert "no parquet file, or cut short or damaged" in capsys.readouterr().err


def test_real_rows(tmp_path, fits, monkeypatch, real_data):
    text = EXPERIMENT[EXPERIMENT.index("[cv]") :]
    files = [str(real_data / f"{name}.parquet") for name in ("train", "validation")]
    head = f"[data]\nfiles = {files}\n[targets]\nmain = 'target_bernie'\n"
    run(tmp_path, head + text)
    assert len(fits) == 8
    panel = EraPanel.open(tmp_path / "out" / "panel")
    assert panel.target_names == ["target_bernie"]
    predictions = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    rows = pd.concat([pd.read_parquet(file) for file in files])["target_bernie"]
    np.testing.assert_array_equal(predictions["target"], rows.loc[predictions.index])

    def never(*args, **kwargs):
        raise AssertionError("the panel was made again")

    monkeypatch.setattr("numerai_features.datasets.read_numerai", never)
    run(tmp_path, head + text)
    assert len(fits) == 8


def test_a_model_of_its_own(tmp_path):
    """It has the original features, the fold's training rows, and its eras."""
    net = {
        "n_components": 3, "decoder_units": 4, "hidden": (8,), "max_epochs": 2,
        "dropout": (0.0, 0.0, 0.0, 0.0),
    }  # fmt: skip
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in net.items()}
    toml = "\n".join(f"{k} = {v}" for k, v in lists.items())
    text = f'{EXPERIMENT}\n[models.net]\nmodel = "SupervisedAEMLP"\n{toml}\n'
    text += f'[latents.codes]\nembedder = "SupervisedAEMLP"\ncross_fit = 2\n{toml}\n'
    told = run(tmp_path, text.replace("n_eras = 30", "n_eras = 90"))
    assert "\nnet " in told
    assert "\n+ codes " in told
    got = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    panel = EraPanel.open(tmp_path / "out" / "panel")
    for train, test, y in plain_folds(panel):
        known = train[~np.isnan(y[train])]
        model = SupervisedAEMLP(random_state=3, **net)
        model.fit(panel.X[known], y[known], eras=panel.eras[known])
        expected = model.predict(panel.X[test]).astype(np.float32)
        eras = [f"{n:04d}" for n in np.unique(panel.eras[test])]
        mine = got[got["era"].isin(eras)]["net"].to_numpy()
        np.testing.assert_array_equal(mine, expected)
