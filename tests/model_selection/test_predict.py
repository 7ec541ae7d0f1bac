import os
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import KFold, ShuffleSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from numerai_features.compose import LatentFeatures
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.metrics import era_scores
from numerai_features.model_selection import (
    CombinatorialPurgedEraCV,
    EraHoldout,
    EraKFold,
    EraLeakageError,
    EraLeakageWarning,
    EraWalkForward,
    RepeatedEraKFold,
    SetAsideWarning,
    cross_val_predict_eras,
)

CV = EraKFold(3, purge=2)
MODEL = make_pipeline(LatentFeatures(FactorAnalysisEmbedder(3)), Ridge())
BY_ERA = make_pipeline(LatentFeatures(FactorAnalysisEmbedder(3, center="era")), Ridge())


class Counting(RegressorMixin, BaseEstimator):
    """A model that leaves a file for every fit, and fails after so many."""

    def __init__(self, folder, fail_after=None, alpha=1.0):
        self.folder = folder
        self.fail_after = fail_after
        self.alpha = alpha

    def fit(self, X, y, sample_weight=None):
        if len(os.listdir(self.folder)) == self.fail_after:
            raise KeyboardInterrupt
        with open(os.path.join(self.folder, f"{os.urandom(8).hex()}"), "w"):
            pass
        self.model_ = Ridge(self.alpha).fit(X, y, sample_weight)
        self.n_rows_ = len(y)
        return self

    def predict(self, X):
        return self.model_.predict(X)


class CountingEmbedder(FactorAnalysisEmbedder):
    folder = None

    def fit(self, X, y=None, *, eras=None, sample_weight=None):
        with open(os.path.join(self.folder, f"{os.urandom(8).hex()}"), "w"):
            pass
        return super().fit(X, y, eras=eras, sample_weight=sample_weight)

    def fit_transform(self, X, y=None, *, eras=None, sample_weight=None):
        fitted = self.fit(X, y, eras=eras, sample_weight=sample_weight)
        return fitted.transform(X, eras=eras)


def predict(*args, **kwargs):
    return cross_val_predict_eras(*args, **{"cv": CV, "verbose": False, **kwargs})


