"""Blocks of rows whose latents do not depend on the rows of other blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sklearn.preprocessing import FunctionTransformer

from numerai_features._blocks import row_blocks
from numerai_features._eras import EraIndex
from numerai_features._latents import works_by_era

BLOCK_ROWS = 1 << 16

_KNOWN = ("numerai_features", "sklearn")  # each row alone, or beside those of its era


def independent_blocks(
    embedders: Sequence[tuple[str, Any]], n_rows: int, eras: EraIndex | None
) -> Iterator[slice]:
    """Yield the blocks in which rows are transformed.

    The last bits of a matrix product may depend on which rows are multiplied together.
    So the blocks depend on nothing but the eras and the kind of the embedders, and
    latents that are written in blocks equal those of a table.

    Parameters
    ----------
    embedders : sequence of (str, estimator)
        Fitted embedders.
    n_rows : int
    eras : EraIndex or None
    """
    every = slice(0, n_rows)
    if n_rows <= BLOCK_ROWS or not all(_is_known(e) for _, e in embedders):
        yield every
    elif not any(works_by_era(embedder) for _, embedder in embedders):
        yield from row_blocks(n_rows, 1, BLOCK_ROWS)
    elif eras is None or not eras.contiguous:
        yield every
    else:
        yield from _whole_eras(eras)


def _whole_eras(eras: EraIndex) -> Iterator[slice]:
    """Yield blocks of as many eras as fit, of one at least; eras are slices."""
    start = stop = 0
    for _, era in eras.rows_by_era():
        assert isinstance(era, slice)
        if era.stop - start > BLOCK_ROWS and stop > start:
            yield slice(start, stop)
            start = stop
        stop = era.stop
    yield slice(start, stop)


def _is_known(embedder: Any) -> bool:
    """Whether an embedder, with all its parts, is of libraries that look at no others.

    A function may do anything.
    """
    parts = [embedder]
    if hasattr(embedder, "get_params"):
        parts += embedder.get_params(deep=True).values()
    return all(
        type(part).__module__.partition(".")[0] in _KNOWN
        and not isinstance(part, FunctionTransformer)
        for part in parts
        if hasattr(part, "transform")
    )
