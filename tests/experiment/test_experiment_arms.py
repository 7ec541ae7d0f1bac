"""Arms as recipes: each is what a plain loop over the same classes predicts."""

import os
import re
import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest
from numerai_tools.scoring import numerai_corr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from numerai_features import _scratch, augmenters, compose, embedders
from numerai_features._sealed import SetAsideWarning
from numerai_features.datasets import EraPanel, make_era_panel
from numerai_features.experiment import Experiment, ExperimentError
from numerai_features.experiment._eras import make_folds
from numerai_features.experiment._select import uncorrelated
from numerai_features.metrics import era_scores
from numerai_features.trees import make_lightgbm, make_xgboost

ALPHA, LONG, BRAVO = "target_alpha_20", "target_alpha_60", "target_bravo_20"
NAMES = [f"feature_{j:04d}" for j in range(20)]
FIRST_WITH_BENCHMARK = 9
MOST_BYTES = 2000  # of the panel's rows at once in memory; a fold has 16,000

EXPERIMENT = f"""
seed = 1
seeds = 2
[data]
files = ["train.parquet"]
benchmark = "benchmark.parquet"
[features]
set = {NAMES}
[targets]
main = "{ALPHA}"
also = ["{LONG}", "{BRAVO}"]
[cv]
n_splits = 2
purge = 4
[model]
n_jobs = 1
device = "cpu"
params = {{ n_estimators = 10 }}

[latents]
quantize = "none"
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = 3
[latents.chosen]
embedder = "FactorAnalysisEmbedder"
n_components = 2
select = {{ n = 6 }}
[latents.apart]
embedder = "FactorAnalysisEmbedder"
n_components = 2
features = {NAMES[:12]}
select = {{ max_correlation = 0.2 }}
fit_on = "all"
[latents.dae]
embedder = "DAEEmbedder"
n_components = 3
hidden = [8]
max_epochs = 2
[latents.codes]
embedder = "EraMLP"
hidden = [4, 2]
max_epochs = 2
benchmark_penalty = 0.5
[latents.rest]
embedder = "EraMLP"
hidden = [4, 2]
max_epochs = 2
residual_to = "benchmark"
[augment.cutout]
augmenter = "CutoutAugmenter"
[augment.mixup]
augmenter = "EraMixupAugmenter"
[augment.noise]
augmenter = "GaussianNoiseAugmenter"
[augment.dreams]
augmenter = "DreamAugmenter"
embedder = "dae"
copies = 0.5
[models.ridge]
model = "Ridge"
alpha = 10.0
[models.boosted]
model = "EraBoostedRegressor"
n_rounds = 2
[models.xgb]
model = "XGBoost"
n_jobs = 1
device = "cpu"
params = {{ n_estimators = 5 }}
[models.net]
model = "SupervisedAEMLP"
n_components = 3
hidden = [8, 4]
dropout = [0.1, 0.1, 0.1, 0.1, 0.1]
max_epochs = 2
[models.corr]
model = "EraMLP"
hidden = [8, 4]
max_epochs = 2
[models.penalised]
model = "EraMLP"
hidden = [8, 4]
max_epochs = 2
benchmark_penalty = 0.5

[arms.originals]
[arms.fa]
latents = ["fa", "chosen"]
[arms.apart]
latents = ["apart"]
[arms.alone]
latents = ["fa"]
features = []
[arms.pca]
latents = ["pca"]
[arms.random]
latents = ["random"]
augment = "cutout"
[arms.cutout]
augment = "cutout"
[arms.new]
augment = ["cutout", "noise"]
latents = ["fa"]
only_new_rows = true
[arms.dreams]
augment = "dreams"
[arms.ridge]
model = "ridge"
features = {NAMES[3:9]}
[arms.boosted]
model = "boosted"
[arms.several]
target = ["{ALPHA}", "{LONG}"]
[arms.leaves]
model = "xgb"
target = ["{ALPHA}", "{LONG}"]
[arms.net]
model = "net"
target = ["{ALPHA}", "{BRAVO}"]
[arms.residual]
residual_to = "benchmark"
proportion = 0.75
[arms.rest]
model = "corr"
target = ["{ALPHA}", "{LONG}"]
residual_to = "benchmark"
[arms.penalised]
model = "penalised"
target = ["{ALPHA}", "{LONG}"]
[arms.penalised_more]
model = "penalised"
augment = ["mixup", "cutout"]
[arms.codes]
latents = ["codes", "rest"]
[arms.told_more]
era_feature = true
benchmark_feature = true
augment = ["mixup", "cutout"]
[arms.told]
era_feature = true
benchmark_feature = true
[arms.neutral]
neutralize = {{ features = {NAMES[:5]}, proportion = 0.5 }}
[arms.apart_from_benchmark]
neutralize = {{ to = "benchmark" }}
[arms.shrunk]
shrink = "dae"
[arms.mix]
blend = {{ fa = 1, residual = 3.0 }}
[arms.mixed_again]
blend = {{ mix = 1, ridge = -0.5 }}
[arms.with_penalised]
blend = {{ originals = 1, penalised = 1 }}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with training rows, and a benchmark that begins later."""
    folder = tmp_path_factory.mktemp("files")
    panel = make_era_panel(
        n_eras=40, rows_per_era=40, n_features=20, n_factors=4, random_state=5
    )
    frame = panel.to_frame()
    frame.index = pd.Index([f"n{i:05d}" for i in range(len(frame))], name="id")
    known = panel.eras <= 36
    frame[ALPHA] = frame[ALPHA].where(known)  # live eras
    frame[LONG] = frame[LONG].where(panel.eras <= 30)
    frame.to_parquet(folder / "train.parquet")
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.3, size=len(frame))
    benchmark = pd.DataFrame({"own": panel.y(ALPHA) + noise}, index=frame.index)
    later = benchmark[panel.eras >= FIRST_WITH_BENCHMARK]
    later.sample(frac=1, random_state=0).to_parquet(folder / "benchmark.parquet")
    (folder / "arms.toml").write_text(EXPERIMENT)
    return folder


