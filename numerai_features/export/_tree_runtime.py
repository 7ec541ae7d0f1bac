"""Trees by numpy alone: the source of this module goes into the exported file.

It holds for Python 3.10 and numpy 1.26 and needs nothing else. Its names begin with
``tree`` or ``TREE``, for it shares a namespace with the rest of the exported source.

Rows stand in bits. Each distinct condition of the forest, a feature and a threshold, is
asked once for a block of rows and gives one bit a row. Which rows reach a node is then
the AND of its parent's bits with the condition's: 64 rows in one word, all trees of a
batch at once, level by level. The leaves of a tree are numbered, and each bit of the
number is the OR of the rows of few nodes. So the 30 comparisons of a row with a tree of
31 leaves become 5 bits, which pick the leaf's value; no row is led through a tree.

The values are added tree by tree in the library's own precision and order: the sums are
the library's to the last bit.
"""

from typing import Any

import numpy as np

TREE_ROWS = 8192  # at once: 1 KiB a condition
TREE_COLUMNS = 64  # transposed at once
TREE_ASKED = 512  # thresholds of a column at once: 4 MiB
TREE_NODES = 256  # whose rows are joined at once
TREE_INTEGERS = 2**24  # beyond, float32 rounds
TREE_ZERO = float(np.float32(1e-35))  # LightGBM: as near to zero is zero


def tree_predict(tables: dict[str, Any], X: np.ndarray) -> np.ndarray:
    """Return the predictions of a forest, in the library's precision.

    Parameters
    ----------
    tables : dict
        What ``tree_tables`` returned.
    X : ndarray of shape (n_samples, n_features)
        Features in the order of the fit: integers, booleans or floats.

    Returns
    -------
    ndarray of shape (n_samples,)
        Of float64 as LightGBM's, of float32 as XGBoost's.
    """
    tree_check(tables, X)
    total = np.full(len(X), tables["start"], dtype=tables["dtype"])
    for start in range(0, len(X), TREE_ROWS):
        rows = slice(start, start + TREE_ROWS)
        for group in tables["groups"]:
            conditions = tree_conditions(tables, group, X[rows])
            for batch in group["batches"]:
                tree_add(total[rows], conditions, batch)
    if tables["divide"] > 1:
        total /= tables["divide"]
    return total


def tree_check(tables: dict[str, Any], X: np.ndarray) -> None:
    """Refuse what the library would read otherwise, or not at all."""
    if not isinstance(X, np.ndarray) or X.ndim != 2:
        raise TypeError(
            f"The trees take a two-dimensional numpy array; got {type(X).__name__} of "
            f"shape {np.shape(X)}."
        )
    if X.shape[1] != tables["n_features"]:
        raise ValueError(
            f"The trees were fitted on {tables['n_features']} features; got "
            f"{X.shape[1]}. Pass the same features in the same order."
        )
    if X.dtype.kind not in "biuf" or X.dtype.itemsize > 8:
        raise TypeError(
            f"The trees take integers, booleans or floats up to float64; got "
            f"{X.dtype}. Convert the features to float32."
        )
    if X.dtype.kind in "iu" and X.dtype.itemsize >= 4 and X.size:
        if X.max() > TREE_INTEGERS or X.min() < -TREE_INTEGERS:
            raise ValueError(
                "The trees take integers up to 2 ** 24, which float32 holds exactly; "
                f"got values from {X.min()} to {X.max()}. Convert them to float64."
            )


