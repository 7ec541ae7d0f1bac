"""The truth of a synthetic panel, in memory and in a file beside the panel."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import era_label
from numerai_features._sealed import (
    SealError,
    begins_as_sealed,
    read_sealed,
    write_sealed,
)
from numerai_features._validation import read_only
from numerai_features.datasets._arguments import PathLike, check_path
from numerai_features.datasets._panel import EraPanel
from numerai_features.datasets._panel_select import select_eras

_KIND = "truth"
_AGAIN = "Make the panel again with make_era_panel(..., path=, return_truth=True)."


@dataclass(frozen=True, eq=False, repr=False)
class SyntheticTruth:
    r"""The signals and the expected targets of each row of a synthetic panel.

    The expectations are over all draws of the market: the weekly factor returns and the
    noise. The rows, their factors and the premia are fixed. From these expectations,
    `expected_scores` computes the expected scores of any predictions.

    Attributes
    ----------
    eras : ndarray of shape (n_rows,), int32
        Era number of each row. Each era has all of its rows.
    ids : ndarray of shape (n_rows,), object
        Row ids of the panel.
    signals : ndarray of shape (n_rows, 3 * n_factors), float32
        Signals that the factor returns multiply: the factors (`factors`), functions of
        them, and combinations of the features' idiosyncratic parts.
    expected_targets : ndarray of shape (n_rows, n_targets), float32
        :math:`E[y]`, from 0 to 1: the prediction with the best expected BMC and squared
        error.
    expected_corr_targets : ndarray of shape (n_rows, n_targets), float32
        :math:`E[g(y)]`, where :math:`g` is the transform that CORR applies to an era's
        targets: :math:`\mathrm{sign}(y - \bar y)\, |y - \bar y|^{1.5}`, centred and
        divided by its standard deviation. It is close to the prediction with the best
        expected CORR.
    target_names : tuple of str
        Column names of `expected_targets` and `expected_corr_targets`.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> panel, truth = make_era_panel(n_eras=6, rows_per_era=50, return_truth=True,
    ...                               random_state=0)
    >>> truth
    SyntheticTruth(n_rows=300, n_factors=8, n_targets=4)
    >>> test = truth.select(first=5)
    >>> test.signals.shape, test.expected_targets.shape
    ((100, 24), (100, 4))
    """

    eras: NDArray[np.int32]
    ids: NDArray[np.object_]
    signals: NDArray[np.float32]
    expected_targets: NDArray[np.float32]
    expected_corr_targets: NDArray[np.float32]
    target_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __setstate__(self, state: dict[str, Any]) -> None:
        # unpickled arrays are writable again
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    @property
    def factors(self) -> NDArray[np.float32]:
        """The true factors, (n_rows, n_factors): the first third of the signals."""
        return self.signals[:, : self.signals.shape[1] // 3]

    def __len__(self) -> int:
        return len(self.eras)

    def __repr__(self) -> str:
        return (
            f"SyntheticTruth(n_rows={len(self)}, n_factors={self.factors.shape[1]}, "
            f"n_targets={len(self.target_names)})"
        )

    def select(
        self,
        eras: Any = None,
        *,
        every: int | None = None,
        first: Any = None,
        last: Any = None,
    ) -> SyntheticTruth:
        """Return the truth of some eras, chosen as in `EraPanel.select`.

        Parameters
        ----------
        eras, every, first, last
            As in `EraPanel.select`.

        Returns
        -------
        SyntheticTruth
        """
        numbers, codes = np.unique(self.eras, return_inverse=True)
        kept = select_eras(numbers, eras, every=every, first=first, last=last)
        return self._at(np.isin(codes, kept))

    def take(self, rows: Any) -> SyntheticTruth:
        """Return the truth of some rows, in the given order.

        Parameters
        ----------
        rows : slice, or array-like of int or bool
            Positions, or a mask. They must have all rows of an era, or none: a target
            is a rank among the rows of its era.

        Returns
        -------
        SyntheticTruth

        Raises
        ------
        ValueError
            If a row occurs twice, or an era lacks some of its rows.
        IndexError
            If a position is out of range.
        """
        positions = np.arange(len(self))[
            rows if isinstance(rows, slice) else _rows(rows)
        ]
        if len(np.unique(positions)) < len(positions):
            raise ValueError("rows has a row more than once; pass each row once.")
        taken = self._at(positions)
        eras, found = np.unique(taken.eras, return_counts=True)
        counts = np.isin(self.eras, eras)
        there = np.unique(self.eras[counts], return_counts=True)[1]
        if (found < there).any():
            at = int(np.argmax(found < there))
            raise ValueError(
                f"rows has {found[at]} of the {there[at]} rows of era "
                f"{era_label(int(eras[at]))!r}. A target is a rank among all rows of "
                "its era: pass all rows of an era, or none."
            )
        return taken

    @classmethod
    def open(cls, panel: EraPanel | PathLike) -> SyntheticTruth:
        """Read the truth of a panel that was written to a folder.

        `make_era_panel` with ``path=`` and ``return_truth=True`` writes it beside the
        folder, in a file with the folder's name and the suffix ``.truth``.

        Parameters
        ----------
        panel : EraPanel, str or path-like
            The panel, consecutive eras of it, or its folder.

        Returns
        -------
        SyntheticTruth
            The truth of the panel's rows.

        Raises
        ------
        FileNotFoundError
            If there is no panel, or it has no truth.
        ValueError
            If the panel is in memory; or the file is damaged, belongs to another panel,
            or was written by another version of this library.
        """
        if not isinstance(panel, EraPanel):
            panel = EraPanel.open(check_path(panel, "panel"))
        source = panel._source
        if source is None:
            raise ValueError(
                "panel is in memory, so it has no file with its truth. Open the panel "
                "from its folder, or keep the truth that make_era_panel returned."
            )
        file = truth_file(source.path)
        key = _key_of(source.checksums)
        try:
            record, arrays = read_sealed(file, kind=_KIND, key=key, read=_load)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{source.path} has no truth beside it: there is no {file.name}. "
                f"{_AGAIN}"
            ) from None
        except SealError as error:
            raise ValueError(f"{error} {_AGAIN}") from error
        truth = cls(**arrays, target_names=tuple(record["target_names"]))
        rows = slice(source.start, source.stop)
        return truth if len(truth) == panel.n_rows else truth._at(rows)

    def _save(self, panel: EraPanel) -> None:
        """Write the truth beside the folder of its panel."""
        source = panel._source
        if source is None:
            raise ValueError("A panel in memory has no folder.")
        write_sealed(
            truth_file(source.path),
            {"target_names": self.target_names},
            kind=_KIND,
            key=_key_of(source.checksums),
            write=self._write,
        )

    def _write(self, stream: IO[bytes]) -> None:
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _NUMBERS}
        arrays["ids"] = _as_bytes(self.ids)
        stream.write(save(arrays))

    def _at(self, rows: Any) -> SyntheticTruth:
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return SyntheticTruth(**arrays, target_names=self.target_names)


_NUMBERS = ("eras", "signals", "expected_targets", "expected_corr_targets")
_ARRAYS = (*_NUMBERS, "ids")


def truth_file(folder: Path) -> Path:
    """Return the file beside a panel's folder that holds its truth."""
    folder = folder.resolve()  # if it is a link, the file is beside the link's target
    return folder.with_name(f"{folder.name}.truth")


