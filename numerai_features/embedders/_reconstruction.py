"""Picture of rows or sequences that an embedder restores."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import COUNT, DRAWS, Each, Methods, Text, checked
from numerai_features._optional import import_optional
from numerai_features._validation import (
    as_frame,
    check_same_rows,
    resolve_generator,
    take_eras,
)

_NAMES = ("true", "corrupted", "restored", "error")
_COLOURS = ("#000000", "#E69F00", "#0072B2")  # of Okabe and Ito; they differ as greys
_FARTHEST = 2.5  # in standard deviations of a column: what is beyond has its colour
_HEIGHT, _WIDTH = 2.2, 3.0  # inches of a panel


class ReconstructionDisplay:
    """Picture of true, corrupted and restored rows, and of the errors.

    Create it with `from_estimator`. Rows are drawn as images, a row of the image for
    each; columns are standardised, so that they can be compared. Sequences are drawn as
    lines over their steps.

    Parameters
    ----------
    true, corrupted, restored : ndarray of shape (n_rows, n_features) or (n_sequences, \
            n_steps, n_features)
        What is to be restored, what the network was given, and what it made of it. NaN
        where there is nothing.
    feature_names : sequence of str, default=None
        Names of the features; None: their positions.
    estimator_name : str, default=None
        Title of the picture.

    Attributes
    ----------
    error : ndarray
        ``restored - true``.
    axes_ : ndarray of matplotlib Axes
        The axes of the last plot: four beside each other for rows; for sequences, two
        rows (the values, the error) and a column for each sequence and feature.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    DAEEmbedder : A network that restores rows.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import DAEEmbedder, ReconstructionDisplay
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> dae = DAEEmbedder(4, hidden=(32,), max_epochs=3, random_state=0)
    >>> dae = dae.fit(panel.X, eras=panel.eras)
    >>> display = ReconstructionDisplay.from_estimator(dae, panel.X, n_shown=30)
    >>> display.error.shape
    (30, 20)
    """

    @checked(feature_names=[Each(Text(), fewest=1), None], estimator_name=[str, None])
    def __init__(
        self,
        *,
        true: NDArray[Any],
        corrupted: NDArray[Any],
        restored: NDArray[Any],
        feature_names: Any = None,
        estimator_name: str | None = None,
    ) -> None:
        parts = {"true": true, "corrupted": corrupted, "restored": restored}
        shape = np.shape(true)
        for name, part in parts.items():
            numbers = getattr(part, "dtype", np.dtype(object)).kind in "biuf"
            if not numbers or len(shape) not in (2, 3) or np.shape(part) != shape:
                raise ValueError(
                    "true, corrupted and restored must be arrays of numbers of one "
                    "shape, (n_rows, n_features) or (n_sequences, n_steps, "
                    f"n_features); got {name} of shape {np.shape(part)} beside "
                    f"{shape}."
                )
        if not true.size:
            raise ValueError(f"true is empty, of shape {shape}: nothing to draw.")
        names = range(shape[-1]) if feature_names is None else feature_names
        if len(names) != shape[-1]:
            raise ValueError(
                f"feature_names must have a name for each of {shape[-1]} features; got "
                f"{len(names)}."
            )
        self.true, self.corrupted, self.restored = true, corrupted, restored
        self.error = restored - true.astype(restored.dtype)
        self.feature_names = [str(name) for name in names]
        self.estimator_name = estimator_name

    @classmethod
    @checked(
        estimator=[Methods(["reconstruct"])],
        n_shown=[COUNT, None],
        random_state=DRAWS,
    )
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        eras: Any = None,
        groups: Any = None,
        order: Any = None,
        corrupted: Any = None,
        n_shown: int | None = None,
        random_state: Any = 0,
        axes: Any = None,
    ) -> ReconstructionDisplay:
        """Corrupt rows as in training, let the network restore them, and draw both.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``reconstruct``.
        X : array-like
            What ``reconstruct`` takes: rows, or sequences. Steps that a shorter
            sequence of a list lacks are NaN at its end.
        eras : array-like of shape (n_rows,), default=None
            Era labels, for a network that needs them.
        groups, order : array-like of shape (n_rows,), default=None
            Sequences of rows and places in them, see `SequenceDAE`.
        corrupted : array-like, default=None
            Corrupted copy of X. None: X is corrupted as the network's parameters have
            it.
        n_shown : int, default=None
            Largest number of rows or sequences to draw, evenly spaced; None: 40 rows,
            or 2 sequences. All of X is restored, since an era may be needed as a whole.
        random_state : int, sequence of int, SeedSequence, BitGenerator, Generator, \
                RandomState or None, default=0
            Seed of the corruption.
        axes : array of matplotlib Axes, default=None
            See `plot`.

        Returns
        -------
        ReconstructionDisplay

        Raises
        ------
        ValueError
            If the shapes of X and of `corrupted` differ.
        ImportError
            If matplotlib is not installed.
        """
        check_same_rows(X=X, eras=eras, corrupted=corrupted)
        X, eras = take_eras(X, eras)
        options = {"eras": None if eras is None else np.asarray(eras)}
        options |= {"groups": groups, "order": order}
        known = signature(estimator.reconstruct).parameters
        for name, value in options.items():
            if name in ("groups", "order") and value is not None and name not in known:
                raise ValueError(
                    f"{name} is for sequences, which {type(estimator).__name__} does "
                    "not restore. Leave it out."
                )
        arguments = {name: options[name] for name in options if name in known}
        true = as_array(X)
        if corrupted is None:
            seed = int(resolve_generator(random_state).integers(1 << 31))
            corrupted = estimator._corrupt(X, seed)
        names = getattr(estimator, "feature_names_in_", None)
        names = None if names is None else [*names]
        given = as_array(corrupted)
        if given.shape != true.shape:
            raise ValueError(
                f"corrupted must have the shape of X, {true.shape}; got {given.shape}."
            )
        if names is not None:
            corrupted = _with_names(given, names)
        restored = as_array(estimator.reconstruct(corrupted, **arguments))
        most = n_shown or (40 if true.ndim == 2 else 2)
        shown = np.linspace(0, len(true) - 1, min(most, len(true))).astype(np.intp)
        display = cls(
            true=true[shown],
            corrupted=given[shown],
            restored=restored[shown],
            feature_names=names,
            estimator_name=type(estimator).__name__,
        )
        return display.plot(axes)

    def plot(self, axes: Any = None) -> ReconstructionDisplay:
        """Draw the picture.

        Parameters
        ----------
        axes : array of matplotlib Axes, default=None
            As many as `axes_`, in its order; None makes a new figure.

        Returns
        -------
        ReconstructionDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        options = {"extra": "plots", "needed_by": type(self).__name__}
        pyplot = import_optional("matplotlib.pyplot", **options)
        by_rows = self.true.ndim == 2
        shape = (1, 4) if by_rows else (2, len(self.true) * self.true.shape[2])
        if axes is None:
            size = (_WIDTH * shape[1], _HEIGHT * (shape[0] + by_rows))
            figure, axes = pyplot.subplots(
                *shape, figsize=size, layout="constrained", squeeze=False,
                sharex=by_rows or "col", sharey=by_rows,
            )  # fmt: skip
            figure.suptitle(self.estimator_name or "", x=0.01, ha="left")
        axes = np.asarray(axes, dtype=object)
        if axes.size != shape[0] * shape[1]:
            raise ValueError(
                f"axes must be {shape[0] * shape[1]} Axes, see `axes_`; got "
                f"{axes.size}."
            )
        axes = axes.reshape(shape)
        draw = self._draw_images if by_rows else self._draw_lines
        draw(axes)
        self.axes_ = axes[0] if by_rows else axes
        self.figure_ = axes[0, 0].figure
        return self

    def _draw_images(self, axes: NDArray[Any]) -> None:
        known = np.where(np.isfinite(self.true), self.true, np.nan).astype(np.float64)
        mean, scale = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        parts = [self.true, self.corrupted, self.restored]
        tables = [(part - mean) / scale for part in parts] + [self.error / scale]
        for ax, name, table in zip(axes[0], _NAMES, tables, strict=True):
            image = ax.imshow(
                table, cmap="RdBu_r", vmin=-_FARTHEST, vmax=_FARTHEST,
                aspect="auto", interpolation="none",
            )  # fmt: skip
            ax.set_title(name, loc="left")
            ax.set_xlabel("feature")
        axes[0, 0].set_ylabel("row")
        label = "standard deviations\nof the feature"
        axes[0, 0].figure.colorbar(image, ax=[*axes[0]], label=label)

    def _draw_lines(self, axes: NDArray[Any]) -> None:
        n_features = self.true.shape[2]
        for i, (above, below) in enumerate(axes.T):
            number, feature = divmod(i, n_features)
            parts = (self.true, self.corrupted, self.restored)
            for name, colour, part in zip(_NAMES, _COLOURS, parts, strict=False):
                look = "." if name == "corrupted" else "-"
                own = part[number, :, feature]
                above.plot(own, look, color=colour, label=name, linewidth=1.2)
            below.axhline(0, color="#999999", linewidth=0.8)
            below.plot(self.error[number, :, feature], color=_COLOURS[2])
            noise = self.corrupted - self.true.astype(self.error.dtype)
            below.plot(noise[number, :, feature], ".", color=_COLOURS[1])
            above.set_title(
                f"sequence {number}, {self.feature_names[feature]}", loc="left"
            )
            below.set_xlabel("step")
            for ax in (above, below):
                ax.spines[["top", "right"]].set_visible(False)
        axes[0, 0].set_ylabel("value")
        axes[1, 0].set_ylabel("less the true value")
        handles = axes[0, 0].get_legend_handles_labels()
        axes[0, -1].legend(
            *handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False
        )


