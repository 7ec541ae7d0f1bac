"""A synthetic Numerai whose factors are known.

Hidden stocks carry slowly changing factor exposures. Features are binned noisy views
of them; a target is the binned return of the stock over the weeks that follow, so
that neighbouring eras share factor returns and noise exactly as overlapping target
windows do in the tournament.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._bins import FEATURE_SHARES, TARGET_SHARES, bin_rows
from numerai_features.datasets._arguments import check_flag, check_whole
from numerai_features.datasets._panel_writer import PanelWriter

# Feature-target correlations of 120 real eras x 310 features, less the sampling noise
# of 4,200 rows an era (1 / 4200 for a squared correlation): the root mean square over
# features of their standard deviation over eras, and of their mean over eras.
_CORRELATION_SD = 0.0122
_CORRELATION_MEAN = 0.0049

_TARGET_ATTENUATION = 0.9412  # correlation of a normal with its five bins
_DAYS_PER_ERA = 5
_LONG_HORIZON = 12  # eras: Numerai's 60 trading days
_FAMILIES = ("alpha", "bravo", "charlie", "delta", "echo")
_OWN_NOISE = 0.10  # so that 20- and 60-day targets correlate .46 after binning
_FAMILY_NOISE = 0.15
_CALIBRATION_STOCKS = 20_000
_STRUCTURES = ("linear", "curved", "none")
_SEEDS = " A Generator, a RandomState or None will do, too."


@dataclass(frozen=True)
class SyntheticTruth:
    """What is behind a synthetic panel, known for every row.

    Attributes
    ----------
    factors : ndarray of shape (n_rows, n_factors), float32
        The true factors of each row.
    """

    factors: NDArray[np.float32]


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
    r"""Make a synthetic Numerai panel whose factors are known.

    Stocks have factor exposures :math:`z` and, for each feature, a part of its own
    :math:`u`; both are first-order autoregressive from week to week (coefficients .9
    to .99 and .8 to .99). A feature is
    :math:`\sqrt{h_j}\, f_j(w_j^\top z) + \sqrt{1 - h_j}\, u_j`, ranked into five
    equal bins within its era; features of a group share the direction of
    :math:`w_j`. The return of a stock over the weeks of a target's window is

    .. math:: y = \Phi(z, u)\, \Lambda + e,

    where the columns of :math:`\Phi` are the factors themselves, as many non-linear
    functions of them (products and squares), and as many sparse combinations of the
    features' own parts; :math:`\Lambda` and :math:`e` are sums of weekly factor
    returns (with premia, volatile) and weekly noise over the window. Targets are
    ranked into bins of 5, 20, 50, 20 and 5 %.

    The strength of the factor returns is fixed by the feature-target correlations of
    real data: over features, the population correlation has a mean square over eras
    of :math:`.0122^2 + .0049^2` (variance, squared mean), which in samples of 4,200
    rows an era gives a mean absolute correlation of .016 and a standard deviation
    over eras of .019. That holds for ``structure="linear"``; the factor returns of the
    others are as strong, but their features show less of them.

    Parameters
    ----------
    n_eras : int, default=40
        Eras, numbered from 1.
    rows_per_era : int or (int, int), default=300
        Rows of each era, or the bounds between which each era's number is drawn. One
        and a quarter as many stocks exist; each era shows a random part of them.
    n_features, n_factors : int, default=60, 8
        Columns of X, and factors behind them.
    structure : {"linear", "curved", "none"}, default="linear"
        "linear": :math:`f_j` is the identity. "curved": each feature bends its
        combination by one of the identity, a square, an absolute value and a sine.
        "none": features are independent of each other (:math:`h_j = 0`), and the
        factors are dense combinations of them that no unsupervised method can find.
    n_targets : int, default=4
        Targets, in families (``alpha``, ``bravo`` ...) of two horizons each.
    horizon : int, default=4
        Eras that the first target of a family spans; the second spans 12, or 4 if
        `horizon` is 12. Names end in the horizon in trading days (five an era).
    group_size : int, default=10
        Features of a correlated group.
    missing_share : float, default=0.1
        Share of features that are missing (bin 2 for whole eras) in the first eras,
        up to an era drawn from the first half.
    path : path-like, default=None
        Where to write the panel era by era; in memory if None.
    overwrite : bool, default=False
        Whether a panel at `path` may be replaced; a folder that holds anything but
        the files of a panel never is.
    return_truth : bool, default=False
        Whether to return what is behind the panel, too.
    random_state : int, Generator, RandomState or None, default=None
        Seed.

    Returns
    -------
    panel : EraPanel
        Rows by era. ``panel.info`` tells the horizon of each target in eras.
    truth : SyntheticTruth
        What is behind the panel, only with ``return_truth=True``: ``truth.factors`` are
        the true factors of each row.

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
    seeds = _seed_sequence(random_state).spawn(4)
    world_rng, row_rng, id_rng, market_rng = (np.random.default_rng(s) for s in seeds)
    world = _World.draw(world_rng, n_features, n_factors, group_size, structure)
    targets = target_horizons(n_targets, horizon)
    first_era = _first_eras(world_rng, n_eras, n_features, missing_share)
    counts = row_rng.integers(low, high + 1, size=n_eras)
    n_stocks = int(np.ceil(1.25 * high))
    market = _Market(market_rng, world, targets, n_stocks, n_eras, horizon)
    factors = np.empty((int(counts.sum()), n_factors), np.float32)
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
            y = bin_rows(market.returns(era, *state, stocks), TARGET_SHARES)
            factors[start:stop] = world.factors(*state, stocks).T
            ids = [f"n{i:015x}" for i in id_rng.integers(0, 1 << 60, stop - start)]
            writer.write(slice(start, stop), bins.T, era + 1, y.T / np.float32(4), ids)
    return (writer.panel, SyntheticTruth(factors)) if return_truth else writer.panel


