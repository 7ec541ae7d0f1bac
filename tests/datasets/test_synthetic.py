import zlib

import numpy as np
import pandas as pd
import pytest

from numerai_features.datasets import EraPanel, make_era_panel

TARGET_VALUES = [0, 0.25, 0.5, 0.75, 1]


def era_correlations(panel, target=None):
    """Feature-target correlations, (n_eras, features that are always there)."""
    y = panel.y(target)
    rows = []
    for era in panel.era_numbers:
        at = panel.eras == era
        x = panel.X[at].astype(np.float64)
        x -= x.mean(axis=0)
        t = y[at] - y[at].mean()
        scale = np.sqrt((x**2).sum(axis=0) * (t**2).sum())
        rows.append(np.where(scale > 0, x.T @ t / np.maximum(scale, 1e-9), np.nan))
    rows = np.array(rows)
    return rows[:, ~np.isnan(rows).any(axis=0)]


@pytest.fixture(scope="module")
def large():
    """Three panels with as many rows an era as the real ones."""
    return [
        make_era_panel(
            n_eras=48,
            rows_per_era=4200,
            n_features=100,
            n_factors=12,
            random_state=seed,
        )
        for seed in range(3)
    ]


class TestRealFigures:
    """The figures of ../shared/data, 120 eras x 310 features of some 4,200 rows."""

    def test_feature_target_correlations(self, large):
        found = [era_correlations(panel) for panel in large]
        assert np.mean([np.abs(c).mean() for c in found]) == pytest.approx(
            0.0159, rel=0.05
        )
        sd = np.mean([c.std(axis=0, ddof=1).mean() for c in found])
        assert sd == pytest.approx(0.0193, rel=0.05)
        mean = np.mean([np.abs(c.mean(axis=0)).mean() for c in found])
        assert mean == pytest.approx(0.0043, rel=0.35)  # overlap adds to its noise

    def test_against_the_file(self, large, real_data):
        real = pd.read_csv(real_data / "era_feature_target_correlations.csv")
        real = real.drop(columns="era").to_numpy()
        found = np.concatenate([era_correlations(panel) for panel in large], axis=1)
        assert np.abs(found).mean() == pytest.approx(np.abs(real).mean(), rel=0.06)
        assert found.std(axis=0).mean() == pytest.approx(
            real.std(axis=0).mean(), rel=0.06
        )

    def test_targets_of_two_horizons_correlate(self, large):
        for panel in large:
            r = np.corrcoef(panel.y("target_alpha_20"), panel.y("target_alpha_60"))[
                0, 1
            ]
            assert r == pytest.approx(0.46, abs=0.02)