def as_array(X: Any) -> NDArray[Any]:
    """Return rows or sequences as an array of numbers.

    A list of sequences becomes (n_sequences, n_steps, n_features), with NaN after the
    end of a shorter one.
    """
    frame = as_frame(X)
    if hasattr(frame, "shape"):
        return np.asarray(frame)
    if not isinstance(X, list | tuple) or not len(X) or np.ndim(X[0]) != 2:
        return np.asarray(X)
    tables = [np.asarray(take_eras(own)[0]) for own in X]
    lengths = {len(table) for table in tables}
    if len(lengths) == 1:
        return np.stack(tables)
    shape = (len(tables), max(lengths), tables[0].shape[1])
    out = np.full(shape, np.nan, np.result_type(np.float32, *tables))
    for place, table in zip(out, tables, strict=True):
        place[: len(table)] = table
    return out


def _with_names(given: NDArray[Any], names: list[Any]) -> Any:
    """Return rows as a frame, sequences as a list of frames without absent steps."""
    import pandas as pd

    if given.ndim == 2:
        return pd.DataFrame(given, columns=names)
    known = ~np.isnan(given).all(axis=2)
    lengths = given.shape[1] - known[:, ::-1].argmax(axis=1)
    return [
        pd.DataFrame(own[:n], columns=names)
        for own, n in zip(given, lengths, strict=True)
    ]
