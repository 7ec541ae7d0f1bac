"""Rows of a panel as a table that is read only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numerai_features._blocks import as_slice
from numerai_features._eras import era_label
from numerai_features._validation import frame_of

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.datasets._panel import EraPanel


class PanelRows:
    """Rows of a panel as a table X: what `EraPanel.as_X` returns.

    Cross-validation and searches of scikit-learn select rows of it, and get another
    such table; no cell is copied. Estimators of this package take it as a frame with
    the panel's feature names and the column ``era``. For other estimators it is an
    array of the panel's type, without eras.

    Rows that lie next to each other are then a view of the panel. Other rows, such as
    those of most folds, are copied: for a panel on disk, into a file without a name in
    the panel's folder, which takes disk and vanishes with the table. A pickle, such as
    joblib's processes get, holds the panel's path and the numbers of the rows.

    Parameters
    ----------
    panel : EraPanel
        The panel.
    rows : slice or ndarray of int, default=None
        Rows of the panel; all by default.

    Attributes
    ----------
    panel : EraPanel
        The panel.
    shape : tuple of int
        (n_rows, n_features).
    dtype : dtype
        int8, or uint8 as the panel's.
    eras : ndarray of shape (n_rows,), int32
        Era number of each row.
    era_labels : ndarray of shape (n_rows,), object
        Each row's era as Numerai writes it.

    See Also
    --------
    EraPanel.select : Some eras or features of a panel, as a panel.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.model_selection import cross_val_score
    >>> from numerai_features import EraKFold, make_era_panel
    >>> panel = make_era_panel(n_eras=20, rows_per_era=50, random_state=0)
    >>> X, y = panel.as_X(), panel.y("target_alpha_20")
    >>> X[:100]
    PanelRows(n_rows=100, n_features=60)
    >>> len(cross_val_score(Ridge(), X, y, cv=EraKFold(3, purge=1)))
    3
    """

    ndim = 2

    def __init__(
        self, panel: EraPanel, rows: slice | NDArray[np.intp] | None = None
    ) -> None:
        self.panel = panel
        # A slice of ascending rows, or their numbers.
        self._rows = slice(0, panel.n_rows) if rows is None else rows
        self._array: NDArray[Any] | None = None
        self._labels: NDArray[np.object_] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        return len(self), self.panel.n_features

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the cells."""
        return self.panel._X.dtype

    @property
    def eras(self) -> NDArray[np.int32]:
        """Era number of each row."""
        return self.panel.eras[self._rows]

    def __len__(self) -> int:
        rows = self._rows
        return rows.stop - rows.start if isinstance(rows, slice) else len(rows)

    def __getitem__(self, key: Any) -> Any:
        """Return some rows as such a table; one row, or some columns, as an array."""
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, tuple) or (np.ndim(key) == 0 and not isinstance(key, slice)):
            return np.asarray(self)[key]
        if isinstance(self._rows, slice):
            start, stop = self._rows.start, self._rows.stop
            if isinstance(key, slice) and key.step in (None, 1):
                first, last, _ = key.indices(stop - start)
                rows = slice(start + first, start + max(first, last))
                return PanelRows(self.panel, rows)
            numbers = np.arange(start, stop)[key]
        else:
            numbers = self._rows[key]
        if numbers.ndim != 1:
            raise IndexError(
                f"rows of a panel must be selected by a list of them; got shape "
                f"{numbers.shape}."
            )
        return PanelRows(self.panel, as_slice(numbers))

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        if self._array is None:
            self._array = self.panel._take(self._rows)
        array = self._array.view()
        array.flags.writeable = False
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(
                    f"the rows are {array.dtype}: as {np.dtype(dtype)} they must be "
                    "copied."
                )
            return array.astype(dtype)
        return array.copy() if copy else array

    def __numerai_frame__(self) -> tuple[pd.DataFrame, NDArray[np.object_]]:
        """Return a frame that shares the rows' memory, and each row's era.

        This package's estimators take it as a frame with the column ``era``.
        """
        names = self.panel.feature_names
        return frame_of(np.asarray(self), columns=names), self.era_labels

    def __numerai_ids__(self) -> Any:
        """Return the ids of the rows as an index of pandas; None if there are none.

        This package compares them with those of a target, and finds the rows of a
        benchmark by them.
        """
        import pandas as pd
        import pyarrow as pa

        ids = self.panel._id_array()
        if ids is None:
            return None
        rows = self._rows
        ids = ids[rows] if isinstance(rows, slice) else ids.take(pa.array(rows))
        return pd.Index(ids.to_numpy(zero_copy_only=False), name="id")

    @property
    def era_labels(self) -> NDArray[np.object_]:
        """Each row's era as Numerai writes it, such as ``"0001"`` or ``"X"``."""
        if self._labels is None:
            numbers, places = np.unique(self.eras, return_inverse=True)
            labels = np.array([era_label(int(n)) for n in numbers], object)
            self._labels = labels[places]
        return self._labels

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_array": None, "_labels": None}

    def __repr__(self) -> str:
        return f"PanelRows(n_rows={len(self)}, n_features={self.panel.n_features})"
