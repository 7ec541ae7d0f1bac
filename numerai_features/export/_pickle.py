"""One pickle that holds a model's data and the source of the code that runs it.

Numerai's server reads it with `pandas.read_pickle`, in another version of Python. So
nothing in it is by reference but `builtins.eval`: code objects differ between versions
of Python, and arrays and frames between those of numpy and pandas.
"""

from __future__ import annotations

import inspect
import io
import pickle
from pathlib import Path
from typing import Any

from numerai_features._whole import whole_file
from numerai_features.export import _runtime, _tree_runtime
from numerai_features.export._place import nodes_of

_NAME, _ABOUT = "numerai_export", "ABOUT"
_PROTOCOL = 4  # all versions of Python that are images read it


class _Function:
    """What becomes, read from a pickle, a function of one or two parameters."""

    def __init__(self, name: str, namespace: dict[str, Any]) -> None:
        self.name, self.namespace = name, namespace

    def __reduce__(self) -> tuple[Any, ...]:
        run = f"exec(compile(SOURCE, {_runtime.FILE!r}, 'exec')) or {self.name}"
        return eval, (run, self.namespace)


class _PlainPickler(pickle.Pickler):
    """A pickler that refuses whatever is not plain data."""

    def reducer_override(self, obj: Any) -> Any:
        """Leave the function to its own method; it is called for no plain data."""
        if obj is eval or isinstance(obj, _Function):
            return NotImplemented
        raise TypeError(
            f"pipeline: an exported file cannot hold a {type(obj).__name__}, {obj!r}."
        )


def write_function(
    model: dict[str, Any], path: Path, *, image: str, version: str | None = None
) -> None:
    """Write a model as a pickle; the file appears whole, or not at all.

    Parameters
    ----------
    model : dict
        The result of `model_data`.
    path : Path
    image : str
        Version of Python of the image that it is for.
    version : str, default=None
        Version of the data that it was fitted on; None: unknown.
    """
    content = pickled(model, {"image": image, "version": version})
    with whole_file(path) as new:
        new.write_bytes(content)


def pickled(model: dict[str, Any], about: dict[str, Any]) -> bytes:
    """Return the pickle of a model's function; `about` tells what it is for."""
    name = "predict" if model["benchmark"] is None else "predict_beside_benchmark"
    namespace = {
        "__name__": _NAME,
        "SOURCE": runtime_source(model),
        "MODEL": model,
        _ABOUT: about,
    }
    stream = io.BytesIO()
    _PlainPickler(stream, _PROTOCOL).dump(_Function(name, namespace))
    return stream.getvalue()


class _Reader(pickle.Unpickler):
    """An unpickler of what `pickled` writes, which runs nothing of it."""

    def find_class(self, module: str, name: str) -> Any:
        """Return, instead of `eval`, a function that returns the namespace."""
        if (module, name) != ("builtins", "eval"):
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return lambda _, namespace: namespace


def read_about(path: Path) -> dict[str, Any]:
    """Return what an exported file tells of what it is for, without running it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        Its image and its version of the data, as far as they are known.

    Raises
    ------
    ValueError
        If it is no file of `export_predict`.
    """
    try:
        with path.open("rb") as stream:
            namespace = _Reader(stream).load()
        if namespace["__name__"] != _NAME:
            raise ValueError("it has another name")
        return dict(namespace.get(_ABOUT, {}))
    except OSError:
        raise
    except Exception as error:  # damaged pickles raise errors of all kinds
        raise ValueError(
            f"{path} is no file that export_predict has written ({error})."
        ) from error


def runtime_source(model: dict[str, Any]) -> str:
    """Return the source text of the code that runs a model."""
    sources = [inspect.getsource(_runtime)]
    if any(node.get("kind") == "trees" for node in nodes_of(model["predictor"])):
        sources.append(inspect.getsource(_tree_runtime))
    return "\n\n".join(sources)