class TestFrame:
    @pytest.mark.parametrize(
        "cv",
        [
            CV,
            EraWalkForward(3, purge=2),
            EraHoldout(purge=2),
            RepeatedEraKFold(2, n_repeats=2, purge=1, random_state=0),
            CombinatorialPurgedEraCV(4, 2, purge=1),
            KFold(3),
            3,
            ShuffleSplit(3, random_state=0),
        ],
        ids=repr,
    )
    def test_it_is_what_a_plain_loop_gives(self, panel, cv):
        X, y, eras = panel.X, panel.y(), panel.eras
        out = predict(Ridge(), X, y, eras, cv=cv)
        splitter = KFold(3) if cv == 3 else cv
        foreign = isinstance(splitter, KFold | ShuffleSplit)
        groups = {} if foreign else {"groups": eras}
        parts = []
        for fold, (train, test) in enumerate(splitter.split(X, y, **groups)):
            prediction = Ridge().fit(X[train], y[train]).predict(X[test])
            scores = era_scores(y[test], prediction, eras[test])
            numbers = eras[test].astype(int)
            parts.append(
                pd.DataFrame(
                    {
                        "era": numbers,
                        "fold": fold,
                        "target": y[test].astype(float),
                        "prediction": prediction,
                        "corr": scores.reindex(numbers).to_numpy(),
                    },
                    index=test,
                )
            )
        expected = pd.concat(parts)
        if isinstance(cv, CombinatorialPurgedEraCV):
            expected["path"] = out["path"]
        pd.testing.assert_frame_equal(out, expected, rtol=1e-6, check_dtype=False)

    def test_rows_may_be_masks_or_lists_in_any_order(self, panel):
        rows = np.arange(panel.n_rows)
        train, test = rows < 1200, rows >= 1600
        swapped = [0, 2, 1, *range(3, 1200)]
        folds = [(train, test), (swapped, rows[test].tolist()), (rows[train], [1600])]
        out = predict(Ridge(), panel.X, panel.y(), panel.eras, cv=folds)
        one = out.loc[1600, "prediction"]
        np.testing.assert_allclose(one, one.iloc[0], rtol=1e-4)
        model = Ridge().fit(panel.X[:1200], panel.y()[:1200])
        expected = model.predict(panel.X[1600:])
        for fold in (0, 1):
            got = out.loc[out["fold"] == fold, "prediction"]
            np.testing.assert_allclose(got, expected, rtol=1e-4)

    def test_scikit_learn_predicts_the_same(self, frame, panel):
        with warnings.catch_warnings():
            ours = predict(MODEL, frame, panel.y())
            theirs = cross_val_predict(MODEL, frame, panel.y(), cv=CV)
        np.testing.assert_allclose(ours["prediction"], theirs, rtol=1e-6)
        assert ours.index.equals(frame.index)

    def test_paths_are_those_of_the_splitter(self, panel):
        cv = CombinatorialPurgedEraCV(4, 2, purge=1)
        out = predict(Ridge(), panel.X, panel.y(), panel.eras, cv=cv)
        by_fold = [part["prediction"] for _, part in out.groupby("fold")]
        paths = cv.backtest_paths(by_fold, panel.X, groups=panel.eras)
        wide = out.set_index("path", append=True)["prediction"].unstack("path")
        np.testing.assert_array_equal(wide.sort_index(), paths)

    def test_polars_and_arrays_have_places_for_an_index(self, frame, panel):
        table = pl.from_pandas(frame.reset_index(drop=True))
        out = predict(MODEL, table, panel.y())
        assert out.index.tolist() == list(range(panel.n_rows))
        expected = predict(MODEL, frame, panel.y())
        np.testing.assert_array_equal(out["prediction"], expected["prediction"])

    def test_the_index_of_y_serves_an_array(self, frame, panel):
        y = pd.Series(panel.y(), frame.index, name="target_alpha_20")
        out = predict(Ridge(), panel.X, y, panel.eras)
        assert out.index.equals(frame.index)

    def test_rows_of_any_order(self, panel):
        order = np.random.default_rng(0).permutation(panel.n_rows)
        X, y, eras = panel.X, panel.y(), panel.eras
        shuffled = predict(Ridge(), X[order], y[order], eras[order])
        back = shuffled["prediction"].to_numpy()[np.argsort(order[shuffled.index])]
        expected = predict(Ridge(), X, y, eras)["prediction"]
        in_order = np.argsort(expected.index)
        np.testing.assert_allclose(back, expected.to_numpy()[in_order], rtol=1e-4)