def tree_conditions(
    tables: dict[str, Any], group: dict[str, Any], X: np.ndarray
) -> np.ndarray:
    """Return which rows go left by each condition: bits of shape (n, words)."""
    n_rows = len(X)
    words = -(-n_rows // 64)
    bits = np.zeros((group["n_conditions"], words), dtype=np.uint64)
    octets = bits.view(np.uint8)[:, : -(-n_rows // 8)]
    columns = tree_array(group["columns"], "int32")
    as_missing = tree_array(group["zero_is_missing"], "bool")
    stops = tree_array(group["stops"], "int32")
    thresholds = tree_array(group["thresholds"], tables["dtype"])[:, None]
    missing_left = tree_array(group["missing_left"], "bool")[:, None]
    ask = np.less if tables["strict"] else np.less_equal
    first = 0
    for start in range(0, len(columns), TREE_COLUMNS):
        values = tree_values(tables, X, columns[start : start + TREE_COLUMNS])
        for j, column in enumerate(values, start):
            if as_missing[j]:
                column = np.where(np.abs(column) <= TREE_ZERO, np.nan, column)
            absent = np.isnan(column)
            has_gaps = absent.any()
            for some in range(first, stops[j], TREE_ASKED):
                here = slice(some, min(some + TREE_ASKED, stops[j]))
                left = ask(column, thresholds[here])
                if has_gaps:
                    left |= absent & missing_left[here]
                octets[here] = np.packbits(left, axis=1, bitorder="little")
            first = stops[j]
    for column, categories in group["categorical"]:
        [value] = tree_values(tables, X, np.array([column]))
        left = np.isin(np.trunc(value), categories)
        octets[first] = np.packbits(left, bitorder="little")
        first += 1
    return bits


def tree_values(
    tables: dict[str, Any], X: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Return columns one after another in the library's precision, gaps as NaN."""
    with np.errstate(over="ignore"):  # beyond float32 is infinite, as in XGBoost
        values = X[:, columns].T.astype(tables["dtype"], order="C")
    if tables["missing"] is not None:
        values[values == tables["missing"]] = np.nan
    return values


def tree_add(total: np.ndarray, conditions: np.ndarray, batch: dict[str, Any]) -> None:
    """Add the values of a batch of trees to the rows' sums, tree by tree."""
    reached = np.empty((batch["n_nodes"], conditions.shape[1]), dtype=np.uint64)
    reached[0] = 0  # no row, where a tree has fewer nodes than another
    reached[1] = ~reached[0]  # all rows are at the roots
    stop = 2
    for parents, asked, n_right in batch["levels"]:
        above = reached[tree_array(parents, "int32")]
        left = reached[stop : stop + len(above)]
        np.bitwise_and(above, conditions[tree_array(asked, "int32")], out=left)
        stop += len(above)
        right = reached[stop : stop + n_right]
        np.bitwise_xor(above[:n_right], left[:n_right], out=right)
        stop += n_right
    stops = tree_array(batch["stops"], "int32")
    leaves = tree_array(batch["leaves"], total.dtype.name)
    numbers = tree_numbers(reached, batch["bits"], len(stops), len(total))
    first = 0
    for number, stop in zip(numbers, stops, strict=True):
        total += leaves[first:stop][number]
        first = stop


def tree_numbers(
    reached: np.ndarray, bits: list[bytes], n_trees: int, n_rows: int
) -> np.ndarray:
    """Return the number of the leaf that each row falls into: (n_trees, n_rows)."""
    dtype = np.uint8 if len(bits) <= 8 else np.uint16 if len(bits) <= 16 else np.uint32
    numbers = np.zeros((n_trees, n_rows), dtype=dtype)
    at_once = max(1, TREE_NODES // n_trees)
    for nodes in bits:  # the highest bit first
        members = tree_array(nodes, "int32").reshape(-1, n_trees)
        rows = np.zeros((n_trees, reached.shape[1]), dtype=np.uint64)
        for some in range(0, len(members), at_once):
            held = reached[members[some : some + at_once]]
            rows |= np.bitwise_or.reduce(held, axis=0)
        numbers <<= 1
        numbers |= np.unpackbits(
            rows.view(np.uint8), axis=1, count=n_rows, bitorder="little"
        )
    return numbers


def tree_array(data: bytes, dtype: str) -> np.ndarray:
    """Return the numbers that `data` holds as bytes."""
    return np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<"))
