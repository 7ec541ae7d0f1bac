"""`era_scores` against numerai_tools, called era by era on pandas groups."""

import warnings
from functools import partial

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numerai_tools import scoring
from sklearn.base import BaseEstimator

from numerai_features.metrics import era_scores, make_era_scorer, summarize

N_ERAS, N_ROWS, N_FEATURES = 6, 80, 7


@pytest.fixture
def table():
    """Rows of six eras in random order, two predictions, a reference, features."""
    rng = np.random.default_rng(0)
    n = N_ERAS * N_ROWS
    frame = pd.DataFrame({"era": np.repeat([f"{e:04d}" for e in range(3, 9)], N_ROWS)})
    frame["target"] = rng.choice([0, 0.25, 0.5, 0.75, 1], size=n)
    frame["a"] = frame["target"] + rng.normal(size=n)
    frame["b"] = rng.normal(size=n).round(1)
    frame["benchmark"] = frame["target"] + rng.normal(size=n)
    for j in range(N_FEATURES):
        frame[f"feature_{j}"] = rng.integers(0, 5, size=n).astype(np.int8)
    return frame.sample(frac=1, random_state=0).reset_index(drop=True)


def reference(table, score):
    rows = {}
    for era, group in table.groupby("era"):
        rows[int(era)] = score(group.reset_index(drop=True))
    return pd.DataFrame(rows).T


def features_of(table):
    return table.filter(like="feature_")


def test_corr_is_numerai_corr(table):
    expected = reference(
        table, lambda g: scoring.numerai_corr(g[["a", "b"]], g["target"])
    )
    scores = era_scores(table["target"], table[["a", "b"]], table["era"])
    np.testing.assert_array_equal(scores.index, expected.index)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    assert list(scores.columns) == ["a", "b"]
    assert scores.index.name == "era"


@pytest.mark.parametrize(
    ("metric", "name"), [("bmc", "benchmark"), ("mmc", "meta_model")]
)
def test_contributions_are_correlation_contribution(table, metric, name):
    expected = reference(
        table,
        lambda g: scoring.correlation_contribution(
            g[["a", "b"]], g["benchmark"], g["target"]
        ),
    )
    given = {name: table["benchmark"]}
    scores = era_scores(
        table["target"], table[["a", "b"]], table["era"], metric=metric, **given
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_fnc_is_feature_neutral_corr(table):
    expected = reference(
        table,
        lambda g: scoring.feature_neutral_corr(
            g[["a", "b"]], features_of(g), g["target"]
        ),
    )
    scores = era_scores(
        table["target"],
        table[["a", "b"]],
        table["era"],
        metric="fnc",
        features=features_of(table),
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.int8, np.float32, np.float64])
def test_max_exposure_is_max_feature_correlation(table, dtype):
    features = features_of(table).astype(dtype)
    if dtype != np.int8:
        features = features / 4 + 64  # far from zero: sums of squares would cancel
    expected = reference(
        table.assign(**features),
        lambda g: pd.Series(
            {
                name: scoring.max_feature_correlation(g[name], features_of(g))[1]
                for name in "ab"
            }
        ),
    )
    scores = era_scores(
        None, table[["a", "b"]], table["era"], metric="max_exposure", features=features
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-10)


def test_max_exposure_in_several_blocks_of_columns():
    rng = np.random.default_rng(0)
    features = rng.integers(0, 5, size=(2000, 1100), dtype=np.int8)
    prediction = features[:, 1099] + rng.normal(size=2000)
    score = era_scores(
        None, prediction, np.ones(2000, int), metric="max_exposure", features=features
    )
    name, expected = scoring.max_feature_correlation(
        pd.Series(prediction), pd.DataFrame(features)
    )
    assert str(name) == "1099"  # an int in older numerai-tools
    assert score.loc[1] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("value", [2, 0.1])
def test_max_exposure_ignores_constant_features(table, value):
    features = features_of(table)
    constant = features.assign(feature_c=value)
    given = (None, table["a"], table["era"])
    expected = era_scores(*given, metric="max_exposure", features=features)
    scores = era_scores(*given, metric="max_exposure", features=constant)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    only = era_scores(*given, metric="max_exposure", features=constant[["feature_c"]])
    assert only.isna().all()


def test_missing_features_count_as_the_median(table):
    features = features_of(table).astype(np.float64)
    holes = features.copy()
    holes.iloc[::7, 2] = np.nan
    filled = holes.fillna(holes.median())
    given = (table["target"], table["a"], table["era"])
    for metric in ("fnc", "max_exposure"):
        pd.testing.assert_series_equal(
            era_scores(*given, metric=metric, features=holes),
            era_scores(*given, metric=metric, features=filled),
        )


