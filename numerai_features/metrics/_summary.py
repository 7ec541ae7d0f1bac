"""Summary statistics of era scores."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from numerai_features._arguments import COUNT, checked
from numerai_features._validation import as_floats, kind_of
from numerai_features.metrics._era_order import are_named, numbers_in_order
from numerai_features.metrics._era_scores import (
    TooManyFeatures,
    era_scores,
    scores_by_era,
)

if TYPE_CHECKING:
    import pandas as pd

_GAINS = ("fnc", "bmc", "mmc")  # higher is better, as for CORR


def max_drawdown(scores: Any) -> Any:
    r"""Return the largest fall of the cumulative score from its running maximum.

    With :math:`c_t` the sum of the first :math:`t` scores, this is
    :math:`\max_t (\max_{1 \le u \le t} c_u - c_t)`, and 0 if no score after the first
    is negative.

    Parameters
    ----------
    scores : Series, DataFrame or array-like of shape (n_eras,)
        Era scores in era order. NaN (no score) counts as 0.

    Returns
    -------
    float or Series
        In units of the score, not negative; one value for each column of a DataFrame.

    Raises
    ------
    ValueError
        If the index of eras is not in era order, or holds names, which have no order.

    Examples
    --------
    >>> from numerai_features.metrics import max_drawdown
    >>> max_drawdown([0.5, -0.25, -0.5, 1.0])
    0.75
    """
    import pandas as pd

    if isinstance(scores, pd.DataFrame):
        return scores.apply(max_drawdown)
    values = as_floats(scores, "scores")
    if values.ndim != 1:
        raise ValueError(
            f"scores must be one number an era, shape (n_eras,); got {values.shape}."
        )
    numbers_in_order(scores)
    values = np.nan_to_num(values)
    total = np.cumsum(values)
    return float(np.max(np.maximum.accumulate(total) - total, initial=0.0))


def sharpe(scores: pd.Series[float]) -> float:
    """Return `numerai_tools.sharpe_ratio`, NaN if the scores do not vary."""
    from numerai_tools.scoring import sharpe_ratio

    known = scores.dropna()
    if len(known) == 0 or known.max() == known.min():
        return float("nan")
    return float(sharpe_ratio(known))


@checked(last=[COUNT])
def summarize_scores(scores: Any, *, last: int = 200) -> pd.DataFrame:
    """Summarise era scores that are already computed.

    Parameters
    ----------
    scores : Series or DataFrame
        The result of `era_scores`: one row for each era, in era order.
    last : int, default=200
        If there are more eras than this, each column is computed again over this many
        last eras, with the suffix ``_last200``. Numerai judges models by 200 eras. Eras
        that are names have no order, so they have no last eras.

    Returns
    -------
    DataFrame
        One row for each prediction, with the columns

        - ``mean`` and ``sd`` (over eras, ddof 0) of the score;
        - ``sharpe``, mean / sd, not annualised;
        - ``max_drawdown``, see `max_drawdown`; NaN if eras are names without numbers,
          because names have no order;
        - ``positive_share``, the share of eras with a score above 0;
        - ``n_eras``, the number of eras with a score, and ``n_constant``, the number of
          eras without a score because the prediction was constant. The other columns
          use only the eras with a score.

    Raises
    ------
    ValueError
        If `last` is not positive, or the eras are not in order.

    Examples
    --------
    >>> import pandas as pd
    >>> from numerai_features.metrics import summarize_scores
    >>> scores = pd.Series([0.03, -0.01, 0.04], index=[1, 2, 3])
    >>> summarize_scores(scores).round(3).iloc[0].to_dict()
    {'mean': 0.02, 'sd': 0.022, 'sharpe': 0.926, 'max_drawdown': 0.01,
     'positive_share': 0.667, 'n_eras': 3.0, 'n_constant': 0.0}
    """
    import pandas as pd

    if not isinstance(scores, pd.Series | pd.DataFrame):
        raise ValueError(
            "scores must be a Series or a DataFrame with one row for each era, as "
            f"era_scores returns; got {kind_of(scores)}."
        )
    table = _as_frame(scores)
    summary = _summary(table)
    if len(table) > last and not are_named(table):
        recent = _summary(table.iloc[-last:]).add_suffix(f"_last{last}")
        summary = pd.concat([summary, recent], axis=1)
    return summary


@checked(last=[COUNT])
def summarize(
    y: Any,
    prediction: Any,
    eras: Any,
    *,
    features: Any = None,
    benchmark: Any = None,
    meta_model: Any = None,
    last: int = 200,
) -> pd.DataFrame:
    """Summarise predictions: their CORR over eras, and other metrics.

    A mean CORR of .005 to .04 is plausible; a higher one suggests leakage. A prediction
    with a high CORR, a BMC near 0 and a ``benchmark_corr`` near 1 is a copy of the
    benchmark.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        The target; rows where it is NaN are left out.
    prediction : array-like of shape (n_rows,) or (n_rows, n_predictions)
        The columns of a frame or 2-D array are summarised separately.
    eras : array-like of shape (n_rows,)
        The era of each row.
    features : array-like of shape (n_rows, n_features), default=None
        Adds ``fnc`` and ``max_exposure``. FNC uses only eras with at least two more
        rows than features, since in other eras neutralising leaves nothing of a
        prediction; ``fnc_n_eras`` is the number of these eras. If there is none, only
        ``max_exposure`` is added. With thousands of features, FNC takes seconds for
        each era: pass Numerai's medium set.
    benchmark : array-like of shape (n_rows,) or frame, default=None
        Adds ``bmc`` and ``benchmark_corr``. As in `era_scores`, a whole file is matched
        by id.
    meta_model : array-like of shape (n_rows,) or frame, default=None
        Adds ``mmc``; matched like `benchmark`.
    last : int, default=200
        If there are more scored eras than this, each column is computed again over this
        many last eras, with the suffix ``_last200``. Eras that are names have no order,
        so they have neither last eras nor a drawdown.

    Returns
    -------
    DataFrame
        One row for each prediction (named ``prediction`` for a vector). It has the
        columns of `summarize_scores` for CORR. Each added metric has a column with its
        mean over eras, named after the metric, and a column with the number of these
        eras, with the suffix ``_n_eras``. For instance, ``mmc`` is the mean over
        ``mmc_n_eras`` eras, which can be fewer than ``n_eras`` if the meta model does
        not cover all eras. FNC, BMC and MMC also have columns with the suffixes
        ``_sd``, ``_sharpe`` and ``_max_drawdown``.

    Raises
    ------
    ValueError
        If `era_scores` raises it, or `last` is not positive.

    See Also
    --------
    era_scores : The scores themselves, and the formulas.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.metrics import summarize
    >>> rng = np.random.default_rng(0)
    >>> eras = np.repeat(np.arange(1, 21), 50)
    >>> y = rng.choice([0, 0.25, 0.5, 0.75, 1], size=1000)
    >>> summary = summarize(y, y + rng.normal(size=1000), eras)
    >>> summary[["mean", "sd", "positive_share", "n_eras"]].round(2)
                mean    sd  positive_share  n_eras
    prediction  0.36  0.08             1.0      20
    """
    import pandas as pd

    corr = _as_frame(era_scores(y, prediction, eras))
    extra = {}
    for name, given in _extra_metrics(features, benchmark, meta_model):
        with suppress(TooManyFeatures):
            scores = scores_by_era(y, prediction, eras, name, given, keep_few=True)
            extra[name] = _as_frame(scores)
    parts = [_summary(corr), *(metric_columns(*item) for item in extra.items())]
    if len(corr) > last and not are_named(corr):
        start = corr.index[-last]
        recent = [_summary(corr.loc[start:])]
        recent += [metric_columns(n, table.loc[start:]) for n, table in extra.items()]
        parts += [part.add_suffix(f"_last{last}") for part in recent]
    return cast("pd.DataFrame", pd.concat(parts, axis=1))


def _as_frame(scores: Any) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"prediction": scores}) if scores.ndim == 1 else scores


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    scored = table.notna().sum()
    fall = np.nan if are_named(table) else table.apply(max_drawdown)
    return pd.DataFrame(
        {
            "mean": table.mean(),
            "sd": table.std(ddof=0),
            "sharpe": table.apply(sharpe),
            "max_drawdown": (0.0 * scored + fall).where(scored > 0),
            "positive_share": (table > 0).sum() / scored.where(scored > 0),
            "n_eras": scored,
            "n_constant": len(table) - scored,
        }
    )


def metric_columns(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Summarise a metric other than CORR, over the eras that have a score.

    Parameters
    ----------
    name : str
    table : DataFrame
        Era scores of the metric, one column for each prediction.

    Returns
    -------
    DataFrame
        One row for each prediction: the mean in the column `name`, and the number of
        eras with the suffix ``_n_eras``. If higher is better for the metric, there are
        also columns with the suffixes ``_sd``, ``_sharpe`` and ``_max_drawdown``.
    """
    steady = ["sd", "sharpe", "max_drawdown"] if name in _GAINS else []
    summary = _summary(table)[["mean", *steady, "n_eras"]].add_prefix(f"{name}_")
    return summary.rename(columns={f"{name}_mean": name})


def _extra_metrics(
    features: Any, benchmark: Any, meta_model: Any
) -> list[tuple[str, dict[str, Any]]]:
    """Return the metrics that can be computed from the given arguments."""
    metrics: list[tuple[str, dict[str, Any]]] = []
    if features is not None:
        metrics += [(m, {"features": features}) for m in ("fnc", "max_exposure")]
    if benchmark is not None:
        metrics += [(m, {"benchmark": benchmark}) for m in ("bmc", "benchmark_corr")]
    if meta_model is not None:
        metrics += [("mmc", {"meta_model": meta_model})]
    return metrics
