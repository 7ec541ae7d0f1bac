"""Experiments with a benchmark, a meta model, periods and expected scores."""

import json

import numpy as np
import pandas as pd
import pytest
from numerai_tools.scoring import (
    correlation_contribution,
    feature_neutral_corr,
    numerai_corr,
)
from sklearn.linear_model import Ridge

from numerai_features.datasets import EraPanel, SyntheticTruth, make_era_panel
from numerai_features.experiment import Experiment, ExperimentError
from numerai_features.experiment._era_tables import EraTables
from numerai_features.metrics import era_scores, expected_scores

TARGET, ARMS = "target_alpha_60", ["originals", "+ fa", "+ random"]
PERIODS = ["0101-0157", "0158-0250", "251-284", "0290-0300"]
TABLES = {
    "data": {
        "files": ["train.parquet"],
        "benchmark": "benchmark.parquet",
        "benchmark_column": "v53_lgbm_ender60",
        "meta_model": ["meta_model.parquet"],
    },
    "targets": {"main": TARGET},
    "cv": {"n_splits": 1, "first_test_era": 101},
    "latents": {
        "pca": False,
        "fa": {"embedder": "FactorAnalysisEmbedder", "n_components": 2},
    },
    "model": {"n_jobs": 1, "params": {"n_estimators": 5, "colsample_bytree": 0.5}},
    "report": {"periods": PERIODS},
}
N_ROWS = 25  # of an era


def changed(table, **values):
    return TABLES | {table: {**TABLES.get(table, {}), **values}}


def without(*keys, **values):
    data = {k: v for k, v in TABLES["data"].items() if k not in keys}
    return TABLES | {"data": data | values}


def run(folder, tables=TABLES, output="out"):
    experiment = Experiment.from_dict(tables, base=folder, output=folder / output)
    return experiment.run(verbose=False)


def write_rows(folder):
    """Write 300 eras, the last 16 without a target, and return them as a frame."""
    panel = make_era_panel(300, N_ROWS, 8, 2, n_targets=2, random_state=0)
    frame = panel.to_frame()
    frame.loc[frame["era"] > "0284", TARGET] = np.nan
    frame.to_parquet(folder / "train.parquet")
    sets = {"all": panel.feature_names, "fncv3_features": panel.feature_names[:5]}
    metadata = {"feature_sets": sets, "targets": panel.target_names}
    (folder / "features.json").write_text(json.dumps(metadata))
    return frame