class TestRows:
    def test_five_equal_bins_an_era(self, large):
        panel = large[0]
        for era in (1, 48):
            x = panel.select(eras=[era]).X
            there = (x != 2).any(axis=0)
            counts = np.stack([(x[:, there] == b).sum(axis=0) for b in range(5)])
            assert np.abs(counts - 840).max() <= 1

    def test_target_shares(self, large):
        for name in large[0].target_names:
            y = large[0].select(eras=[5]).y(name)
            values, counts = np.unique(y, return_counts=True)
            np.testing.assert_array_equal(values, TARGET_VALUES)
            np.testing.assert_allclose(
                counts / 4200, [0.05, 0.2, 0.5, 0.2, 0.05], atol=3e-4
            )

    def test_missing_features_are_two_for_whole_first_eras(self):
        panel = make_era_panel(20, 50, 50, missing_share=0.2, random_state=0)
        constant = np.array(
            [(panel.X[panel.eras == e] == 2).all(axis=0) for e in range(1, 21)]
        )
        assert constant[0].sum() == 10
        assert not constant[10:].any()
        assert (np.diff(constant.astype(int), axis=0) <= 0).all()

    def test_factors_are_behind_the_features(self):
        panel, truth = make_era_panel(
            10, 1000, 40, 4, missing_share=0, return_truth=True, random_state=0
        )
        factors = truth.factors
        design = np.column_stack([panel.X, np.ones(panel.n_rows)])
        fit, *_ = np.linalg.lstsq(design, factors, rcond=None)
        left = (factors - design @ fit).var(axis=0) / factors.var(axis=0)
        assert left.max() < 0.4
        np.testing.assert_allclose(factors.std(axis=0), 1, atol=0.1)

    def test_groups_are_correlated_and_none_is_not(self):
        def correlations(structure):
            panel = make_era_panel(
                5, 2000, 100, structure=structure, missing_share=0, random_state=0
            )
            return np.abs(np.corrcoef(panel.X.T) - np.eye(100))

        linear, none = correlations("linear"), correlations("none")
        groups = np.arange(100) // 10
        same = (groups[:, None] == groups) & ~np.eye(100, dtype=bool)
        assert linear[same].mean() > 2 * linear[groups[:, None] != groups].mean()
        assert none.mean() < 0.03  # sampling noise

    def test_curved_factors_bend_the_features(self):
        panel, truth = make_era_panel(
            5, 2000, 60, 3, structure="curved", missing_share=0, return_truth=True,
            random_state=0,
        )  # fmt: skip
        factors = truth.factors
        x = panel.X - panel.X.mean(axis=0)

        def explained(design):
            design = np.column_stack([design, np.ones(len(x))])
            fit, *_ = np.linalg.lstsq(design, x, rcond=None)
            return 1 - (x - design @ fit).var(axis=0) / x.var(axis=0)

        linear = explained(factors)
        i, j = np.triu_indices(3)
        bent = explained(np.hstack([factors, factors[:, i] * factors[:, j]]))
        assert ((bent - linear) > 0.1).sum() > 15

    def test_stocks_change_slowly(self):
        _, truth = make_era_panel(2, 400, 20, 3, return_truth=True, random_state=0)
        factors = truth.factors
        # Four in five stocks are in an era: nearest factors of the next era are close.
        a, b = factors[:400], factors[400:]
        nearest = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2)).min(axis=1)
        shuffled = np.random.default_rng(0).permuted(b, axis=0)
        random = np.sqrt(((a[:, None] - shuffled[None]) ** 2).sum(axis=2)).min(axis=1)
        assert np.median(nearest) < 0.95 * np.median(random)

    def test_ragged_eras(self):
        panel, truth = make_era_panel(12, (30, 60), return_truth=True, random_state=0)
        counts = np.unique(panel.eras, return_counts=True)[1]
        assert counts.min() >= 30
        assert counts.max() <= 60
        assert len(set(counts)) > 3
        assert len(truth.factors) == panel.n_rows == counts.sum()


