"""Per-era scores, their summary and scorers, with Numerai's formulas."""

from numerai_features.metrics._deflated import deflated_sharpe_ratio
from numerai_features.metrics._era_scores import era_scores
from numerai_features.metrics._expected import expected_scores
from numerai_features.metrics._interval import (
    MeanInterval,
    eras_needed,
    mean_interval,
    paired_differences,
)
from numerai_features.metrics._scorer import EraScorer, make_era_scorer
from numerai_features.metrics._summary import (
    max_drawdown,
    summarize,
    summarize_scores,
)

__all__ = [
    "EraScorer",
    "MeanInterval",
    "deflated_sharpe_ratio",
    "era_scores",
    "eras_needed",
    "expected_scores",
    "make_era_scorer",
    "max_drawdown",
    "mean_interval",
    "paired_differences",
    "summarize",
    "summarize_scores",
]
