"""Nearest neighbours among landmarks: exact in blocks, or approximate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import row_blocks
from numerai_features._optional import import_optional

if TYPE_CHECKING:
    import torch

Neighbors = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Indices and distances, each (n_rows, k), by ascending distance, without the row."""

Keep = Callable[[NDArray[np.intp], NDArray[np.int64]], None]
"""Takes a block of queries and their neighbours."""

# Rows and columns of a block of distances. On a CPU the block stays in the cache. A
# wide block needs fewer merges; but where the table is cast again for each block, many
# rows pay for the cast.
_BLOCK = {"cpu": (128, 32768), "cuda": (4096, 65536)}
_CAST_BLOCK = 1024, 8192
_KEPT_BYTES = 1 << 29  # of a byte table cast to floats
_STRIDES = 32
_SAMPLED, _TOLERANCE = 32, 1e-3  # number of rows; share of their squared distances


def exact_neighbors(
    Z: NDArray[Any],
    k: int,
    device: torch.device,
    groups: Sequence[NDArray[np.intp]] | None = None,
    *,
    progress: bool = False,
) -> Neighbors:
    """Return the k nearest other rows by Euclidean distance.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_axes)
        The search computes distances from differences of squares, in float64 where
        float32 could not distinguish near rows. The returned distances are computed
        again, directly.
    k : int
        Fewer than the rows of any group.
    device : torch.device
    groups : sequence of ndarray of int, default=None
        A partition of the rows; each row's neighbours are searched within its group.
        All rows are one group by default.
    progress : bool, default=False
        Whether to show a progress bar that counts pairs.
    """
    from tqdm import tqdm

    n = len(Z)
    index, distance = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    groups = [np.arange(n)] if groups is None else groups
    pairs = sum(len(rows) ** 2 for rows in groups)
    with tqdm(total=pairs, unit="pair", unit_scale=True, disable=not progress) as bar:

        def update(n_pairs: int) -> None:
            with tqdm.get_lock():  # all threads update one bar
                bar.update(n_pairs)

        for rows in groups:
            _find(Z[rows], rows, k, device, index, distance, update)
    return index, distance


def _find(
    table: NDArray[Any],
    rows: NDArray[np.intp],
    k: int,
    device: torch.device,
    index: NDArray[np.int64],
    distance: NDArray[np.float32],
    update: Callable[[int], object],
) -> None:
    """Write the neighbours within a group of rows, and their distances."""

    def keep(block: NDArray[np.intp], found: NDArray[np.int64]) -> None:
        nearest = _by_distance(table, block, found)
        index[rows[block]], distance[rows[block]] = rows[nearest[0]], nearest[1]

    _search(table, k, device, keep, update=update)


def approximate_neighbors(Z: NDArray[np.float32], k: int, seed: int) -> Neighbors:
    """Return k approximate nearest neighbours of each row, by pynndescent."""
    import torch

    pynndescent = import_optional(
        "pynndescent", extra="umap", needed_by="UMAPEmbedder with so many landmarks"
    )
    index, distance = pynndescent.NNDescent(
        Z, n_neighbors=k + 1, metric="euclidean", random_state=seed
    ).neighbor_graph
    # The row itself comes first, except among equal rows.
    own = index == np.arange(len(Z))[:, None]
    own[~own.any(axis=1), -1] = True
    shape = len(Z), k
    index = index[~own].reshape(shape).astype(np.int64)
    distance = distance[~own].reshape(shape)
    lacking = np.flatnonzero((index < 0).any(axis=1))  # pynndescent found too few

    def keep(block: NDArray[np.intp], near: NDArray[np.int64]) -> None:
        rows = lacking[block]
        index[rows], distance[rows] = _by_distance(Z, rows, near)

    _search(Z, k, torch.device("cpu"), keep, lacking)
    return index, distance


def recall(
    found: NDArray[np.int64],
    Z: NDArray[Any],
    rows: NDArray[np.intp],
    device: torch.device,
    codes: NDArray[np.int32] | None = None,
) -> float:
    """Return the share of some rows' exact neighbours that were found.

    Parameters
    ----------
    found : ndarray of shape (n_rows, k)
    Z : ndarray of shape (n_rows, n_axes)
        Coordinates for the distances.
    rows : ndarray of int
        Rows to evaluate.
    device : torch.device
    codes : ndarray of shape (n_rows,), default=None
        Neighbours have the row's code.
    """
    k = found.shape[1]
    was_found = np.zeros((len(rows), k), bool)
    codes = np.zeros(len(Z), np.int32) if codes is None else codes
    for code in np.unique(codes[rows]):
        mine, among = np.flatnonzero(codes[rows] == code), np.flatnonzero(codes == code)
        keep = partial(_compare, was_found, mine, found[rows[mine]], among)
        _search(Z[among], k, device, keep, np.searchsorted(among, rows[mine]))
    return float(was_found.mean())


def _compare(
    was_found: NDArray[np.bool_],
    mine: NDArray[np.intp],
    found: NDArray[np.int64],
    among: NDArray[np.intp],
    block: NDArray[np.intp],
    near: NDArray[np.int64],
) -> None:
    """Record which of the neighbours found for a block are among the nearest."""
    same = found[block][:, :, None] == among[near][:, None]
    was_found[mine[block]] = same.any(axis=2)


