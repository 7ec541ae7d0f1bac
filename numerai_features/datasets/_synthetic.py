"""A synthetic Numerai panel with known factors.

Hidden stocks have slowly changing factor exposures. Features are binned noisy views of
these exposures. A target is the binned return of the stock over the next weeks. So the
targets of neighbouring eras share factor returns and noise, as in the tournament.
"""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._bins import FEATURE_SHARES, TARGET_SHARES, bin_rows
from numerai_features.datasets._arguments import (
    check_flag,
    check_path,
    check_whole,
)
from numerai_features.datasets._market import Market
from numerai_features.datasets._panel_writer import PanelWriter
from numerai_features.datasets._truth import SyntheticTruth, check_truth_file
from numerai_features.datasets._world import World

_DAYS_PER_ERA = 5
_LONG_HORIZON = 12  # eras: Numerai's 60 trading days
_FAMILIES = ("alpha", "bravo", "charlie", "delta", "echo")
_STRUCTURES = ("linear", "curved", "none")
_SEEDS = " A Generator, a RandomState or None is allowed, too."


def make_era_panel(
    n_eras: int = 40,
    rows_per_era: int | tuple[int, int] = 300,
    n_features: int = 60,
    n_factors: int = 8,
    *,
    structure: str = "linear",
    n_targets: int = 4,
    horizon: int = 4,
    group_size: int = 10,
    missing_share: float = 0.1,
    path: str | Path | None = None,
    overwrite: bool = False,
    return_truth: bool = False,
    random_state: Any = None,
) -> Any:
    r"""Make a synthetic Numerai panel with known factors.

    Stocks have factor exposures :math:`z` and, for each feature, an idiosyncratic part
    :math:`u`. Both are first-order autoregressive from week to week (coefficients .9
    to .99 and .8 to .99). A feature is
    :math:`\sqrt{h_j}\, f_j(w_j^\top z) + \sqrt{1 - h_j}\, u_j`, ranked into five
    equal bins within its era. Features of a group have similar directions of
    :math:`w_j`. The return of a stock over the weeks of a target's window is

    .. math:: y = \Phi(z, u)\, \Lambda + e.

    The columns of :math:`\Phi` are the signals, in three equal groups: the factors;
    non-linear functions of the factors (products and squares); and sparse combinations
    of the features' idiosyncratic parts. :math:`\Lambda` is the sum of the weekly
    factor returns over the window; they are volatile, and their means are the premia.
    :math:`e` is the sum of weekly noise over the window. Targets are ranked into bins
    of 5, 20, 50, 20 and 5 %.

    The feature-target correlations of real data fix the strength of the factor returns.
    The mean square of the population correlation over features and eras is
    :math:`.0122^2 + .0049^2` (variance and squared mean over eras). Samples of 4,200
    rows per era then have a mean absolute correlation of .016 and a standard deviation
    over eras of .019. This holds for ``structure="linear"``. The other structures have
    factor returns of the same strength, but their features correlate less with them.

    Parameters
    ----------
    n_eras : int, default=40
        Number of eras, numbered from 1.
    rows_per_era : int or (int, int), default=300
        Number of rows of each era, or the bounds within which it is drawn for each era.
        There are 1.25 times as many stocks as rows in the largest possible era; each
        era contains a random subset of them.
    n_features, n_factors : int, default=60, 8
        Number of columns of X, and of the factors that generate them.
    structure : {"linear", "curved", "none"}, default="linear"
        "linear": :math:`f_j` is the identity. "curved": each :math:`f_j` is one of the
        identity, the square, the absolute value and a sine. "none": features are
        independent of each other (:math:`h_j = 0`), and the factors are dense
        combinations of them that no unsupervised method can find.
    n_targets : int, default=4
        Number of targets, in families (``alpha``, ``bravo`` ...) of two horizons each.
    horizon : int, default=4
        Number of eras that the first target of a family spans. The second spans 12, or
        4 if `horizon` is 12. Target names end in the horizon in trading days (five per
        era).
    group_size : int, default=10
        Number of features in a correlated group.
    missing_share : float, default=0.1
        Share of features that are missing in the first eras, up to an era drawn from
        the first half. A missing feature has bin 2 in all rows of an era.
    path : path-like, default=None
        Folder to write the panel to, era by era; None keeps it in memory.
    overwrite : bool, default=False
        Whether a panel at `path` may be replaced. A folder with any files other than a
        panel's is never replaced.
    return_truth : bool, default=False
        Whether to return the truth, too.
    random_state : int, Generator, RandomState or None, default=None
        Seed.

    Returns
    -------
    panel : EraPanel
        Rows by era. ``panel.info`` contains the horizon of each target in eras.
    truth : SyntheticTruth
        Only with ``return_truth=True``: the true factors of each row, and the
        expectations of its targets. With `path`, it is also written beside the panel's
        folder, see `SyntheticTruth.open`.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> panel, truth = make_era_panel(n_eras=3, rows_per_era=50, return_truth=True,
    ...                               random_state=0)
    >>> panel.X.shape, truth.factors.shape
    ((150, 60), (150, 8))
    >>> panel.target_names
    ['target_alpha_20', 'target_alpha_60', 'target_bravo_20', 'target_bravo_60']
    """
    low, high = _check_sizes(
        n_eras, rows_per_era, n_features, n_factors, structure, n_targets, horizon,
        group_size, missing_share,
    )  # fmt: skip
    check_flag(return_truth, "return_truth")
    if path is not None:
        path = check_path(path, "path").absolute()
    if path is not None and return_truth:
        check_truth_file(path)
    world_rng, row_rng, id_rng, market_rng = map(
        np.random.default_rng, _seeds(random_state)
    )
    world = World.draw(world_rng, n_features, n_factors, group_size, structure)
    targets = target_horizons(n_targets, horizon)
    first_era = _first_eras(world_rng, n_eras, n_features, missing_share)
    counts = row_rng.integers(low, high + 1, size=n_eras)
    n_stocks = int(np.ceil(1.25 * high))
    market = Market(market_rng, world, targets, n_stocks, n_eras, horizon)
    learned = (
        _Learned(int(counts.sum()), n_factors, n_targets) if return_truth else None
    )
    writer = PanelWriter(
        path,
        n_rows=int(counts.sum()),
        feature_names=feature_names(n_features),
        target_names=list(targets),
        overwrite=overwrite,
        info={"synthetic": structure, "horizons": targets},
    )
    with writer:
        stop = 0
        for era, state in enumerate(world.states(row_rng, n_stocks, n_eras)):
            start, stop = stop, stop + int(counts[era])
            stocks = np.sort(row_rng.choice(n_stocks, stop - start, replace=False))
            stocks = row_rng.permutation(stocks)
            bins = bin_rows(world.views(*state, stocks), FEATURE_SHARES)
            bins[first_era > era] = 2
            signals = world.signals(*state, stocks)
            y = bin_rows(market.returns(era, signals, stocks), TARGET_SHARES)
            ids = [f"n{i:015x}" for i in id_rng.integers(0, 1 << 60, stop - start)]
            rows = slice(start, stop)
            writer.write(rows, bins.T, era + 1, y.T / np.float32(4), ids)
            if learned is not None:
                learned.write(rows, era + 1, ids, signals, market.expected(signals))
    if learned is None:
        return writer.panel
    truth = SyntheticTruth(**learned.arrays, target_names=tuple(targets))
    if path is not None:
        truth._save(writer.panel)
    return writer.panel, truth


