"""What an embedder must get right whose unit is an era."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_regressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from numerai_features.compose import EraRanker, LatentFeatures
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import EraTransformer, _holdout
from numerai_features.model_selection import EraKFold
from numerai_features.nn import _parallel
from numerai_features.nn._training import Trainer

SMALL = {"width": 16, "max_epochs": 2, "random_state": 0}
NETS = {
    "linear": EraTransformer(4, **SMALL),
    "full": EraTransformer(4, attention="full", objective="targets", **SMALL),
    "induced": EraTransformer(
        3, attention="induced", n_inducing=5, objective="cells", n_models=2, **SMALL
    ),
    "positional": EraTransformer(3, positional=True, loss="corr", **SMALL),
    "features": EraTransformer(3, tokens="features", n_groups=6, **SMALL),
}
BY_ERA = ["linear", "full", "induced", "positional"]


@pytest.fixture(scope="module")
def rows():
    return make_era_panel(
        n_eras=20, rows_per_era=40, n_features=20, n_factors=4, random_state=1
    )


@pytest.fixture(scope="module")
def fitted(rows):
    y = rows.to_frame()[["target_alpha_20", "target_alpha_60"]].to_numpy()
    return {
        name: clone(net).fit(rows.X, y, eras=rows.eras) for name, net in NETS.items()
    }


def some_eras(rows, seed):
    """Return the rows of a few eras, each with another number of them, mixed."""
    rng = np.random.default_rng(seed)
    eras = rng.choice(np.unique(rows.eras), 4, replace=False)
    parts = [
        rng.permutation(np.flatnonzero(rows.eras == era))[: rng.integers(1, 41)]
        for era in eras
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", BY_ERA)
class TestProperties:
    @given(seed=st.integers(0, 2**20))
    @settings(max_examples=8)
    def test_other_eras_do_not_matter(self, name, seed, fitted, rows):
        """Neither eras that are added, nor a call that is split by eras."""
        net, mine = fitted[name], some_eras(rows, seed)
        whole = net.transform(rows.X[mine], eras=rows.eras[mine])
        for era in np.unique(rows.eras[mine]):
            own = mine[rows.eras[mine] == era]
            alone = net.transform(rows.X[own], eras=rows.eras[own])
            np.testing.assert_allclose(alone, whole[rows.eras[mine] == era], atol=1e-5)

    @given(seed=st.integers(0, 2**20))
    @settings(max_examples=8)
    def test_names_of_eras_do_not_matter(self, name, seed, fitted, rows):
        net, mine = fitted[name], some_eras(rows, seed)
        labels, codes = np.unique(rows.eras[mine], return_inverse=True)
        others = np.random.default_rng(seed).permutation(len(labels)) + 500
        np.testing.assert_allclose(
            net.transform(rows.X[mine], eras=others[codes]),
            net.transform(rows.X[mine], eras=rows.eras[mine]),
            atol=1e-5,
        )

    @given(seed=st.integers(0, 2**20))
    @settings(max_examples=8)
    def test_the_order_of_rows_does_not_matter(self, name, seed, fitted, rows):
        net, mine = fitted[name], some_eras(rows, seed)
        whole = net.transform(rows.X[mine], eras=rows.eras[mine])
        if name == "positional":  # rows of each era stay in their order
            places = np.random.default_rng(seed).permutation(20)
            order = np.argsort(places[rows.eras[mine] - 1], kind="stable")
        else:
            order = np.random.default_rng(seed).permutation(len(mine))
        found = net.transform(rows.X[mine[order]], eras=rows.eras[mine[order]])
        np.testing.assert_allclose(found, whole[order], atol=1e-5)

    def test_a_row_that_is_added_changes_its_own_era_alone(self, name, fitted, rows):
        net, one, two = fitted[name], rows.eras == 3, rows.eras == 7
        before = np.flatnonzero(one | two)[1:]  # without a row of the third era
        after = np.append(before, np.flatnonzero(one)[0])
        Z, later = (
            net.transform(rows.X[part], eras=rows.eras[part])
            for part in (before, after)
        )
        moved = np.abs(later[:-1] - Z).max(axis=1)
        assert (moved[two[before]] < 1e-5).all()
        assert (moved[one[before]] > 1e-5).any()

    def test_eras_of_any_size(self, name, fitted, rows):
        """One row, and as many as a file has."""
        net = fitted[name]
        assert np.isfinite(net.transform(rows.X[:1], eras=["0001"])).all()
        many = np.tile(rows.X, (2, 1))
        Z = net.transform(many, eras=np.ones(len(many), int))
        assert np.isfinite(Z).all()

    def test_needs_the_eras_that_fit_had(self, name, fitted, rows):
        net = fitted[name]
        calls = [net.transform]
        if name != "induced":
            calls += [net.predict, net.predict_targets]
        if name != "full":
            calls.append(net.reconstruct)
        for call in calls:
            with pytest.raises(ValueError, match="was fitted with eras and works era"):
                call(rows.X)
        if name != "induced":
            with pytest.raises(ValueError, match="was fitted with eras and works era"):
                net.score(rows.X, rows.y())


def test_an_encoder_without_eras_takes_rows_for_one_era(fitted, rows):
    """However many: blocks of rows would each be an era of their own."""
    net, many = fitted["linear"], np.tile(rows.X, (80, 1))
    found = net.encoder_.transform(many)
    whole = net.transform(many, eras=np.ones(len(many), int))
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("tokens", ["rows", "features"])
def test_eras_are_held_out_as_a_whole(tokens, rows, monkeypatch):
    seen, plain = [], Trainer.__init__

    def look(self, task, batches, settings, *, held_out=None, **rest):
        seen.extend(held_out.parts)
        plain(self, task, batches, settings, held_out=held_out, **rest)

    monkeypatch.setattr(Trainer, "__init__", look)
    monkeypatch.setattr(_holdout, "_MOST_ROWS", 100)
    net = EraTransformer(2, tokens=tokens, n_groups=2, objective="cells", validation=4)
    net.set_params(**SMALL).fit(rows.X, eras=rows.eras)
    assert [len(part) for part in seen] == ([40] * 2 if tokens == "rows" else [25] * 4)


class TestPositions:
    def test_the_place_of_a_row_matters(self, fitted, rows):
        X, eras = rows.X[:40], rows.eras[:40]
        turned = fitted["positional"].transform(X[::-1], eras=eras)[::-1]
        assert (
            np.abs(turned - fitted["positional"].transform(X, eras=eras)).max() > 0.01
        )


class TestTokensOfFeatures:
    def test_a_row_is_alone(self, fitted, rows):
        net = fitted["features"]
        Z = net.transform(rows.X)
        np.testing.assert_array_equal(net.transform(rows.X, eras=rows.eras), Z)
        order = np.random.default_rng(0).permutation(rows.n_rows)
        np.testing.assert_allclose(net.transform(rows.X[order]), Z[order], atol=1e-5)
        one = [net.transform(rows.X[i : i + 1])[0] for i in range(20)]
        np.testing.assert_allclose(one, Z[:20], atol=1e-5)

    def test_blocks_are_small_enough_for_all_tokens(self, fitted):
        """A row of 20 bytes has 6 x 64 floats on its way: 61 MB of these rows."""
        X = np.random.default_rng(0).integers(0, 5, (40_000, 20)).astype(np.int8)
        tracemalloc.start()
        try:
            fitted["features"].transform(X)
            assert tracemalloc.get_traced_memory()[1] < 80e6
        finally:
            tracemalloc.stop()

    def test_at_most_a_group_for_each_feature(self, rows):
        net = EraTransformer(2, tokens="features", n_groups=99, **SMALL)
        net.fit(rows.X, rows.y(), eras=rows.eras)
        [tokens] = [s for n, s in net.encoder_.steps[-1][1].branches[0].steps
                    if n == "tokens"]  # fmt: skip
        assert tokens.borders == tuple(range(21))


class TestObjectives:
    def test_cells_need_no_targets(self, fitted, rows):
        net = EraTransformer(3, objective="cells", **SMALL)
        y = np.random.default_rng(0).random(rows.n_rows)
        Z = net.fit_transform(rows.X, y, eras=rows.eras)
        again = clone(net).fit_transform(rows.X, eras=rows.eras)
        np.testing.assert_array_equal(Z, again)
        assert not is_regressor(net)
        assert is_regressor(NETS["linear"])
        for name in ("predict", "predict_targets", "score"):
            with pytest.raises(AttributeError, match="has no attribute"):
                getattr(net, name)
        with pytest.raises(ValueError, match="benchmark has no effect"):
            net.fit(rows.X, eras=rows.eras, benchmark=y)

    def test_targets_alone_restore_nothing(self, fitted):
        with pytest.raises(AttributeError, match="has no attribute 'reconstruct'"):
            fitted["full"].reconstruct  # noqa: B018
        assert not hasattr(fitted["full"], "decoders_")

    def test_rows_without_a_target_stay_beside_the_others(self, rows):
        """Their cells change the latents of the others in training."""
        y = rows.y().astype(float)
        unknown = np.arange(rows.n_rows) % 2 == 0
        y[unknown] = np.nan
        net = EraTransformer(3, objective="targets", validation=None, **SMALL)
        first = clone(net).fit(rows.X, y, eras=rows.eras)
        other = rows.X.copy()
        other[unknown] = 4 - other[unknown]
        second = clone(net).fit(other, y, eras=rows.eras)
        known = ~unknown
        p, q = (
            n.predict(rows.X[known], eras=rows.eras[known]) for n in (first, second)
        )
        assert np.abs(p - q).max() > 1e-6

    def test_eras_without_targets_are_left_out(self, rows):
        y, late = rows.y().astype(float), rows.eras > 17
        y[late] = np.nan
        net = EraTransformer(3, **SMALL)
        whole = clone(net).fit(rows.X, y, eras=rows.eras)
        early = clone(net).fit(rows.X[~late], y[~late], eras=rows.eras[~late])
        np.testing.assert_array_equal(
            whole.transform(rows.X, eras=rows.eras),
            early.transform(rows.X, eras=rows.eras),
        )
        assert whole.fitted_eras_.max() == 17

    def test_reconstruction_is_of_the_latents(self, fitted, rows):
        net = fitted["induced"]
        Z = net.transform(rows.X, eras=rows.eras)
        parts = [
            decoder.transform(np.ascontiguousarray(part))
            for decoder, part in zip(net.decoders_, np.split(Z, 2, axis=1), strict=True)
        ]
        restored = net.reconstruct(rows.X, eras=rows.eras)
        np.testing.assert_allclose(restored, np.mean(parts, axis=0), atol=1e-6)
        longer = clone(NETS["linear"]).set_params(max_epochs=30, learning_rate=0.01)
        longer.fit(rows.X, rows.y(), eras=rows.eras)
        error = longer.reconstruct(rows.X, eras=rows.eras) - rows.X
        assert (error**2).mean() < 0.9 * rows.X.var(axis=0).mean()

    @pytest.mark.slow
    def test_orthogonality_lowers_correlations(self, rows):
        sizes = []
        for weight in (0.0, 3.0):
            net = EraTransformer(
                4, objective="cells", orthogonality=weight, width=16, max_epochs=20,
                random_state=0, learning_rate=0.01, validation=None,
            )  # fmt: skip
            Z = net.fit_transform(rows.X, eras=rows.eras)
            off = np.corrcoef(Z.T)[~np.eye(4, dtype=bool)]
            sizes.append(np.mean(off**2))
        assert sizes[1] < 0.2 * sizes[0]

    @pytest.mark.slow
    @pytest.mark.parametrize("objective", ["both", "cells"])
    def test_restores_masked_cells_as_the_history_says(self, objective, rows):
        """The held-out loss is that of corrupted rows, in units of the columns."""
        net = EraTransformer(
            4, objective=objective, width=16, max_epochs=10, random_state=0,
            validation=4, learning_rate=0.01,
        ).fit(rows.X, rows.y(), eras=rows.eras)  # fmt: skip
        late = rows.eras > 16
        errors = []
        for seed in range(20):
            given = net._corrupt(rows.X[late], seed)
            restored = net.reconstruct(given, eras=rows.eras[late])
            masked = given != rows.X[late]
            # cells that hold the middle value are masked, too, but not told by this
            gaps = (restored - rows.X[late]) / net.scale_
            errors.append((gaps[masked] ** 2).mean())
        told = net.history_[net.best_epoch_[0] - 1]["valid_cells"][0]
        middle = (rows.X[late] == 2).mean()
        assert np.mean(errors) * (1 - middle) == pytest.approx(told, rel=0.15)


class TestPredictions:
    @pytest.mark.slow
    def test_units_of_a_correlation_are_the_targets(self, rows):
        y = 1000 + 10 * rows.y()
        net = EraTransformer(
            4, loss="corr", width=16, max_epochs=10, random_state=0,
            objective="targets", validation=None, learning_rate=0.01,
        ).fit(rows.X, y, eras=rows.eras)  # fmt: skip
        p = net.predict(rows.X, eras=rows.eras)
        assert p.mean() == pytest.approx(y.mean(), rel=1e-4)
        gaps, own = (
            pd.Series(side).groupby(rows.eras).transform(lambda e: e - e.mean())
            for side in (y, p)
        )
        assert (gaps @ own) / (own @ own) == pytest.approx(1, rel=1e-3)

    @pytest.mark.slow
    def test_cross_fitted_latents_did_not_see_their_era(self, rows):
        """A change of an era's targets changes other eras' latents, and hardly its."""
        cv = EraKFold(4, purge=0)
        net = EraTransformer(
            3, objective="targets", cross_fit=cv, validation=None, width=16,
            max_epochs=3, random_state=0,
        )  # fmt: skip
        y = rows.y().astype(float)
        changed, block = y.copy(), rows.eras <= 5
        changed[block] = 1 - changed[block]
        first, second = (
            clone(net).fit_transform(rows.X, labels, eras=rows.eras)
            for labels in (y, changed)
        )

        # The final network saw the block, and aligns the others' latents.
        def apart(part):
            a, b = (
                first[part] - first[part].mean(0),
                second[part] - second[part].mean(0),
            )
            u, _, v = np.linalg.svd(a.T @ b)
            return np.linalg.norm(a @ u @ v - b) / np.linalg.norm(b)

        assert apart(block) < 1e-3
        assert apart(~block) > 1e-2

    def test_in_a_pipeline(self, rows):
        frame, y = rows.to_frame(targets=[]), rows.y()
        net = EraTransformer(3, objective="cells", **SMALL)
        pipeline = make_pipeline(LatentFeatures(net), Ridge()).fit(frame, y)
        ranked = EraRanker(
            make_pipeline(LatentFeatures(net, keep_era=False), Ridge()), keep_era=True
        ).fit(frame, y)
        p = pd.Series(pipeline.predict(frame), frame.index).groupby(rows.eras).rank()
        q = pd.Series(ranked.predict(frame), frame.index).groupby(rows.eras).rank()
        pd.testing.assert_series_equal(p, q)


class TestInput:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"width": 10}, "width=10 must be a multiple of n_heads=4"),
            ({"n_components": 21}, "n_components=21 must be at most n_features=20"),
            (
                {"tokens": "features", "positional": True},
                "positional=True is the place of a row",
            ),
            (
                {"objective": "cells", "monitor": "valid_corr"},
                "monitor='valid_corr' is of targets",
            ),
            (
                {"objective": "cells", "target_weights": [2.0]},
                r"target_weights=\[2.0\] is of targets, which objective='cells'",
            ),
            (
                {"objective": "cells", "target_weights": np.array([2.0, 1.0])},
                "target_weights=.* is of targets, which objective='cells'",
            ),
            (
                {"objective": "cells", "loss": "corr"},
                "loss='corr' is of targets, which objective='cells'",
            ),
        ],
    )
    def test_contradictions(self, options, told, rows):
        net = EraTransformer(**{**SMALL, **options})
        with pytest.raises(ValueError, match=told):
            net.fit(rows.X, rows.y(), eras=rows.eras)

    def test_no_targets(self, rows):
        with pytest.raises(ValueError, match="requires y to be passed"):
            EraTransformer(**SMALL).fit(rows.X, eras=rows.eras)

    def test_several_processes(self, rows, monkeypatch):
        monkeypatch.setattr(_parallel, "n_processes", lambda: 2)
        monkeypatch.setattr(_parallel, "agree", lambda value, device: value)
        with pytest.raises(ValueError, match="trained in one process"):
            EraTransformer(**SMALL).fit(rows.X, rows.y(), eras=rows.eras)

    @pytest.mark.parametrize("objective", ["cells", "targets"])
    def test_rows_without_eras_are_told_of(self, objective, rows):
        net = EraTransformer(2, objective=objective, validation=None, **SMALL)
        with pytest.warns(UserWarning, match="all rows of a call are one era") as told:
            net.fit(rows.X, rows.y())
        assert len(told) == 1
        net.set_params(tokens="features", n_groups=2).fit(rows.X, rows.y())

    @pytest.mark.filterwarnings("ignore:No eras were passed")
    def test_without_eras_a_call_is_one_era(self, rows):
        net = EraTransformer(3, **SMALL).fit(rows.X, rows.y())
        Z = net.transform(rows.X[:50])
        same = net.transform(rows.X[:50], eras=np.ones(50, int))
        np.testing.assert_allclose(same, Z, atol=1e-6)
        assert np.abs(net.transform(rows.X[:25]) - Z[:25]).max() > 1e-5

    def test_a_refit_that_fails_leaves_the_old_one(self, rows):
        net = EraTransformer(3, **SMALL).fit(rows.X, rows.y(), eras=rows.eras)
        Z = net.transform(rows.X, eras=rows.eras)
        net.set_params(objective="cells", width=10)
        with pytest.raises(ValueError, match="must be a multiple"):
            net.fit(rows.X, eras=rows.eras)
        np.testing.assert_array_equal(net.transform(rows.X, eras=rows.eras), Z)
        assert net.predict(rows.X, eras=rows.eras).shape == (rows.n_rows,)
        assert torch.is_grad_enabled()
