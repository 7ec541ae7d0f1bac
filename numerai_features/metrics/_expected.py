"""Expected scores of predictions on a synthetic panel, over draws of its market."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex, encode_eras, era_label
from numerai_features._ids import first_ids, match_ids
from numerai_features._names import near_names, some_names
from numerai_features._threads import blas_threads
from numerai_features._validation import holds_ids, index_of
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
    r"""Return the expected scores of predictions on a synthetic panel.

    A score against a panel's targets is mostly noise: it varies with the draw of the
    market, which consists of the factor returns and each row's noise. This function
    returns the score's expectation over all draws, for fixed rows, signals and premia.
    So its result has no market noise, and shows differences between methods of less
    than .001. It still depends on the draw of the panel and of the training targets:
    average over panels.

    Parameters
    ----------
    prediction : array-like of shape (n_rows,) or (n_rows, n_predictions)
        As in `era_scores`.
    truth : SyntheticTruth
        The truth of the same rows: ``truth.select(first=200)`` for
        ``panel.select(first=200)``. If `prediction` or `eras` is indexed by id, the
        truth is matched by id, and may have further eras.
    eras : array-like of shape (n_rows,)
        The era of each row. Each era must have all of its rows.
    target : str, default=None
        The name of the target; None is the first target of the truth.
    metric : {"corr", "bmc", "fnc"}, default="corr"
        The metric to compute, see `era_scores`. Sharpe ratio and drawdown are not
        linear in the target, so this function does not compute their expectation.
    benchmark, features
        As in `era_scores`, for "bmc" and for "fnc". A benchmark that is indexed by id
        is matched by the ids of the truth if `prediction` and `eras` have no ids.

    Returns
    -------
    Series or DataFrame
        As returned by `era_scores`. Unresolved eras are scored, too.

    Raises
    ------
    ValueError
        For the same errors as in `era_scores`; if the truth belongs to other rows; if
        an era lacks some of its rows, because targets are ranks among all of them.

    Notes
    -----
    CORR is :math:`\sum_i f_i\, g(y_i) / n`. Here :math:`f` is the prediction as CORR
    transforms it (ranked, gaussianised, raised to the power 1.5, standardised), and
    :math:`g(y) = \mathrm{sign}(y - \bar y)\, |y - \bar y|^{1.5}`, standardised, too.
    Within an era, returns are ranked into bins with fixed numbers of rows. So
    :math:`\bar y` and the mean and standard deviation of the power are the same in all
    draws, and CORR is linear in :math:`g(y_i)`:

    .. math:: E[\mathrm{CORR}] = \frac{1}{n} \sum_i f_i\, t_i,
              \qquad t_i = E[g(y_i)].

    FNC is the same sum for the neutralised prediction. BMC is linear in
    :math:`4 (y_i - \bar y)`, and has :math:`E[y_i]` in the place of :math:`t_i`.

    Both expectations follow from the probabilities :math:`p_{ib}` that row :math:`i` is
    above the lower edge of bin :math:`b`. If crossing this edge adds :math:`\Delta_b`,
    then :math:`t_i = g_0 + \sum_b \Delta_b\, p_{ib}`. Let :math:`S_{ik}` be the
    signals, centred over the era's rows, :math:`\pi_k` and :math:`\nu_k` their premia
    and volatilities over a window of :math:`h` eras, and :math:`\sigma^2` the variance
    of the noise over the target's window of :math:`s` eras. A row's return has the mean
    and the variance

    .. math:: \mu_i = \frac{s}{h} \sum_k \pi_k S_{ik}, \qquad
              \sigma_i^2 = \sigma^2 + \frac{s}{h} \sum_k \nu_k^2 S_{ik}^2 .

    With very many rows, the edge is a quantile of the mixture of the rows'
    distributions: the :math:`q_b` with
    :math:`\sum_i \Phi((\mu_i - q_b) / \sigma_i) = n_b`, where :math:`n_b` is the actual
    number of rows above the edge (2 of 50, not 2.5). With fewer rows, two corrections
    matter. The edge moves with the noise of the other rows, with variance
    :math:`w_b^2`; this lowers scores by some 3 % in eras of 50 rows. And the edge of
    row :math:`i` depends only on the other rows, which lowers it by :math:`d_{ib}`;
    this raises scores by 2 %. With :math:`a_i = \Phi((\mu_i - q_b) / \sigma_i)` and
    :math:`a'` its mean slope,

    .. math:: p_{ib} &= \Phi\!\left(\frac{\mu_i + d_{ib} - q_b'}
              {\sqrt{\sigma_i^2 + w_b^2}}\right), \\
              d_{ib} &= \frac{a_i - \bar a}{(n - 1)\, a'}, \qquad
              w_b^2 = \frac{\overline{a (1 - a)}}{(n - 1)\, a'^2},

    where :math:`q_b'` is chosen so that :math:`\sum_i p_{ib} = n_b` again. These scores
    agree with averages over redrawn markets to .3 %, in eras of 30 rows or more. The
    formula treats the factor returns, which rows share, as independent noise of each
    row. This is accurate if factor returns are a small part of a return's variance: in
    these panels they are 1 %.

    Examples
    --------
    The prediction with nearly the best expected CORR, and the same with added noise:

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
        given["benchmark"] = _matched(benchmark, truth, owners if ids[0] else None)
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
    # The number of threads is set as in `era_scores`.
    with nullcontext() if metric == "corr" else blas_threads(1):
        scores = score_eras(index, expected, values, other, score, keep_constant=True)
    return as_pandas(scores, names, metric)


def _check_truth(truth: Any) -> None:
    """Raise if an object is no truth; metrics cannot import the class itself."""
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
    """Return the positions in the truth of the scored rows, in their order."""
    owner, wanted = ids
    if wanted is not None:
        return _rows_by_id(truth, index, owner, wanted)
    if len(truth.eras) != index.n_rows:
        raise ValueError(
            f"truth has {len(truth.eras)} rows, but {index.n_rows} rows are scored. "
            "Pass truth.select(...) of their eras, or truth.take(rows)."
        )
    _check_eras(truth.eras, index)
    return slice(None)


def _ids_of_truth(truth: Any) -> pd.Series[Any]:
    """Return the truth's ids as a Series indexed by id."""
    import pandas as pd

    return pd.Series(truth.ids, pd.Index(truth.ids, name="id"))


def _matched(benchmark: Any, truth: Any, owners: dict[str, Any] | None) -> Any:
    """Return the benchmark in the order of the rows' ids, or else of the truth's."""
    if owners is not None:
        return match_ids(benchmark, "benchmark", **owners)
    column = match_ids(benchmark, "benchmark", truth=_ids_of_truth(truth))
    rows = index_of(column)
    # Ids that are matched are not compared with an index that counts the predictions.
    return column.to_numpy() if rows is not None and holds_ids(rows) else column


def _rows_by_id(truth: Any, index: EraIndex, owner: str, wanted: Any) -> Any:
    rows = _ids_of_truth(truth).index.get_indexer(wanted)
    if (rows < 0).any():
        first = wanted[int((rows < 0).argmax())]
        raise ValueError(
            f"truth has no row for {int((rows < 0).sum())} of {len(wanted)} ids of "
            f"{owner}; the first one is {first!r}. Pass the truth of the same panel."
        )
    _check_eras(np.asarray(truth.eras)[rows], index)
    _check_whole(np.asarray(truth.eras), rows, owner)
    return rows


def _check_whole(eras: NDArray[Any], rows: NDArray[np.intp], owner: str) -> None:
    """Raise if a row occurs twice, or an era lacks some of its rows."""
    times = np.bincount(rows, minlength=len(eras))
    if times.max() > 1:
        raise ValueError(f"{owner} has ids more than once; pass one row for each id.")
    cut = np.isin(eras, eras[rows]) & (times == 0)
    if cut.any():
        era = eras[cut.argmax()]
        raise ValueError(
            f"{owner} lacks {int((cut & (eras == era)).sum())} rows of era "
            f"{era_label(int(era))!r}. A target is a rank among all rows of its era, "
            "and so its expectation needs all rows: pass all rows of an era, or none."
        )


def _check_eras(eras: NDArray[Any], index: EraIndex) -> None:
    differ = eras != index.row_numbers
    if index.named or differ.any():  # a truth's eras are numbers, never names
        row = int(np.argmax(differ))
        label = index.row_labels[row]
        mine = str(label) if index.named else era_label(int(index.row_numbers[row]))
        raise ValueError(
            f"truth does not match the scored rows: row {row} is of era {mine!r} in "
            f"eras, but of {era_label(int(eras[row]))!r} in truth. Pass "
            "truth.select(...) of the same eras, or truth.take(rows) if the order of "
            "the rows differs."
        )


def _expected_corr(target: Any, predictions: NDArray[Any], _: Any) -> NDArray[Any]:
    # not by BLAS, as in `era_corr`
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
