"""UMAPEmbedder: what it learns, keeps, refuses, and how it compares."""

import pickle
import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
from cut_off import kill_in_training
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from numerai_features._eras import encode_eras
from numerai_features._rows import Rows
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import UMAPEmbedder
from numerai_features.embedders._edges import label_bins, split_edges
from numerai_features.embedders._fuzzy_graph import FuzzyGraph

SMALL = {"hidden": (32,), "max_epochs": 3, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    return make_era_panel(
        n_eras=24, rows_per_era=80, n_features=30, n_factors=4, random_state=0
    )


@pytest.fixture(scope="module")
def fitted(rows):
    return UMAPEmbedder(6, **SMALL).fit(rows.X, eras=rows.eras)


def quiet_umap():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("umap")


class TestStatisticalContract:
    def test_rows_are_alone(self, rows, fitted):
        whole = fitted.transform(rows.X)
        rng = np.random.default_rng(0)
        some = rng.permutation(rows.n_rows)[:300]
        largest = np.abs(whole).max()
        for take in (some, some[:1], some[::-1]):
            np.testing.assert_allclose(
                fitted.transform(rows.X[take]), whole[take], atol=1e-5 * largest
            )

    def test_latents_are_uncorrelated_and_in_order(self, rows, fitted):
        Z = fitted.transform(rows.X).astype(np.float64)
        covariance = np.cov(Z.T, bias=True)
        variances = np.diag(covariance)
        assert (np.diff(variances) < 0).all()
        off = covariance - np.diag(variances)
        assert np.abs(off).max() < 1e-5 * variances[0]
        assert np.abs(Z.mean(axis=0)).max() < 1e-4

    def test_only_landmarks_matter(self, rows):
        options = {"n_landmarks": 200, **SMALL}
        one = UMAPEmbedder(3, **options).fit(rows.X, eras=rows.eras)
        assert one.n_landmarks_ == 200
        from numerai_features._eras import encode_eras
        from numerai_features.embedders._landmarks import draw_landmarks

        seen = draw_landmarks(rows.n_rows, encode_eras(rows.eras), 200, 0)
        X = rows.X.copy()
        unseen = np.setdiff1d(np.arange(rows.n_rows), seen)
        X[unseen] = 4 - X[unseen]
        other = UMAPEmbedder(3, **options).fit(X, eras=rows.eras)
        np.testing.assert_array_equal(one.transform(rows.X), other.transform(rows.X))

    def test_held_out_eras_are_not_trained_on(self, rows):
        """Nor as rows to keep apart from; the eras before them are in no edge."""
        rng = np.random.default_rng(0)
        heads, tails = rng.integers(0, rows.n_rows, (2, 5000))
        graph = FuzzyGraph(heads, tails, rng.random(5000))
        table = Rows(rows.X, eras=encode_eras(rows.eras))
        train, valid, seen = split_edges(
            graph, 4, table, np.arange(table.n_rows), seed=0
        )
        eras = rows.eras.astype(int)
        assert eras[np.concatenate([train.heads, train.tails, seen])].max() == 16
        ends = np.stack([eras[valid.heads], eras[valid.tails]])
        assert (ends.max(axis=0) > 20).all()
        assert not ((ends > 16) & (ends <= 20)).any()

    def test_rows_of_held_out_eras_change_nothing_but_the_end(self, rows):
        """Landmarks of the last eras are neither pulled nor pushed."""
        options = {**SMALL, "validation": 4, "reduce": None, "patience": None}
        moved = rows.X.copy()
        late = rows.eras.astype(int) > 16
        moved[late] = 4 - moved[late]
        losses = [
            [record["train_loss"] for record in net.history_]
            for net in (
                UMAPEmbedder(2, neighbors="era", **options).fit(X, eras=rows.eras)
                for X in (rows.X, moved)
            )
        ]
        # Mirrored rows have the same neighbours; columns' means hardly move.
        np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)

    def test_neighbours_within_eras(self, rows):
        """Eras that are shifted against each other make no difference."""
        shift = np.random.default_rng(0).normal(size=(25, 30)) * 50
        noise = np.random.default_rng(1).random(rows.X.shape)  # no ties
        X = rows.X + noise + shift[rows.eras.astype(int)]
        options = {"neighbors": "era", "reduce": None, "n_neighbors": 8, **SMALL}
        one = UMAPEmbedder(2, **options).fit(rows.X + noise, eras=rows.eras)
        two = UMAPEmbedder(2, **options).fit(X, eras=rows.eras)
        assert abs(one.n_edges_ - two.n_edges_) < 5  # rounding
        assert one.feature_recall_ == two.feature_recall_ == 1
        both = UMAPEmbedder(2, **{**options, "neighbors": "all"})
        assert both.fit(X, eras=rows.eras).feature_recall_ == 1

    def test_recall_tells_what_axes_leave_out(self, rows):
        recalls = [
            UMAPEmbedder(2, n_axes=n, **SMALL).fit(rows.X).feature_recall_
            for n in (2, 10, 30)
        ]
        assert recalls[0] < recalls[1] < recalls[2] > 0.97  # but for ties

    def test_a_target_pulls_its_values_together(self, rows):
        y = (rows.X[:, 0] > 2).astype(float)
        y[::9] = np.nan
        known = ~np.isnan(y)

        def purity(target_weight):
            net = UMAPEmbedder(
                2,
                target_weight=target_weight,
                validation=None,
                max_epochs=20,
                random_state=0,
            )
            Z = net.fit(rows.X, y, eras=rows.eras).transform(rows.X)[known]
            near = NearestNeighbors(n_neighbors=10).fit(Z).kneighbors()[1]
            return (y[known][near] == y[known][:, None]).mean()

        assert purity(0.9) > purity(0.0) + 0.05

    def test_a_continuous_target_is_cut_into_bins(self, rows):
        y = np.random.default_rng(0).normal(size=rows.n_rows)
        assert list(np.bincount(label_bins(y))) == [192] * 10
        few = label_bins(np.array([0.5, np.nan, 0]))
        np.testing.assert_array_equal(few, [1, -1, 0])

    def test_inverse(self, rows):
        """Two thirds of what the same number of principal axes restores, and more."""
        from sklearn.decomposition import PCA

        net = UMAPEmbedder(
            8, reconstruction_weight=5.0, random_state=0, hidden=(64,),
            validation=None, schedule="one-cycle", max_epochs=40,
        ).fit(rows.X)  # fmt: skip
        restored = net.inverse_transform(net.transform(rows.X))
        assert restored.shape == rows.X.shape
        pca = PCA(8).fit(rows.X)
        best = pca.explained_variance_ratio_.sum()
        error = ((restored - rows.X) ** 2).sum()
        share = 1 - error / ((rows.X - rows.X.mean(axis=0)) ** 2).sum()
        assert share > 2 / 3 * best

    @pytest.mark.parametrize("reduce", ["pca", None])
    @pytest.mark.parametrize("kind", [np.float64, np.int64])
    def test_a_large_mean_makes_no_difference(self, rows, reduce, kind):
        X = rows.X.astype(kind)
        nets = [
            UMAPEmbedder(2, reduce=reduce, **SMALL).fit(X + kind(shift))
            for shift in (0, 10**9)
        ]
        ours, moved = nets[0].transform(X), nets[1].transform(X + kind(10**9))
        assert abs(nets[0].feature_recall_ - nets[1].feature_recall_) < 0.02
        assert abs(np.corrcoef(ours[:, 0], moved[:, 0])[0, 1]) > 0.9

    def test_ties_do_not_make_one_bin_of_a_target(self):
        y = np.zeros(1000)
        y[:80] = 1 + np.random.default_rng(0).random(80)
        labels = label_bins(y)
        assert len(np.unique(labels[80:])) == 1
        assert not np.isin(labels[:80], labels[80:]).any()

    def test_small_eras_are_left_out(self, rows):
        eras = rows.eras.astype(int)
        eras[:2] = 99
        net = UMAPEmbedder(2, neighbors="era", **SMALL).fit(rows.X, eras=eras)
        assert net.n_landmarks_ == rows.n_rows - 2

    @pytest.mark.parametrize("reduce", ["pca", "factor"])
    def test_threads_do_not_matter_for_wide_rows(self, reduce):
        from threadpoolctl import threadpool_limits

        X = np.random.default_rng(0).integers(0, 5, (1000, 150)).astype(np.int8)
        results = []
        for n_threads in (1, 2):
            with threadpool_limits(n_threads):
                net = UMAPEmbedder(2, reduce=reduce, n_axes=20, **SMALL).fit(X)
                results.append(net.transform(X[:100]))
        np.testing.assert_array_equal(*results)