def test_benchmark_corr_is_symmetric_in_ranks_and_1_for_a_copy(table):
    copies = pd.DataFrame(
        {
            "copy": table["benchmark"] ** 3,
            "other": table["a"],
            "minus": -table["benchmark"],
        }
    )
    scores = era_scores(
        None,
        copies,
        table["era"],
        metric="benchmark_corr",
        benchmark=table["benchmark"],
    )
    np.testing.assert_allclose(scores["copy"], 1.0)
    np.testing.assert_allclose(scores["minus"], -1.0)
    swapped = era_scores(
        None,
        table["benchmark"],
        table["era"],
        metric="benchmark_corr",
        benchmark=table["a"],
    )
    np.testing.assert_allclose(scores["other"], swapped)


def test_rows_with_unknown_target_are_left_out_and_eras_without(table):
    y = table["target"].where(table.index % 10 > 0)
    y = y.mask(table["era"] == "0005")
    known = table[y.notna()]
    expected = reference(known, lambda g: scoring.numerai_corr(g[["a"]], g["target"]))
    scores = era_scores(y, table["a"], table["era"])
    assert list(scores.index) == [3, 4, 6, 7, 8]
    np.testing.assert_allclose(scores, expected["a"], rtol=1e-12)


def test_live_and_constant_target_eras_are_left_out(table):
    eras = table["era"].replace("0008", "X")
    y = table["target"].mask(table["era"] == "0003", 0.5)
    assert list(era_scores(y, table["a"], eras).index) == [4, 5, 6, 7]