class _Learned:
    """The arrays of a `SyntheticTruth`, written era by era."""

    def __init__(self, n_rows: int, n_factors: int, n_targets: int) -> None:
        self.arrays: dict[str, NDArray[Any]] = {
            "eras": np.empty(n_rows, np.int32),
            "ids": np.empty(n_rows, object),
            "signals": np.empty((n_rows, 3 * n_factors), np.float32),
            "expected_targets": np.empty((n_rows, n_targets), np.float32),
            "expected_corr_targets": np.empty((n_rows, n_targets), np.float32),
        }

    def write(
        self, rows: slice, era: int, ids: list[str], signals: Any, expected: Any
    ) -> None:
        """Write the rows of an era."""
        targets, corr_targets = expected
        self.arrays["eras"][rows] = era
        self.arrays["ids"][rows] = ids
        self.arrays["signals"][rows] = signals.T
        self.arrays["expected_targets"][rows] = targets.T
        self.arrays["expected_corr_targets"][rows] = corr_targets.T


def _check_sizes(
    n_eras: int,
    rows_per_era: int | tuple[int, int],
    n_features: int,
    n_factors: int,
    structure: str,
    n_targets: int,
    horizon: int,
    group_size: int,
    missing_share: float,
) -> tuple[int, int]:
    sizes = {
        "n_eras": n_eras,
        "n_features": n_features,
        "n_factors": n_factors,
        "horizon": horizon,
        "group_size": group_size,
    }
    for name, n in sizes.items():
        check_whole(n, name)
    if not isinstance(structure, str) or structure not in _STRUCTURES:
        raise ValueError(
            f"structure must be 'linear', 'curved' or 'none'; got {structure!r}."
        )
    check_whole(n_targets, "n_targets", most=2 * len(_FAMILIES))
    share: Any = missing_share
    numbered = isinstance(share, Real) and not isinstance(share, bool)
    if not numbered or not 0 <= missing_share < 1:
        raise ValueError(f"missing_share must be in [0, 1); got {missing_share!r}.")
    return _row_bounds(rows_per_era)