class WatchedRows(np.ndarray):
    """Rows on disk that note the bytes of each copy that is made of them."""

    copied = []

    def __getitem__(self, key):
        part = super().__getitem__(key)
        if isinstance(part, np.ndarray) and not np.may_share_memory(part, self):
            self.copied.append(part.nbytes)
        return part


@pytest.fixture(scope="module")
def done(files):
    """All arms, as for a table that is larger than memory."""
    experiment = Experiment.from_file(files / "arms.toml", files / "out")
    X = EraPanel.X
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_scratch, "LEAST_BYTES", MOST_BYTES)
        watched = property(lambda panel: X.__get__(panel).view(WatchedRows))
        patch.setattr(EraPanel, "X", watched)
        with pytest.warns(UserWarning, match="latents.apart: fit_on"):
            return experiment.run(verbose=False)


def test_no_large_part_of_the_panel_is_copied_into_memory(done):
    assert WatchedRows.copied
    assert max(WatchedRows.copied) <= MOST_BYTES


@pytest.fixture(scope="module")
def plain(done, files):
    """The rows of each fold, and what a plain loop needs of them."""
    panel = EraPanel.open(done.experiment["data"]["panel"])
    benchmark = pd.read_parquet(files / "benchmark.parquet")["own"]
    return Plain(done, panel, benchmark.reindex(panel.ids).to_numpy())


class Plain:
    def __init__(self, done, panel, benchmark):
        self.panel, self.benchmark = panel, benchmark
        self.folds = make_folds(done.experiment.tables, panel)
        self.done = done

    def check(self, arm, predict, seed=0, atol=1e-6):
        """Compare an arm's predictions with those of a function of each fold."""
        column = self.done.predictions[f"{arm}, seed {seed}"]
        for fold in self.folds:
            mine = column[self.done.predictions["fold"] == fold.number]
            expected = predict(fold.train, fold.test, 1 + seed)
            np.testing.assert_allclose(mine, expected, atol=atol, rtol=1e-5)

    def rows(self, part, target=ALPHA):
        panel = self.panel
        y = pd.Series(panel.y(target)[part], name=target)
        return panel.X[part], y, panel.eras[part]

    def known(self, part, target=ALPHA):
        X, y, eras = self.rows(part, target)
        keep = y.notna().to_numpy()
        return X[keep], y[keep], eras[keep]


def trees(seed):
    return make_lightgbm(
        "small", device="cpu", n_jobs=1, n_estimators=10, random_state=seed
    )


def era_mlp(hidden, seed, **parameters):
    return embedders.EraMLP(hidden, max_epochs=2, random_state=seed, **parameters)


def ranked(values, eras):
    return compose.rank_by_era(values, eras, output="gauss")


@pytest.mark.parametrize("seed", [0, 1])
def test_originals(plain, seed):
    def predict(train, test, own):
        X, y, _ = plain.known(train)
        return trees(own).fit(X, y).predict(plain.panel.X[test])

    plain.check("originals", predict, seed)


