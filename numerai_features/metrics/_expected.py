"""Scores that predictions are expected to get, where a market is known."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex, encode_eras, era_label
from numerai_features._ids import first_ids, match_ids
from numerai_features._names import near_names, some_names
from numerai_features._threads import blas_threads
from numerai_features.metrics._corr import corr_directions
from numerai_features.metrics._era_scores import (
    Features,
    Score,
    as_pandas,
    check_few_features,
    check_metric,
    check_same_index,
    contribution,
    prediction_columns,
    reference_column,
    score_eras,
)
from numerai_features.metrics._fnc import neutral_predictions

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("corr", "bmc", "fnc")
"""What `expected_scores` computes: the scores that are linear in the target."""

_PARTS = ("eras", "ids", "target_names", "expected_targets", "expected_corr_targets")


def expected_scores(
    prediction: Any,
    truth: Any,
    eras: Any,
    *,
    target: str | None = None,
    metric: str = "corr",
    benchmark: Any = None,
    features: Any = None,
) -> pd.Series[float] | pd.DataFrame:
    r"""Return the scores that predictions are expected to get on a synthetic panel.

    A score of a panel's targets is mostly noise: it varies with the draw of the market,
    the factor returns and each row's luck. This is its expectation over all draws, for
    the rows, their signals and the premia as they are. So it has no noise of the
    market, and methods that differ by less than .001 can be told apart. What remains is
    the draw of the panel and of the training targets: average over panels.

    Parameters
    ----------
    prediction : array-like of shape (n_rows,) or (n_rows, n_predictions)
        As in `era_scores`.
    truth : SyntheticTruth
        What is behind the panel, for the same rows: ``truth.select(first=200)`` is that
        of ``panel.select(first=200)``. Where `prediction` or `eras` is indexed by id,
        it is matched by id, and may have further eras.
    eras : array-like of shape (n_rows,)
        The era of each row. Each must be there with all of its rows.
    target : str, default=None
        The name of the target; the truth's first if None.
    metric : {"corr", "bmc", "fnc"}, default="corr"
        What to compute, see `era_scores`. Sharpe ratio and drawdown are not linear in
        the target, so that they have no such expectation.
    benchmark, features
        As in `era_scores`, for "bmc" and for "fnc". A benchmark that is indexed by id
        is matched by the ids of the truth if there are no others.

    Returns
    -------
    Series or DataFrame
        As that of `era_scores`. Eras whose target is not known yet are scored, too.

    Raises
    ------
    ValueError
        For what `era_scores` refuses; if the truth is that of other rows; if an era has
        only some of its rows, for targets are ranks among all of them.

    Notes
    -----
    CORR is :math:`\sum_i f_i\, g(y_i) / n`, where :math:`f` is the prediction as CORR
    takes it (ranked, made normal, raised to the power 1.5, standardised), and
    :math:`g(y) = \mathrm{sign}(y - \bar y)\, |y - \bar y|^{1.5}`, standardised, too.
    Within an era, returns are ranked into bins of fixed numbers of rows. So no draw
    changes :math:`\bar y` or the mean and standard deviation of the power, and CORR is
    linear in :math:`g(y_i)`:

    .. math:: E[\mathrm{CORR}] = \frac{1}{n} \sum_i f_i\, t_i,
              \qquad t_i = E[g(y_i)].

    FNC is the same, of the prediction after neutralisation. BMC is linear in
    :math:`4 (y_i - \bar y)`, and has :math:`E[y_i]` in the place of :math:`t_i`.

    Both come from the probabilities :math:`p_{ib}` that row :math:`i` is above the
    lower edge of bin :math:`b`, with :math:`\Delta_b` what that adds:
    :math:`t_i = g_0 + \sum_b \Delta_b\, p_{ib}`. Let :math:`S_{ik}` be the signals,
    centred over the era's rows, :math:`\pi_k` and :math:`\nu_k` their premia and
    volatilities over a window of :math:`h` eras, and :math:`\sigma^2` the variance of
    the noise over the target's window of :math:`s` eras. A row's return has the mean
    and the variance

    .. math:: \mu_i = \frac{s}{h} \sum_k \pi_k S_{ik}, \qquad
              \sigma_i^2 = \sigma^2 + \frac{s}{h} \sum_k \nu_k^2 S_{ik}^2 .

    Of very many rows, the edge is a quantile of their mixture: the :math:`q_b` with
    :math:`\sum_i \Phi((\mu_i - q_b) / \sigma_i) = n_b`, the actual number of rows above
    (2 of 50, not 2.5). Of fewer rows, the edge moves with the noise of the others, by
    the variance :math:`w_b^2`, which takes some 3 % of the scores away in eras of 50
    rows. And row :math:`i` is not among the others, which lowers its edge by
    :math:`d_{ib}`, and gives 2 % back. With :math:`a_i = \Phi((\mu_i - q_b) /
    \sigma_i)` and :math:`a'` its mean slope,

    .. math:: p_{ib} &= \Phi\!\left(\frac{\mu_i + d_{ib} - q_b'}
              {\sqrt{\sigma_i^2 + w_b^2}}\right), \\
              d_{ib} &= \frac{a_i - \bar a}{(n - 1)\, a'}, \qquad
              w_b^2 = \frac{\overline{a (1 - a)}}{(n - 1)\, a'^2},

    where :math:`q_b'` is such that :math:`\sum_i p_{ib} = n_b` again. Against redraws
    of the market this is within .3 % from 30 rows an era on. It takes what rows share
    for noise of each row, which holds as long as factor returns are a small part of a
    return's variance: in these panels they are 1 %.

    Examples
    --------
    Two predictions, one of which knows the first factor:

    >>> import numpy as np
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.metrics import expected_scores
    >>> panel, truth = make_era_panel(n_eras=20, return_truth=True, random_state=0)
    >>> noise = np.random.default_rng(0).normal(size=panel.n_rows)
    >>> ideal = truth.expected_corr_targets[:, 1]
    >>> prediction = np.column_stack([ideal, ideal + noise])
    >>> scores = expected_scores(
    ...     prediction, truth, panel.eras, target="target_alpha_60"
    ... )
    >>> scores.mean().round(4)
    0    0.0564
    1    0.0039
    dtype: float64
    """
    _check_truth(truth)
    column = _column_of(target, truth)
    given = dict.fromkeys(("benchmark", "meta_model", "features"))
    given |= {"benchmark": benchmark, "features": features}
    check_metric(metric, METRICS, given)
    owners = {"prediction": prediction, "eras": eras}
    ids = first_ids(owners)
    if metric == "bmc":
        wanted = {"truth": _ids_of_truth(truth)} if ids[1] is None else owners
        given["benchmark"] = match_ids(benchmark, "benchmark", **wanted)
    check_same_index(prediction=prediction, eras=eras, **given)
    values, names = prediction_columns(prediction)
    index = encode_eras(eras, n_rows=len(values))
    rows = _rows_of(truth, index, ids)
    score, table = _SCORES[metric]
    expected = np.asarray(getattr(truth, table)[rows, column], np.float64)
    other: Any = None
    if metric == "bmc":
        other = reference_column(given["benchmark"], index, "benchmark")
    if metric == "fnc":
        other = Features(features, len(values))
    # as in `era_scores`
    with nullcontext() if metric == "corr" else blas_threads(1):
        scores = score_eras(index, expected, values, other, score, keep_constant=True)
    return as_pandas(scores, names, metric)


def _check_truth(truth: Any) -> None:
    """Raise for what is no truth; metrics do not know its class."""
    missing = [name for name in _PARTS if not hasattr(truth, name)]
    if missing:
        raise TypeError(
            "truth must be the SyntheticTruth that make_era_panel returns with "
            f"return_truth=True; got {type(truth).__name__}, which has no "
            f"{some_names(missing)}."
        )


def _column_of(target: Any, truth: Any) -> int:
    known = list(truth.target_names)
    if target is None:
        return 0
    if not isinstance(target, str) or target not in known:
        near = near_names(target, known) if isinstance(target, str) else ""
        raise ValueError(
            f"target must be one of {some_names(known)}; got {target!r}.{near}"
        )
    return known.index(target)


def _rows_of(truth: Any, index: EraIndex, ids: tuple[str, Any]) -> Any:
    """Return the truth's rows that are scored, in their order."""
    owner, wanted = ids
    if wanted is not None:
        return _rows_by_id(truth, index, owner, wanted)
    if len(truth.eras) != index.n_rows:
        raise ValueError(
            f"truth has {len(truth.eras)} rows, and {index.n_rows} are scored. Pass "
            "truth.select(...) of their eras, or truth.take(rows)."
        )
    _check_eras(truth.eras, index)
    return slice(None)


def _ids_of_truth(truth: Any) -> pd.Series[Any]:
    """Return the truth's ids, as their own index."""
    import pandas as pd

    return pd.Series(truth.ids, pd.Index(truth.ids, name="id"))


def _rows_by_id(truth: Any, index: EraIndex, owner: str, wanted: Any) -> Any:
    rows = _ids_of_truth(truth).index.get_indexer(wanted)
    if (rows < 0).any():
        first = wanted[int((rows < 0).argmax())]
        raise ValueError(
            f"truth has no row for {int((rows < 0).sum())} of {len(wanted)} ids of "
            f"{owner}, the first is {first!r}. Pass the truth of the same panel."
        )
    _check_eras(np.asarray(truth.eras)[rows], index)
    _check_whole(np.asarray(truth.eras), rows, owner)
    return rows


def _check_whole(eras: NDArray[Any], rows: NDArray[np.intp], owner: str) -> None:
    """Raise if a row is there twice, or an era in part."""
    times = np.bincount(rows, minlength=len(eras))
    if times.max() > 1:
        raise ValueError(f"{owner} has ids more than once; keep one row for each id.")
    cut = np.isin(eras, eras[rows]) & (times == 0)
    if cut.any():
        era = eras[cut.argmax()]
        raise ValueError(
            f"{owner} lacks {int((cut & (eras == era)).sum())} rows of era "
            f"{era_label(int(era))!r}. A target is a rank among all rows of its era, "
            "and so is what it is expected to be: pass all of them, or none."
        )


def _check_eras(eras: NDArray[Any], index: EraIndex) -> None:
    differ = eras != index.row_numbers
    if index.named or differ.any():  # names have ranks, not numbers
        row = int(np.argmax(differ))
        label = index.row_labels[row]
        mine = str(label) if index.named else era_label(int(index.row_numbers[row]))
        raise ValueError(
            f"truth is of other rows than those that are scored: row {row} is of era "
            f"{mine!r} in eras, and of {era_label(int(eras[row]))!r} "
            "in truth. Pass truth.select(...) of the same eras, or truth.take(rows) if "
            "rows are in another order."
        )


def _expected_corr(target: Any, predictions: NDArray[Any], _: Any) -> NDArray[Any]:
    # row by row, as in `era_corr`
    sums = (corr_directions(predictions) * target).sum(axis=1)
    return np.asarray(sums / np.sqrt(len(target)))


def _expected_neutral_corr(
    target: Any, predictions: NDArray[Any], features: Any
) -> NDArray[Any]:
    check_few_features(predictions, features)
    return _expected_corr(target, neutral_predictions(predictions, features), None)


_SCORES: dict[str, tuple[Score, str]] = {
    "corr": (_expected_corr, "expected_corr_targets"),
    "fnc": (_expected_neutral_corr, "expected_corr_targets"),
    "bmc": (contribution, "expected_targets"),
}