class TestKept:
    def test_the_pickle_is_small_and_works_without_torch(self, rows, fitted, tmp_path):
        data = pickle.dumps(fitted)
        assert len(data) < 100_000
        (tmp_path / "umap.pkl").write_bytes(data)
        np.save(tmp_path / "X.npy", rows.X[:50])
        script = textwrap.dedent(
            f"""
            import importlib.abc, pickle, sys

            class Missing(importlib.abc.MetaPathFinder):
                def find_spec(self, name, path=None, target=None):
                    if name.split(".")[0] in ("torch", "umap", "pynndescent"):
                        raise ImportError(name + " is not installed here")

            sys.meta_path.insert(0, Missing())
            import numpy as np
            with open({str(tmp_path / "umap.pkl")!r}, "rb") as file:
                umap = pickle.load(file)
            X = np.load({str(tmp_path / "X.npy")!r})
            np.save({str(tmp_path / "Z.npy")!r}, umap.transform(X))
            """
        )
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
        np.testing.assert_array_equal(
            np.load(tmp_path / "Z.npy"), fitted.transform(rows.X[:50])
        )

    def test_a_killed_fit_goes_on_to_the_same_bits(self, rows, tmp_path):
        options = {**SMALL, "max_epochs": 20, "patience": None}
        kill_in_training(UMAPEmbedder(2, **options), rows.X, rows.eras, tmp_path)
        resumed = UMAPEmbedder(2, checkpoint=tmp_path, **options)
        resumed.fit(rows.X, eras=rows.eras)
        whole = UMAPEmbedder(2, **options).fit(rows.X, eras=rows.eras)
        np.testing.assert_array_equal(
            resumed.transform(rows.X), whole.transform(rows.X)
        )
        assert not list(tmp_path.glob("*.checkpoint"))

    def test_stages_are_told(self, rows, capsys):
        UMAPEmbedder(2, verbose=1, **SMALL).fit(rows.X, eras=rows.eras)
        out, err = capsys.readouterr()
        told = re.findall(r"UMAPEmbedder: (\w+), [\d.]+ s", out + err)
        assert told == ["landmarks", "axes", "neighbours", "layout"]
        assert "step/s" in err
        assert "pair/s" in err

    def test_nothing_is_told_unasked(self, rows, capsys):
        fitted = UMAPEmbedder(2, **SMALL).fit(rows.X, eras=rows.eras)
        assert capsys.readouterr() == ("", "")
        assert set(fitted.stage_seconds_) == {
            "landmarks", "axes", "neighbours", "layout",
        }  # fmt: skip

    def test_patience_ends_training(self, rows):
        fitted = UMAPEmbedder(
            2, hidden=(32,), max_epochs=60, patience=2, random_state=0
        ).fit(rows.X, eras=rows.eras)
        losses = [record["valid_loss"][0] for record in fitted.history_]
        assert fitted.best_epoch_[0] == 1 + np.argmin(losses)
        assert fitted.n_iter_ == fitted.best_epoch_[0] + 2 < 60