def test_constant_prediction_is_nan_without_a_warning(table):
    a = table["a"].mask(table["era"] == "0004", 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric, given in [
            ("corr", {}),
            ("bmc", {"benchmark": table["benchmark"]}),
            ("fnc", {"features": features_of(table)}),
            ("max_exposure", {"features": features_of(table)}),
            ("benchmark_corr", {"benchmark": table["benchmark"]}),
        ]:
            predictions = pd.DataFrame({"a": a, "b": table["b"]})
            scores = era_scores(
                table["target"], predictions, table["era"], metric=metric, **given
            )
            assert np.isnan(scores.loc[4, "a"])
            assert scores.drop(index=4).notna().all(axis=None)
            assert scores["b"].notna().all()


def test_meta_model_may_start_late_but_not_have_holes(table):
    meta = table["benchmark"].mask(table["era"].isin(["0003", "0004"]))
    given = {"metric": "mmc", "meta_model": meta}
    scores = era_scores(table["target"], table["a"], table["era"], **given)
    assert list(scores.index) == [5, 6, 7, 8]
    given["meta_model"] = meta.where((table["era"] != "0006") | (table["b"] > 0))
    with pytest.raises(ValueError, match=r"misses \d+ of 80 rows of era 0006; at most"):
        era_scores(table["target"], table["a"], table["era"], **given)


class TestWholeFiles:
    """What Numerai's files of other models hold, as `pd.read_parquet` reads them."""

    @pytest.fixture
    def rows(self, table):
        ids = pd.Index([f"n{i:05d}" for i in range(len(table))], name="id")
        return table.set_index(ids)

    def file(self, rows, library, **columns):
        """A file of more rows than are scored, in another order."""
        ids = rows.index[np.random.default_rng(0).permutation(len(rows))]
        more = pd.DataFrame({"era": "X", "data_type": "live"}, index=["a", "b"])
        file = pd.DataFrame({"era": rows["era"], "data_type": "validation"})
        file = pd.concat([file.assign(**columns).loc[ids], more]).rename_axis("id")
        if library == "pandas":
            return file
        file = file.reset_index()
        return pl.from_pandas(file) if library == "polars" else pa.table(file)

    @pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
    @pytest.mark.parametrize(
        ("metric", "name"),
        [("bmc", "benchmark"), ("benchmark_corr", "benchmark"), ("mmc", "meta_model")],
    )
    def test_rows_are_found_by_id(self, rows, library, metric, name):
        y, p, eras = rows["target"], rows["a"], rows["era"]
        values = pd.Series(np.random.default_rng(1).normal(size=len(rows)), rows.index)
        expected = era_scores(y, p, eras, metric=metric, **{name: values.to_numpy()})
        file = self.file(rows, library, numerai_meta_model=values)
        for given in ((y, p, eras), (y.to_numpy(), p.to_numpy(), eras)):
            got = era_scores(*given, metric=metric, **{name: file})
            pd.testing.assert_series_equal(got, expected)
        if library == "pandas":
            series = file["numerai_meta_model"]
            got = era_scores(y, p, eras, metric=metric, **{name: series})
            pd.testing.assert_series_equal(got, expected)
        summary = summarize(y, p, eras, **{name: file})
        assert summary[metric].item() == pytest.approx(expected.mean())

    @pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
    def test_of_several_models_one_is_to_choose(self, rows, library):
        y, p, eras = rows["target"], rows["a"], rows["era"]
        file = self.file(rows, library, v5_lgbm_ct_blend=p, v5_lgbm_ender20=y)
        match = (
            r"benchmark must be one column of predictions, .*; got 2: "
            r"'v5_lgbm_ct_blend', 'v5_lgbm_ender20'\. Choose one of the frame, as in "
            r"benchmark=frame\[\['v5_lgbm_ct_blend'\]\]"
        )
        for score in (summarize, partial(era_scores, metric="bmc")):
            with pytest.raises(ValueError, match=match):
                score(y, p, eras, benchmark=file)
        with pytest.raises(ValueError, match="got 0: none"):
            summarize(y, p, eras, meta_model=self.file(rows, library))

    def test_ids_that_are_not_there_or_there_twice_are_told(self, rows):
        y, p, eras = rows["target"], rows["a"], rows["era"]
        file = self.file(rows, "pandas", prediction=p)
        match = r"no row for 1 of \d+ ids of y, the first is 'n00003'.*\.reindex\(y\."
        with pytest.raises(ValueError, match=match):
            era_scores(y, p, eras, metric="bmc", benchmark=file.drop(index="n00003"))
        with pytest.raises(ValueError, match="benchmark has ids more than once"):
            era_scores(
                y, p, eras, metric="bmc", benchmark=pd.concat([file, file.iloc[:1]])
            )

    def test_without_ids_nothing_tells_which_rows(self, rows):
        y, p, eras = (rows[name].to_numpy() for name in ("target", "a", "era"))
        more = self.file(rows, "pandas", prediction=rows["a"])
        for file in (more, more[:-2], pl.from_pandas(more[:-2].reset_index())):
            for score in (summarize, partial(era_scores, metric="bmc")):
                with pytest.raises(ValueError, match="nothing tells which rows"):
                    score(y, p, eras, benchmark=file)
        with pytest.raises(ValueError, match="are needed: ids must tell which"):
            era_scores(y, p, eras, metric="bmc", benchmark=more["prediction"])

    def test_ids_may_be_numbers_in_an_index_called_so(self, rows):
        rows = rows.set_axis(pd.RangeIndex(len(rows)).rename("id") + 1000)
        rows.index = pd.Index(rows.index.to_numpy(), name="id")
        y, p, eras = rows["target"], rows["a"], rows["era"]
        expected = era_scores(y, p, eras, metric="bmc", benchmark=p.to_numpy())
        file = self.file(
            rows.set_axis(rows.index.astype(str)), "pandas", m=p.to_numpy()
        )
        file = file[:-2]
        file.index = pd.Index(file.index.astype(int), name="id")
        for given in (file, pl.from_pandas(file.reset_index())):
            got = era_scores(y, p, eras, metric="bmc", benchmark=given)
            pd.testing.assert_series_equal(got, expected)

    def test_ids_within_the_shell_of_narwhals(self, rows):
        y, p, eras = rows["target"], rows["a"], rows["era"].to_numpy()
        expected = era_scores(y, p, eras, metric="bmc", benchmark=p.to_numpy())
        held = nw.from_native(y, series_only=True)
        file = self.file(rows, "pandas", prediction=p)
        got = era_scores(held, p.to_numpy(), eras, metric="bmc", benchmark=file)
        pd.testing.assert_series_equal(got, expected)

    def test_counted_rows_of_another_table_are_not_matched(self, rows):
        rows = rows.set_axis(np.arange(len(rows)) + 7)
        other = rows["a"].set_axis(np.arange(len(rows)) + 8)
        with pytest.raises(ValueError, match="benchmark and y have different pandas"):
            era_scores(
                rows["target"], rows["a"], rows["era"], metric="bmc", benchmark=other
            )


@pytest.mark.parametrize(
    ("metric", "name"),
    [("bmc", "benchmark"), ("benchmark_corr", "benchmark"), ("mmc", "meta_model")],
)
def test_a_reference_that_covers_no_era_is_told(table, metric, name):
    nothing = np.full(len(table), np.nan)
    with pytest.raises(
        ValueError, match=f"{name} covers none of the eras that are scored: it is NaN"
    ):
        era_scores(
            table["target"], table["a"], table["era"], metric=metric, **{name: nothing}
        )


def test_few_missing_rows_of_the_benchmark_are_left_out(table):
    benchmark = table["benchmark"].where(table.index % 20 > 0)
    known = table[benchmark.notna()]
    expected = reference(
        known,
        lambda g: scoring.correlation_contribution(
            g[["a"]], g["benchmark"], g["target"]
        ),
    )
    scores = era_scores(
        table["target"], table["a"], table["era"], metric="bmc", benchmark=benchmark
    )
    np.testing.assert_allclose(scores, expected["a"], rtol=1e-12)


def test_rows_in_another_order_are_told():
    y = pd.Series(np.tile([0.0, 0.5, 1.0], 20))
    shuffled = y.sample(frac=1, random_state=0)
    with pytest.raises(ValueError, match="default index in another order"):
        era_scores(y, shuffled, np.repeat([1, 2], 30))
    twice = pd.DataFrame(np.zeros((60, 2)), columns=["a", "a"])
    with pytest.raises(ValueError, match="prediction has more than one column 'a'"):
        era_scores(y, twice, np.repeat([1, 2], 30))
    held = nw.from_native(shuffled, series_only=True)
    with pytest.raises(ValueError, match="default index in another order"):
        era_scores(y, held, np.repeat([1, 2], 30))


def test_scores_do_not_depend_on_row_order_or_other_eras(table):
    scores = era_scores(table["target"], table["a"], table["era"])
    ordered = table.sort_values("era", kind="stable")
    again = era_scores(ordered["target"], ordered["a"], ordered["era"])
    pd.testing.assert_series_equal(scores, again)
    one = table[table["era"] == "0006"]
    alone = era_scores(one["target"], one["a"], one["era"])
    pd.testing.assert_series_equal(scores.loc[[6]], alone)


@pytest.mark.parametrize(
    "kind",
    [np.asarray, list, pl.Series, pa.chunked_array, lambda s: s.astype("category")],
)
def test_containers_of_eras(table, kind):
    era = table["era"]
    eras = pa.chunked_array([era.tolist()]) if kind is pa.chunked_array else kind(era)
    scores = era_scores(table["target"].to_numpy(), table["a"].to_numpy(), eras)
    expected = era_scores(table["target"], table["a"], table["era"])
    pd.testing.assert_series_equal(scores, expected)


def test_containers_of_predictions(table):
    given = (table["target"], table["era"])
    two = table[["a", "b"]]
    expected = era_scores(given[0], two, given[1])
    array = era_scores(given[0], two.to_numpy(), given[1])
    assert list(array.columns) == [0, 1]
    np.testing.assert_array_equal(array, expected)
    for frame in (pl.from_pandas(two), pa.Table.from_pandas(two)):
        pd.testing.assert_frame_equal(era_scores(given[0], frame, given[1]), expected)
    single = era_scores(given[0], two["a"], given[1])
    assert single.name == "corr"
    assert single.dtype == np.float64


def test_float32_predictions_score_as_their_values(table):
    a = table["a"].astype(np.float32)
    pd.testing.assert_series_equal(
        era_scores(table["target"], a, table["era"]),
        era_scores(table["target"], a.astype(np.float64), table["era"]),
    )


def test_features_of_a_frame_with_an_era_column(table):
    given = (table["target"], table["a"], table["era"])
    features = features_of(table)
    pd.testing.assert_series_equal(
        era_scores(*given, metric="fnc", features=features.assign(era=table["era"])),
        era_scores(*given, metric="fnc", features=features),
    )


def test_arguments_are_not_changed(table):
    before = table.copy()
    era_scores(
        table["target"],
        table[["a", "b"]],
        table["era"],
        metric="fnc",
        features=features_of(table),
    )
    pd.testing.assert_frame_equal(table, before)


def test_missing_predictions_are_counted(table):
    a = table["a"].copy()
    a.iloc[[5, 9]] = [np.nan, np.inf]
    with pytest.raises(
        ValueError, match="infinite in 2 of 480 rows, the first is row 5"
    ):
        era_scores(table["target"], a, table["era"])


def test_other_pandas_indexes_are_refused(table):
    ids = table.set_index("n" + table.index.astype(str))
    shuffled = ids["a"].sample(frac=1, random_state=1)
    with pytest.raises(
        ValueError, match="prediction and y have different pandas index"
    ):
        era_scores(ids["target"], shuffled, ids["era"])
    positional = era_scores(ids["target"], table["a"], ids["era"])
    pd.testing.assert_series_equal(
        positional, era_scores(table["target"], table["a"], table["era"])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "spearman"}, "metric must be one of 'corr', 'mmc'.*got 'spearman'"),
        ({"metric": "bmc"}, "metric='bmc' needs benchmark, which is None"),
        ({"metric": "mmc"}, "metric='mmc' needs meta_model, which is None"),
        ({"metric": "fnc"}, "metric='fnc' needs features, which is None"),
        ({"metric": "fnc", "features": np.ones((3, 2))}, r"features must hold numbers"),
        ({"metric": "bmc", "benchmark": np.ones(3)}, r"benchmark must have one value"),
        ({"y": None}, "metric='corr' needs the target, but y is None"),
        ({"y": np.full(480, np.nan)}, "y is NaN in all 480 rows"),
        ({"eras": np.full(480, "X")}, "no era can be scored"),
        ({"eras": np.ones(5)}, "eras has 5 labels"),
        ({"prediction": np.full(480, "high")}, "prediction must hold numbers"),
    ],
)
def test_errors_say_what_came_and_what_to_do(table, change, message):
    given = {"y": table["target"], "prediction": table["a"], "eras": table["era"]}
    with pytest.raises(ValueError, match=message):
        era_scores(**(given | change))


