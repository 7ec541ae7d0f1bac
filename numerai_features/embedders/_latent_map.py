"""Scatter plot of latents."""

from __future__ import annotations

from inspect import signature
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import (
    AXES,
    COUNT,
    DRAWS,
    TABLE,
    Each,
    Methods,
    Text,
    checked,
)
from numerai_features._eras import EraIndex, encode_eras
from numerai_features._latents import as_latents, works_by_era
from numerai_features._optional import import_optional
from numerai_features._validation import (
    as_floats,
    check_same_rows,
    column_names,
    count_rows,
    find_eras,
    is_frame,
    resolve_generator,
    take_eras,
    take_rows,
)

_FEW = 12  # distinct values that fit a legend; more get a colour bar
_SIZE = 6.0, 5.0  # inches


class LatentMapDisplay:
    """Scatter plot of the first two latents, coloured by a property of the rows.

    Create it with `from_estimator` for a fitted embedder, or with `from_latents`.

    Parameters
    ----------
    latents : ndarray of shape (n_rows, 2)
        Coordinates of the points.
    values : ndarray of shape (n_rows,), default=None
        Values that give the points their colours; non-finite values are grey.
    label : str, default=None
        Name of `values`.
    axis_names : (str, str), default=("latent 0", "latent 1")
        Names of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the last plot.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    points_ : matplotlib PathCollection
        The points.

    See Also
    --------
    UMAPEmbedder : Latents for a map, with ``n_components=2``.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import FactorAnalysisEmbedder, LatentMapDisplay
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, random_state=0)
    >>> embedder = FactorAnalysisEmbedder(2).fit(panel.X)
    >>> display = LatentMapDisplay.from_estimator(
    ...     embedder, panel.X, eras=panel.eras, color="era", n_rows=500)
    >>> display.latents.shape, display.label
    ((500, 2), 'era')
    """

    @checked(label=[str, None], axis_names=[Each(Text(), fewest=2)])
    def __init__(
        self,
        *,
        latents: NDArray[np.float32],
        values: NDArray[np.float64] | None = None,
        label: str | None = None,
        axis_names: tuple[str, str] = ("latent 0", "latent 1"),
    ) -> None:
        shape = as_floats(latents, "latents").shape
        if len(shape) != 2 or shape[1] != 2:
            raise ValueError(f"latents must have shape (n_rows, 2); got {shape}.")
        if values is not None:
            values = _one_a_row(values, len(latents), "values")
        self.latents = latents
        self.values = values
        self.label = label
        self.axis_names = axis_names

    @classmethod
    @checked(
        embedder=[Methods(["transform", "get_feature_names_out"])],
        X=[TABLE],
        n_rows=[COUNT],
        random_state=DRAWS,
        ax=AXES,
    )
    def from_estimator(
        cls,
        embedder: Any,
        X: Any,
        *,
        eras: Any = None,
        y: Any = None,
        color: Any = "era",
        n_rows: Any = 5000,
        random_state: Any = 0,
        ax: Any = None,
    ) -> LatentMapDisplay:
        """Plot the latents that an embedder gives to rows.

        Parameters
        ----------
        embedder : estimator
            Fitted, with two latents or more.
        X : array-like or frame of shape (n_rows, n_features)
            Rows to embed.
        eras : array-like of shape (n_rows,), default=None
            Era labels; a frame's column ``era`` is used.
        y : array-like of shape (n_rows,), default=None
            The target, for ``color="target"``.
        color : {"era", "target", "familiarity"}, column or array, default="era"
            "era": the era number (the live era is grey). "target": `y`. "familiarity":
            the embedder's ``score_samples``, which measure how similar a row is to
            those of `fit`. Otherwise a column of X, by name or position, or one number
            per row.
        n_rows : int, default=5000
            Largest number of rows to plot, chosen at random; only these are embedded,
            unless latents depend on the other rows of an era.
        random_state : int, sequence of int, SeedSequence, BitGenerator, Generator, \
                RandomState or None, default=0
            Seed of the choice of rows.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        LatentMapDisplay

        Raises
        ------
        ValueError
            If the input that `color` needs is missing, or there is only one latent.
        ImportError
            If matplotlib is not installed.
        """
        n = count_rows(X)
        check_same_rows(X=X, y=y, eras=eras, color=color)
        if y is not None:
            _one_a_row(y, n, "y")
        rows = resolve_generator(random_state).permutation(n)[:n_rows]
        eras = find_eras(X, eras)
        index = None if eras is None else encode_eras(eras, n_rows=n)
        features, _ = take_eras(take_rows(X, rows))
        options = {}
        if eras is not None and "eras" in signature(embedder.transform).parameters:
            options["eras"] = np.asarray(eras)[rows]
        shown: Any = slice(None)
        if works_by_era(embedder):  # a row needs the others of its era
            features = take_eras(X)[0] if options else X
            options, shown = dict.fromkeys(options, eras), rows
        Z = embedder.transform(features, **options)
        Z = as_latents(Z, type(embedder).__name__)[shown]
        if Z.shape[1] < 2:
            raise ValueError(
                f"{type(embedder).__name__} gives latents of shape {Z.shape}; a map "
                "needs two. Fit it with n_components=2 or more."
            )
        if isinstance(color, str) and color == "familiarity":
            values = _familiarity(embedder, features, options)[shown]
            label = "familiarity"
        else:
            values, label = _values(color, X, index, y)
            values = values[rows]
        first, second, *_ = map(str, embedder.get_feature_names_out())
        names = (first, second)
        display = cls(latents=Z[:, :2], values=values, label=label, axis_names=names)
        return display.plot(ax)

    @classmethod
    @checked(label=[str, None], ax=AXES)
    def from_latents(
        cls, Z: Any, values: Any = None, *, label: str | None = None, ax: Any = None
    ) -> LatentMapDisplay:
        """Plot latents that are already computed.

        Parameters
        ----------
        Z : array-like of shape (n_rows, n_latents)
            Latents; the first two are plotted.
        values : array-like of shape (n_rows,), default=None
            Values that give the points their colours.
        label : str, default=None
            Name of `values`.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        LatentMapDisplay
        """
        Z = as_floats(Z, "Z")
        if Z.ndim != 2 or Z.shape[1] < 2:
            raise ValueError(f"Z must have two columns or more; got shape {Z.shape}.")
        if values is not None:
            values = _one_a_row(values, len(Z), "values")
        return cls(latents=Z[:, :2], values=values, label=label).plot(ax)

    @checked(ax=AXES)
    def plot(self, ax: Any = None) -> LatentMapDisplay:
        """Plot the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        LatentMapDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        options = {"extra": "plots", "needed_by": type(self).__name__}
        pyplot = import_optional("matplotlib.pyplot", **options)
        if ax is None:
            _, ax = pyplot.subplots(figsize=_SIZE, layout="constrained")
        look = {"s": 30 / (1 + len(self.latents) / 500), "linewidths": 0}
        colours, few = self.values, None
        if colours is not None:
            colours = np.where(np.isfinite(colours), colours, np.nan)
            distinct = np.unique(colours[~np.isnan(colours)])
            few = distinct if len(distinct) <= _FEW else None
            colour_map = pyplot.get_cmap("viridis").with_extremes(bad="#BBBBBB")
            look |= {"cmap": colour_map, "plotnonfinite": True}
        self.points_ = ax.scatter(*self.latents.T, c=colours, **look)
        if few is not None and len(few):
            handles = [
                ax.scatter([], [], s=30, color=self.points_.to_rgba(value))
                for value in few
            ]
            names = [f"{value:.10g}" for value in few]
            place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
            ax.legend(handles, names, title=self.label, frameon=False, **place)
        elif colours is not None and few is None:
            ax.figure.colorbar(self.points_, ax=ax, label=self.label)
        ax.set_xlabel(self.axis_names[0])
        ax.set_ylabel(self.axis_names[1])
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _values(
    color: Any, X: Any, eras: EraIndex | None, y: Any
) -> tuple[NDArray[np.float64], str]:
    """Return the values that colour the rows, and their name."""
    n = count_rows(X)
    if isinstance(color, str) and color == "era":
        if eras is None:
            raise ValueError(
                "color='era' needs eras: pass eras=, a frame with a column 'era', or "
                "another color."
            )
        numbers = np.where(eras.resolved, eras.numbers, np.nan)
        return numbers[eras.codes], "era"
    if isinstance(color, str) and color == "target":
        if y is None:
            raise ValueError("color='target' needs y, which is None.")
        return _one_a_row(y, n, "y"), str(getattr(y, "name", None) or "target")
    if isinstance(color, str) or (
        isinstance(color, Integral) and color is not True and color is not False
    ):
        return _column(X, color), str(color)
    return _one_a_row(color, n, "color"), str(getattr(color, "name", None) or "")


def _column(X: Any, name: Any) -> NDArray[np.float64]:
    """Return a column by its name, or by its position among the features."""
    features, _ = take_eras(X)
    names = column_names(features) if is_frame(features) else None
    if names is None:
        features = np.asarray(features)
    width = features.shape[1]
    if names is not None and name in names:
        return as_floats(features[name], str(name))
    if not isinstance(name, str) and -width <= int(name) < width:
        place = int(name)
        column = features[:, place] if names is None else features[names[place]]
        return as_floats(column, str(name))
    raise ValueError(
        f"color={name!r} is neither 'era', 'target' nor 'familiarity', nor one of "
        f"{width} columns of X, by name or position."
    )


def _familiarity(embedder: Any, features: Any, options: Any) -> NDArray[np.float64]:
    if not hasattr(embedder, "score_samples"):
        raise ValueError(
            f"color='familiarity' needs score_samples, which {type(embedder).__name__} "
            "does not have. Pass another embedder's numbers as color: "
            "DAEEmbedder().fit(X).score_samples(X)."
        )
    return np.asarray(embedder.score_samples(features, **options), np.float64)


def _one_a_row(values: Any, n: int, name: str) -> NDArray[np.float64]:
    numbers = as_floats(values, name)
    if numbers.shape != (n,):
        raise ValueError(
            f"{name} must have shape ({n},), one number a row; got {numbers.shape}."
        )
    return numbers
