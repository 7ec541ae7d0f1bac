"""Plot of the folds of a splitter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import AXES, FOLDS, checked
from numerai_features._eras import EraIndex, near_eras
from numerai_features._horizon import resolve_horizon
from numerai_features._optional import import_optional
from numerai_features.model_selection._base import BaseEraSplitter, EraFold
from numerai_features.model_selection._folds import era_folds, index_eras, no_folds

_UNUSED, _TRAIN, _PURGE, _EMBARGO, _TEST, _LEAKING = range(6)


class _Look(NamedTuple):
    label: str
    colour: str
    height: float = 0.8
    hatch: str | None = None


# Colours of Okabe and Ito that also differ as greys. Eras that are not used are drawn
# thin, so they need no colour; eras that leak are hatched.
_LOOKS = (
    _Look("not used", "#BBBBBB", height=0.12),
    _Look("train", "#0072B2"),
    _Look("purge", "#F0E442"),
    _Look("embargo", "#E69F00"),
    _Look("test", "#000000"),
    _Look("train, overlaps\na test era", "#D55E00", hatch="////"),
)
_LONGEST_NAME = 70
_WIDTH, _LEAST_HEIGHT, _MOST_HEIGHT = 9.0, 2.4, 10.0  # inches


class EraSplitDisplay:
    """Plot of the eras of every fold: train, purge, embargo and test.

    Create it with `from_cv`, from any splitter. Training eras that overlap a test era
    are drawn in a warning colour.

    Parameters
    ----------
    states : ndarray of shape (n_folds, n_eras), int8
        The use of each era in each fold: 0 not used, 1 train, 2 left out by the purge,
        3 left out by the embargo, 4 test, 5 train although it overlaps a test era.
    era_numbers : ndarray of shape (n_eras,), int64
        Era numbers, ascending, without the live era.
    splitter_name : str, default=None
        Title of the plot.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the last plot.
    figure_ : matplotlib Figure
        The figure of `ax_`.

    See Also
    --------
    EraKFold : A splitter that purges; its ``split_eras`` yields era numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import KFold
    >>> from numerai_features.model_selection import EraKFold, EraSplitDisplay
    >>> eras = np.arange(1, 13)
    >>> cv = EraKFold(3, purge=1, embargo=1)
    >>> display = EraSplitDisplay.from_cv(cv, eras)
    >>> print(display.states)
    [[4 4 4 4 2 3 1 1 1 1 1 1]
     [1 1 1 2 4 4 4 4 2 3 1 1]
     [1 1 1 1 1 1 1 2 4 4 4 4]]

    Folds of a splitter that does not allow for overlapping targets:

    >>> display = EraSplitDisplay.from_cv(KFold(3), eras, horizon=2)
    >>> print(display.states)
    [[4 4 4 4 5 1 1 1 1 1 1 1]
     [1 1 1 5 4 4 4 4 5 1 1 1]
     [1 1 1 1 1 1 1 5 4 4 4 4]]
    """

    @checked(splitter_name=[str, None])
    def __init__(
        self,
        *,
        states: NDArray[np.int8],
        era_numbers: NDArray[np.int64],
        splitter_name: str | None = None,
    ) -> None:
        states, era_numbers = np.asarray(states), np.asarray(era_numbers)
        if era_numbers.ndim != 1 or era_numbers.dtype.kind not in "iu":
            raise ValueError(
                "era_numbers must be whole numbers, of shape (n_eras,); got "
                f"{era_numbers!r}."
            )
        wanted = states.ndim == 2 and states.shape[1] == len(era_numbers)
        known = states.dtype.kind in "iu" and np.isin(states, range(len(_LOOKS))).all()
        if not (wanted and known and len(states)):
            raise ValueError(
                f"states must be numbers from 0 to {len(_LOOKS) - 1}, of shape "
                f"(n_folds, {len(era_numbers)}); got {states!r}."
            )
        self.states = states
        self.era_numbers = era_numbers
        self.splitter_name = splitter_name

    @classmethod
    @checked(cv=[FOLDS], ax=AXES)
    def from_cv(
        cls,
        cv: Any,
        eras: Any = None,
        *,
        X: Any = None,
        y: Any = None,
        horizon: Any = None,
        ax: Any = None,
    ) -> EraSplitDisplay:
        """Draw the folds of a splitter.

        Parameters
        ----------
        cv : splitter, int or iterable
            A splitter of this package, or anything that scikit-learn accepts: a
            splitter (its groups are the era numbers), a number of folds, or pairs of
            train and test rows.
        eras : array-like of shape (n_rows,), default=None
            Era labels. A splitter of this package needs each era only once; any other
            splitter needs one label for each row, in the order of the rows. The live
            era is not drawn.
        X : frame of shape (n_rows, n_columns), default=None
            If `eras` is None, its column ``era`` gives the eras. Its other columns are
            not used.
        y : array-like of shape (n_rows,), default=None
            The target, if the splitter uses it. With ``purge="auto"`` its name can give
            the purge. Eras whose targets are all NaN are in no fold.
        horizon : int or str, default=None
            Number of eras that the target spans, or the target's name. Training eras
            fewer than this many era numbers before or after a test era are drawn as
            overlapping. None: only eras with both training and test rows in a fold are
            drawn as overlapping.
        ax : matplotlib Axes, default=None
            Axes to draw on. None: a new figure.

        Returns
        -------
        EraSplitDisplay

        Raises
        ------
        ValueError
            If there are no eras, `horizon` is invalid, or the splitter yields no folds,
            yields rows that do not exist, or raises an error itself.
        ImportError
            If matplotlib is not installed.
        """
        span = 1 if horizon is None else resolve_horizon(horizon)
        index = index_eras(X, eras, y=y)
        drawn, numbers = index.resolved, index.numbers[index.resolved]
        if not drawn.any():
            raise ValueError(
                f"eras has {index.n_rows} labels, but none of a resolved era, so there "
                "are no folds to draw. Pass all training eras."
            )
        folds = [
            _states(numbers, EraFold(*(mask[drawn] for mask in fold)), span)
            for fold in _folds(cv, index, y)
        ]
        if not folds:
            raise no_folds(cv)
        name = _name(cv, len(folds))
        states = np.stack(folds)
        return cls(states=states, era_numbers=numbers, splitter_name=name).plot(ax)

    @checked(ax=AXES)
    def plot(self, ax: Any = None) -> EraSplitDisplay:
        """Draw the folds, the first at the top.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None: a new figure. The legend is outside the axes, on
            their right; it needs a figure with ``layout="constrained"``.

        Returns
        -------
        EraSplitDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_folds, numbers = len(self.states), self.era_numbers
        options = {"extra": "plots", "needed_by": type(self).__name__}
        ticker = import_optional("matplotlib.ticker", **options)
        if ax is None:
            pyplot = import_optional("matplotlib.pyplot", **options)
            height = min(max(_LEAST_HEIGHT, 1.2 + 0.32 * n_folds), _MOST_HEIGHT)
            _, ax = pyplot.subplots(figsize=(_WIDTH, height), layout="constrained")
        # If only every fourth era is present, a bar is four eras wide. Other missing
        # eras leave a gap.
        width = int(min(np.diff(numbers), default=1))
        bars = {}
        for i, fold in enumerate(self.states):
            runs = _runs(fold, numbers, width)
            for state in np.unique(fold):
                look = _LOOKS[state]
                bars[int(state)] = ax.broken_barh(
                    [(start, length) for s, start, length in runs if s == state],
                    (i - look.height / 2, look.height),
                    facecolor=look.colour,
                    edgecolor="white",  # colour of the hatches
                    hatch=look.hatch,
                    linewidth=0,
                )
        ax.set_xlim(numbers[0] - width / 2, numbers[-1] + width / 2)
        ax.set_ylim(n_folds - 0.5, -0.5)
        for axis in (ax.xaxis, ax.yaxis):
            whole = {"integer": True, "steps": [1, 2, 5, 10], "min_n_ticks": 1}
            axis.set_major_locator(ticker.MaxNLocator("auto", **whole))
        ax.set_xlabel("era (week)")
        ax.set_ylabel("fold")
        ax.set_title(self.splitter_name or "", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(
            [bars[state] for state in sorted(bars)],
            [_LOOKS[state].label for state in sorted(bars)],
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            borderaxespad=0.0,
            frameon=False,
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _folds(cv: Any, index: EraIndex, y: Any) -> Iterable[EraFold]:
    """Return the folds of any splitter as masks over the eras."""
    if isinstance(cv, BaseEraSplitter):
        return cv._era_folds(index, y)
    none = np.zeros(index.n_eras, bool)
    return (
        EraFold(train > 0, test > 0, none, none)
        for train, test in era_folds(cv, index, y)
    )


def _states(
    numbers: NDArray[np.int64], fold: EraFold, horizon: int
) -> NDArray[np.int8]:
    overlaps = near_eras(numbers, numbers[fold.test], horizon)
    states = np.full(len(numbers), _UNUSED, np.int8)
    states[fold.purged] = _PURGE
    states[fold.embargoed] = _EMBARGO
    states[fold.test] = _TEST
    states[fold.train] = _TRAIN
    states[fold.train & overlaps] = _LEAKING
    return states


def _runs(
    fold: NDArray[np.int8], numbers: NDArray[np.int64], width: int
) -> list[tuple[int, float, int]]:
    """Return state, left end and length of each run of eras with the same state."""
    ends = (np.diff(fold) != 0) | (np.diff(numbers) != width)
    first = np.flatnonzero(np.append(True, ends))
    last = np.flatnonzero(np.append(ends, True))
    return [
        (int(fold[a]), numbers[a] - width / 2, int(numbers[b] - numbers[a]) + width)
        for a, b in zip(first, last, strict=True)
    ]


def _name(cv: Any, n_folds: int) -> str:
    if not hasattr(cv, "split"):
        return f"{n_folds} fold{'s' * (n_folds != 1)}"
    name = " ".join(repr(cv).split())
    if name.startswith("<") or len(name) > _LONGEST_NAME:
        return type(cv).__name__
    return name