@dataclass(frozen=True)
class _World:
    """What does not change: loadings, persistence, and where the signal lies."""

    loadings: NDArray[np.float32]  # (n_features, n_factors), rows of norm h_j^1/2
    own_scale: NDArray[np.float32]  # (n_features, 1), (1 - h_j)^1/2
    curves: NDArray[np.int8] | None  # (n_features,), which bend; None: no bends
    hidden: NDArray[np.float32] | None  # "none": factors from the own parts
    specific: NDArray[np.float32]  # (n_factors, n_features), sparse, unit rows
    factor_memory: NDArray[np.float32]  # (n_factors, 1)
    own_memory: NDArray[np.float32]  # (n_features, 1)
    premia: NDArray[np.float64]  # (3 n_factors,), mean return over a main window
    volatility: NDArray[np.float64]  # (3 n_factors,), its standard deviation

    @classmethod
    def draw(
        cls, rng: Any, n_features: int, n_factors: int, group_size: int, structure: str
    ) -> _World:
        """Draw loadings, and factor returns of the strength of real data."""
        group = np.arange(n_features) // group_size
        directions = _sparse_directions(rng, group[-1] + 1, n_factors)
        loadings = directions[group] + 0.5 * _unit(
            rng.normal(size=(n_features, n_factors))
        )
        communality = rng.uniform(0.2, 0.8, (n_features, 1))
        sign = rng.choice([-1, 1], (n_features, 1))
        loadings = (sign * np.sqrt(communality) * _unit(loadings)).astype(np.float32)
        parts: dict[str, Any] = {
            "loadings": loadings,
            "own_scale": np.sqrt(1 - communality).astype(np.float32),
            "curves": None,
            "hidden": None,
            "specific": _sparse_directions(rng, n_factors, n_features, share=0.1),
            "factor_memory": rng.uniform(0.9, 0.99, (n_factors, 1)).astype(np.float32),
            "own_memory": rng.uniform(0.8, 0.99, (n_features, 1)).astype(np.float32),
        }
        zero = np.zeros(3 * n_factors)
        linear = cls(**parts, premia=zero, volatility=zero)
        premia, volatility = _calibrate(rng, linear)
        if structure == "curved":
            parts["curves"] = rng.integers(0, len(_CURVES), n_features).astype(np.int8)
        if structure == "none":
            parts["hidden"] = _unit(rng.normal(size=(n_factors, n_features)))
            parts["loadings"] = np.zeros_like(loadings)
            parts["own_scale"] = np.ones_like(parts["own_scale"])
        return cls(**parts, premia=premia, volatility=volatility)

    def states(
        self, rng: Any, n_stocks: int, n_eras: int
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Yield each week's factors (k, n_stocks) and own parts (F, n_stocks)."""
        Z = _normal(rng, len(self.factor_memory), n_stocks)
        U = _normal(rng, len(self.own_memory), n_stocks)
        for _ in range(n_eras):
            yield Z, U
            Z = _step(rng, Z, self.factor_memory)
            U = _step(rng, U, self.own_memory)

    def factors(self, Z: Any, U: Any, stocks: Any) -> NDArray[np.float32]:
        """Return the true factors of some stocks, (n_factors, n_rows)."""
        hidden = self.hidden
        return np.asarray(Z[:, stocks] if hidden is None else hidden @ U[:, stocks])

    def views(self, Z: Any, U: Any, stocks: Any) -> NDArray[np.float32]:
        """Return the features before binning, (n_features, n_rows)."""
        own = self.own_scale * U[:, stocks]
        if self.hidden is not None:
            return np.asarray(own)
        common = self.loadings @ Z[:, stocks]
        if self.curves is not None:
            scale = np.sqrt(1 - self.own_scale**2)
            unit = common / scale
            for i, curve in enumerate(_CURVES):
                mine = self.curves == i
                common[mine] = scale[mine] * curve(unit[mine])
        return np.asarray(common + own)

    def signals(self, Z: Any, U: Any, stocks: Any) -> NDArray[np.float32]:
        """Return what earns returns, (3 n_factors, n_rows), each of unit variance."""
        z = self.factors(Z, U, stocks)
        after = np.roll(z, -1, axis=0)
        odd = (np.arange(len(z)) % 2 == 1)[:, None]
        bent = np.where(odd, z * after, (z * z - 1) / np.float32(np.sqrt(2)))
        if len(z) == 1:
            bent = (z * z - 1) / np.float32(np.sqrt(2))
        return np.concatenate([z, bent, self.specific @ U[:, stocks]])


_CURVES: tuple[Callable[[Any], Any], ...] = (
    lambda v: v,
    lambda v: (v * v - 1) / np.float32(np.sqrt(2)),
    lambda v: (np.abs(v) - np.float32(0.79788)) / np.float32(0.60281),
    lambda v: np.sin(2 * v) / np.float32(0.70699),
)


def _calibrate(
    rng: Any, world: _World
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale drawn premia and volatilities to the real feature-target correlations."""
    n_factors = len(world.factor_memory)
    premia = rng.normal(size=3 * n_factors)
    volatility = rng.lognormal(0, 0.4, 3 * n_factors)
    sample = np.arange(_CALIBRATION_STOCKS)
    state = next(world.states(rng, len(sample), 1))
    bins = bin_rows(world.views(*state, sample), FEATURE_SHARES)
    signals = world.signals(*state, sample)[: 2 * n_factors]
    scores = (bins - np.float32(2)) / np.float32(np.sqrt(2))
    loading = np.zeros((len(bins), 3 * n_factors))
    loading[:, : 2 * n_factors] = scores @ signals.T / len(sample)
    loading[np.abs(loading) < 0.03] = 0  # four standard errors of the sample
    # Own parts: binning keeps .94 of a feature's correlation with itself.
    loading[:, 2 * n_factors :] = 0.94 * world.own_scale * world.specific.T
    loading *= _TARGET_ATTENUATION
    volatility *= _CORRELATION_SD / _rms(np.sqrt(loading**2 @ volatility**2))
    premia *= _CORRELATION_MEAN / _rms(loading @ premia)
    return premia, volatility


class _Market:
    """Weekly factor returns and noise, summed over each target's window."""

    def __init__(
        self,
        rng: Any,
        world: _World,
        targets: dict[str, int],
        n_stocks: int,
        n_eras: int,
        horizon: int,
    ) -> None:
        self.world = world
        self.rng = rng
        self.horizons = np.array(list(targets.values()))
        self.families = np.arange(len(targets)) // 2
        n_weeks = n_eras + int(self.horizons.max())
        moving = rng.lognormal(0, 0.3, (n_weeks, 1))
        moving /= np.sqrt((moving**2).mean())
        surprise = rng.normal(size=(n_weeks, len(world.premia))) * moving
        self.weekly = surprise * world.volatility / np.sqrt(horizon)
        self.weekly += world.premia / horizon
        # Per era of the window, a return has the variance 1 / horizon.
        share = (world.volatility**2).sum() + (world.premia**2).sum()
        self.noise_sd = np.sqrt(max(1 - share, 0.1) / horizon)
        self.n_noises = 1 + int(self.families[-1]) + 1 + len(targets)
        self.noise = [
            _normal(rng, self.n_noises, n_stocks) for _ in range(self.horizons.max())
        ]
        self.n_stocks = n_stocks

    def returns(self, era: int, Z: Any, U: Any, stocks: Any) -> NDArray[np.float32]:
        """Return each target before binning, (n_targets, n_rows); call in era order."""
        signals = self.world.signals(Z, U, stocks)
        common = np.sqrt(1 - _FAMILY_NOISE - _OWN_NOISE)
        out = np.empty((len(self.horizons), len(stocks)), np.float32)
        for i, span in enumerate(self.horizons):
            window = self.weekly[era : era + span].sum(axis=0).astype(np.float32)
            noise = np.sum([week[:, stocks] for week in self.noise[:span]], axis=0)
            family = noise[1 + self.families[i]]
            own = noise[len(noise) - len(self.horizons) + i]
            mixed = common * noise[0] + np.sqrt(_FAMILY_NOISE) * family
            mixed += np.sqrt(_OWN_NOISE) * own
            out[i] = window @ signals + np.float32(self.noise_sd) * mixed
        self.noise.pop(0)
        self.noise.append(_normal(self.rng, self.n_noises, self.n_stocks))
        return out


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
    """Return the fewest and the most rows of an era."""
    pair = isinstance(rows_per_era, tuple | list)
    bounds = list(rows_per_era) if pair else [rows_per_era] * 2
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in bounds)
    if len(bounds) != 2 or not whole or not 5 <= bounds[0] <= bounds[1]:
        raise ValueError(
            "rows_per_era must be a whole number of at least 5 (there are five bins), "
            f"or a pair of ascending bounds; got {rows_per_era!r}."
        )
    return int(bounds[0]), int(bounds[1])


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
    """Return each target's name and the eras that it spans."""
    spans = (horizon, _LONG_HORIZON if horizon != _LONG_HORIZON else 4)
    pairs = [(family, span) for family in _FAMILIES for span in spans]
    return {
        f"target_{family}_{_DAYS_PER_ERA * span}": span
        for family, span in pairs[:n_targets]
    }


def _first_eras(
    rng: Any, n_eras: int, n_features: int, missing_share: float
) -> NDArray[np.int64]:
    """Return the first era (counted from 0) in which each feature is there."""
    first = rng.integers(1, max(2, n_eras // 2 + 1), n_features)
    missing = rng.permutation(n_features) < round(missing_share * n_features)
    return np.where(missing, first, 0)


def _sparse_directions(
    rng: Any, n: int, size: int, share: float | None = None
) -> NDArray[np.float32]:
    """Return unit vectors with few entries: about three, or a share of them."""
    n_kept = min(size, 3) if share is None else max(1, round(share * size))
    directions = np.zeros((n, size))
    for row in directions:
        kept = rng.choice(size, n_kept, replace=False)
        row[kept] = rng.normal(size=n_kept)
    return _unit(directions)


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(unit, np.float32)


def _rms(x: NDArray[np.float64]) -> float:
    return float(np.sqrt((x**2).mean()))


def _normal(rng: Any, *shape: int) -> NDArray[np.float32]:
    draws: NDArray[np.float32] = rng.standard_normal(shape, dtype=np.float32)
    return draws


def _step(
    rng: Any, state: NDArray[np.float32], memory: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Take one step of a first-order autoregression of unit variance."""
    shock = _normal(rng, *state.shape)
    shock *= np.sqrt(1 - memory**2)
    shock += memory * state
    return shock
