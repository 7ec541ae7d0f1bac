"""The hidden world of a synthetic panel: factors, idiosyncratic parts and signals.

Its premia and volatilities are scaled to the feature-target correlations of real data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._bins import FEATURE_SHARES, bin_rows

# Feature-target correlations of 120 eras and 310 features of real data: root mean
# squares over features of the standard deviation over eras and of the mean over eras.
# The sampling noise of 4,200 rows per era is removed (1 / 4200 of a squared
# correlation).
_CORRELATION_SD = 0.0122
_CORRELATION_MEAN = 0.0049

_TARGET_ATTENUATION = 0.9412  # correlation of a normal with its five bins
_CALIBRATION_STOCKS = 20_000


@dataclass(frozen=True)
class World:
    """Constants of a panel: loadings, persistence, and strength of the signals."""

    loadings: NDArray[np.float32]  # (n_features, n_factors), rows of norm h_j^1/2
    own_scale: NDArray[np.float32]  # (n_features, 1), (1 - h_j)^1/2
    curves: NDArray[np.int8] | None  # (n_features,), index in _CURVES; None: identity
    hidden: NDArray[np.float32] | None  # "none": weights of u in the factors
    specific: NDArray[np.float32]  # (n_factors, n_features), sparse, unit rows
    factor_memory: NDArray[np.float32]  # (n_factors, 1), autoregression of z
    own_memory: NDArray[np.float32]  # (n_features, 1), autoregression of u
    premia: NDArray[np.float64]  # (3 n_factors,), mean return over `horizon` eras
    volatility: NDArray[np.float64]  # (3 n_factors,), its standard deviation

    @classmethod
    def draw(
        cls, rng: Any, n_features: int, n_factors: int, group_size: int, structure: str
    ) -> World:
        """Draw loadings, and premia and volatilities as strong as in real data."""
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
        """Yield z (n_factors, n_stocks) and u (n_features, n_stocks) of each week."""
        Z = normal(rng, len(self.factor_memory), n_stocks)
        U = normal(rng, len(self.own_memory), n_stocks)
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
        """Return the signals, (3 n_factors, n_rows), each with unit variance."""
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
    rng: Any, world: World
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
    # Idiosyncratic parts: a feature correlates .94 with its own bins.
    loading[:, 2 * n_factors :] = 0.94 * world.own_scale * world.specific.T
    loading *= _TARGET_ATTENUATION
    volatility *= _CORRELATION_SD / _rms(np.sqrt(loading**2 @ volatility**2))
    premia *= _CORRELATION_MEAN / _rms(loading @ premia)
    return premia, volatility


def _sparse_directions(
    rng: Any, n: int, size: int, share: float | None = None
) -> NDArray[np.float32]:
    """Return unit vectors with few nonzero entries: at most three, or a share."""
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


def normal(rng: Any, *shape: int) -> NDArray[np.float32]:
    draws: NDArray[np.float32] = rng.standard_normal(shape, dtype=np.float32)
    return draws


def _step(
    rng: Any, state: NDArray[np.float32], memory: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Take one step of a first-order autoregression with unit variance."""
    shock = normal(rng, *state.shape)
    shock *= np.sqrt(1 - memory**2)
    shock += memory * state
    return shock
