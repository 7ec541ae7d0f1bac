"""Copying a panel, or a part of it, to a folder, one block of rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features.datasets._arguments import PathLike, check_strings
from numerai_features.datasets._metadata import check_known
from numerai_features.datasets._panel_sums import READ_BYTES
from numerai_features.datasets._panel_writer import PanelWriter

if TYPE_CHECKING:
    from numerai_features.datasets._panel import EraPanel


def save_rows(
    panel: EraPanel,
    path: PathLike,
    slices: list[slice],
    columns: NDArray[np.intp] | None,
    targets: Sequence[str] | None,
    *,
    overwrite: bool,
) -> None:
    """Write rows, features and targets of a panel; see `EraPanel.save`."""
    features, names = panel.feature_names, panel.target_names
    if columns is not None:
        features = [features[j] for j in columns]
    which: Any = slice(None)
    if targets is not None:
        names = check_strings(targets, "targets")
        check_known(names, panel.target_names, what="is no target of this panel")
        which = [panel.target_names.index(name) for name in names]
    with PanelWriter(
        path,
        n_rows=sum(rows.stop - rows.start for rows in slices),
        feature_names=features,
        target_names=names,
        overwrite=overwrite,
        dtype=panel._X.dtype.name,
        info=panel.info,
    ) as writer:
        ids = panel._id_array()
        step = max(1, READ_BYTES // panel.n_features)
        place = 0
        for part in slices:
            for start in range(part.start, part.stop, step):
                rows = slice(start, min(start + step, part.stop))
                X = panel._X[rows]
                writer.write(
                    slice(place, place + len(X)),
                    X if columns is None else np.take(X, columns, axis=1),
                    panel._eras[rows],
                    panel._targets[rows][:, which],
                    None if ids is None else ids[rows],
                )
                place += len(X)