def _row_bounds(rows_per_era: Any) -> tuple[int, int]:
    """Return the minimum and the maximum number of rows of an era."""
    pair = isinstance(rows_per_era, tuple | list)
    bounds = list(rows_per_era) if pair else [rows_per_era] * 2
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in bounds)
    if len(bounds) != 2 or not whole or not 5 <= bounds[0] <= bounds[1]:
        raise ValueError(
            "rows_per_era must be a whole number of at least 5 (there are five bins), "
            f"or a pair of ascending bounds; got {rows_per_era!r}."
        )
    return int(bounds[0]), int(bounds[1])


def _seeds(random_state: Any) -> list[np.random.SeedSequence]:
    """Return the seeds of the world, the rows, the ids and the market."""
    return _seed_sequence(random_state).spawn(4)


def _seed_sequence(random_state: Any) -> np.random.SeedSequence:
    if isinstance(random_state, np.random.Generator):
        return np.random.SeedSequence(int(random_state.integers(1 << 62)))
    if isinstance(random_state, np.random.RandomState):
        return np.random.SeedSequence(random_state.randint(1 << 31))
    if random_state is not None:
        check_whole(random_state, "random_state", least=0, advice=_SEEDS)
    return np.random.SeedSequence(random_state)


def feature_names(n_features: int) -> list[str]:
    """Return each feature's name."""
    return [f"feature_{j:04d}" for j in range(n_features)]


def target_horizons(n_targets: int, horizon: int) -> dict[str, int]:
    """Return the names of the targets, mapped to the number of eras each spans."""
    spans = (horizon, _LONG_HORIZON if horizon != _LONG_HORIZON else 4)
    pairs = [(family, span) for family in _FAMILIES for span in spans]
    return {
        f"target_{family}_{_DAYS_PER_ERA * span}": span
        for family, span in pairs[:n_targets]
    }


def _first_eras(
    rng: Any, n_eras: int, n_features: int, missing_share: float
) -> NDArray[np.int64]:
    """Return the first era (counted from 0) in which each feature is not missing."""
    first = rng.integers(1, max(2, n_eras // 2 + 1), n_features)
    missing = rng.permutation(n_features) < round(missing_share * n_features)
    return np.where(missing, first, 0)
