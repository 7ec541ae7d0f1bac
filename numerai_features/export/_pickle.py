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


def write_function(model: dict[str, Any], path: Path) -> None:
    """Write a model as a pickle; the file appears whole, or not at all.

    Parameters
    ----------
    model : dict
        The result of `model_data`.
    path : Path
    """
    content = pickled(model)
    with whole_file(path) as new:
        new.write_bytes(content)


def pickled(model: dict[str, Any]) -> bytes:
    """Return the pickle of a model's function."""
    name = "predict" if model["benchmark"] is None else "predict_beside_benchmark"
    namespace = {
        "__name__": "numerai_export",
        "SOURCE": runtime_source(model),
        "MODEL": model,
    }
    stream = io.BytesIO()
    _PlainPickler(stream, _PROTOCOL).dump(_Function(name, namespace))
    return stream.getvalue()


def runtime_source(model: dict[str, Any]) -> str:
    """Return the source text of the code that runs a model."""
    sources = [inspect.getsource(_runtime)]
    if any(node.get("kind") == "trees" for node in nodes_of(model["predictor"])):
        sources.append(inspect.getsource(_tree_runtime))
    return "\n\n".join(sources)