def check_truth_file(path: Path) -> None:
    """Raise if the truth of a panel would replace a file of the user's."""
    file = truth_file(path)
    if file.exists() and not begins_as_sealed(file):
        raise FileExistsError(
            f"{file} exists, and this library did not write it, so the truth does not "
            "replace it. Pass another path, or move the file elsewhere."
        )


def _key_of(checksums: dict[str, Any]) -> str:
    """Return a hash of a panel's checksums, which binds the truth to the panel."""
    text = json.dumps(checksums, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _rows(given: Any) -> NDArray[Any]:
    rows: NDArray[Any] = np.asarray(given)
    if rows.ndim != 1 or rows.dtype.kind not in "iub" or not rows.size:
        raise ValueError(
            "rows must be a slice, positions, or one True or False per row; got "
            f"{rows.dtype} of shape {rows.shape}."
        )
    return rows


def _as_bytes(ids: NDArray[np.object_]) -> NDArray[np.uint8]:
    """Return ASCII ids as an array of bytes, (n_rows, length of the longest id)."""
    text = ids.astype(np.bytes_)
    return np.frombuffer(text.tobytes(), np.uint8).reshape(len(ids), -1)


def _load(stream: IO[bytes]) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load

    arrays: dict[str, NDArray[Any]] = load(stream.read())
    letters = np.ascontiguousarray(arrays["ids"])
    text = letters.view(f"S{letters.shape[1]}").reshape(-1)
    return arrays | {"ids": text.astype(np.str_).astype(object)}