def write_references(folder, frame):
    """Write a benchmark from era 158 in another order, and a meta model of 86 eras.

    The benchmark lacks three ids of era 200, and has two that are in no other file.
    """
    rng = np.random.default_rng(0)
    benchmark = frame.loc[frame["era"] >= "0158", ["era"]].assign(data_type="train")
    for name in ("v53_lgbm_ender20", "v53_lgbm_ender60"):
        benchmark[name] = rng.random(len(benchmark), np.float32)
    missing = benchmark.index[benchmark["era"] == "0200"][:3]
    extra = benchmark.iloc[:2].set_axis(["nowhere", "no-one"])
    benchmark = pd.concat([benchmark.drop(missing), extra]).sample(
        frac=1, random_state=0
    )
    benchmark.rename_axis("id").to_parquet(folder / "benchmark.parquet")
    meta = frame.loc[frame["era"] > "0214", ["era"]]
    meta = meta.assign(numerai_meta_model=rng.random(len(meta), np.float32))
    meta.to_parquet(folder / "meta_model.parquet")
    return (
        benchmark["v53_lgbm_ender60"].reindex(frame.index),
        meta["numerai_meta_model"].reindex(frame.index),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("references")


@pytest.fixture(scope="module")
def rows(folder):
    """Return the rows as the files hold them, with both references by id."""
    frame = write_rows(folder)
    benchmark, meta_model = write_references(folder, frame)
    return frame.assign(benchmark=benchmark, meta_model=meta_model)


@pytest.fixture(scope="module")
def done(folder, rows):
    return run(folder)


def plain_scores(done, rows, column=None):
    """Return numerai-tools' scores of each era that has a target and the column."""
    scores = {}
    both = done.predictions[ARMS].join(rows)
    needed = [TARGET] if column is None else [TARGET, column]
    for era, part in both.dropna(subset=needed).groupby("era"):
        part = part.reset_index(drop=True)
        arms, target = part[ARMS].astype(float), part[TARGET].astype(float)
        if column is None:
            scores[int(era)] = numerai_corr(arms, target)
        else:
            side = part[column].astype(float)
            scores[int(era)] = correlation_contribution(arms, side, target)
    return pd.DataFrame(scores).T[ARMS]


def assert_equal(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


class TestScores:
    def test_counts_are_those_of_the_eras_with_both(self, done):
        """284 - 100 eras with a target; from era 158; after era 214."""
        counts = {
            "n_eras": 184, "fnc_n_eras": 184, "bmc_n_eras": 127,
            "bmc_n_eras_last200": 127, "benchmark_corr_n_eras": 127,
            "mmc_n_eras": 70, "payout_n_eras": 70,
        }  # fmt: skip
        for name, count in counts.items():
            assert done.summary[name].tolist() == [count] * 3, name

    def test_they_are_those_of_numerai_tools(self, done, rows):
        corr, bmc, mmc = (
            plain_scores(done, rows, c) for c in (None, "benchmark", "meta_model")
        )
        summary = done.summary.loc[ARMS]
        assert (len(corr), len(bmc), len(mmc)) == (184, 127, 70)
        assert_equal(done.scores, corr)
        assert_equal(summary["mean"], corr.mean())
        for name, scores in (("bmc", bmc), ("mmc", mmc)):
            assert_equal(summary[name], scores.mean())
            ratio = scores.mean() / scores.std(ddof=0)
            assert_equal(summary[f"{name}_sharpe"], ratio)
        payout = 3 * corr.loc[mmc.index] + 15 * mmc
        assert_equal(summary["payout"], payout.mean())
        assert summary["payout_with"].tolist() == ["mmc"] * 3

    def test_fnc_is_on_numerais_set(self, done, rows):
        features = [name for name in rows if name.startswith("feature_")][:5]
        fnc = {}
        for era, part in done.predictions.join(rows[features]).groupby("era"):
            if part["target"].notna().all():
                part = part.reset_index(drop=True).drop(columns="era").astype(float)
                fnc[era] = feature_neutral_corr(
                    part[ARMS], part[features], part["target"]
                )
        assert_equal(done.summary["fnc"], pd.DataFrame(fnc).T[ARMS].mean())
        assert done.feature_set == "fncv3_features"
        assert "\nFNC and largest exposure: on the 5 features of fncv3_f" in str(done)

    def test_correlation_with_the_benchmark(self, done, rows):
        both = done.predictions.join(rows["benchmark"])
        both = both[both["target"].notna()]
        expected = era_scores(
            None, both[ARMS], both["era"], metric="benchmark_corr",
            benchmark=both["benchmark"],
        )  # fmt: skip
        assert_equal(done.summary["benchmark_corr"], expected.mean())

    def test_of_the_last_200_eras(self):
        rng = np.random.default_rng(0)
        eras = np.repeat(np.arange(1, 251, dtype=np.int32), 10)
        target = np.tile(
            np.float32([0, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.75, 0.75, 1]), 250
        )
        names = pd.MultiIndex.from_product([["originals", "net"], [0]])
        arms = pd.DataFrame(rng.normal(size=(2500, 2)), columns=names)
        tables = EraTables(target, arms, eras, tell=lambda what: None)
        benchmark = np.where(eras > 20, arms["net", 0] ** 2, np.nan)
        tables.add_reference("benchmark", benchmark)
        summary = tables.summary([3, 15])
        bmc = tables.by_metric["bmc"]
        assert len(bmc) == 230
        assert_equal(summary["bmc"], bmc.mean())
        assert_equal(summary["bmc_last200"], bmc.loc[51:].mean())
        assert summary["bmc_n_eras_last200"].tolist() == [200, 200]
        corr = tables.by_metric["corr"]
        assert_equal(summary["payout"], (3 * corr.loc[21:] + 15 * bmc).mean())
        assert summary["payout_with"].tolist() == ["bmc"] * 2

    def test_weights(self, folder, done):
        """With a changed report nothing is fitted again."""
        before = stamps(folder)
        result = run(folder, changed("report", weights=[0.5, 2]))
        assert stamps(folder) == before
        corr = done.scores.loc[215:].mean()
        expected = 0.5 * corr + 2 * done.summary["mmc"]
        assert_equal(result.summary["payout"], expected)
        assert "\nPayout: 0.5 CORR + 2 MMC.\n" in str(result)

    def test_without_references_there_are_no_such_columns(self, folder, rows):
        tables = without("benchmark", "benchmark_column", "meta_model")
        result = run(folder, tables, "plain")
        names = "".join(result.summary.columns)
        assert not any(name in names for name in ("bmc", "mmc", "bench", "payout"))
        assert "Payout" not in str(result)

    def test_a_metric_that_cannot_be_computed_is_told(self, tmp_path, rows):
        """The fits are done by then: the rest is judged. BMC needs targets to 1."""
        frame = write_rows(tmp_path)
        write_references(tmp_path, frame)
        frame[TARGET] *= 2
        frame.to_parquet(tmp_path / "train.parquet")
        result = run(tmp_path)
        assert "bmc" not in result.summary
        assert result.summary["benchmark_corr_n_eras"].tolist() == [127] * 3
        told = [note for note in result.notes if note.startswith(("No BMC", "No MMC"))]
        assert len(told) == 2
        assert all("needs a target from 0 to 1" in note for note in told)


def stamps(folder):
    """Return what tells one fit from the next, and one panel from the next."""
    files = [*(folder / "out" / "folds").glob("*.fold")]
    files.append(folder / "out" / "panel" / "features.npy")
    assert len(files) == 4
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


class TestMatching:
    def test_rows_without_a_prediction_are_counted(self, done):
        told = [note for note in done.notes if note.startswith("data.")]
        assert told == [
            f"data.benchmark lacks {57 * N_ROWS + 3} of {184 * N_ROWS} scored test "
            "rows: all rows of 57 eras (the first is 0101); 3 rows of other eras.",
            f"data.meta_model lacks {114 * N_ROWS} of {184 * N_ROWS} scored test "
            "rows: all rows of 114 eras (the first is 0101).",
        ]

    def test_unresolved_eras_are_ordinary(self, done):
        """They have predictions, no scores, and nothing is told of them."""
        assert done.predictions["era"].iloc[-1] == "0300"
        assert done.predictions["target"].isna().sum() == 16 * N_ROWS
        assert done.scores.index[-1] == 284
        assert not any("0285" in note or "NaN" in note for note in done.notes)

    def test_an_era_that_lacks_too_many_rows_is_left_out(self, tmp_path):
        """More than a fifth: numerai-tools refuses to score it."""
        frame = write_rows(tmp_path)
        write_references(tmp_path, frame)
        file = tmp_path / "benchmark.parquet"
        benchmark = pd.read_parquet(file)
        of_era = benchmark.index[benchmark["era"] == "0180"]
        benchmark.loc[of_era[:6], "v53_lgbm_ender60"] = np.nan
        benchmark.to_parquet(file)
        result = run(tmp_path)
        assert result.summary["bmc_n_eras"].tolist() == [126] * 3
        assert result.notes[0].endswith(
            "; more than a fifth of the rows of 1 eras, left out (the first is 0180); "
            "3 rows of other eras."
        )
        benchmark.loc[of_era[0], "v53_lgbm_ender60"] = 0.5  # a fifth are missing
        benchmark.to_parquet(file)
        assert run(tmp_path).summary["bmc_n_eras"].tolist() == [127] * 3

    def test_a_changed_benchmark_only_changes_the_judging(self, tmp_path, done):
        frame = write_rows(tmp_path)
        write_references(tmp_path, frame)
        run(tmp_path)
        before = stamps(tmp_path)
        file = tmp_path / "benchmark.parquet"
        benchmark = pd.read_parquet(file)
        renamed = benchmark.rename(columns={"v53_lgbm_ender60": "mine"})
        renamed.assign(mine=1 - renamed["mine"]).to_parquet(file)
        tables = without("meta_model", benchmark_column="mine")
        result = run(tmp_path, tables)
        assert stamps(tmp_path) == before
        pd.testing.assert_frame_equal(result.predictions, done.predictions)
        expected = -done.summary["benchmark_corr"]
        assert_equal(result.summary["benchmark_corr"], expected)
        assert "mmc" not in result.summary
        assert result.summary["payout_with"].tolist() == ["bmc"] * 3
        record = (tmp_path / "out" / "folds" / "experiment.json").read_bytes()
        size = str(file.stat().st_size).encode()
        assert b'"mine"' in record
        assert size in record

    def test_one_benchmark_of_several_files(self, tmp_path, done):
        frame = write_rows(tmp_path)
        write_references(tmp_path, frame)
        benchmark = pd.read_parquet(tmp_path / "benchmark.parquet")
        names = ["first.parquet", "second.parquet"]
        for name, part in zip(names, (slice(0, 700), slice(700, None)), strict=True):
            # ids as a column: not every library has an index
            part = benchmark.iloc[part].reset_index()
            part.to_parquet(tmp_path / name, index=False)
        result = run(tmp_path, without(benchmark=names))
        pd.testing.assert_series_equal(result.summary["bmc"], done.summary["bmc"])


class TestPeriods:
    def test_each_has_the_same_table(self, done):
        periods = done.periods
        assert list(periods.index.unique("period")) == PERIODS[:3]
        others = ["deflated_sharpe", "n_latents", "latent_seconds", "model_seconds"]
        assert set(periods.columns) == set(done.summary.columns) - set(others)
        for period, eras in {"0101-0157": 57, "0158-0250": 93, "251-284": 34}.items():
            table = periods.loc[period]
            assert table["n_eras"].tolist() == [eras] * 3
            first, last = map(int, period.split("-"))
            mean = done.scores.loc[first:last].mean()
            assert_equal(table["mean"], mean)
        counts = periods["bmc_n_eras"].xs("originals", level="arm")
        assert counts.tolist() == [0, 93, 34]
        counts = periods["payout_n_eras"].xs("originals", level="arm")
        assert counts.tolist() == [0, 36, 34]
        uses = periods["payout_with"].xs("+ fa", level="arm")
        assert uses.tolist() == ["", "mmc", "mmc"]

    def test_they_add_up(self, done):
        own, all_eras = done.periods, done.summary
        for name, count in {
            "mean": "n_eras", "bmc": "bmc_n_eras", "mmc": "mmc_n_eras",
            "payout": "payout_n_eras", "fnc": "fnc_n_eras",
        }.items():  # fmt: skip
            total = (own[name] * own[count]).groupby("arm").sum()
            assert_equal((total / all_eras[count])[ARMS], all_eras.loc[ARMS, name])

    def test_bmc_pays_where_the_meta_model_has_no_era(self, folder, done):
        """A period has one or the other, never some of each."""
        result = run(folder, changed("report", periods=["0158-0200", "0200-0230"]))
        table = result.periods
        assert table["payout_with"].tolist() == ["bmc"] * 3 + ["mmc"] * 3
        assert table["payout_n_eras"].tolist() == [43] * 3 + [16] * 3
        mean = 3 * table["mean"] + 15 * table["bmc"]
        assert_equal(table["payout"].iloc[:3], mean.iloc[:3])
        assert "\nPayout: 3 CORR + 15 BMC.\n" in str(result)

    def test_they_are_printed_and_written(self, folder, done):
        run(folder)
        written = pd.read_parquet(folder / "out" / "periods.parquet")
        pd.testing.assert_frame_equal(written, done.periods)
        text = str(done)
        first, _, last = text[text.index("\nPeriod ") :].split("\nPeriod ")[1:]
        assert first.startswith("0101-0157, 57 eras\n")
        assert "BMC" not in first
        assert last.startswith("251-284, 34 eras\n")
        assert " BMC " in last
        assert " MMC " in last
        run(folder, changed("report", periods=None))
        assert not (folder / "out" / "periods.parquet").exists()

    def test_one_without_test_eras_is_told(self, folder, done):
        told = "No table for the period {}: it has no test era with a known target."
        assert told.format("0290-0300") in done.notes
        result = run(folder, changed("report", periods=["1-9"]))
        assert told.format("1-9") in result.notes
        assert len(result.periods) == 0
        assert result.periods.index.names == ["period", "arm"]
        assert "\nPeriod" not in str(result)


class TestBadInput:
    """Told before anything is written."""

    @pytest.mark.parametrize(
        ("tables", "message"),
        [
            (
                without(benchmark="benchmrk.parquet"),
                r"data\.benchmark: There is no file .*\. Did you mean 'benchmark\.pa",
            ),
            (
                without(benchmark_column="v53_lgbm_ender_60"),
                r"data\.benchmark_column: 'v53_lgbm_ender_60' is no column of .*benchma"
                r"rk\.parquet\. Did you mean 'v53_lgbm_ender60'.*There are 2: 'v53_lg",
            ),
            (
                without("benchmark_column"),
                r"data\.benchmark: .* has 2 columns of predictions, besides id, era and"
                r" data_type: 'v53_lgbm_ender20', 'v53_lgbm_ender60'\. Choose one with "
                r"data\.benchmark_column\.",
            ),
            (
                without("benchmark"),
                r"data\.benchmark_column: needs data\.benchmark, the files with this c",
            ),
            (
                without(benchmark=["benchmark.parquet", "./benchmark.parquet"]),
                r"data\.benchmark: files holds a file twice",
            ),
            (
                without(benchmark=["benchmark.parquet", "meta_model.parquet"]),
                r"data\.benchmark_column: 'v53_lgbm_ender60' is no column of .*meta_mo",
            ),
            (without(meta_model=3), r"data\.meta_model: got 3; expected a string or"),
            (
                without(meta_model="no_ids.parquet"),
                r"data\.meta_model: .*no_ids\.parquet has no ids, but predictions are",
            ),
            (
                without(meta_model="texts.parquet"),
                r"data\.meta_model: The column 'model' of .* has the type .*string; e",
            ),
            (
                changed("report", weights=[3]),
                r"report\.weights: got \[3\]; expected two numbers",
            ),
            (
                changed("report", weights=[3, float("nan")]),
                r"report\.weights: got \[3, NaN\]; expected two numbers",
            ),
            (
                changed("report", weights=[True, 15]),
                r"report\.weights: got \[true, 15\]; expected a list of numbers",
            ),
            (
                changed("report", periods="0575-0800"),
                r'report\.periods: got "0575-0800"; expected a list of strings',
            ),
            (
                changed("report", periods=["0575 to 0800"]),
                r'report\.periods: got "0575 to 0800"; expected the first and the last',
            ),
            (
                changed("report", periods=["0158-0200", "0800-0575"]),
                r'got "0800-0575"; the first era .* Did you mean "0575-0800"\?',
            ),
        ],
    )  # fmt: skip
    def test_of_the_experiment(self, folder, rows, tables, message):
        ids = pd.Index(["a", "b"], name="id")
        numbers = pd.DataFrame({"model": [0.5, 0.25]})
        numbers.to_parquet(folder / "no_ids.parquet")
        numbers.astype(str).set_axis(ids).to_parquet(folder / "texts.parquet")
        with pytest.raises(ExperimentError, match=message):
            Experiment.from_dict(tables, base=folder, output=folder / "bad")
        assert not (folder / "bad").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda table: pd.concat([table, table.iloc[[7, 3]]]),
                r"The id '(\w+)' occurs twice in data\.benchmark \(.*bad\.parquet'\)\. "
                r"Keep one row for each id\.",
            ),
            (
                lambda table: table.set_axis(table.index + "x").rename_axis("id"),
                r"data\.benchmark and data\.files have no id in common: their first ids"
                r" are 'n\w+x' and 'n\w+'\. Use files of the same data release",
            ),
            (
                lambda table: table[table["era"] < "0101"],
                r"data\.benchmark covers none of the test eras, 0101 to 0284: it has "
                r"predictions for eras 0090 to 0100\.",
            ),
            (
                lambda table: table[table["era"] > "0284"],
                r"covers none of the test eras, 0101 to 0284: it has predictions for "
                r"eras 0285 to 0300\.",
            ),
            (
                lambda table: table.assign(model=np.nan),
                r"covers none of the test eras, .* no predictions for rows of data\.fi",
            ),
            (
                lambda table: table.assign(model=np.inf),
                r"The column 'model' of data\.benchmark is infinite in \d+ rows; the fi"
                r"rst has the id 'n\w+'",
            ),
            (lambda table: table.set_axis([None, *table.index[1:]]).rename_axis("id"),
             r"bad\.parquet has 1 rows without an id"),
        ],
    )  # fmt: skip
    def test_of_the_rows(self, folder, rows, change, message):
        table = rows.loc[rows["era"] >= "0090", ["era"]].assign(model=0.5)
        change(table).to_parquet(folder / "bad.parquet")
        tables = without("benchmark_column", benchmark="bad.parquet")
        with pytest.raises(ValueError, match=message) as told:
            run(folder, tables, "bad")
        if "occurs twice" in message:
            assert table.index[7] in str(told.value) or table.index[3] in str(
                told.value
            )
        assert not (folder / "bad").exists()

    def test_rows_without_ids(self, tmp_path, rows):
        write_references(tmp_path, rows)
        write_rows(tmp_path).to_parquet(tmp_path / "train.parquet", index=False)
        with pytest.raises(ValueError, match=r"train\.parquet has no ids, so nothing"):
            run(tmp_path)
        assert not (tmp_path / "out").exists()

    def test_synthetic_rows_have_none(self, tmp_path):
        data = {"synthetic": {}, "benchmark": "benchmark.parquet"}
        message = r"data\.benchmark: is allowed only with data\.files; synthetic data"
        with pytest.raises(ExperimentError, match=message):
            Experiment.from_dict({"data": data}, base=tmp_path)