class TestEras:
    def test_a_frame_and_an_array_with_eras_are_alike(self, frame, panel):
        """The era-wise embedder needs eras in fit and in predict."""
        out = predict(BY_ERA, frame, panel.y())
        for routing in (False, True):
            with sklearn.config_context(enable_metadata_routing=routing):
                other = predict(BY_ERA, panel.X, panel.y(), panel.eras)
            np.testing.assert_array_equal(other["prediction"], out["prediction"])
        assert not sklearn.get_config()["enable_metadata_routing"]

    def test_live_rows_and_unresolved_eras_are_not_predicted(self, panel):
        eras = np.where(panel.eras == 30, "X", panel.eras.astype(str))
        y = panel.y().copy()
        y[panel.eras >= 29] = np.nan
        out = predict(Ridge(), panel.X, y, eras)
        assert out["era"].max() == 28

    def test_rows_without_a_target_are_predicted_but_not_trained_on(self, panel):
        y = panel.y().copy()
        gaps = np.arange(panel.n_rows) % 5 == 0
        y[gaps] = np.nan
        out = predict(Ridge(), panel.X, y, panel.eras, cv=EraHoldout(purge=2))
        train, test = next(EraHoldout(purge=2).split(None, y, panel.eras))
        train = train[~gaps[train]]
        expected = Ridge().fit(panel.X[train], y[train]).predict(panel.X[test])
        np.testing.assert_allclose(out["prediction"], expected, rtol=1e-5)
        assert out["target"].isna().sum() == gaps[test].sum()

    def test_a_fold_whose_test_has_no_target_is_not_scored(self, panel):
        y = panel.y().copy()
        y[1600:] = np.nan
        rows = np.arange(panel.n_rows)
        folds = [(rows[:800], rows[800:1600]), (rows[:800], rows[1600:])]
        out = predict(Ridge(), panel.X, y, panel.eras, cv=folds)
        assert out["corr"].isna().groupby(out["fold"]).all().tolist() == [False, True]

    def test_an_era_column_that_reaches_the_model_is_found(self, frame, panel):
        leaking = make_pipeline(StandardScaler(), DecisionTreeRegressor(random_state=0))
        with pytest.raises(EraLeakageError, match="when the eras are renamed"):
            predict(leaking, frame, panel.y())
        with pytest.raises(EraLeakageError, match="when the eras are renamed"):
            predict(leaking, frame, panel.y(), panel.eras)

    def test_a_frozen_embedder_that_saw_the_tested_eras_is_warned_of(self, panel):
        X, y, eras = panel.X, panel.y(), panel.eras
        frozen = FrozenEstimator(FactorAnalysisEmbedder(2).fit(X, eras=eras))
        for model in (
            make_pipeline(frozen, Ridge()),
            make_pipeline(LatentFeatures(frozen), Ridge()),
            make_pipeline(LatentFeatures([("fa", frozen)]), Ridge()),
        ):
            with pytest.warns(EraLeakageWarning, match="on 30 eras that are") as told:
                predict(model, X, y, eras)
            assert len(told) == 1

    @pytest.mark.parametrize(("last", "warns"), [(21, False), (22, True)])
    def test_a_frozen_embedder_of_the_past_is_fine(self, frame, panel, last, warns):
        """A holdout of 24 tests from era 25 on, with a purge of 3: 21 is far enough."""
        past = frame[panel.eras <= last]
        frozen = FrozenEstimator(LatentFeatures(FactorAnalysisEmbedder(2)).fit(past))
        model = make_pipeline(frozen, Ridge())
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            predict(model, frame, panel.y(), cv=EraHoldout(0.2, purge=3))
        assert [w.category for w in told] == [EraLeakageWarning] * warns