def test_fnc_needs_more_rows_than_features(table):
    features = np.random.default_rng(0).normal(size=(480, 79))
    with pytest.raises(ValueError, match=r"80 rows and 79 features\. Pass fewer"):
        era_scores(
            table["target"],
            table["a"],
            table["era"],
            metric="fnc",
            features=features,
        )


SCALES = {
    "centred": lambda y: y - 0.5,
    "-1 to 1": lambda y: 2 * y - 1,
    "bins": lambda y: 4 * y,
    "a single row": lambda y: np.where(np.arange(len(y)) == 7, 1.01, y),
}


@pytest.mark.parametrize(
    ("metric", "name"), [("mmc", "meta_model"), ("bmc", "benchmark")]
)
def test_rounding_does_not_put_a_target_on_another_scale(table, metric, name):
    given = {"metric": metric, name: table["benchmark"]}
    expected = era_scores(table["target"], table["a"], table["era"], **given)
    y = table["target"].to_numpy(np.float32)
    for off in (y * np.float32(1.0000001), y - np.float32(1e-7), y - 1e-7):
        assert not 0 <= off.min() < off.max() <= 1
        kept = off.copy()
        found = era_scores(off, table["a"], table["era"], **given)
        pd.testing.assert_series_equal(found, expected, rtol=1e-5)
        np.testing.assert_array_equal(off, kept)
    with pytest.raises(ValueError, match=r"from 0 to 1; y runs from 0 to 1\.00001\."):
        era_scores(table["target"] * 1.00001, table["a"], table["era"], **given)