def _search(
    Z: NDArray[Any],
    k: int,
    device: torch.device,
    keep: Keep,
    queries: NDArray[np.intp] | None = None,
    update: Callable[[int], object] = lambda pairs: None,
) -> None:
    """Call `keep` for each block of queries with the k nearest rows of each query.

    Blocks are shared out among threads, and each thread calls `keep`.
    """
    if Z.dtype.kind == "f":
        Z = (Z - Z.mean(axis=0, dtype=np.float64)).astype(np.float32)
    queries = np.arange(len(Z)) if queries is None else queries
    if len(queries):
        precision = _precision(Z, k, device)
        _scan(Z, k, device, precision, queries, keep, update)


def _precision(Z: NDArray[Any], k: int, device: torch.device) -> torch.dtype:
    """Return the precision of the search: float32 where it distinguishes near rows."""
    import torch

    norms = np.concatenate(
        [
            np.square(Z[rows], dtype=np.float64).sum(axis=1)
            for rows in row_blocks(*Z.shape)
        ]
    )
    rounding = 2.0**-22 * norms.max()
    if Z.dtype.kind != "f" and rounding < 1:  # sums of whole numbers are exact
        return torch.float32
    sample = np.unique(np.linspace(0, len(Z) - 1, _SAMPLED).astype(np.intp))
    farthest = np.zeros(len(sample))

    def keep(block: NDArray[np.intp], near: NDArray[np.int64]) -> None:
        gap = Z[sample[block]].astype(np.float64) - Z[near[:, -1]]
        farthest[block] = (gap * gap).sum(axis=1)

    _scan(Z, k, device, torch.float64, sample, keep, lambda pairs: None)
    close = rounding > _TOLERANCE * np.median(farthest)
    return torch.float64 if close else torch.float32


def _scan(
    Z: NDArray[Any],
    k: int,
    device: torch.device,
    dtype: torch.dtype,
    queries: NDArray[np.intp],
    keep: Keep,
    update: Callable[[int], object],
) -> None:
    """Compare all queries with all rows, a block at a time."""
    import torch

    from numerai_features.nn._threads import each

    def beside_squares(start: int) -> torch.Tensor:
        """Return rows with the sum of their squares as an extra column."""
        x = floats(slice(start, start + columns))
        return torch.cat([x, (x * x).sum(1, keepdim=True)], dim=1)

    def floats(rows: slice | NDArray[np.intp]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(Z[rows])).to(device, dtype)

    n = len(Z)
    kept = Z.dtype.itemsize > 1 or 4 * Z.size <= _KEPT_BYTES
    rows, columns = _BLOCK[device.type] if kept else _CAST_BLOCK
    starts = range(0, n, columns)
    others = [beside_squares(start) for start in starts if kept]

    def compare(first: int) -> None:
        mine = queries[first : first + rows]
        x = floats(mine)
        # The query's own square is left out: it does not depend on the other row.
        x = torch.cat([-2 * x, torch.ones_like(x[:, :1])], dim=1)
        best: list[torch.Tensor] = []
        buffer = torch.empty(len(x) * min(columns, n), device=device, dtype=dtype)
        for i, start in enumerate(starts):
            part = others[i] if kept else beside_squares(start)
            distance = buffer[: len(mine) * len(part)].view(len(mine), -1)
            torch.mm(x, part.T, out=distance)
            own = np.flatnonzero((mine >= start) & (mine < start + len(part)))
            at = torch.from_numpy(own), torch.from_numpy(mine[own] - start)
            distance[at] = torch.inf
            values, places = _smallest(distance, k)
            places = places + start
            if best:
                values = torch.cat([best[0], values], dim=1)
                places = torch.cat([best[1], places], dim=1)
                values, order = values.topk(min(k, values.shape[1]), largest=False)
                places = places.gather(1, order)
            best = [values, places]
            update(len(mine) * len(part))
        order = best[0].argsort(dim=1)
        near = best[1].gather(1, order).cpu().numpy()
        keep(np.arange(first, first + len(mine)), near)

    blocks = range(0, len(queries), rows)
    if device.type == "cpu":
        each(compare, blocks)
    else:
        for first in blocks:
            compare(first)


def _smallest(distance: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k smallest values of each row, or all if there are fewer.

    The columns form strides of 32 columns each: the k smallest values of a row lie in
    the k strides with the smallest minima. So only 32 k columns are sorted.
    """
    import torch

    n, width = distance.shape
    n_strides = width // _STRIDES
    if n_strides < 2 * k:
        k = min(k, width)
        return distance.topk(k, largest=False, sorted=False)
    whole = n_strides * _STRIDES
    least = distance[:, :whole].view(n, _STRIDES, n_strides).amin(1)
    chosen = least.topk(k, largest=False, sorted=False).indices
    steps = torch.arange(_STRIDES, device=distance.device) * n_strides
    columns = (chosen[:, :, None] + steps).flatten(1)
    rest = torch.arange(whole, width, device=distance.device).expand(n, -1)
    columns = torch.cat([columns, rest], dim=1)
    values, order = distance.gather(1, columns).topk(k, largest=False, sorted=False)
    return values, columns.gather(1, order)


def _by_distance(
    Z: NDArray[Any], rows: NDArray[np.intp], near: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return neighbours in the order of their distances, and the distances."""
    distance = np.empty(near.shape, np.float32)
    # float64: relative to one far row, all other rows may be near each other.
    mine = Z[rows].astype(np.float64 if Z.dtype.itemsize > 1 else np.float32)
    for j in range(near.shape[1]):
        gap = mine - Z[near[:, j]]
        distance[:, j] = np.sqrt(np.einsum("ij,ij->i", gap, gap))
    # Rows at equal distances are ordered by their index.
    order = np.lexsort((near, distance), axis=1)
    return (
        np.take_along_axis(near, order, axis=1),
        np.take_along_axis(distance, order, axis=1),
    )