class TestMemory:
    @pytest.fixture
    def counted(self, tmp_path):
        folder = tmp_path / "fits"
        folder.mkdir()
        return folder

    def test_an_interrupted_run_goes_on_where_it_was(self, panel, counted, tmp_path):
        arguments = panel.X, panel.y(), panel.eras
        model = Counting(str(counted), fail_after=2)
        with pytest.raises(KeyboardInterrupt):
            predict(model, *arguments, memory=tmp_path / "cache")
        assert len(list(counted.iterdir())) == 2
        (counted / "more").touch()  # another number: it goes on
        out = predict(model, *arguments, memory=tmp_path / "cache")
        assert len(list(counted.iterdir())) == 4  # two, "more", and the third fold
        expected = predict(Ridge(), *arguments)
        pd.testing.assert_frame_equal(out, expected)

    def test_other_rows_targets_weights_and_parameters_are_not_mixed_up(
        self, panel, counted, tmp_path
    ):
        X, y, eras = panel.X, panel.y(), panel.eras
        model = Counting(str(counted))
        weights = np.linspace(1, 2, len(y))
        calls = [
            {},
            {"X": X[:, ::-1]},
            {"y": y[::-1].copy()},
            {"params": {"sample_weight": weights}},
            {"estimator": clone(model).set_params(alpha=5.0)},
            {"cv": EraKFold(3, purge=3)},
        ]
        results = []
        for i, call in enumerate(calls):
            arguments = {"estimator": model, "X": X, "y": y, "eras": eras, **call}
            for _ in range(2):
                out = predict(**arguments, memory=tmp_path / "cache")
                assert len(list(counted.iterdir())) == 3 * (i + 1)
            pd.testing.assert_frame_equal(out, predict(**_plain(arguments)))
            results.append(out["prediction"].to_numpy())
        for i in range(1, len(calls)):
            assert not np.array_equal(results[0], results[i])

    def test_a_memory_map_is_the_same_as_memory(self, panel, counted, tmp_path):
        model, cache = Counting(str(counted)), str(tmp_path / "cache")
        predict(model, panel.X, panel.y(), panel.eras, memory=cache)
        np.save(tmp_path / "X.npy", panel.X)
        X = np.load(tmp_path / "X.npy", mmap_mode="c")
        predict(model, X, panel.y(), panel.eras, memory=cache)
        assert len(list(counted.iterdir())) == 3

    @pytest.mark.parametrize("in_latents", [True, False])
    def test_embedders_are_fitted_once_for_several_models(
        self, frame, panel, counted, tmp_path, monkeypatch, in_latents
    ):
        monkeypatch.setattr(CountingEmbedder, "folder", str(counted))
        embedder = CountingEmbedder(2)
        first = LatentFeatures(embedder, quantize="uint8") if in_latents else embedder
        outs = []
        for alpha in (1.0, 10.0):
            model = make_pipeline(first, Ridge(alpha))
            out = predict(model, frame, panel.y(), memory=tmp_path / "cache")
            outs.append(out["prediction"])
            expected = predict(model, frame, panel.y())["prediction"]
            pd.testing.assert_series_equal(out["prediction"], expected)
        assert len(list(counted.iterdir())) == 3 + 2 * 3  # kept, and the plain runs
        assert not outs[0].equals(outs[1])
        assert first.get_params().get("memory") is None

    def test_damaged_entries_are_made_anew(self, frame, panel, tmp_path):
        """Whichever is damaged: predictions, fitted embedders, a Pipeline's tables."""
        plain = make_pipeline(FactorAnalysisEmbedder(3), Ridge())
        rng = np.random.default_rng(0)
        for model in (MODEL, plain):
            cache = tmp_path / type(model[0]).__name__
            expected = predict(model, frame, panel.y(), memory=cache)
            kept = sorted(cache.iterdir())
            assert len(kept) == 6
            for attempt in range(5):
                for file in kept:
                    bad = bytearray(file.read_bytes())
                    place = rng.integers(len(bad))
                    if attempt % 2:
                        bad[place] ^= 1 << rng.integers(8)
                    else:
                        del bad[place:]
                    file.write_bytes(bad)
                with pytest.warns(SetAsideWarning, match="made again") as told:
                    out = predict(model, frame, panel.y(), memory=cache)
                assert len(told) == 6
                pd.testing.assert_frame_equal(out, expected)
            pd.testing.assert_frame_equal(
                predict(model, frame, panel.y(), memory=cache), expected
            )

    def test_what_it_may_be_is_told(self, panel):
        told = "'memory' parameter .* must be the path of a folder, .*Got 3"
        with pytest.raises(ValueError, match=told):
            predict(Ridge(), panel.X, panel.y(), panel.eras, memory=3)

    def test_only_latents_are_kept_where_that_can_be(self, frame, panel, tmp_path):
        predict(MODEL, frame, panel.y(), memory=tmp_path / "cache")
        kept = {path.suffix for path in (tmp_path / "cache").iterdir()}
        assert kept == {".latents", ".prediction"}  # and no whole tables of a Pipeline


def _plain(arguments):
    estimator = Ridge(arguments["estimator"].alpha)
    return {**arguments, "estimator": estimator}