@pytest.mark.parametrize("scale", SCALES)
class TestTargetsOnOtherScales:
    @pytest.fixture
    def given(self):
        rng = np.random.default_rng(0)
        y = rng.choice([0, 0.25, 0.5, 0.75, 1, np.nan], 400)
        reference = rng.normal(size=400)
        prediction = np.nan_to_num(y) + rng.normal(size=400)
        return y, prediction, reference, np.repeat([1, 2, 3, 4], 100)

    @pytest.mark.parametrize(
        ("metric", "name"), [("mmc", "meta_model"), ("bmc", "benchmark")]
    )
    def test_contributions_refuse_them(self, given, scale, metric, name):
        y, prediction, reference, eras = given
        other = SCALES[scale](y)
        told = rf"metric='{metric}' needs a target from 0 to 1; y runs from .* centred"
        with pytest.raises(ValueError, match=told):
            era_scores(other, prediction, eras, metric=metric, **{name: reference})
        with pytest.raises(ValueError, match=told):
            summarize(other, prediction, eras, **{name: reference})
        scorer = make_era_scorer(metric, **{name: pd.Series(reference)})
        model = Predicts(prediction)
        with pytest.raises(ValueError, match=told):
            scorer(model, pd.DataFrame(prediction), other, eras=eras)

    @pytest.mark.parametrize("metric", ["corr", "fnc"])
    def test_correlations_do_not_depend_on_it(self, given, scale, metric):
        if scale == "a single row":
            pytest.skip("another target")
        y, prediction, reference, eras = given
        needed = {"features": reference[:, None]} if metric == "fnc" else {}
        expected = era_scores(y, prediction, eras, metric=metric, **needed)
        found = era_scores(SCALES[scale](y), prediction, eras, metric=metric, **needed)
        pd.testing.assert_series_equal(found, expected)


class Predicts(BaseEstimator):
    """A model that says what it was given."""

    def __init__(self, prediction):
        self.prediction = prediction

    def predict(self, X):
        return self.prediction
