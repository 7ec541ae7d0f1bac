"""Results on disk, keyed by everything that they depend on."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import joblib
import numpy as np
from numpy.typing import NDArray

from numerai_features import __version__
from numerai_features._blocks import row_blocks
from numerai_features._sealed import SealError, read_sealed, set_aside, write_sealed
from numerai_features._validation import as_frame, column_names, is_frame
from numerai_features._warn import warn
from numerai_features._whole import sweep_all

# Libraries that may change the last bits of results, and their package names.
_LIBRARIES = {
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "scikit-learn": ("scikit-learn",),
    "torch": ("torch",),
    "lightgbm": ("lightgbm",),
    "xgboost": ("xgboost", "xgboost-cpu"),
}


@dataclass(frozen=True)
class Cache:
    """A folder of results, each in a sealed file named by a hash.

    A damaged result is set aside with a warning and made again. A result that cannot be
    stored, for instance on a full disk, is used with a warning. Interrupted work leaves
    no files. Several processes may use one folder.

    It can be passed as the ``memory`` of an estimator, also of scikit-learn's.

    Attributes
    ----------
    folder : Path
        The folder of the results.
    """

    folder: Path

    def recall(
        self,
        kind: str,
        parts: tuple[Any, ...],
        make: Callable[[], Any],
        *,
        write: Callable[[IO[bytes], Any], object],
        read: Callable[[IO[bytes]], Any],
    ) -> Any:
        """Return a stored result, or make it and store it.

        Parameters
        ----------
        kind : str
            Kind of result; also the extension of its file.
        parts : tuple
            Everything that the result depends on, as arguments of `fingerprint`. The
            versions of this package and its libraries are added.
        make : callable
            Makes the result.
        write : callable
            Called with a binary stream and the result.
        read : callable
            Called with a binary file, positioned at the start of the result.

        Returns
        -------
        object
        """
        key = fingerprint(kind, *parts, sorted(versions().items()))
        file = self.folder / f"{key}.{kind}"
        try:
            return read_sealed(file, kind=kind, key=key, read=read)[1]
        except (FileNotFoundError, NotADirectoryError):
            pass
        except SealError as error:
            with contextlib.suppress(OSError):  # a read-only folder, for instance
                set_aside(file, error)
        except OSError as error:  # possibly temporary: the file may be good
            warn(
                f"{file} cannot be read ({error}). It is left as it is, and its result "
                "is made again.",
                RuntimeWarning,
            )
            return make()
        result = make()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_sealed(
                file, None, kind=kind, key=key, write=lambda s: write(s, result)
            )
        except Exception as error:  # whatever the error, the result is good
            warn(
                f"A result cannot be stored in {self.folder} "
                f"({str(error) or type(error).__name__}). It is used now, and made "
                "again next time.",
                RuntimeWarning,
            )
        return result

    def recall_array(
        self, kind: str, parts: tuple[Any, ...], make: Callable[[], NDArray[Any]]
    ) -> NDArray[Any]:
        """Return an array as `recall` does; its file contains data only, no code."""
        result: NDArray[Any] = self.recall(
            kind, parts, make, write=_write_array, read=_read_array
        )
        return result

    def recall_object(
        self, kind: str, parts: tuple[Any, ...], make: Callable[[], Any]
    ) -> Any:
        """Return any object as `recall` does; its file is a pickle."""
        return self.recall(kind, parts, make, write=_write_pickle, read=_read_pickle)

    def cache(
        self, function: Callable[..., Any], ignore: Sequence[str] = ()
    ) -> Callable[..., Any]:
        """Return a function that stores its results, as `joblib.Memory` does.

        Parameters
        ----------
        function : callable
        ignore : sequence of str, default=()
            Arguments that results do not depend on.

        Returns
        -------
        callable
        """
        name = f"{function.__module__}.{function.__qualname__}"
        signature = inspect.signature(function)

        @functools.wraps(function)
        def cached(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            parts = {k: v for k, v in given.items() if k not in ignore}
            make = functools.partial(function, *args, **kwargs)
            return self.recall_object("call", (name, *parts, *parts.values()), make)

        return cached


def open_cache(memory: Any) -> Cache | None:
    """Return the cache of a parameter ``memory``; None if there is none.

    Leftovers of killed writers in its folder are removed. For a `joblib.Memory`,
    results are stored in the folder that its ``clear()`` removes.

    Parameters
    ----------
    memory : path, joblib.Memory, Cache or None

    Returns
    -------
    Cache or None

    Raises
    ------
    TypeError
        If `memory` is of another type.
    NotADirectoryError
        If its path is a file.
    """
    if isinstance(memory, Cache):
        return memory
    place = memory
    if isinstance(memory, joblib.Memory):
        store = memory.store_backend  # its clear() removes folders, not files
        place = store and os.path.join(store.location, "numerai_features")
    if place is None:
        return None
    if not isinstance(place, str | os.PathLike) or not os.fspath(place):
        raise TypeError(
            "memory must be the path of a folder, a joblib.Memory or None; got "
            f"{place!r}."
        )
    folder = Path(os.path.abspath(place))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(
            f"memory must be a folder; {folder} is a file. Give another path."
        )
    sweep_all(folder)
    return Cache(folder)


def versions() -> dict[str, str]:
    """Return the versions of this package and the libraries that results depend on."""
    return {"numerai-features": __version__, **_versions_of_libraries()}


@functools.cache
def _versions_of_libraries() -> dict[str, str]:
    found = {}
    for library, packages in _LIBRARIES.items():
        for package in packages:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[library] = importlib.metadata.version(package)
    return found


def fingerprint(*values: Any) -> str:
    """Return a hash of the contents of tables and other values.

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
    """Return a hash of all cells of a table, read in blocks of rows.

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
        # equal strings may be different objects, and pickles would differ
        value = np.array([repr(item) for item in value.ravel()])
    return str(joblib.hash(value, coerce_mmap=True))


def _write_array(stream: IO[bytes], array: NDArray[Any]) -> None:
    np.save(stream, array, allow_pickle=False)


def _read_array(stream: IO[bytes]) -> Any:
    return np.load(stream, allow_pickle=False)


def _write_pickle(stream: IO[bytes], value: Any) -> None:
    pickle.dump(value, stream, protocol=5)


def _read_pickle(stream: IO[bytes]) -> Any:
    try:
        return pickle.load(stream)
    except MemoryError:
        raise
    except Exception as error:  # a class that has moved, for instance
        reason = f"{type(error).__name__}: {error}"
        raise SealError(f"{stream.name} cannot be read: {reason}.") from error
