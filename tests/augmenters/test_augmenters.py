"""What each augmenter's new rows are."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerai_features.augmenters import (
    BalanceAugmenter,
    ComposeAugmenters,
    CutoutAugmenter,
    DreamAugmenter,
    EraMixupAugmenter,
    GaussianNoiseAugmenter,
    RidgeMixtureTargets,
)
from numerai_features.augmenters._base import resample_beside
from numerai_features.augmenters._containers import append_targets
from numerai_features.embedders import (
    DAEEmbedder,
    EraAutoencoder,
    EraTransformer,
    FactorAnalysisEmbedder,
)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (1200, 40)).astype(np.int8)
    X[:, 7] = 3
    y = rng.choice([0, 0.25, 0.5, 0.75, 1], 1200, p=[0.05, 0.2, 0.5, 0.2, 0.05])
    return X, y, np.repeat(np.arange(1, 7), 200)


def new_rows(augmenter, rows, **options):
    X, y, eras = rows
    out = augmenter.fit_resample(X, y, eras=eras, **options)
    n = len(X)
    return out.X[n:], out.y[n:], out.eras[n:]


class TestCutout:
    @pytest.fixture
    def rows(self, rows):
        """Without the constant column, whose middle is its only value."""
        X, y, eras = rows
        X = X.copy()
        X[:, 7] = X[::-1, 8]
        return X, y, eras

    def test_a_constant_column_stays(self):
        X = np.full((6, 2), 3, np.int8)
        np.testing.assert_array_equal(CutoutAugmenter(1).fit_resample(X).X, 3)

    def test_an_era_loses_the_same_columns(self, rows):
        X, y, eras = rows
        new, targets, of = new_rows(CutoutAugmenter(0.25, random_state=0), rows)
        np.testing.assert_array_equal(targets, y)
        np.testing.assert_array_equal(of, eras)
        cut = []
        for era in range(1, 7):
            mine = eras == era
            lost = (new[mine] == 2).all(axis=0)
            assert lost.sum() == 10
            np.testing.assert_array_equal(new[mine][:, ~lost], X[mine][:, ~lost])
            cut.append(lost)
        assert len(np.unique(cut, axis=0)) == 6

    def test_every_copy_loses_others(self, rows):
        X = rows[0]
        new, _, _ = new_rows(CutoutAugmenter(0.5, copies=3, random_state=0), rows)
        assert new.shape == (3600, 40)
        copies = new.reshape(3, 1200, 40)
        lost = [(c[:200] == 2).all(axis=0) for c in copies]
        assert len(np.unique(lost, axis=0)) == 3
        for copy in copies:
            assert ((copy == X) | (copy == 2)).all()

    def test_rows_of_their_own(self, rows):
        X = rows[0]
        new, _, _ = new_rows(CutoutAugmenter(0.3, per="row", value=4), rows)
        changed = new != X
        assert (new[changed] == 4).all()
        lost = (changed | (new == 4)).sum(axis=1)
        assert (lost >= 12).all()
        assert len(np.unique(changed, axis=0)) > 1100

    @pytest.mark.parametrize("fraction", [0, 1])
    def test_none_and_all(self, rows, fraction):
        new, _, _ = new_rows(CutoutAugmenter(fraction), rows)
        np.testing.assert_array_equal(new, 2 if fraction else rows[0])

    def test_part_of_the_rows_of_every_era(self, rows):
        new, _, of = new_rows(CutoutAugmenter(copies=0.25, random_state=0), rows)
        assert list(np.bincount(of)[1:]) == [50] * 6
        assert len(new) == 300

    def test_floats_take_the_median(self):
        X = np.random.default_rng(0).normal(size=(101, 4))
        out = CutoutAugmenter(1).fit_resample(X)
        median = np.median(X, axis=0)
        np.testing.assert_allclose(out.X[101:], np.tile(median, (101, 1)), rtol=1e-6)

    def test_in_place(self, rows):
        X, _, eras = rows
        cutout = CutoutAugmenter(0.25, random_state=0)
        changed = cutout.fit_transform(X, eras=eras)
        np.testing.assert_array_equal(changed, new_rows(cutout, rows)[0])
        np.testing.assert_array_equal(cutout.transform(X), X)

    def test_values_that_do_not_fit(self, rows):
        with pytest.raises(ValueError, match="cannot be written to a table of int8"):
            CutoutAugmenter(value=0.5).fit_resample(rows[0])


class TestNoise:
    def test_cells_are_near_and_within_range(self, rows):
        X = rows[0]
        new, targets, _ = new_rows(GaussianNoiseAugmenter(0.5, random_state=0), rows)
        assert new.dtype == np.int8
        assert (new.min(axis=0) >= X.min(axis=0)).all()
        assert (new[:, 7] == 3).all()
        inner = X == 2
        from scipy.stats import norm

        moved = (new != X)[inner].mean()
        assert abs(moved - 2 * norm.sf(1)) < 0.01
        np.testing.assert_array_equal(targets, rows[1])

    def test_ranked_noise_keeps_each_eras_bins(self, rows):
        X, _, eras = rows
        new, _, _ = new_rows(
            GaussianNoiseAugmenter(1.2, bins="rank", random_state=0), rows
        )
        for era in range(1, 7):
            mine = eras == era
            np.testing.assert_array_equal(
                np.sort(new[mine], axis=0), np.sort(X[mine], axis=0)
            )
        assert 0.5 < (new != X)[:, :7].mean() < 0.8
        assert np.corrcoef(new[:, 0], X[:, 0])[0, 1] > 0.5

    def test_floats_stay_floats(self):
        X = np.random.default_rng(0).choice([0, 0.25, 0.5, 0.75, 1], (4000, 3))
        out = GaussianNoiseAugmenter(random_state=0).fit_resample(X)
        assert abs((out.X[4000:] - X).std() - 0.3) < 0.01
        assert out.X.dtype == np.float64

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("scale", [0.25, 1, 0.5])
    def test_noise_is_in_bins_on_every_scale(self, dtype, scale):
        X = np.random.default_rng(0).integers(0, 5, (2000, 4)).astype(np.int8)
        floats = ((X - 2) * scale).astype(dtype)
        floats[::7, 1] = np.nan
        out = GaussianNoiseAugmenter(0.5, random_state=0).fit_resample(floats)
        noise = (out.X[2000:] - floats) / scale
        assert out.X.dtype == dtype
        assert abs(np.nanstd(noise, axis=0) - 0.5).max() < 0.03

    @pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
    def test_floats_that_are_in_no_bins(self, scale):
        X = np.random.default_rng(0).normal(size=(4000, 3)) * scale
        out = GaussianNoiseAugmenter(1, random_state=0).fit_resample(X)
        noise = (out.X[4000:] - X) / scale
        assert abs(noise.std(axis=0) * 2**0.5 - 1).max() < 0.1

    def test_bins_beside_latents(self):
        rng = np.random.default_rng(0)
        X = np.column_stack(
            [rng.integers(0, 5, 3000) / 4, rng.normal(size=3000), np.ones(3000)]
        )
        out = GaussianNoiseAugmenter(1, random_state=0).fit_resample(X)
        noise = (out.X[3000:] - X).std(axis=0)
        np.testing.assert_allclose(noise, [0.25, 2**-0.5, 0], atol=0.07)

    def test_no_noise_is_a_copy(self, rows):
        np.testing.assert_array_equal(
            new_rows(GaussianNoiseAugmenter(0), rows)[0], rows[0]
        )


class TestMixup:
    def test_means_of_two_rows_of_an_era(self):
        eras = np.repeat([1, 2, 3], 50)
        X = np.arange(150.0)[:, None] + 1000 * eras[:, None]
        out = EraMixupAugmenter(random_state=0).fit_resample(X, X[:, 0], eras=eras)
        new = out.X[150:, 0]
        np.testing.assert_array_equal(new, out.y[150:])
        other = 2 * new - X[:, 0]
        assert np.isin(other, X).all()
        assert (other != X[:, 0]).all()
        np.testing.assert_array_equal(other // 1000, eras)

    def test_all_rows_are_partners(self):
        X = np.arange(150.0)[:, None]
        out = EraMixupAugmenter(among="all", copies=20, random_state=0).fit_resample(
            X, eras=np.repeat([1, 2, 3], 50)
        )
        other = 2 * out.X[150:, 0] - np.tile(X[:, 0], 20)
        assert set(other) == set(range(150))

    def test_weights_are_beta(self):
        X = np.tile([[0.0], [1.0]], (4000, 1))
        out = EraMixupAugmenter(alpha=0.4, random_state=0).fit_resample(
            X, eras=np.repeat(np.arange(4000), 2)
        )
        share = np.abs(out.X[8000:, 0] - (1 - X[:, 0]))
        assert share.min() >= 0.5
        folded = np.random.default_rng(1).beta(0.4, 0.4, 100_000)
        expected = np.maximum(folded, 1 - folded)
        for q in (0.1, 0.5, 0.9):
            assert abs(np.quantile(share, q) - np.quantile(expected, q)) < 0.02

    def test_integers_are_right_in_the_mean(self, rows):
        X, _, eras = rows
        out = EraMixupAugmenter(copies=40, random_state=0).fit_resample(X, eras=eras)
        means = out.X[1200:].reshape(40, 1200, 40).mean(axis=0)
        era_mean = np.stack([X[eras == e].mean(axis=0) for e in eras])
        np.testing.assert_allclose(
            means.mean(axis=0), (X.mean(axis=0) + era_mean.mean(axis=0)) / 2, atol=0.02
        )
        assert out.X.dtype == np.int8

    def test_one_row_has_itself(self):
        out = EraMixupAugmenter().fit_resample(np.ones((1, 2)))
        np.testing.assert_array_equal(out.X, 1)


class TestBalance:
    @given(st.floats(0.05, 1.0), st.integers(0, 5))
    def test_bins_are_filled_up(self, ratio, seed):
        rng = np.random.default_rng(seed)
        y = rng.choice(5, 300, p=[0.05, 0.2, 0.5, 0.2, 0.05]).astype(float)
        eras = np.repeat([1, 2, 3], 100)
        X = np.arange(300.0)[:, None]
        out = BalanceAugmenter(ratio, random_state=seed).fit_resample(X, y, eras=eras)
        for era in (1, 2, 3):
            before = np.bincount(y[eras == era].astype(int), minlength=5)
            after = np.bincount(out.y[out.eras == era].astype(int), minlength=5)
            wanted = np.maximum(before, np.round(ratio * before.max()))
            np.testing.assert_array_equal(after, wanted)
        source = out.X[300:, 0].astype(int)
        np.testing.assert_array_equal(out.y[300:], y[source])
        others = [
            ((y == y[s]) & (eras != e)).any()
            for s, e in zip(source, out.eras[300:], strict=True)
        ]
        assert ((eras[source] != out.eras[300:]) == others).all()

    def test_unknown_targets_are_left_alone(self):
        y = np.array([0, 1, 1, 1, np.nan, np.nan])
        out = BalanceAugmenter(1.0).fit_resample(np.zeros((6, 1)), y)
        np.testing.assert_array_equal(out.y[6:], [0, 0])

    def test_another_target(self, rows):
        X, y, eras = rows
        both = np.column_stack([np.zeros(1200), y])
        out = BalanceAugmenter(0.5, target=1, random_state=0).fit_resample(
            X, both, eras=eras
        )
        np.testing.assert_array_equal(
            out.y[:, 1], BalanceAugmenter(0.5, random_state=0).fit_resample(
                X, y, eras=eras
            ).y
        )  # fmt: skip

    def test_refusals(self, rows):
        X, y, _ = rows
        with pytest.raises(ValueError, match="BalanceAugmenter estimator requires y"):
            BalanceAugmenter().fit_resample(X)
        with pytest.raises(ValueError, match="y is NaN in all 1200 rows"):
            BalanceAugmenter().fit_resample(X, np.full(1200, np.nan))
        with pytest.raises(ValueError, match="column 1 of y is NaN in all 1200 rows"):
            BalanceAugmenter(target=1).fit_resample(X, np.c_[y, y * np.nan])
        with pytest.raises(ValueError, match="target=1, but y has 1 columns"):
            BalanceAugmenter(target=1).fit_resample(X, y)
        with pytest.raises(ValueError, match="1200 distinct values; expected"):
            BalanceAugmenter().fit_resample(X, np.arange(1200))


class TestDream:
    @pytest.fixture
    def embedder(self, rows):
        X, _, eras = rows
        net = DAEEmbedder(4, hidden=(16,), max_epochs=2, random_state=0)
        return net.fit(X.astype(float), eras=eras)

    def test_activations_grow(self, rows, embedder):
        X = rows[0].astype(float)
        before = (embedder.transform(X) ** 2).sum(axis=1)
        grown = []
        for n_steps in (1, 5):
            dream = DreamAugmenter(embedder, copies=1, n_steps=n_steps)
            new = dream.fit_resample(X).X[1200:]
            grown.append((embedder.transform(new) ** 2).sum(axis=1) - before)
            moved = np.abs(new - X).mean(axis=1)
            assert (moved <= 0.04 * n_steps * 1.001).all()
            assert (moved > 0.02 * n_steps).mean() > 0.9
            assert dream.embedder_ is embedder
        assert (grown[0] > 0).mean() > 0.99
        assert (grown[1] > grown[0]).mean() > 0.95

    @pytest.mark.parametrize("output", ["argmax", "both"])
    def test_categories_have_no_gradient(self, rows, output):
        X, y, eras = rows
        net = EraAutoencoder(
            3, hidden=(8,), random_units=(4, 5), output=output, max_epochs=1,
            random_state=0,
        )  # fmt: skip
        dream = DreamAugmenter(net, random_state=0)
        if output == "both":
            assert len(dream.fit_resample(X, y, eras=eras).X) > len(X)
        else:
            with pytest.raises(ValueError, match="latents have no gradient"):
                dream.fit_resample(X, y, eras=eras)

    @pytest.mark.parametrize(
        ("tokens", "told"),
        [("rows", "look at the others of their era"), ("features", "no gradient")],
    )
    def test_rows_that_look_at_others_cannot_dream(self, rows, tokens, told):
        X, y, eras = rows
        net = EraTransformer(
            2, tokens=tokens, width=8, max_epochs=1, objective="cells", random_state=0
        )
        with pytest.raises(ValueError, match=told):
            DreamAugmenter(net, random_state=0).fit_resample(X, y, eras=eras)

    def test_one_step_is_the_gradient(self, rows, embedder):
        """By differences, in float64."""
        X = rows[0][:5].astype(float)
        new = DreamAugmenter(embedder, copies=1, n_steps=1).fit_resample(X).X[5:]
        gradient = np.empty_like(X)
        for j in range(X.shape[1]):
            sides = []
            for step in (1e-2, -1e-2):
                moved = X.copy()
                moved[:, j] += step
                sides.append((embedder.encoder_.transform(moved) ** 2).sum(axis=1) / 2)
            gradient[:, j] = (sides[0] - sides[1]) / 2e-2
        expected = 0.04 * gradient / np.abs(gradient).mean(axis=1, keepdims=True)
        np.testing.assert_allclose(new - X, expected, atol=4e-3)

    def test_a_step_is_in_bins(self, rows):
        X, _, eras = rows
        net = DAEEmbedder(4, hidden=(16,), max_epochs=2, random_state=0)
        moved = []
        for table in (X.astype(float), X / 4):
            dreams = DreamAugmenter(net, copies=1, n_steps=1, random_state=0)
            out = dreams.fit_resample(table, eras=eras).X
            moved.append(np.abs(out[len(X) :] - table).mean())
        assert moved[0] == pytest.approx(0.04, rel=0.05)
        assert moved[1] == pytest.approx(0.01, rel=0.05)

    def test_gaps_stay(self, rows, embedder):
        X = rows[0].astype(float)
        X[::5, 3] = np.nan
        new = DreamAugmenter(embedder, copies=1).fit_resample(X).X[1200:]
        np.testing.assert_array_equal(np.isnan(new), np.isnan(X))

    def test_an_unfitted_one_is_fitted_to_the_rows(self, rows):
        net = DAEEmbedder(4, hidden=(16,), max_epochs=1, random_state=0)
        dream = DreamAugmenter(net, random_state=0)
        new, _, of = new_rows(dream, rows)
        assert list(np.bincount(of)[1:]) == [10] * 6
        assert not hasattr(net, "encoder_")
        np.testing.assert_array_equal(dream.embedder_.fitted_eras_, np.arange(1, 7))
        assert new.dtype == np.int8

    def test_other_columns(self, rows, embedder):
        with pytest.raises(ValueError, match="fitted to 40 features, but X has 7"):
            DreamAugmenter(embedder).fit_resample(rows[0][:, :7])


class TestImblearn:
    @pytest.mark.parametrize("augmenter", [CutoutAugmenter, EraMixupAugmenter])
    def test_is_a_step_of_its_pipelines(self, rows, augmenter):
        pipeline = pytest.importorskip("imblearn.pipeline")
        from sklearn.linear_model import Ridge

        X, y, _ = rows
        made = augmenter(random_state=0)
        model = pipeline.make_pipeline(made.as_sampler(), Ridge()).fit(X, y)
        both = made.fit_resample(X, y)
        expected = Ridge().fit(both.X, both.y).predict(X)
        np.testing.assert_array_equal(model.predict(X), expected)

    def test_a_sampler_leaves_its_augmenter_alone(self, rows):
        """And what an embedder inside was fitted to."""
        X, y, _ = rows
        embedder = FactorAnalysisEmbedder(2).fit(X)
        dream = DreamAugmenter(embedder, random_state=0)
        sampler = dream.as_sampler()
        table, _ = sampler.fit_resample(X, y)
        assert not hasattr(dream, "n_features_in_")
        assert sampler.augmenter_.embedder_ is embedder
        np.testing.assert_array_equal(table, dream.fit_resample(X, y).X)


class TestCompose:
    def test_side_by_side_is_each_alone(self, rows):
        X, y, eras = rows
        parts = [
            CutoutAugmenter(0.5, copies=0.5, random_state=1),
            EraMixupAugmenter(random_state=2),
            GaussianNoiseAugmenter(bins="rank", random_state=3),
            BalanceAugmenter(random_state=4),
        ]
        out = ComposeAugmenters(parts).fit_resample(X, y, eras=eras)
        each = [new_rows(part, rows) for part in parts]
        for i, got in enumerate((out.X, out.y, out.eras)):
            np.testing.assert_array_equal(
                got[1200:], np.concatenate([e[i] for e in each])
            )

    def test_one_after_another(self, rows):
        X, y, eras = rows
        parts = [
            CutoutAugmenter(0.5, random_state=1),
            EraMixupAugmenter(random_state=2),
        ]
        out = ComposeAugmenters(parts, order="chain").fit_resample(X, y, eras=eras)
        first = parts[0].fit_resample(X, y, eras=eras)
        second = parts[1].fit_resample(*first[:2], eras=first.eras)
        for got, expected in zip(out[:3], second[:3], strict=True):
            np.testing.assert_array_equal(got, expected)

    def test_one_within_another(self, rows):
        X, y, eras = rows
        cut = CutoutAugmenter(0.5, random_state=1)
        mix = EraMixupAugmenter(random_state=2)
        nested = ComposeAugmenters([ComposeAugmenters([cut, mix]), cut])
        flat = ComposeAugmenters([cut, mix, cut])
        for order in ("parallel", "chain"):
            got = nested.set_params(order=order).fit_resample(X, y, eras=eras)
            if order == "parallel":
                expected = flat.fit_resample(X, y, eras=eras)
                np.testing.assert_array_equal(got.X, expected.X)
                np.testing.assert_array_equal(got.y, expected.y)
            assert len(got.X) == {"parallel": 4, "chain": 6}[order] * len(X)

    def test_refusals(self, rows):
        chain = ComposeAugmenters([CutoutAugmenter()], order="chain")
        with pytest.raises(ValueError, match="Make the chain the outer one"):
            ComposeAugmenters([chain]).fit_resample(rows[0])
        for wrong in ([], ["cutout"]):
            with pytest.raises(ValueError, match="augmenters must be a list"):
                ComposeAugmenters(wrong).fit_resample(rows[0])


class TestBeside:
    """A column that is no target, such as a benchmark, follows the new rows."""

    @pytest.mark.parametrize(
        "augmenter",
        [
            BalanceAugmenter(0.9, random_state=0),
            RidgeMixtureTargets(synthetic_eras=2, random_state=0),
            ComposeAugmenters(
                [
                    CutoutAugmenter(0.1, value=0, random_state=0),
                    RidgeMixtureTargets(0.5, random_state=0),
                ]
            ),
        ],
        ids=lambda augmenter: type(augmenter).__name__,
    )
    def test_copies_have_that_of_their_rows(self, rows, augmenter):
        X, y, eras = rows
        number = np.arange(len(X), dtype=float)
        number[::7] = np.nan
        out, beside = resample_beside(augmenter, X, y, eras, number)
        expected = augmenter.fit_resample(X, y, eras=eras)
        for got, other in zip(out[:3], expected[:3], strict=True):
            np.testing.assert_array_equal(got, other)
        new, told = out.X[len(X) :], beside[len(X) :]
        assert len(new) == len(told) > 0
        np.testing.assert_array_equal(beside[: len(X)], number)
        known = ~np.isnan(told)
        assert 0.8 < known.mean() < 0.92
        from_row = X[told[known].astype(int)]
        assert ((new[known] == from_row) | (new[known] == 0)).all()

    def test_averages_have_the_average(self, rows):
        X, y, eras = rows
        column = y.astype(float) ** 2
        column[::5] = np.nan
        augmenter = ComposeAugmenters(
            [EraMixupAugmenter(alpha=0.5, random_state=0), CutoutAugmenter()]
        )
        _, beside = resample_beside(augmenter, X, y, eras, column)
        expected = augmenter.fit_resample(X, column, eras=eras).y
        np.testing.assert_array_equal(beside, expected)

    def test_there_may_be_none(self, rows):
        X, y, eras = rows
        _, beside = resample_beside(CutoutAugmenter(), X, y, eras, None)
        assert beside is None


class TestContainers:
    @pytest.mark.parametrize("make", [pl.DataFrame, pa.table])
    def test_other_frames(self, rows, make):
        X, y, eras = rows
        columns = {"f0": X[:, 0], "era": eras.astype(str), "f1": X[:, 1]}
        augmenter = EraMixupAugmenter(random_state=0)
        out = augmenter.fit_resample(make(columns), y)
        expected = augmenter.fit_resample(X[:, :2], y, eras=eras)
        assert isinstance(out.X, type(make(columns)))
        frame = out.X.to_pandas()
        assert list(frame.columns) == ["f0", "era", "f1"]
        np.testing.assert_array_equal(frame[["f0", "f1"]], expected.X)
        np.testing.assert_array_equal(frame["era"].astype(int), expected.eras)
        assert frame["f0"].dtype == np.int8

    @pytest.mark.parametrize("augmenter", [CutoutAugmenter(), EraMixupAugmenter()])
    def test_targets_in_any_container(self, rows, augmenter):
        X, y, eras = rows
        for targets in (
            pl.Series("t", y),
            pl.DataFrame({"t": y, "u": y}),
            pa.table({"t": y}),
            list(y),
        ):
            out = augmenter.fit_resample(X, targets, eras=eras).y
            assert isinstance(
                out, np.ndarray if isinstance(targets, list) else type(targets)
            )
            assert len(out) == 2400

    @pytest.mark.parametrize(
        ("make", "kind"),
        [
            (lambda y: y.astype(np.float32), np.dtype("float32")),
            (lambda y: pd.Series(y, dtype="Float32"), pd.Float32Dtype()),
            (lambda y: pd.DataFrame({"t": y, "t2": y}, dtype=np.float32)["t2"],
             np.dtype("float32")),
            (lambda y: pl.Series("t", y, dtype=pl.Float32), pl.Float32),
            (lambda y: pd.Series((4 * y).astype(int), dtype="Int64"), None),
            (lambda y: pd.Series(y).astype("category"), None),
            (lambda y: (y > 0.5), None),
            (lambda y: pl.Series("t", y > 0.5), pl.Float64),
            (lambda y: pl.Series("t", 4 * y).cast(pl.Int8), pl.Float64),
            (lambda y: pl.Series("t", y).cast(pl.Decimal(9, 2)), pl.Float64),
        ],
    )  # fmt: skip
    def test_types_of_targets(self, rows, make, kind):
        """Averages are no whole numbers, nor categories: those become floats."""
        X, y, eras = rows
        targets = make(y)
        out = EraMixupAugmenter(random_state=0).fit_resample(X, targets, eras=eras).y
        if kind is not None:
            assert out.dtype == kind
        np.testing.assert_array_equal(
            np.asarray(out[:1200], float), np.asarray(targets, float)
        )
        assert not np.isnan(np.asarray(out, float)).any()

    @pytest.mark.parametrize("type_", [pa.bool_(), pa.int8(), pa.float32()])
    def test_types_of_targets_of_pyarrow(self, rows, type_):
        """Averages are no classes: those become floats."""
        X, y, eras = rows
        targets = pa.chunked_array([(y > 0.5).astype(np.int8)]).cast(type_)
        made = EraMixupAugmenter(random_state=0).fit_resample(X, targets, eras=eras).y
        assert made.type == (type_ if type_ == pa.float32() else pa.float64())
        np.testing.assert_array_equal(made[:1200].to_numpy(), targets.to_numpy())
        assert made.null_count == 0

    @pytest.mark.parametrize(
        "classes",
        [pl.Series("t", [True, False]), pa.chunked_array([[True, False]])],
        ids=["polars", "pyarrow"],
    )
    def test_classes_hold_nothing_but_classes(self, classes):
        for new, kind in ([0, 1], bool), ([2, 3], float):
            values = np.array(new, np.float64)[:, None]
            out = append_targets(classes, np.arange(2), values)
            assert type(out) is type(classes)
            assert np.asarray(out).dtype == kind
            assert np.asarray(out).tolist() == [1, 0, *new]

    def test_types_of_columns(self, rows):
        X, y, eras = rows
        columns = {"a": y.astype(np.float32), "b": 4 * y, "c": (4 * y).astype(np.int16)}
        for make in (pd.DataFrame, pl.DataFrame, pa.table):
            out = (
                EraMixupAugmenter(random_state=0)
                .fit_resample(X, make(columns), eras=eras)
                .y
            )
            assert str(
                out["a"].dtype if make is not pa.table else out["a"].type
            ).lower() in ("float32", "float")
            np.testing.assert_array_equal(np.asarray(out["c"])[:1200], columns["c"])
            np.testing.assert_allclose(out["c"], out["b"])

    def test_unknown_targets_stay_unknown(self, rows):
        X, y, eras = rows
        for targets in (
            pl.Series("t", [None, *y[1:]]),
            pl.DataFrame({"t": [None, *y[1:]]}),
        ):
            out = (
                EraMixupAugmenter(random_state=0).fit_resample(X, targets, eras=eras).y
            )
            out = out if isinstance(out, pl.Series) else out["t"]
            assert out[:1200].null_count() == 1
            assert out[:1200].is_nan().sum() == 0

    def test_an_index_of_several_levels(self, rows):
        X, _, eras = rows
        index = pd.MultiIndex.from_arrays([eras, np.arange(1200)])
        out = CutoutAugmenter().fit_resample(pd.DataFrame(X, index=index))
        assert out.X.index.nlevels == 2

    @pytest.mark.parametrize("names", [("era", "id"), ("id", "era"), (None, None)])
    def test_new_rows_have_ids_of_their_own_in_several_levels(self, rows, names):
        X, _, eras = rows
        ids = np.array([f"n{row}" for row in range(1200)])
        levels = [ids, eras] if names[0] == "id" else [eras, ids]
        index = pd.MultiIndex.from_arrays(levels, names=names)
        out = CutoutAugmenter().fit_resample(pd.DataFrame(X, index=index)).X.index
        assert out.is_unique
        assert out[0] == index[0]
        assert "n0+1" in out[1200]
        assert eras[0] in out[1200]

    @pytest.mark.parametrize("dtype", ["int64", "uint64", "Int32", "float64"])
    def test_new_rows_have_numbers_of_their_own(self, rows, dtype):
        """They stay clear of all ids above, which other rows may have."""
        numbers = pd.Index(np.arange(5, 1205), dtype=dtype, name="id")
        frame = pd.DataFrame(rows[0], index=numbers)
        once = CutoutAugmenter().fit_resample(frame).X
        twice = CutoutAugmenter().fit_resample(once).X.index
        assert twice.is_unique
        assert twice.name == "id"
        assert (twice[:1200] == numbers).all()
        assert (twice[1200:] < 0).all()

    def test_a_few_copies(self, rows):
        """One of every era at least."""
        X, y, eras = rows
        for augmenter in (CutoutAugmenter(copies=1e-6), EraMixupAugmenter(copies=1e-6)):
            assert len(augmenter.fit_resample(X, y, eras=eras).X) == 1206

    def test_ids_tell_their_source(self, rows):
        frame = pd.DataFrame(rows[0][:3], index=["a", "b", "c"])
        out = CutoutAugmenter(copies=2).fit_resample(frame)
        assert list(out.X.index) == [
            "a",
            "b",
            "c",
            "a+1",
            "b+1",
            "c+1",
            "a+2",
            "b+2",
            "c+2",
        ]
        by_category = frame.set_axis(pd.CategoricalIndex(frame.index))
        again = CutoutAugmenter(copies=2).fit_resample(by_category)
        assert list(again.X.index) == list(out.X.index)
        counted = CutoutAugmenter().fit_resample(frame.reset_index(drop=True))
        assert isinstance(counted.X.index, pd.RangeIndex)
        assert len(counted.X.index) == 6

    def test_lengths_are_checked(self, rows):
        X, y, eras = rows
        fit = CutoutAugmenter().fit_resample
        with pytest.raises(ValueError, match="y must have a row for each of 1200"):
            fit(X, y[:5])
        with pytest.raises(ValueError, match="y has no columns"):
            fit(X, y[:, None][:, :0])
        with pytest.raises(ValueError, match="eras has 5 labels"):
            fit(X, y, eras=eras[:5])
        with pytest.raises(ValueError, match="sample_weight must have shape"):
            fit(X, y, sample_weight=y[:5])