class TestParts:
    def test_latents_of_two_tables(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            shown = plain.panel.X[test]
            fa = embedders.FactorAnalysisEmbedder(3)
            model = trees(own).set_params(importance_type="gain")
            keep = y.notna().to_numpy()
            model.fit(X[keep], y[keep])
            order = np.argsort(-model.feature_importances_, kind="stable")
            best = np.sort(order[:6])
            few = embedders.FactorAnalysisEmbedder(2)
            parts = [
                (X, shown),
                (fa.fit(X, eras=eras).transform(X), fa.transform(shown)),
                (
                    few.fit(X[:, best], eras=eras).transform(X[:, best]),
                    few.transform(shown[:, best]),
                ),
            ]
            learned, tested = (
                np.hstack([p[i] for p in parts], dtype=np.float32) for i in (0, 1)
            )
            return trees(own).fit(learned[keep], y[keep]).predict(tested)

        plain.check("fa", predict, seed=1)

    def test_an_embedder_of_all_rows(self, plain):
        def predict(train, test, own):
            X, y, _ = plain.rows(train)
            chosen = uncorrelated(X[:, :12], 0.2)
            fa = embedders.FactorAnalysisEmbedder(2)
            fa.fit(plain.panel.X[:, chosen], eras=plain.panel.eras)
            keep = y.notna().to_numpy()
            shown = plain.panel.X[test]
            learned = np.hstack([X, fa.transform(X[:, chosen])], dtype=np.float32)
            tested = np.hstack([shown, fa.transform(shown[:, chosen])])
            return trees(own).fit(learned[keep], y[keep]).predict(tested)

        plain.check("apart", predict)

    def test_latents_alone(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            fa = embedders.FactorAnalysisEmbedder(3).fit(X, eras=eras)
            keep = y.notna().to_numpy()
            model = trees(own).fit(fa.transform(X)[keep], y[keep])
            return model.predict(fa.transform(plain.panel.X[test]))

        plain.check("alone", predict)

    def test_principal_components_are_those_of_scikit_learn(self, plain):
        def predict(train, test, own):
            X, y, _ = plain.known(train)
            all_rows, shown = plain.panel.X[train], plain.panel.X[test]
            pca = PCA(5).fit(all_rows.astype(float))  # fa and chosen: 3 + 2
            sign = np.sign(np.linalg.eigh(np.cov(all_rows.T.astype(float)))[1])
            sign = (sign[:, :-6:-1] * np.sign(pca.components_.T))[0]
            learned = np.hstack([X, pca.transform(X.astype(float)) * sign])
            tested = np.hstack([shown, pca.transform(shown.astype(float)) * sign])
            return trees(own).fit(learned, y).predict(tested)

        # Components that differ in the last digits can move a bin's edge.
        column = plain.done.predictions["pca, seed 0"]
        for fold in plain.folds:
            mine = column[plain.done.predictions["fold"] == fold.number]
            expected = predict(fold.train, fold.test, 1)
            assert np.corrcoef(mine, expected)[0, 1] > 0.999

    def test_new_rows(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            augmenter = augmenters.CutoutAugmenter(random_state=own)
            rows = augmenter.fit_resample(X, y, eras=eras)
            keep = rows.y.notna().to_numpy()
            model = trees(own).fit(rows.X[keep], rows.y[keep])
            return model.predict(plain.panel.X[test])

        plain.check("cutout", predict)

    def test_new_rows_by_an_embedder(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            dae = embedders.DAEEmbedder(3, hidden=(8,), max_epochs=2, random_state=own)
            dreams = augmenters.DreamAugmenter(dae, copies=0.5, random_state=own)
            rows = dreams.fit_resample(X, y, eras=eras)
            keep = rows.y.notna().to_numpy()
            model = trees(own).fit(rows.X[keep], rows.y[keep])
            return model.predict(plain.panel.X[test])

        plain.check("dreams", predict)

    def test_only_new_rows_and_their_latents(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            both = augmenters.ComposeAugmenters(
                [
                    augmenters.CutoutAugmenter(random_state=own),
                    augmenters.GaussianNoiseAugmenter(random_state=own),
                ]
            )
            rows = both.fit_resample(X, y, eras=eras)
            new = slice(len(X), None)
            fa = embedders.FactorAnalysisEmbedder(3)
            fa.fit(X, eras=eras)
            keep = rows.y[new].notna().to_numpy()
            learned = np.hstack([rows.X[new], fa.transform(rows.X[new])])
            shown = plain.panel.X[test]
            tested = np.hstack([shown, fa.transform(shown)])
            return trees(own).fit(learned[keep], rows.y[new][keep]).predict(tested)

        plain.check("new", predict)

    def test_random_columns_of_new_rows_are_new(self, plain):
        fits = plain.done.predictions["random, seed 0"]
        assert fits.nunique() > 10
        assert plain.done.summary.loc["random", "n_latents"] == 5

    def test_models(self, plain):
        def ridge(train, test, own):
            X, y, _ = plain.known(train)
            model = Ridge(alpha=10.0).fit(X[:, 3:9].astype(np.float32), y)
            return model.predict(plain.panel.X[test][:, 3:9].astype(np.float32))

        def boosted(train, test, own):
            X, y, eras = plain.rows(train)
            model = compose.EraBoostedRegressor(trees(own), n_rounds=2)
            model.fit(X, y, eras=eras)
            return model.predict(plain.panel.X[test])

        plain.check("ridge", ridge)
        plain.check("boosted", boosted)


class TestTargets:
    def test_one_model_a_target_and_the_mean_of_ranks(self, plain):
        def predict(train, test, own):
            found = []
            for target in (ALPHA, LONG):
                X, y, _ = plain.known(train, target)
                found.append(trees(own).fit(X, y).predict(plain.panel.X[test]))
            eras = plain.panel.eras[test]
            return ranked(np.column_stack(found), eras).mean(axis=1)

        plain.check("several", predict)

    def test_vector_leaves(self, plain):
        def predict(train, test, own):
            y = np.column_stack([plain.panel.y(t)[train] for t in (ALPHA, LONG)])
            keep = ~np.isnan(y).any(axis=1)
            model = make_xgboost(
                "small", device="cpu", n_jobs=1, random_state=own, n_estimators=5,
                multi_strategy="multi_output_tree", base_score=float(y[keep].mean()),
            )  # fmt: skip
            model.fit(plain.panel.X[train][keep], y[keep])
            predicted = model.predict(plain.panel.X[test])
            return ranked(predicted, plain.panel.eras[test]).mean(axis=1)

        plain.check("leaves", predict)

    def test_a_network_learns_them_at_once(self, plain):
        def predict(train, test, own):
            X, _, eras = plain.rows(train)
            y = pd.DataFrame({t: plain.panel.y(t)[train] for t in (ALPHA, BRAVO)})
            net = embedders.SupervisedAEMLP(
                3, hidden=(8, 4), dropout=(0.1,) * 5, max_epochs=2, random_state=own
            )
            return net.fit(X, y, eras=eras).predict(plain.panel.X[test])

        plain.check("net", predict)


class TestBenchmark:
    def test_residual_targets(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            model = compose.ResidualTargetRegressor(trees(own), proportion=0.75)
            model.fit(X, y, eras=eras, benchmark=plain.benchmark[train])
            return model.predict(plain.panel.X[test])

        plain.check("residual", predict)

    @pytest.mark.parametrize(("arm", "penalty"), [("rest", 0.0), ("penalised", 0.5)])
    def test_a_network_that_gets_it(self, plain, arm, penalty):
        """Residual targets are those that the network would make itself."""

        def predict(train, test, own):
            X, _, eras = plain.rows(train)
            y = pd.DataFrame({t: plain.panel.y(t)[train] for t in (ALPHA, LONG)})
            net = era_mlp((8, 4), own, benchmark_penalty=penalty)
            net.fit(X, y, eras=eras, benchmark=plain.benchmark[train])
            return net.predict(plain.panel.X[test])

        plain.check(arm, predict, seed=1)

    def test_new_rows_have_that_of_their_rows(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            rows = self.more(X, y, eras, plain.benchmark[train], own)
            net = era_mlp((8, 4), own, benchmark_penalty=0.5)
            net.fit(rows.X, rows.y[ALPHA], eras=rows.eras, benchmark=rows.y["own"])
            return net.predict(plain.panel.X[test])

        plain.check("penalised_more", predict)

    def test_a_feature_of_new_rows(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            rows = self.more(X, y, eras, plain.benchmark[train], own)
            keep = rows.y[ALPHA].notna().to_numpy()
            learned = np.column_stack([rows.X, rows.eras, rows.y["own"]])
            panel = plain.panel
            tested = np.column_stack(
                [panel.X[test], panel.eras[test], plain.benchmark[test]]
            )
            return trees(own).fit(learned[keep], rows.y[ALPHA][keep]).predict(tested)

        plain.check("told_more", predict)

    def more(self, X, y, eras, benchmark, seed):
        """Return augmented rows; these two treat a target as they must a benchmark."""
        both = augmenters.ComposeAugmenters(
            [
                augmenters.EraMixupAugmenter(random_state=seed),
                augmenters.CutoutAugmenter(random_state=seed),
            ]
        )
        return both.fit_resample(X, y.to_frame().assign(own=benchmark), eras=eras)

    def test_embedders_that_get_it(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            shown = plain.panel.X[test]
            targets = pd.DataFrame(
                {t: plain.panel.y(t)[train] for t in (ALPHA, LONG, BRAVO)}
            )
            learned, tested = [X], [shown]
            for penalty in (0.5, 0.0):
                net = era_mlp((4, 2), own, benchmark_penalty=penalty)
                net.fit(X, targets, eras=eras, benchmark=plain.benchmark[train])
                learned.append(net.transform(X))
                tested.append(net.transform(shown))
            keep = y.notna().to_numpy()
            learned, tested = (
                np.hstack(side, dtype=np.float32) for side in (learned, tested)
            )
            return trees(own).fit(learned[keep], y[keep]).predict(tested)

        plain.check("codes", predict)

    def test_era_and_benchmark_as_features(self, plain):
        def predict(train, test, own):
            X, y, eras = plain.rows(train)
            keep = y.notna().to_numpy()
            learned = np.column_stack([X, eras, plain.benchmark[train]])
            panel = plain.panel
            tested = np.column_stack(
                [panel.X[test], panel.eras[test], plain.benchmark[test]]
            )
            return trees(own).fit(learned[keep], y[keep]).predict(tested)

        plain.check("told", predict)

    def test_neutral_to_it(self, plain):
        def predict(train, test, own):
            X, y, _ = plain.known(train)
            predicted = trees(own).fit(X, y).predict(plain.panel.X[test])
            return compose.neutralize_by_era(
                predicted, plain.benchmark[test][:, None], plain.panel.eras[test]
            )

        plain.check("apart_from_benchmark", predict)


def test_neutral_to_features(plain):
    def predict(train, test, own):
        X, y, _ = plain.known(train)
        shown, eras = plain.panel.X[test], plain.panel.eras[test]
        predicted = trees(own).fit(X, y).predict(shown)
        return compose.neutralize_by_era(predicted, shown[:, :5], eras, proportion=0.5)

    plain.check("neutral", predict)


def test_shrunk_where_an_autoencoder_finds_rows_unfamiliar(plain):
    def predict(train, test, own):
        X, y, eras = plain.rows(train)
        dae = embedders.DAEEmbedder(3, hidden=(8,), max_epochs=2, random_state=own)
        model = compose.FamiliarityShrinker(trees(own), dae).fit(X, y, eras=eras)
        return model.predict(plain.panel.X[test], eras=plain.panel.eras[test])

    plain.check("shrunk", predict, atol=1e-5)


class TestBlends:
    def test_they_are_weighted_means_of_ranks(self, plain):
        table = plain.done.predictions
        eras = table["era"].to_numpy()
        for seed in (0, 1):
            own = {a: table[f"{a}, seed {seed}"] for a in plain.done.experiment.arms}
            mix = (ranked(own["fa"], eras) + 3 * ranked(own["residual"], eras)) / 4
            np.testing.assert_allclose(own["mix"], mix, atol=1e-6)
            again = (ranked(own["mix"], eras) - ranked(own["ridge"], eras) / 2) / 1.5
            np.testing.assert_allclose(own["mixed_again"], again, atol=1e-6)

    def test_they_are_not_fitted(self, files, done):
        names = {file.name for file in (files / "out" / "folds").glob("*.fold")}
        assert "001.fa.fold" in names
        assert "001.fa.1.fold" in names
        assert not [name for name in names if "mix" in name]
        assert done.summary.loc["mix", "model_seconds"] == 0


def in_doubles(done):
    table = done.predictions.dropna(subset="target")
    return table.astype({name: float for name in table.columns.drop("era")})


class TestSeeds:
    def test_scores_are_means_over_seeds_as_numerai_tools_scores(self, done):
        table = in_doubles(done)
        for arm in ("fa", "mix", "residual"):
            for era, rows in table.groupby("era"):
                mine = done.scores.loc[int(era), arm]
                theirs = [
                    numerai_corr(rows[[f"{arm}, seed {s}"]], rows["target"]).iloc[0]
                    for s in (0, 1)
                ]
                assert mine == pytest.approx(np.mean(theirs), abs=1e-9)

    def test_bmc_is_the_mean_over_seeds_and_says_its_eras(self, done, plain):
        table = done.predictions.dropna(subset="target")
        benchmark = pd.Series(plain.benchmark, index=plain.panel.ids)
        scores = era_scores(
            table["target"].to_numpy(),
            table[["fa, seed 0", "fa, seed 1"]].reset_index(drop=True),
            table["era"].to_numpy(),
            metric="bmc",
            benchmark=benchmark.reindex(table.index).to_numpy(),
        )
        assert done.summary.loc["fa", "bmc"] == pytest.approx(scores.mean().mean())
        assert done.summary.loc["fa", "bmc_n_eras"] == len(scores)

    def test_the_error_of_seeds_stands_beside_each_difference(self, done):
        table = in_doubles(done)

        def less(arm, seed):
            means = [
                np.mean(
                    [
                        numerai_corr(rows[[f"{a}, seed {seed}"]], rows["target"])
                        for _, rows in table.groupby("era")
                    ]
                )
                for a in (arm, "originals")
            ]
            return means[0] - means[1]

        two = [less("fa", seed) for seed in (0, 1)]
        expected = np.std(two, ddof=1) / np.sqrt(2)
        assert done.differences.loc["fa", "seed_error"] == pytest.approx(expected)
        assert "seed error" in str(done)
        assert "means of 2 seeds" in str(done)

    def test_a_seed_more_keeps_the_fits(self, files, done, tmp_path):
        shutil.copytree(files / "out", tmp_path / "out")
        folds = tmp_path / "out" / "folds"
        before = {f.name: f.stat().st_mtime_ns for f in folds.glob("*.fold")}
        kept = {name for name in before if name.count(".") == 2}
        for name in set(before) - kept:
            (folds / name).unlink()
        tables = tomllib.loads(EXPERIMENT) | {"seeds": 1}
        one = Experiment.from_dict(tables, base=files, output=tmp_path / "out")
        with pytest.warns(UserWarning, match="fit_on"):
            result = one.run(verbose=False)
        now = {f.name: f.stat().st_mtime_ns for f in folds.glob("*.fold")}
        assert now == {name: before[name] for name in kept}
        mine = result.predictions["fa"]
        assert mine.equals(done.predictions["fa, seed 0"].rename("fa"))
        assert "seed_error" not in result.differences

    def test_expected_scores_have_a_spread_over_seeds(self, tmp_path):
        experiment = Experiment.from_dict(
            {
                "seeds": 2,
                "data": {"synthetic": {"n_eras": 30, "rows_per_era": 40}},
                "cv": {"n_splits": 2, "purge": 2},
                "latents": {
                    "pca": False,
                    "fa": {"embedder": "FactorAnalysisEmbedder", "n_components": 2},
                },
                "model": {"n_jobs": 1, "params": {"n_estimators": 5}},
            },
            output=tmp_path,
        )
        result = experiment.run(verbose=False)
        errors = result.expected["seed_error"]
        assert errors["originals"] == 0
        assert errors["+ random"] > 0
        assert "these fitted models on this panel" in str(result)


class TestGoingOn:
    def test_a_stopped_run_goes_on_to_the_same_bits(self, files, done, tmp_path):
        shutil.copytree(files / "out", tmp_path / "out")
        folds = tmp_path / "out" / "folds"
        removed = [*folds.glob("002.*.1.fold"), *folds.glob("001.pca.fold")]
        assert len(removed) == 25
        for file in removed:
            file.unlink()
        again = Experiment.from_file(files / "arms.toml", tmp_path / "out")
        with pytest.warns(UserWarning, match="fit_on"):
            result = again.run(verbose=False)
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    def test_the_resolved_file_is_the_same_experiment(self, files, done):
        again = Experiment.from_file(files / "out" / "resolved.toml", files / "out")
        assert again.tables == done.experiment.tables

    def test_another_benchmark_concerns_the_arms_that_read_it(self, files, done):
        file, before = files / "benchmark.parquet", contents(files / "out")
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        told = r"(?s)references\.benchmark.*delete.*Fits of other arms"
        try:
            os.utime(file, ns=(times[0], times[1] + 10**9))
            again = Experiment.from_file(files / "arms.toml", files / "out")
            with (
                pytest.warns(UserWarning, match="fit_on"),
                pytest.raises(ExperimentError, match=told) as error,
            ):
                again.run(verbose=False)
        finally:
            os.utime(file, ns=times)
        deleted = set(re.findall(r"\*\.(\w+)\.fold", str(error.value)))
        more = {"rest", "penalised", "penalised_more", "codes", "told_more"}
        assert deleted == more | {"residual", "told", "apart_from_benchmark"}
        assert contents(files / "out") == before


def contents(folder):
    return {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}


BAD = [
    ('[arms.a]\nlatents = ["chosn"]', r"arms\.a\.latents: .*Did you mean 'chosen'"),
    ('[arms.a]\nmodel = "ridgy"', r"arms\.a\.model: .*Did you mean 'ridge'"),
    ('[arms.a]\naugment = ["cutot"]', r"arms\.a\.augment: .*Did you mean 'cutout'"),
    ('[arms.a]\nlatent = ["fa"]', r"arms\.a\.latent: unknown key.*'latents'"),
    ('[arms.a]\nlatents = ["fa", "fa"]', r"arms\.a\.latents: names a table twice"),
    ('[arms.a]\ntarget = "target_x"', r"arms\.a\.target: unknown target"),
    (
        '[arms.a]\nfeatures = ["feature_9"]',
        r"arms\.a\.features: 'feature_9' is none of",
    ),
    ('[arms.a]\nfeatures = "small"', r"arms\.a\.features: got \"small\"; there is no"),
    ("[arms.a]\nfeatures = []", r"arms\.a\.features: got \[\]; without latents"),
    ("[arms.a]\nproportion = 0.5", r"arms\.a\.proportion: needs residual_to"),
    ('[arms.a]\nresidual_to = "meta"', r"arms\.a\.residual_to: .*\"benchmark\""),
    (
        '[arms.a]\nresidual_to = "benchmark"\nproportion = 1.5',
        r"arms\.a\.proportion: got 1\.5; expected a number >= 0 and <= 1",
    ),
    ("[arms.a]\nonly_new_rows = true", r"arms\.a\.only_new_rows: needs augment"),
    (
        '[latents.u]\nembedder = "UMAPEmbedder"\n[arms.a]\nshrink = "u"',
        r"arms\.a\.shrink: got \"u\", whose embedder has no score_samples",
    ),
    ("[arms.a]\nblend = { b = 1 }", r"arms\.a\.blend\.b: unknown arm"),
    ("[arms.a]\nblend = { a = 1 }", r"arms\.a\.blend: is a blend of itself: a -> a"),
    (
        "[arms.a]\nblend = { b = 1 }\n[arms.b]\nblend = { a = 1 }",
        r"blend of itself: a -> b -> a",
    ),
    (
        "[arms.b]\n[arms.a]\nblend = { b = -1 }",
        r"arms\.a\.blend: weights sum to -1; expected a sum above 0",
    ),
    (
        '[arms.b]\n[arms.a]\nblend = { b = "1" }',
        r"arms\.a\.blend\.b: got \"1\"; expected a finite number",
    ),
    (
        '[arms.b]\n[arms.a]\nblend = { b = 1 }\nmodel = "ridge"',
        r"arms\.a\.model: is not allowed beside blend",
    ),
    ('[arms.a]\nlatents = ["pca"]', r"arms\.a\.latents: .*no other arm with latents"),
    (
        '[arms.a]\nneutralize = { to = "benchmark", features = "all" }',
        r"arms\.a\.neutralize\.features: needs to = \"features\"",
    ),
    ("[arms.'a b']", r"arms\.a b: a name must be made of letters"),
    ("[arms.12]", r"arms\.12: a name must be made of letters.*not only digits"),
    ("[arms.target]", r'arms\.target: the name "target" is taken'),
    (
        '[models.FA]\nmodel = "Ridge"',
        r'models\.FA: differs from "fa" only by capital letters',
    ),
    (
        '[latents.PCA]\nembedder = "FactorAnalysisEmbedder"',
        r'latents\.PCA: differs from "pca" only by capital letters',
    ),
    ("[arms.a]\n[arms.A]", r'arms\.A: differs from "a" only by capital letters'),
    (f'[arms.a]\ntarget = ["{ALPHA}", "{ALPHA}"]', r"arms\.a\.target: names one twice"),
    (
        '[arms.a]\nmodel = "ridge"\nbenchmark_feature = true',
        r"arms\.a\.benchmark_feature: needs a model that takes NaN",
    ),
    (
        '[arms.a]\nlatents = ["pca"]\n[arms.b]\nlatents = 5\n'
        '[arms.c]\nlatents = [["fa"]]',
        r"(?s)arms\.b\.latents: got 5;.*arms\.c\.latents: got \[\[",
    ),
    ("[latents.l]\nembedder = ['DAEEmbedder']", r"latents\.l\.embedder: got \["),
    (
        '[latents.l]\nembedder = 5\n[arms.a]\nshrink = "l"',
        r"latents\.l\.embedder: got 5",
    ),
    (
        '[latents.l]\nembedder = "DAE"\nfeatures = 5\nselect = 5',
        r"latents\.l\.embedder: .*DAEEmbedder",
    ),
    (
        '[latents.l]\nembedder = "DAEEmbedder"\nhiddens = [8]\n'
        '[augment.m]\naugmenter = "DreamAugmenter"\nembedder = "l"',
        r"latents\.l\.hiddens: unknown parameter of DAEEmbedder",
    ),
    (
        '[latents.l]\nembedder = "DAEEmbedder"\nselect = { n = 5 }\n'
        '[augment.m]\naugmenter = "DreamAugmenter"\nembedder = "l"',
        r"augment\.m\.embedder: must be .* network, with all features",
    ),
    (
        '[arms.a]\nmodel = "penalised"\nresidual_to = "benchmark"',
        r"arms\.a\.residual_to: cannot be combined with model = \"penalised\", which "
        r"has benchmark_penalty = 0\.5",
    ),
    (
        '[models.m]\nmodel = "EraMLP"\nloss = "bce"\n'
        '[arms.a]\nmodel = "m"\nresidual_to = "benchmark"',
        r"arms\.a\.residual_to: cannot be combined with .* loss = \"bce\"",
    ),
    (
        '[latents.l]\nembedder = "EraMLP"\nloss = "bce"\nresidual_to = "benchmark"',
        r"latents\.l\.residual_to: cannot be combined with loss = \"bce\"",
    ),
    (
        '[latents.l]\nembedder = "DAEEmbedder"\nresidual_to = "benchmark"',
        r"latents\.l\.residual_to: is not allowed for DAEEmbedder, whose fit takes no",
    ),
    (
        '[latents.l]\nembedder = "EraMLP"\nbenchmark_penalty = 0.5\n'
        'residual_to = "benchmark"',
        r"latents\.l\.residual_to: cannot be combined with benchmark_penalty = 0\.5",
    ),
    (
        '[models.m]\nmodel = "EraMLP"\nbenchmark_penalty = -1',
        r"models\.m\.benchmark_penalty: .*-1",
    ),
    (
        '[augment.m]\naugmenter = "DreamAugmenter"\nembedder = "codes"',
        r"augment\.m\.embedder: got \"codes\", which has benchmark_penalty = 0\.5",
    ),
    (
        '[augment.m]\naugmenter = "DreamAugmenter"',
        r"augment\.m\.embedder: must be .*; it is missing",
    ),
    (
        '[latents.l]\nembedder = "UMAPEmbedder"\ntarget_weight = 0.5\nfit_on = "all"',
        r"latents\.l\.fit_on: got \"all\"; UMAPEmbedder learns from targets",
    ),
    (
        '[latents.l]\nembedder = "FactorAnalysisEmbedder"\nselect = { n = 21 }',
        r"latents\.l\.select\.n: got 21; expected a whole number >= 1 and <= 20",
    ),
    ("[arms]\na = 1", r"arms\.a: unknown key"),
    ("seeds = 0", r"seeds: got 0; expected a whole number >= 1"),
    (
        '[latents.net]\nembedder = "SupervisedAEMLP"\nfit_on = "all"',
        r"latents\.net\.fit_on: got \"all\"; SupervisedAEMLP learns from targets",
    ),
    (
        '[latents.l]\nembedder = "FactorAnalysisEmbedder"\nselect = { n = 0 }',
        r"latents\.l\.select\.n: got 0; expected a whole number >= 1",
    ),
    (
        '[latents.l]\nembedder = "FactorAnalysisEmbedder"\nselect = { m = 1 }',
        r"latents\.l\.select: expected \{n = 100\}",
    ),
    (
        '[latents.l]\nembedder = "FactorAnalysisEmbedder"\n'
        "select = { max_correlation = 1.5 }",
        r"select\.max_correlation: got 1\.5; expected a number between 0 and 1",
    ),
    (
        '[latents.l]\nembedder = "FactorAnalysisEmbedder"\n'
        'select = { n = 3, model = "ridge" }',
        r"latents\.l\.select\.model: must be the name of a \[models\] table with trees",
    ),
    (
        '[latents.l]\nembedder = "FactorAnalysisEmbedder"\nn_components = 9\n'
        "select = { n = 4 }",
        r"latents\.l\.n_components",
    ),
    (
        '[models.m]\nmodel = "EraBoostedRegressor"\nregressor = "ridge"',
        r"models\.m\.regressor: must be the name of a \[models\] table with",
    ),
    (
        '[models.m]\nmodel = "LightGBM"\nparams = { n_estimator = 7 }',
        r"models\.m\.params\.n_estimator: .*n_estimators",
    ),
    (
        '[models.m]\nmodel = "LightGBM"\nparams = { input_model = "a" }',
        r"models\.m\.params\.input_model: reaches files",
    ),
    ('[models.m]\nmodel = "Ridge"\nalfa = 1', r"models\.m\.alfa: unknown parameter"),
    (
        '[augment.m]\naugmenter = "DreamAugmenter"\nembedder = "fa"',
        r"augment\.m\.embedder: must be the name of a \[latents\] table whose",
    ),
    ('[augment.m]\naugmenter = "Cutout"', r"augment\.m\.augmenter: .*CutoutAugmenter"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_is_wrong_is_told_before_anything_is_written(
    files, tmp_path, text, message
):
    top = text if text.startswith("seeds") else ""
    base = EXPERIMENT[: EXPERIMENT.index("[arms.originals]")]
    if top:
        base = base.replace("seeds = 2", top)
    else:
        base += text
    folder = tmp_path / "out"
    file = files / f"{tmp_path.name}.toml"
    file.write_text(base)
    with pytest.raises(ExperimentError, match=message):
        Experiment.from_file(file, folder)
    assert not folder.exists()


SMALL = {
    "data": {"files": ["train.parquet"], "benchmark": "benchmark.parquet"},
    "features": {"set": NAMES},
    "targets": {"main": ALPHA},
    "cv": {"n_splits": 2, "purge": 4},
    "model": {"n_jobs": 1, "device": "cpu", "params": {"n_estimators": 5}},
    "latents": {"fa": {"embedder": "FactorAnalysisEmbedder", "n_components": 3}},
}


def small(files, output, **tables):
    experiment = Experiment.from_dict(SMALL | tables, base=files, output=output)
    return experiment.run(verbose=False)


def test_a_model_that_is_named_before_the_model_within_it(files):
    models = {
        "boosted": {"model": "EraBoostedRegressor", "regressor": "trees"},
        "trees": {"model": "LightGBM", "preset": "deep"},
    }
    experiment = Experiment.from_dict(SMALL | {"models": models}, base=files)
    assert experiment["models"]["trees"]["params"] == {}


def test_all_problems_are_told_where_the_target_is_missing(files):
    tables = SMALL | {"targets": {}, "arms": {"a": {"target": "b", "model": "c"}}}
    told = r"(?s)arms\.a\.model: .*targets\.main: is required"
    with pytest.raises(ExperimentError, match=told):
        Experiment.from_dict(tables, base=files)


@pytest.mark.parametrize("model", ["net", "ridge"])
def test_latents_of_255_bins_do_not_drown_the_originals(files, tmp_path, model):
    """A ridge and a network depend on the scale of columns."""
    models = {
        "ridge": {"model": "Ridge", "alpha": 1000.0},
        "net": {
            "model": "SupervisedAEMLP",
            "n_components": 4,
            "hidden": [16, 8],
            "dropout": [0.0] * 5,
            "max_epochs": 5,
        },
    }
    arms = {"both": {"model": model, "latents": ["fa"]}}
    found = {}
    for kind in ("none", "uint8"):
        latents = SMALL["latents"] | {"quantize": kind}
        result = small(
            files, tmp_path / kind, models=models, arms=arms, latents=latents
        )
        found[kind] = result.predictions["both"]
    assert np.corrcoef(found["none"], found["uint8"])[0, 1] > 0.9


class TestGapsOfTheBenchmark:
    @pytest.fixture
    def gaps(self, files, tmp_path):
        """Without every tenth row, and without the last eras."""
        rows = pd.read_parquet(files / "benchmark.parquet").sort_index()
        rows = rows[np.arange(len(rows)) % 10 > 0].iloc[: len(rows) // 2]
        rows.to_parquet(tmp_path / "gaps.parquet")
        return rows["own"]

    def test_all_rows_of_an_era_have_one_scale(self, files, tmp_path, gaps):
        arms = {"plain": {}, "neutral": {"neutralize": {"to": "benchmark"}}}
        data = SMALL["data"] | {"benchmark": str(tmp_path / "gaps.parquet")}
        result = small(files, tmp_path / "out", arms=arms, data=data)
        table = result.predictions.assign(
            benchmark=gaps.reindex(result.predictions.index)
        )
        n_partly = 0
        for _, rows in table.groupby("era"):
            known = rows["benchmark"].notna()
            less = rows["plain"] - rows["neutral"]
            if known.any():
                n_partly += not known.all()
                mean = rows.loc[known, "plain"].mean()
                np.testing.assert_allclose(less[~known], mean, atol=1e-6)
                own = rows.loc[known, ["neutral", "benchmark"]].astype(float)
                assert abs(own.corr().iloc[0, 1]) < 1e-4
            else:
                assert (less == 0).all()
        assert n_partly > 5

    @pytest.mark.parametrize(
        ("arm", "key"),
        [
            ({"residual_to": "benchmark"}, r"arms\.a\.residual_to"),
            ({"model": "net"}, r"models\.net\.benchmark_penalty"),
            ({"latents": ["net"]}, r"latents\.net\.benchmark_penalty"),
        ],
    )
    def test_a_fold_whose_training_eras_have_none_is_told_before(
        self, files, tmp_path, arm, key
    ):
        rows = pd.read_parquet(files / "benchmark.parquet").sort_index()
        rows.iloc[len(rows) // 2 :].to_parquet(tmp_path / "late.parquet")
        data = SMALL["data"] | {"benchmark": str(tmp_path / "late.parquet")}
        told = (
            rf"{key}: data\.benchmark covers none of the training eras of fold 1, "
            r"0001 to 00\d\d; its first era is 00\d\d\. Begin to test later"
        )
        net = {"hidden": [4, 2], "benchmark_penalty": 0.3}
        tables = {
            "data": data,
            "models": {"net": {"model": "EraMLP", **net}},
            "latents": {"net": {"embedder": "EraMLP", **net}},
        }
        with pytest.raises(ValueError, match=told):
            small(files, tmp_path / "out", arms={"a": arm}, **tables)
        assert not (tmp_path / "out").exists()


class TestChanges:
    def fits(self, folder):
        files = (folder / "folds").glob("*.fold")
        return {file.name: file.stat().st_mtime_ns for file in files}

    def test_an_arm_of_another_library_keeps_the_fits(self, files, tmp_path):
        arms = {"plain": {}, "fa": {"latents": ["fa"]}}
        small(files, tmp_path, arms=arms)
        before = self.fits(tmp_path)
        xgb = {"model": "XGBoost", "params": {"n_estimators": 3}, "n_jobs": 1}
        more = arms | {"xgb": {"model": "x"}}
        small(files, tmp_path, arms=more, models={"x": xgb})
        assert before.items() <= self.fits(tmp_path).items()
        assert len(self.fits(tmp_path)) == 6

    def test_blends_are_computed_again(self, files, tmp_path):
        """Also those of arms whose fits are repeated, with other latents."""
        arms = {"plain": {}, "fa": {"latents": ["fa"]}, "pca": {"latents": ["pca"]}}
        first = small(
            files, tmp_path, arms=arms | {"mix": {"blend": {"pca": 1, "plain": 1}}}
        )
        before = self.fits(tmp_path)
        other = arms | {"mix": {"blend": {"pca": 3, "plain": 1}}}
        second = small(files, tmp_path, arms=other)
        assert self.fits(tmp_path) == before
        assert not first.predictions["mix"].equals(second.predictions["mix"])
        latents = SMALL["latents"] | {
            "more": {"embedder": "FactorAnalysisEmbedder", "n_components": 5}
        }
        with pytest.warns(SetAsideWarning, match="principal components"):
            small(
                files,
                tmp_path,
                arms=other | {"more": {"latents": ["more"]}},
                latents=latents,
            )

    def test_an_error_of_a_fit_names_arm_and_fold(self, files, tmp_path):
        augment = {"even": {"augmenter": "BalanceAugmenter"}}
        arms = {"a": {"augment": "even", "residual_to": "benchmark"}}
        with pytest.raises(ValueError, match=r"^a, fold 1: .*distinct values"):
            small(files, tmp_path, arms=arms, augment=augment)


def test_sharpe_and_drawdown_are_those_of_single_seeds(done):
    table = in_doubles(done)
    sharpes = []
    for seed in (0, 1):
        corr = [
            numerai_corr(rows[[f"fa, seed {seed}"]], rows["target"]).iloc[0]
            for _, rows in table.groupby("era")
        ]
        sharpes.append(np.mean(corr) / np.std(corr, ddof=0))
    mine = done.summary.loc["fa", "sharpe"]
    assert mine == pytest.approx(np.mean(sharpes), rel=1e-6)


class TestTargetsOfDifferentLengths:
    TABLES = {
        "data": {"synthetic": {"n_eras": 60, "rows_per_era": 30}},
        "targets": {"main": ALPHA, "also": [LONG]},
        "latents": {
            "codes": {
                "embedder": "SupervisedAEMLP",
                "n_components": 2,
                "hidden": [4, 4],
                "dropout": [0.1] * 5,
                "max_epochs": 1,
                "cross_fit": 2,
                "target_weights": [1.0, 0.5],
            }
        },
        "model": {"n_jobs": 1, "params": {"n_estimators": 3}},
    }

    def test_the_longest_sets_the_purge(self):
        assert Experiment.from_dict(self.TABLES)["cv"]["purge"] == 16

    def test_weights_of_targets_are_one_for_each(self):
        net = self.TABLES["latents"]["codes"] | {"target_weights": [1.0]}
        with pytest.raises(
            ExperimentError, match=r"codes\.target_weights: .*2 targets"
        ):
            Experiment.from_dict(self.TABLES | {"latents": {"codes": net}})
        net = {"model": "SupervisedAEMLP", "target_weights": [1.0, 2.0]}
        tables = self.TABLES | {"models": {"net": net}}
        with pytest.raises(ExperimentError, match=r"net\.target_weights: .*1 target"):
            Experiment.from_dict(tables)
        arms = {"net": {"model": "net", "target": [ALPHA, LONG]}}
        assert Experiment.from_dict(tables | {"arms": arms}).base == "net"

    def test_networks_too_few_eras_are_told_before_a_fit(self, tmp_path):
        tables = self.TABLES | {
            "cv": {"n_splits": 1, "first_test_era": 36, "purge": 4},
        }
        experiment = Experiment.from_dict(tables, output=tmp_path)
        with pytest.raises(ValueError, match=r"codes, fold 1: cross_fit=2: .* of 16 "):
            experiment.run(verbose=False)
        assert not [*tmp_path.rglob("*.fold")]


def test_an_arm_that_reads_a_benchmark_needs_one(files):
    tables = tomllib.loads(EXPERIMENT)
    del tables["data"]["benchmark"]
    with pytest.raises(ExperimentError) as error:
        Experiment.from_dict(tables, base=files)
    for key in ("residual.residual_to", "told.benchmark_feature"):
        assert f"arms.{key}: needs data.benchmark" in str(error.value)
    assert "apart_from_benchmark.neutralize: needs data.benchmark" in str(error.value)
    for key in ("penalised.benchmark_penalty", "codes.benchmark_penalty"):
        assert str(error.value).count(f"{key}: needs data.benchmark") == 1
    assert "latents.rest.residual_to: needs data.benchmark" in str(error.value)
    del tables["arms"]
    told = r"models\.penalised\.benchmark_penalty: needs data\.benchmark"
    for data in (tables["data"], {"synthetic": {"n_features": 20}}):
        with pytest.raises(ExperimentError, match=told):
            Experiment.from_dict(tables | {"data": data}, base=files)
    for table in ("models", "latents"):
        for name in ("penalised", "codes", "rest"):
            tables[table].pop(name, None)
    assert "penalised" not in Experiment.from_dict(tables, base=files).arms


def test_uncorrelated_features_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (500, 12)).astype(np.int8)
    X[:, 5], X[:, 7] = X[:, 1], 4 - X[:, 0]
    X[:, 9] = 2
    expected = []
    for j in range(12):
        if not X[:, j].std():
            continue
        others = [abs(np.corrcoef(X[:, j], X[:, k])[0, 1]) for k in expected]
        if max(others, default=0) <= 0.9:
            expected.append(j)
    assert list(uncorrelated(X, 0.9)) == expected
    assert expected == [0, 1, 2, 3, 4, 6, 8, 10, 11]