@pytest.mark.parametrize("horizon", [4, 12])
def test_windows_overlap_for_as_many_eras_as_the_horizon(horizon):
    panel = make_era_panel(
        120, 600, 40, 6, horizon=horizon, missing_share=0, random_state=0
    )
    name = panel.target_names[0]
    assert name == f"target_alpha_{5 * horizon}"
    assert panel.info["horizons"][name] == horizon
    c = era_correlations(panel)
    c -= c.mean(axis=0)
    share = [(c[k:] * c[: len(c) - k]).mean() / (c * c).mean() for k in range(1, 25)]
    # A triangle that reaches zero at the horizon.
    assert share[0] > 0.5 * (1 - 1 / horizon)
    assert np.mean(share[: horizon // 2]) > 0.2
    assert abs(np.mean(share[horizon - 1 :])) < 0.1


def test_the_same_seed_gives_the_same_panel_on_disk_and_in_memory(tmp_path):
    options = {"return_truth": True, "random_state": 7}
    memory, truth = make_era_panel(6, 40, **options)
    disk, again = make_era_panel(6, 40, path=tmp_path / "p", **options)
    assert isinstance(disk, EraPanel)
    assert disk.path == tmp_path / "p"
    for name in ("X", "eras", "targets", "ids"):
        np.testing.assert_array_equal(getattr(disk, name), getattr(memory, name))
    np.testing.assert_array_equal(truth.factors, again.factors)
    assert disk.info == memory.info
    other = make_era_panel(6, 40, random_state=8)
    assert (other.X != memory.X).mean() > 0.5
    assert len(np.unique(memory.ids)) == memory.n_rows


@pytest.mark.parametrize(
    ("structure", "features", "targets"),
    [
        ("linear", 3063057996, 1944446839),
        ("curved", 2618440241, 1944446839),
        ("none", 4070146083, 1416194760),
    ],
)
def test_a_seed_gives_the_panel_that_it_always_gave(structure, features, targets):
    panel = make_era_panel(
        6, (20, 40), 30, 4, structure=structure, missing_share=0.2, random_state=3
    )
    assert zlib.crc32(panel.X.tobytes()) == features
    assert zlib.crc32(panel.targets.tobytes()) == targets
    assert zlib.crc32(panel.eras.tobytes()) == 2123184148
    assert zlib.crc32("".join(panel.ids).encode()) == 2299177934


@pytest.mark.parametrize(
    "seed", [np.random.default_rng(0), np.random.RandomState(0), None]
)
def test_random_states(seed):
    a = make_era_panel(2, 30, random_state=seed)
    b = make_era_panel(2, 30, random_state=seed)
    assert not np.array_equal(a.X, b.X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_eras": 0}, "n_eras must be a positive whole number; got 0"),
        ({"rows_per_era": 4}, "at least 5 .* got 4"),
        ({"rows_per_era": (9, 8)}, r"ascending bounds; got \(9, 8\)"),
        ({"structure": "deep"}, "'linear', 'curved' or 'none'; got 'deep'"),
        ({"n_targets": 11}, "n_targets must be a whole number from 1 to 10; got 11"),
        ({"n_features": True}, "n_features must be a positive whole number; got True"),
        ({"horizon": 4.0}, r"horizon must be a positive whole number; got 4\.0"),
        ({"group_size": "a"}, "group_size must be a positive whole number; got 'a'"),
        ({"rows_per_era": (5, 6, 7)}, r"ascending bounds; got \(5, 6, 7\)"),
        ({"rows_per_era": 9.5}, r"ascending bounds; got 9\.5"),
        ({"structure": ["linear"]}, r"'curved' or 'none'; got \['linear'\]"),
        ({"missing_share": np.nan}, r"missing_share must be in \[0, 1\); got nan"),
        ({"missing_share": "0.1"}, r"missing_share must be in \[0, 1\); got '0\.1'"),
        ({"random_state": -1}, "random_state must be at least 0; got -1.*Generator"),
        ({"random_state": "0"}, "random_state must be at least 0; got '0'"),
        ({"missing_share": 1.0}, r"missing_share must be in \[0, 1\); got 1.0"),
    ],
)
def test_bad_parameters_are_told(params, message):
    with pytest.raises(ValueError, match=message):
        make_era_panel(**params)


def test_flags_are_flags():
    for name in ("return_truth", "overwrite"):
        with pytest.raises(TypeError, match=f"{name} must be True or False; got 'no'"):
            make_era_panel(2, 9, **{name: "no"})


def test_numbers_of_numpy_are_numbers(tmp_path):
    plain = make_era_panel(3, 20, n_targets=2, horizon=4, random_state=1)
    numbers = {"n_targets": np.int32(2), "horizon": np.int64(4)}
    numbers |= {"random_state": np.uint8(1), "missing_share": np.float64(0.1)}
    panel = make_era_panel(
        np.int64(3), np.int16(20), **numbers, path=tmp_path / "panel"
    )
    np.testing.assert_array_equal(panel.X, plain.X)
    assert panel.info == plain.info
    assert panel.info["horizons"] == {"target_alpha_20": 4, "target_alpha_60": 12}