SYNTHETIC = {
    "data": {
        "every": 2,
        "synthetic": {"n_eras": 60, "rows_per_era": 40, "n_features": 10},
    },
    "features": {"set": [f"feature_{j:04d}" for j in range(0, 10, 2)]},
    "cv": {"n_splits": 2, "purge": 4},
    "latents": TABLES["latents"],
    "model": TABLES["model"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return run(tmp_path_factory.mktemp("made"), SYNTHETIC)


class TestExpected:
    def test_it_is_that_of_the_truth(self, made):
        panel, truth = make_era_panel(
            60, 40, 10, return_truth=True, random_state=0, n_targets=4
        )
        target = made.experiment["targets"]["main"]
        expected = expected_scores(
            made.predictions[ARMS], truth, made.predictions["era"], target=target
        )
        assert list(expected.index) == list(made.scores.index)
        table = made.expected
        assert list(table.index) == ARMS
        assert_equal(table["mean"], expected.mean())
        less = expected.mean() - expected["originals"].mean()
        assert_equal(table["mean_difference"], less)
        assert table["n_eras"].tolist() == [len(made.scores)] * 3
        assert panel.n_rows == len(truth)

    def test_what_a_run_left_that_ended_after_writing_is_removed(self, made):
        folder = made.experiment.folder
        names = ("panel.truth", "periods.parquet")
        rooms = [folder / f".{name}.0123456789abcdef.tmp" for name in names]
        for room in rooms:
            room.mkdir()
        made.experiment.run(verbose=False)
        assert not any(room.exists() for room in rooms)

    def test_it_is_printed_under_the_realised_ones(self, made):
        text = str(made)
        title = "\nExpected CORR, these fitted models on this panel, without its mark"
        assert text.index("\nArm less") < text.index(title)
        head = text[text.index(title) + 1 :].splitlines()[1]
        assert head.split() == ["mean", "mean_difference", "eras"]

    def test_of_files_there_is_none(self, done):
        assert len(done.expected) == 0
        assert "Expected" not in str(done)

    @pytest.mark.parametrize("how", ["missing", "damaged", "another's"])
    def test_the_truth_is_made_again(self, made, tmp_path, how):
        """As after a run that ended between the panel and its truth."""
        run(tmp_path, SYNTHETIC)
        panel, file = tmp_path / "out" / "panel", tmp_path / "out" / "panel.truth"
        before = (tmp_path / "out" / "folds" / "001.fa.fold").stat()
        if how == "missing":
            file.unlink()
        elif how == "damaged":
            file.write_bytes(file.read_bytes()[:-9])
        else:
            make_era_panel(3, 10, path=tmp_path / "other", return_truth=True)
            (tmp_path / "other.truth").replace(file)
        result = run(tmp_path, SYNTHETIC)
        pd.testing.assert_frame_equal(result.expected, made.expected)
        assert len(SyntheticTruth.open(panel)) == EraPanel.open(panel).n_rows
        after = (tmp_path / "out" / "folds" / "001.fa.fold").stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_a_file_of_the_users_is_kept(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "panel.truth").write_text("mine")
        message = r"panel\.truth exists, and this library did not write it.*data\.panel"
        with pytest.raises(ExperimentError, match=message):
            run(tmp_path, SYNTHETIC)
        assert (tmp_path / "out" / "panel.truth").read_text() == "mine"


def test_real_rows(tmp_path, real_data):
    """With a ridge of the training eras as benchmark, of which the files are two."""
    files = [real_data / f"{name}.parquet" for name in ("train", "validation")]
    train, validation = map(pd.read_parquet, files)
    features = [name for name in train if name.startswith("feature_")]
    ridge = Ridge(alpha=100.0).fit(train[features], train["target_bernie"])
    for name, part in (("old", train[train["era"] > "0040"]), ("new", validation)):
        part = part[["era"]].assign(ridge=ridge.predict(part[features]))
        part.to_parquet(tmp_path / f"{name}.parquet")
    tables = {
        "data": {
            "files": list(map(str, files)),
            "benchmark": ["new.parquet", "old.parquet"],
        },
        "targets": {"main": "target_bernie"},
        "cv": {"test_eras": 40, "first_test_era": 21},
        "latents": TABLES["latents"],
        "model": TABLES["model"],
        "report": {"periods": ["0021-0080", "0081-0100"]},
    }
    result = run(tmp_path, tables)
    rows = pd.concat([train, validation])
    rows = rows.rename(columns={"target_bernie": TARGET})
    rows["ridge"] = ridge.predict(rows[features])
    rows.loc[rows["era"] <= "0040", "ridge"] = np.nan
    bmc = plain_scores(result, rows[["era", TARGET, "ridge"]], "ridge")
    assert result.summary["bmc_n_eras"].tolist() == [len(bmc)] * 3 == [60] * 3
    assert_equal(result.summary.loc[ARMS, "bmc"], bmc.mean())
    later = result.periods.loc["0081-0100"]
    assert_equal(later.loc[ARMS, "bmc"], bmc.loc[81:].mean())
    assert later["payout_with"].tolist() == ["bmc"] * 3
