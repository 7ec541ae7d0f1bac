"""The market of a synthetic panel: returns of the rows, and their expectation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features.datasets._expectation import expected_targets
from numerai_features.datasets._world import World, normal

_OWN_NOISE = 0.10  # so that 20- and 60-day targets correlate .46 after binning
_FAMILY_NOISE = 0.15


class Market:
    """Weekly factor returns and noise, summed over each target's window."""

    def __init__(
        self,
        rng: Any,
        world: World,
        targets: dict[str, int],
        n_stocks: int,
        n_eras: int,
        horizon: int,
    ) -> None:
        self.world = world
        self.rng = rng
        self.horizon = horizon
        self.horizons = np.array(list(targets.values()))
        self.families = np.arange(len(targets)) // 2
        n_weeks = n_eras + int(self.horizons.max())
        moving = rng.lognormal(0, 0.3, (n_weeks, 1))
        moving /= np.sqrt((moving**2).mean())
        surprise = rng.normal(size=(n_weeks, len(world.premia))) * moving
        self.weekly = surprise * world.volatility / np.sqrt(horizon)
        self.weekly += world.premia / horizon
        # In each era of the window, a return has the variance 1 / horizon.
        share = (world.volatility**2).sum() + (world.premia**2).sum()
        self.noise_sd = np.sqrt(max(1 - share, 0.1) / horizon)
        self.n_noises = 1 + int(self.families[-1]) + 1 + len(targets)
        self.noise = [
            normal(rng, self.n_noises, n_stocks) for _ in range(self.horizons.max())
        ]
        self.n_stocks = n_stocks

    def returns(self, era: int, signals: Any, stocks: Any) -> NDArray[np.float32]:
        """Return each target before binning, (n_targets, n_rows); call in era order.

        Parameters
        ----------
        era : int
            Counted from 0.
        signals : ndarray of shape (3 n_factors, n_rows)
        stocks : ndarray of shape (n_rows,), int
            The stock of each row: its targets share noise where their windows overlap.
        """
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
        self.noise.append(normal(self.rng, self.n_noises, self.n_stocks))
        return out

    def expected(
        self, signals: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the expected targets of an era's rows, over all draws of the market.

        They depend on premia and volatilities, but not on this market's draw.

        Parameters
        ----------
        signals : ndarray of shape (3 n_factors, n_rows)

        Returns
        -------
        targets, corr_targets : ndarray of shape (n_targets, n_rows)
            As in `SyntheticTruth`.
        """
        found = []
        S = np.asarray(signals, np.float64)
        S = S - S.mean(axis=1, keepdims=True)
        mean = self.world.premia @ S / self.horizon
        shared = self.world.volatility**2 @ S**2 / self.horizon
        for span in self.horizons:
            noise = span * self.noise_sd**2
            found.append(expected_targets(span * mean, span * shared, noise))
        targets, corr_targets = zip(*found, strict=True)
        return np.stack(targets), np.stack(corr_targets)
