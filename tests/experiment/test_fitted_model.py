"""A fitted arm predicts what a plain loop over the same classes predicts."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from fit_parts import ALPHA, EXPERIMENT, NAMES, Plain, write_files
from numerai_tools.scoring import correlation_contribution, numerai_corr

from numerai_features.compose import neutralize_by_era, rank_by_era
from numerai_features.datasets import EraPanel
from numerai_features.experiment import Experiment, FittedModel
from numerai_features.experiment._fit_store import FitStore
from numerai_features.metrics import mean_interval

FITTED = ["trees", "leaves", "cutout", "ridge", "net", "told", "shrunk"]
BLENDS = ["mix", "mixed_again"]
SEEDS = {"trees": 2, "ridge": 1, "net": 2, "mix": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def experiment(folder):
    return Experiment.from_file(folder / "arms.toml", folder / "out")


@pytest.fixture(scope="module")
def models(experiment):
    """Every arm, fitted; some with two seeds."""
    return {
        arm: experiment.fit(arm, seeds=SEEDS.get(arm, 1), verbose=False)
        for arm in FITTED + BLENDS
    }


@pytest.fixture(scope="module")
def live(folder):
    return pd.read_parquet(folder / "live.parquet")


@pytest.fixture(scope="module")
def benchmark(folder):
    return pd.read_parquet(folder / "benchmark.parquet")


@pytest.mark.parametrize("arm", FITTED + BLENDS)
def test_it_predicts_as_a_plain_loop(models, folder, live, benchmark, arm):
    found = models[arm].predict(live, benchmark, rank=None)["prediction"]
    expected = Plain(folder).predict(arm, SEEDS.get(arm, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.std() > 1e-4
    ranked = models[arm].predict(live, benchmark)["prediction"]
    same = rank_by_era(found.to_numpy(), np.zeros(len(found), int))
    np.testing.assert_array_equal(ranked, same)


def test_several_eras_are_ranked_apart(models, folder, benchmark):
    later = pd.read_parquet(folder / "validation.parquet")
    found = models["mix"].predict(later, benchmark, rank=None)["prediction"]
    expected = Plain(folder, "validation.parquet").predict("mix", 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arm", FITTED + BLENDS)
@pytest.mark.parametrize("trees", ["library", "numpy"])
def test_the_exported_file_predicts_the_same_bits(
    models, tmp_path, live, benchmark, arm, trees
):
    if (arm, trees) == ("leaves", "numpy"):
        with pytest.raises(ValueError, match="it has 2 outputs"):
            models[arm].export(tmp_path / "model.pkl", trees=trees)
        return
    file = models[arm].export(tmp_path / "model.pkl", trees=trees)
    beside = () if models[arm].benchmark is None else (benchmark,)
    answer = pd.read_pickle(file)(live, *beside)
    expected = models[arm].predict(live, benchmark)
    pd.testing.assert_frame_equal(answer, expected, check_exact=True)
    raw = models[arm].predict(live, benchmark, rank=None)
    values = raw["prediction"].to_numpy()
    inside = (values - values.min()) / np.ptp(values)
    assert len(np.unique(answer["prediction"])) == len(np.unique(inside))


def test_raw_predictions_of_an_exported_file_are_the_same_bits(
    models, tmp_path, live, benchmark
):
    """Of a model whose predictions are between 0 and 1 as they are."""
    file = models["trees"].export(tmp_path / "raw.pkl", rank=None)
    one = models["cutout"].export(tmp_path / "one.pkl", rank=None)
    expected = models["cutout"].predict(live, rank=None)
    pd.testing.assert_frame_equal(pd.read_pickle(one)(live), expected, check_exact=True)
    with pytest.raises(ValueError, match="Export the model with rank='era'"):
        pd.read_pickle(file)(live)  # ranks of two seeds are around zero


def test_neutralised_at_export(models, tmp_path, live, benchmark):
    own = {"neutralize": "benchmark", "benchmark": "own"}
    file = models["cutout"].export(tmp_path / "model.pkl", **own)
    found = pd.read_pickle(file)(live, benchmark)["prediction"]
    raw = models["cutout"].predict(live, rank=None)["prediction"]
    ranked = rank_by_era(raw, live["era"], output="gauss")
    rest = neutralize_by_era(ranked, benchmark.loc[live.index], live["era"])
    np.testing.assert_allclose(found, rank_by_era(rest, live["era"]))
    assert not np.allclose(found, rank_by_era(raw, live["era"]))


def test_what_cannot_be_exported_is_told(models, tmp_path):
    with pytest.raises(ValueError, match=r"'image' parameter of FittedModel.export"):
        models["trees"].export(tmp_path / "model.pkl", image="2.7")
    with pytest.raises(ValueError, match=r"XGBoost was fitted to 2 targets.*'3.10'"):
        models["leaves"].export(tmp_path / "model.pkl", image="3.10")
    with pytest.raises(ValueError, match="name is empty"):
        models["trees"].export(tmp_path / "model.pkl", name="")
    assert not [*tmp_path.iterdir()]


def test_rows_come_as_frames_or_files_and_stay_as_they_were(
    models, folder, live, benchmark
):
    before, beside = live.copy(), benchmark.copy()
    model = models["mixed_again"]
    expected = model.predict(live, benchmark)
    files = folder / "live.parquet", str(folder / "benchmark.parquet")
    pd.testing.assert_frame_equal(model.predict(*files), expected)
    as_columns = live.reset_index(), benchmark.reset_index()
    pd.testing.assert_frame_equal(model.predict(*as_columns), expected)
    other = live[live.columns[::-1]].iloc[::-1]
    found = model.predict(other, benchmark).loc[live.index]
    pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(live, before)
    pd.testing.assert_frame_equal(benchmark, beside)
    assert expected.index.name == "id"
    assert list(expected.columns) == ["prediction"]


def test_a_missing_feature_is_the_middle_bin_as_in_panels(models, live):
    gaps = live.astype(dict.fromkeys(NAMES, np.float32))
    gaps.iloc[:9, gaps.columns.get_indexer(NAMES[3:5])] = np.nan
    filled = gaps.fillna(dict.fromkeys(NAMES, 2)).astype(dict.fromkeys(NAMES, np.int8))
    for arm in ("trees", "cutout", "shrunk"):
        found, expected = (models[arm].predict(rows) for rows in (gaps, filled))
        pd.testing.assert_frame_equal(found, expected)


def test_the_record_tells_what_it_is(models, experiment):
    record = models["mix"].record
    told = {"arm": "mix", "seeds": 2, "n_eras": 36, "first_era": "0001",
            "last_era": "0036", "purge": 16, "n_rows": 36 * 40, "n_features": 20,
            "files": ["train.parquet"], "version": None, "benchmark": None}  # fmt: skip
    assert told.items() <= record.items()
    assert record["targets"] == [ALPHA, "target_bravo_20"]
    assert {"lightgbm", "torch", "numpy"} <= set(record["versions"])
    assert "xgboost" not in record["versions"]
    assert models["mixed_again"].benchmark == "own"
    assert models["mix"].feature_names == NAMES
    assert str(models["mix"]) == (
        "FittedModel('mix': 20 features, 36 eras from 0001 to 0036)"
    )
    again = FittedModel.open(experiment.folder / "models" / "mix")
    assert again.record == record


def test_the_version_is_that_of_the_folder(tmp_path):
    folder = tmp_path / "v5.3"
    folder.mkdir()
    write_files(folder)
    experiment = Experiment.from_file(folder / "arms.toml", tmp_path / "out")
    model = experiment.fit("shrunk", verbose=False)
    assert model.record["version"] == "v5.3"
    later = pd.read_parquet(folder / "live.parquet").drop(columns=NAMES[0])
    message = "It was fitted on data of version v5.3 .*: download the rows of v5.3, or"
    with pytest.raises(ValueError, match=message):
        model.predict(later)


def test_a_run_after_a_fit_is_as_without(experiment, models, folder):
    """Both use one panel, and neither changes what the other stores."""
    panel = EraPanel.open(experiment["data"]["panel"])
    assert panel.n_rows == 40 * 40
    pd.testing.assert_index_equal(
        models["trees"].predict(folder / "live.parquet").index,
        pd.read_parquet(folder / "live.parquet").index,
    )


# --- other rows --------------------------------------------------------------------


def test_features_that_are_gone_are_named(models, live, tmp_path):
    gone = live.drop(columns=NAMES[4:7])
    message = "3 of the 20 features of the model 'trees' are gone: 'feature_0004'"
    with pytest.raises(ValueError, match=message):
        models["trees"].predict(gone)
    gone.to_parquet(tmp_path / "live.parquet")
    with pytest.raises(ValueError, match=r"\(train.parquet\).*or fit it again"):
        models["trees"].predict(tmp_path / "live.parquet")


def test_features_that_are_new_are_listed(models, live):
    assert models["trees"].check_features(live.columns) == []
    new = [*live.columns, "feature_new", "target_new"]
    assert models["trees"].check_features(new) == ["feature_new"]


def test_a_benchmark_that_is_needed_is_asked_for(models, live, benchmark, tmp_path):
    with pytest.raises(ValueError, match="'told' needs the predictions of 'own'"):
        models["told"].predict(live)
    with pytest.raises(ValueError, match="no number in 'own' for 1 of 40 rows"):
        models["told"].predict(live, benchmark.drop(index=live.index[3]))
    benchmark.rename(columns={"own": "owns"}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"has no column 'own'. Did you mean 'owns'"):
        models["told"].predict(live, tmp_path / "b.parquet")


def test_rows_without_ids_are_refused(models, live, tmp_path):
    live.reset_index(drop=True).to_parquet(tmp_path / "live.parquet")
    with pytest.raises(ValueError, match=r"live: .* has no ids"):
        models["trees"].predict(tmp_path / "live.parquet")
    with pytest.raises(ValueError, match="rank must be 'era' or None; got 'gauss'"):
        models["trees"].predict(live, rank="gauss")


class TestUnfamiliar:
    def test_training_eras_are_familiar(self, models, folder):
        """But for the first ones, which lack features that the last ones have."""
        train = pd.read_parquet(folder / "train.parquet")
        known = train[train[ALPHA].notna()]
        last = known[known["era"] > "0032"]
        assert models["trees"].unfamiliar(last) == []
        [told] = models["trees"].unfamiliar(known[known["era"] == "0001"])
        assert told.startswith("Era 0001 has 2 of 20 features with one value")

    def test_an_era_whose_features_go_together_otherwise_is_told(self, models, live):
        other = live.assign(**{name: 4 - live[name] for name in NAMES[::2]})
        assert (
            other[NAMES].mean().round(1).tolist()
            == live[NAMES].mean().round(1).tolist()
        )
        [told] = models["trees"].unfamiliar(other)
        assert told.startswith("Era X is unlike all 36 training eras: ")

    @pytest.mark.parametrize("n_rows", [40, 30])
    def test_few_rows_alone_are_not_unfamiliar(self, models, live, n_rows):
        told = models["trees"].unfamiliar(live.sample(n_rows, random_state=0))
        assert not [sentence for sentence in told if "unlike" in sentence]

    def test_the_distances_are_those_of_a_plain_loop(self, models, folder):
        train = pd.read_parquet(folder / "train.parquet")
        known = train[train[ALPHA].notna()]
        data = models["trees"]._tree["training"]
        order = np.frombuffer(data["order"]["bytes"], data["order"]["dtype"])
        assert sorted(order) == list(range(20))
        z = known[NAMES].astype(float) - 2
        for first, second in zip(order, [order[-1], *order[:-1]], strict=True):
            z[f"{first} {second}"] = z[NAMES[first]] * z[NAMES[second]]
        mean, variance = z.mean(), z.var(ddof=0)
        for i, (_, own) in enumerate(z.groupby(known["era"])):
            flat = [n for n in NAMES if own[n].min() == own[n].max()]
            numbers = {str(NAMES.index(n)) for n in flat}
            used = [c for c in own if c not in flat and not numbers & set(c.split())]
            apart = (own.mean() - mean) ** 2 - variance / len(own)
            parts = [c in NAMES for c in used]
            total = apart[used].groupby(parts).mean().sum()
            expected = np.sqrt(max(0, total))
            np.testing.assert_allclose(data["distances"][i], expected, atol=1e-9)

    def test_features_that_no_longer_vary_are_named(self, models, live):
        constant = live.assign(**dict.fromkeys(NAMES[:2], np.int8(2)))
        [told] = models["trees"].unfamiliar(constant)
        assert told.startswith(
            "Era X has 2 of 20 features with one value in all rows, which varied in "
            "the last 36 training eras: 'feature_0000', 'feature_0001'."
        )


@pytest.mark.parametrize("rows", [3, None, np.zeros((2, 20)), [1], "polars"])
def test_rows_of_another_kind_are_refused(models, live, rows):
    if isinstance(rows, str):
        rows = pytest.importorskip(rows).from_pandas(live)
    message = "must be the path of a parquet file or a pandas DataFrame; got"
    with pytest.raises(TypeError, match=f"live {message}"):
        models["trees"].predict(rows)
    with pytest.raises(TypeError, match=f"live {message}"):
        models["trees"].unfamiliar(rows)
    if rows is not None:
        with pytest.raises(TypeError, match=f"benchmark {message}"):
            models["told"].predict(live, rows)


def test_predicting_needs_no_torch(models, folder):
    program = (
        "import sys\n"
        "from numerai_features import FittedModel\n"
        f"model = FittedModel.open({str(models['net'].folder)!r})\n"
        f"rows = {str(folder / 'live.parquet')!r}\n"
        "model.predict(rows), model.unfamiliar(rows), model.export(sys.argv[1])\n"
        "assert 'torch' not in sys.modules\n"
    )
    file = folder / "no_torch.pkl"
    subprocess.run([sys.executable, "-c", program, str(file)], check=True)


# --- evaluation --------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(models, folder):
    return models["mix"].evaluate(
        folder / "validation.parquet",
        benchmark=folder / "benchmark.parquet",
        meta_model=[folder / "benchmark.parquet"],
        verbose=False,
    )


class TestEvaluation:
    def test_only_eras_after_the_fit_and_its_purge(self, evaluation, models):
        assert evaluation.scores.index.tolist() == list(range(36 + 16 + 1, 70))
        told = "22 resolved eras are left out: the model was fitted on eras to 0036"
        assert evaluation.notes[0].startswith(told)
        assert not (models["mix"].folder / "evaluation").exists()

    def test_scores_are_those_of_a_plain_loop(self, evaluation, folder):
        later = pd.read_parquet(folder / "validation.parquet")
        raw = Plain(folder, "validation.parquet").predict("mix", 2)
        frame = pd.DataFrame({"p": raw}, index=later.index).assign(
            y=later[ALPHA], era=later["era"].astype(int),
            b=pd.read_parquet(folder / "benchmark.parquet")["own"],
        )  # fmt: skip
        for era, own in frame.groupby("era"):
            if not 53 <= era < 70:
                continue
            found = evaluation.scores.loc[era]
            own = own.sort_index()
            corr = numerai_corr(own[["p"]], own["y"])["p"]
            bmc = correlation_contribution(own[["p"]], own["b"], own["y"].copy())["p"]
            np.testing.assert_allclose(found["corr"], corr, atol=1e-5)
            np.testing.assert_allclose(found[["bmc", "mmc"]], bmc, atol=1e-5)
            np.testing.assert_allclose(found["payout"], 3 * corr + 15 * bmc, atol=1e-4)

    def test_the_summary_is_of_the_scores(self, evaluation):
        for metric, row in evaluation.summary.iterrows():
            interval = mean_interval(evaluation.scores[metric], overlap=16)
            assert row["mean"] == interval.mean
            assert row["n_eras"] == 17
            assert np.isnan(row["low"])
            assert row["n_needed"] == 64
        assert "too few eras" in str(evaluation)
        assert str(evaluation).startswith(f"{ALPHA}, 17 eras, 0053 to 0069\n")
        assert repr(evaluation) == f"Evaluation(17 eras of '{ALPHA}')"

    def test_from_an_era(self, models, folder):
        file = folder / "validation.parquet"
        found = models["ridge"].evaluate(file, from_era="0060", verbose=False)
        assert found.scores.index.tolist() == list(range(60, 70))
        assert set(found.scores) == {"corr", "fnc", "max_exposure"}

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"files": "train.parquet"},
                "no era to score: .* first that counts is 005",
            ),
            ({"from_era": "soon"}, "from_era must be an era"),
            ({"from_era": 71}, "from_era=71 leaves no era to score: .* eras to 0069"),
            ({"arm": "told"}, "'told' needs the predictions of 'own'"),
            (
                {"arm": "told", "benchmark_column": "other"},
                "benchmark_column must be 'own', which the model 'told' needs",
            ),
            ({"files": "live.parquet"}, "files have no column 'target_alpha_20'"),
        ],
    )
    def test_what_cannot_be_scored_is_told(self, models, folder, given, message):
        given = {"files": "validation.parquet", "arm": "ridge", **given}
        files = folder / given.pop("files")
        with pytest.raises(ValueError, match=message):
            models[given.pop("arm")].evaluate(files, verbose=False, **given)

    def test_files_of_the_user_are_not_touched(self, models, folder):
        own = models["ridge"].folder / "evaluation"
        own.mkdir()
        (own / "mine.txt").touch()
        with pytest.raises(FileExistsError, match="evaluation"):
            models["ridge"].evaluate(folder / "validation.parquet", verbose=False)
        assert (own / "mine.txt").exists()
        (own / "mine.txt").unlink()
        own.rmdir()

    def test_eras_without_the_benchmark_that_is_needed_are_left_out(
        self, models, folder, tmp_path
    ):
        later = pd.read_parquet(folder / "validation.parquet")
        benchmark = pd.read_parquet(folder / "benchmark.parquet")
        lost = later.index[later["era"].isin(["0055", "0057"])][:45]
        benchmark.drop(index=lost).to_parquet(tmp_path / "b.parquet")
        found = models["told"].evaluate(
            folder / "validation.parquet", benchmark=tmp_path / "b.parquet",
            verbose=False,
        )  # fmt: skip
        assert not {55, 57} & set(found.scores.index)
        assert len(found.scores) == 15
        assert any(note.startswith("2 eras are left out") for note in found.notes)


# --- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "9 arms that can be fitted: trees, leaves, .*, mixed_again. Choose one"),
        ({"arm": "tress"}, r"arm: got \"tress\"; .*Did you mean 'trees'"),
        ({"arm": "random"}, "it has random columns, .* only serve to compare"),
        ({"arm": "numbered"}, "has era_feature = true, but a live era has no number"),
        ({"arm": "trees", "seeds": 0}, "seeds must be a whole number >= 1, or None"),
        ({"arm": "trees", "folder": ""}, 'folder must be a path; got ""'),
    ],
)
def test_what_cannot_be_fitted_is_told(experiment, arguments, message):
    with pytest.raises(ValueError, match=message):
        experiment.fit(**arguments, verbose=False)


def test_a_blend_of_an_arm_that_cannot_be_fitted(folder, tmp_path):
    text = EXPERIMENT + "[arms.bad]\nblend = { trees = 1, random = 1 }\n"
    (folder / "bad.toml").write_text(text)
    experiment = Experiment.from_file(folder / "bad.toml", tmp_path)
    with pytest.raises(ValueError, match=r'"bad" cannot be fitted: its arm "random"'):
        experiment.fit("bad", verbose=False)


def test_the_only_arm_is_fitted(folder, tmp_path, live):
    text = EXPERIMENT.split("[arms.trees]")[0]
    text += '[arms.only]\nmodel = "ridge"\n[arms.random]\nlatents = ["random"]\n'
    text += '[arms.numbered]\nera_feature = true\nlatents = ["fa"]\n'
    (folder / "only.toml").write_text(text)
    model = Experiment.from_file(folder / "only.toml", tmp_path).fit(verbose=False)
    assert model.record["arm"] == "only"
    assert model.folder == tmp_path / "models" / "only"


def test_no_known_target(folder, tmp_path):
    rows = pd.read_parquet(folder / "train.parquet").assign(**{ALPHA: np.nan})
    rows.astype({ALPHA: np.float32}).to_parquet(folder / "unknown.parquet")
    text = EXPERIMENT.replace("train.parquet", "unknown.parquet")
    (folder / "unknown.toml").write_text(text)
    experiment = Experiment.from_file(folder / "unknown.toml", tmp_path)
    with pytest.raises(ValueError, match=f"{ALPHA} is known for no row"):
        experiment.fit("trees", verbose=False)


def test_nothing_is_fitted_twice(experiment, models, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("fitted again")

    monkeypatch.setattr(FitStore, "__setitem__", fail)
    again = experiment.fit("trees", seeds=2, verbose=False)
    assert again.record == models["trees"].record
