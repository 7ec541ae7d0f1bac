"""What a cache on disk is looked up by."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import row_blocks
from numerai_features._validation import as_frame, column_names, is_frame


def open_memory(memory: Any) -> joblib.Memory:
    """Return the cache of a parameter ``memory``: a folder, a Memory or None."""
    from sklearn.utils.validation import check_memory

    if isinstance(memory, os.PathLike):
        memory = os.fspath(memory)
    return check_memory(memory)


def fingerprint(*values: Any) -> str:
    """Return a hash of tables and other values by their contents.

    A memory-mapped table has the hash of the same table in memory, and a frame is
    hashed a column at a time: neither is copied.

    Parameters
    ----------
    *values : array-like, frame or anything that can be pickled

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np
    >>> X = np.arange(6, dtype=np.int8).reshape(3, 2)
    >>> fingerprint(X) == fingerprint(X.copy()), fingerprint(X) == fingerprint(X + 1)
    (True, False)
    """
    return str(joblib.hash([_hashed(as_frame(value)) for value in values]))


def hash_rows(X: NDArray[Any]) -> str:
    """Return a hash of all cells of a table; a block of rows is read at a time.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        In memory or mapped.

    Returns
    -------
    str
    """
    digest = hashlib.blake2b(f"{X.shape} {X.dtype.str}".encode(), digest_size=32)
    for rows in row_blocks(*X.shape):
        digest.update(np.ascontiguousarray(X[rows]).view(np.uint8).data)
    return digest.hexdigest()


def _hashed(value: Any) -> Any:
    if is_frame(value):
        names = column_names(value)
        return [[str(name), _hashed(value[name])] for name in names]
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "O":
        # equal texts are not always the same object, which pickles would tell apart
        value = np.array([repr(item) for item in value.ravel()])
    return str(joblib.hash(value, coerce_mmap=True))
