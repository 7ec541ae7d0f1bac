"""Results on disk, known by all that they depend on."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import os
import pickle
import warnings
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
from numerai_features._whole import sweep_all

# Libraries that results depend on to the last bit, by the names of their packages.
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
    """A folder of results, each in a sealed file that is named by a hash.

    What cannot be read is put aside with a warning and made anew; what cannot be kept,
    the disk being full for instance, is told, and used all the same. Nothing of what
    was interrupted is kept. Several processes may use one folder.

    It can be handed on as the ``memory`` of an estimator, of scikit-learn's too.

    Attributes
    ----------
    folder : Path
        Where they are.
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
        """Return a result that is there, or make it and keep it.

        Parameters
        ----------
        kind : str
            What kind of result it is; its file's ending.
        parts : tuple
            All that it depends on, as `fingerprint` takes it. The versions of this
            package and of others are added.
        make : callable
            Makes it.
        write : callable
            Called with a binary stream and the result.
        read : callable
            Called with a binary file, open where the result begins.

        Returns
        -------
        object
        """
        key = fingerprint(kind, *parts, __version__, sorted(versions().items()))
        file = self.folder / f"{key}.{kind}"
        try:
            return read_sealed(file, kind=kind, key=key, read=read)[1]
        except (FileNotFoundError, NotADirectoryError):
            pass
        except SealError as error:
            with contextlib.suppress(OSError):  # in a folder that is read-only, say
                set_aside(file, error)
        except OSError as error:  # it may pass: the file is not to blame
            warnings.warn(
                f"{file} cannot be read ({error}). It is left alone, and its result is "
                "made again.",
                RuntimeWarning,
                stacklevel=3,
            )
            return make()
        result = make()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_sealed(
                file, None, kind=kind, key=key, write=lambda s: write(s, result)
            )
        except Exception as error:  # whatever it is, the result is good
            warnings.warn(
                f"A result cannot be kept in {self.folder} "
                f"({str(error) or type(error).__name__}). It is used, and will be made "
                "again the next time.",
                RuntimeWarning,
                stacklevel=3,
            )
        return result

    def recall_array(
        self, kind: str, parts: tuple[Any, ...], make: Callable[[], NDArray[Any]]
    ) -> NDArray[Any]:
        """Return an array as `recall` does; its file is data alone, and no code."""
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
        """Return a function that keeps its results, as `joblib.Memory` does.

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

    What killed writers have left in its folder is removed. Where it is a
    `joblib.Memory`, results lie in the folder that its ``clear()`` removes.

    Parameters
    ----------
    memory : path, joblib.Memory, Cache or None

    Returns
    -------
    Cache or None

    Raises
    ------
    TypeError
        If it is anything else.
    NotADirectoryError
        If a file is in its place.
    """
    if isinstance(memory, Cache):
        return memory
    place = memory
    if isinstance(memory, joblib.Memory):
        store = memory.store_backend  # its clear() removes folders, but no files
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


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on, where installed."""
    found = {}
    for library, packages in _LIBRARIES.items():
        for package in packages:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[library] = importlib.metadata.version(package)
    return found


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