class TestCall:
    def test_processes_give_the_same(self, frame, panel):
        one = predict(BY_ERA, frame, panel.y())
        two = predict(BY_ERA, frame, panel.y(), n_jobs=2)
        pd.testing.assert_frame_equal(one, two)
        two = predict(BY_ERA, panel.X, panel.y(), panel.eras, n_jobs=2)
        np.testing.assert_array_equal(one["prediction"], two["prediction"])

    def test_training_rows_that_lie_together_are_a_view(self, panel):
        seen = []

        class Looking(LinearRegression):
            def fit(self, X, y, sample_weight=None):
                seen.append(np.shares_memory(X, panel.X))
                return super().fit(X, y, sample_weight)

        predict(
            Looking(), panel.X, panel.y(), panel.eras, cv=EraWalkForward(3, purge=2)
        )
        assert seen == [True] * 3

    def test_weights_are_those_of_the_training_rows(self, panel):
        weights = np.random.default_rng(0).uniform(size=panel.n_rows)
        out = predict(
            Ridge(), panel.X, panel.y(), panel.eras, cv=EraHoldout(purge=2),
            params={"sample_weight": weights},
        )  # fmt: skip
        train, test = next(EraHoldout(purge=2).split(None, groups=panel.eras))
        model = Ridge().fit(panel.X[train], panel.y()[train], weights[train])
        np.testing.assert_allclose(out["prediction"], model.predict(panel.X[test]))

    def test_progress_counts_folds(self, panel, capsys):
        predict(Ridge(), panel.X, panel.y(), panel.eras, verbose=True)
        assert "3/3" in capsys.readouterr().err
        predict(Ridge(), panel.X, panel.y(), panel.eras)
        assert capsys.readouterr().err == ""

    def test_the_default_splitter_purges_sixteen(self):
        from numerai_features.datasets import make_era_panel

        panel = make_era_panel(n_eras=60, rows_per_era=20, random_state=0)
        out = predict(Ridge(), panel.X, panel.y(), panel.eras, cv=None)
        expected = predict(Ridge(), panel.X, panel.y(), panel.eras, cv=EraKFold())
        pd.testing.assert_frame_equal(out, expected)
        assert out["fold"].max() == 4

    def test_nothing_of_the_callers_is_changed(self, frame, panel, tmp_path):
        before, model = frame.copy(deep=True), clone(MODEL)
        predict(model, frame, panel.y(), memory=tmp_path)
        pd.testing.assert_frame_equal(frame, before)
        assert not hasattr(model[-1], "coef_")
        assert model[0].memory is None

    def test_any_transformer_works(self, panel):
        out = predict(make_pipeline(PCA(2), Ridge()), panel.X, panel.y(), panel.eras)
        assert len(out) == panel.n_rows


class TestErrors:
    def test_no_eras(self, panel):
        with pytest.raises(ValueError, match="eras must be era labels; got None"):
            predict(Ridge(), panel.X, panel.y())

    def test_other_lengths(self, panel):
        with pytest.raises(ValueError, match="eras has 3 labels, but X has 2400 rows"):
            predict(Ridge(), panel.X, panel.y(), [1, 2, 3])
        with pytest.raises(ValueError, match="y must have one value per row"):
            predict(Ridge(), panel.X, panel.y()[:9], panel.eras)

    def test_several_predictions_a_row(self, panel):
        class Two(LinearRegression):
            def predict(self, X):
                return np.ones((len(X), 2))

        with pytest.raises(ValueError, match="needs one prediction a row"):
            predict(Two(), panel.X, panel.y(), panel.eras)

    def test_a_fold_without_a_known_target(self, panel):
        y = panel.y().copy()
        y[:800] = np.nan
        rows = np.arange(panel.n_rows)
        with pytest.raises(ValueError, match="NaN in all 800 training rows of fold 0"):
            predict(Ridge(), panel.X, y, panel.eras, cv=[(rows[:800], rows[1600:])])
