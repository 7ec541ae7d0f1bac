"""What a series of era scores amounts to."""

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

_GAINS = ("fnc", "bmc", "mmc")  # the more the better, as CORR


def max_drawdown(scores: Any) -> Any:
    r"""Return the largest fall of the cumulative score from its running maximum.

    With :math:`c_t` the sum of the first :math:`t` scores, this is
    :math:`\max_t (\max_{1 \le u \le t} c_u - c_t)`, and 0 if no score after the first
    is negative.

    Parameters
    ----------
    scores : Series, DataFrame or array-like of shape (n_eras,)
        Era scores in era order. NaN (no score) changes nothing.

    Returns
    -------
    float or Series
        In units of the score, not negative; one for each column of a DataFrame.

    Raises
    ------
    ValueError
        If an index of eras is not in era order, or holds names, which have none.

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
    """Return `numerai_tools.sharpe_ratio`, NaN where the scores do not vary."""
    from numerai_tools.scoring import sharpe_ratio

    known = scores.dropna()
    if len(known) == 0 or known.max() == known.min():
        return float("nan")
    return float(sharpe_ratio(known))


@checked(last=[COUNT])
def summarize_scores(scores: Any, *, last: int = 200) -> pd.DataFrame:
    """Summarise era scores that are there already.

    Parameters
    ----------
    scores : Series or DataFrame
        What `era_scores` returns: a row for each era in era order.
    last : int, default=200
        If there are more eras than this, every column is there again for the last so
        many, with the suffix ``_last200``. Numerai judges models by 200. Eras that
        are names have no last ones.

    Returns
    -------
    DataFrame
        A row for each prediction, with the columns

        - ``mean`` and ``sd`` (over eras, ddof 0) of the score;
        - ``sharpe``, mean / sd, not annualised;
        - ``max_drawdown``, see `max_drawdown`; NaN where eras are names without
          numbers, whose order nobody knows;
        - ``positive_share``, the share of eras above 0;
        - ``n_eras``, how many have a score, and ``n_constant``, how many have none
          because the prediction was constant. The other columns are over the scored.

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
            "scores must be a Series or a DataFrame of pandas, a row for each era, as "
            f"era_scores returns it; got {kind_of(scores)}."
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
    """Summarise predictions: their CORR over eras, and what else decides.

    A mean CORR of .005 to .04 is sane, and more smells of leakage. A high CORR with a
    BMC near 0 and a ``benchmark_corr`` near 1 is a copy of the benchmark.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        The target; rows where it is NaN are left out.
    prediction : array-like of shape (n_rows,) or (n_rows, n_predictions)
        A frame's columns, or those of a 2-D array, are judged side by side.
    eras : array-like of shape (n_rows,)
        The era of each row.
    features : array-like of shape (n_rows, n_features), default=None
        Adds ``fnc`` and ``max_exposure``. FNC is over the eras that have two rows more
        than features, or nothing is left of a prediction; ``fnc_n_eras`` says how many
        they are, and where there is none, exposure comes alone. Feature-neutral scores
        cost seconds an era with thousands of features: pass Numerai's medium
        set.
    benchmark : array-like of shape (n_rows,) or frame, default=None
        Adds ``bmc`` and ``benchmark_corr``. As in `era_scores`: a whole file is
        matched by id.
    meta_model : array-like of shape (n_rows,) or frame, default=None
        Adds ``mmc``; likewise.
    last : int, default=200
        If there are more scored eras than this, every column is there again for the
        last so many, with the suffix ``_last200``. Eras that are names have no last
        ones, and no drawdown.

    Returns
    -------
    DataFrame
        A row for each prediction (named ``prediction`` for a vector): the columns of
        `summarize_scores` for CORR, then the mean over eras of each added metric, by
        its name, and with the suffix ``_n_eras`` how many eras that are: ``mmc`` is
        over ``mmc_n_eras``, as the meta model may cover fewer than ``n_eras``. FNC,
        BMC and MMC have ``_sd``, ``_sharpe`` and ``_max_drawdown``, too.

    Raises
    ------
    ValueError
        As `era_scores`, and if `last` is not positive.

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
    """Summarise another metric than CORR, over the eras that it has a score of.

    Parameters
    ----------
    name : str
    table : DataFrame
        Its era scores, a column a prediction.

    Returns
    -------
    DataFrame
        A row for each prediction: the mean in the column `name`; with the suffixes
        ``_sd``, ``_sharpe`` and ``_max_drawdown`` what says how steady it is, where
        more is better; and ``_n_eras``.
    """
    steady = ["sd", "sharpe", "max_drawdown"] if name in _GAINS else []
    summary = _summary(table)[["mean", *steady, "n_eras"]].add_prefix(f"{name}_")
    return summary.rename(columns={f"{name}_mean": name})


def _extra_metrics(
    features: Any, benchmark: Any, meta_model: Any
) -> list[tuple[str, dict[str, Any]]]:
    """Return the metrics that can be computed from what is given."""
    metrics: list[tuple[str, dict[str, Any]]] = []
    if features is not None:
        metrics += [(m, {"features": features}) for m in ("fnc", "max_exposure")]
    if benchmark is not None:
        metrics += [(m, {"benchmark": benchmark}) for m in ("bmc", "benchmark_corr")]
    if meta_model is not None:
        metrics += [("mmc", {"meta_model": meta_model})]
    return metrics