class TestReferenceEquivalence:
    @pytest.mark.parametrize(
        ("data", "n_neighbors", "least"),
        [
            pytest.param(load_digits, 15, 0.95, marks=pytest.mark.slow),
            (load_iris, 10, 0.97),
        ],
        ids=["digits", "iris"],
    )
    def test_is_as_trustworthy_as_umap_learn_must_be(self, data, n_neighbors, least):
        """The thresholds of umap-learn's own tests."""
        X = data().data
        Z = UMAPEmbedder(
            2, n_neighbors=n_neighbors, min_dist=0.01, random_state=42
        ).fit_transform(X)
        assert trustworthiness(X, Z, n_neighbors=n_neighbors) >= least

    @pytest.mark.slow
    def test_is_about_as_trustworthy_as_umap_learn(self):
        umap = quiet_umap()
        X = load_digits().data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = umap.UMAP(random_state=0).fit_transform(X)
        ours = UMAPEmbedder(2, min_dist=0.1, random_state=0).fit_transform(X)
        ours, theirs = (trustworthiness(X, Z, n_neighbors=15) for Z in (ours, theirs))
        assert ours > theirs - 0.01


class TestValidation:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"min_dist": 2.0}, r"min_dist=2.0 must be at most spread=1.0"),
            ({"hidden": (0,)}, "'hidden' parameter of"),
            (
                {"n_neighbors": 81, "neighbors": "era"},
                "no era has as many",
            ),
            ({"target_weight": 0.5}, "y is None. target_weight=0.5 is for one"),
            ({"metric": "l1"}, "metric"),
            ({"n_neighbors": 1}, "n_neighbors"),
        ],
    )
    def test_parameters(self, rows, options, match):
        with pytest.raises(ValueError, match=match):
            UMAPEmbedder(2, **options).fit(rows.X, eras=rows.eras)

    @pytest.mark.parametrize(
        ("n_rows", "few"), [(10, {}), (2, {}), (1920, {"n_landmarks": 10})]
    )
    def test_fewer_rows_than_neighbours(self, rows, n_rows, few):
        """All others are neighbours then, as if so many had been asked for."""
        net = UMAPEmbedder(2, hidden=(8,), max_epochs=2, random_state=0, **few)
        n = min(n_rows, 10)
        with pytest.warns(UserWarning, match=f"n_neighbors=15 rows.* lowered to {n}"):
            latents = net.fit_transform(rows.X[:n_rows])
        assert net.n_neighbors == 15
        assert net.n_landmarks_ == n
        enough = clone(net).set_params(n_neighbors=n).fit_transform(rows.X[:n_rows])
        np.testing.assert_array_equal(latents, enough)

    @pytest.mark.parametrize("reduce", ["pca", "factor", None])
    @pytest.mark.parametrize("width", [1, 5])
    def test_constant_columns(self, reduce, width):
        X = np.full((50, width), 3, np.int8)
        with pytest.raises(ValueError, match=f"X is constant in all {width} columns"):
            UMAPEmbedder(2, n_neighbors=5, reduce=reduce).fit(X)

    @pytest.mark.parametrize("reduce", ["pca", "factor", None])
    def test_columns_that_are_constant_but_for_gaps(self, reduce):
        X = np.full((50, 3), 0.1)
        X[::7] = np.nan
        for rows in (X, X * np.nan):
            with pytest.raises(ValueError, match="X is constant in all 3 columns"):
                UMAPEmbedder(2, n_neighbors=5, reduce=reduce).fit(rows)

    @pytest.mark.parametrize("reduce", ["pca", None])
    def test_correlation_of_constant_rows(self, reduce):
        X = np.repeat(np.arange(50)[:, None], 3, axis=1)
        net = UMAPEmbedder(2, n_neighbors=5, reduce=reduce, metric="correlation")
        with pytest.raises(
            ValueError, match=r"every row of X is constant over its columns \(n"
        ):
            net.fit(X)

    def test_a_target_that_parts_all_neighbours(self):
        X = np.repeat(10.0 * np.arange(40), 2)[:, None]
        X[1::2] += 0.1
        net = UMAPEmbedder(1, n_neighbors=2, target_weight=1.0)
        with pytest.raises(ValueError, match="leaves no neighbours"):
            net.fit(X, np.arange(80) % 2)

    def test_a_fit_that_fails_leaves_nothing_fitted(self, rows):
        from sklearn.exceptions import NotFittedError

        net = UMAPEmbedder(2, n_neighbors=81, neighbors="era")
        with pytest.raises(ValueError, match="no era has as many"):
            net.fit(rows.X, eras=rows.eras)
        with pytest.raises(NotFittedError):
            net.transform(rows.X)

    def test_few_rows(self):
        X = np.random.default_rng(0).normal(size=(3, 2))
        net = UMAPEmbedder(2, n_neighbors=2, max_epochs=2, random_state=0)
        assert np.isfinite(net.fit_transform(X)).all()

    def test_one_column_that_varies(self):
        X = np.arange(100.0)[:, None]
        Z = UMAPEmbedder(1, n_neighbors=5, max_epochs=20, random_state=0).fit_transform(
            X
        )
        assert abs(np.corrcoef(Z[:, 0], X[:, 0])[0, 1]) > 0.9

    def test_targets(self, rows):
        fit = UMAPEmbedder(2, target_weight=0.5).fit
        with pytest.raises(ValueError, match=r"y must have shape \(1920,\)"):
            fit(rows.X, np.zeros((1920, 2)))
        with pytest.raises(ValueError, match="y must be numbers"):
            fit(rows.X, ["a"] * 1920)

    def test_numbers_of_eras_need_eras(self, rows):
        with pytest.raises(ValueError, match="validation=3 is a number of eras"):
            UMAPEmbedder(2, validation=3).fit(rows.X)

    def test_nothing_to_hold_out(self):
        X = np.random.default_rng(0).normal(size=(30, 3))
        with pytest.raises(ValueError, match="leaves no edge to hold out"):
            UMAPEmbedder(2, n_neighbors=2, validation=1e-9).fit(X)

    def test_inverse_needs_its_network(self, rows, fitted):
        with pytest.raises(ValueError, match="reconstruction_weight above 0"):
            fitted.inverse_transform(np.zeros((2, 6)))
        net = UMAPEmbedder(3, reconstruction_weight=1.0, **SMALL).fit(rows.X)
        with pytest.raises(ValueError, match="X has 2 latents, but UMAPEmbedder gives"):
            net.inverse_transform(np.zeros((2, 2)))

    def test_missing_cells(self, rows):
        X = rows.X.astype(float)
        X[::7, 3] = np.nan
        fitted = UMAPEmbedder(2, **SMALL).fit(X, eras=rows.eras)
        filled = np.where(np.isnan(X), fitted.missing_values_, X)
        np.testing.assert_array_equal(fitted.transform(X), fitted.transform(filled))
        with pytest.raises(ValueError, match="X contains NaN and missing='raise'"):
            UMAPEmbedder(2, missing="raise", **SMALL).fit(X)


def test_one_feature_has_no_directions():
    X = np.random.default_rng(0).uniform(1, 2, (60, 1))
    umap = UMAPEmbedder(1, n_neighbors=4, metric="cosine", max_epochs=1)
    with pytest.raises(ValueError, match=r"'cosine' .* n_features=1 .*'euclidean'"):
        umap.fit(X)
