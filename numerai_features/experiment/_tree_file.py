"""Nested plain data, such as a model's nodes, as one stream of bytes and back.

The first line is JSON with the lengths of what follows: a skeleton in JSON, in which
bytes and long texts are replaced by their numbers, and then these, each once.
"""

from __future__ import annotations

import json
from typing import IO, Any

MODEL = "model.sealed"
"""Name of a fitted model's file."""

MODEL_KIND, FORMAT = "fitted model", 1
ABOUT = "fit.json"

_BYTES, _TEXT = "$bytes", "$text"
_LONG = 256  # characters; shorter texts stay in the skeleton
_LONGEST_LINE = 64 << 20


def write_tree(stream: IO[bytes], tree: Any) -> None:
    """Write dicts, lists, text, bytes and numbers.

    Parameters
    ----------
    stream : binary stream
    tree : object
        The keys of its dicts are text.
    """
    places: dict[bytes, int] = {}
    skeleton = json.dumps(_flat(tree, places)).encode()
    lengths = {"skeleton": len(skeleton), "blobs": [len(blob) for blob in places]}
    stream.write(json.dumps(lengths).encode() + b"\n")
    stream.write(skeleton)
    for blob in places:
        stream.write(blob)


def read_tree(stream: IO[bytes]) -> Any:
    """Read what `write_tree` wrote."""
    lengths = json.loads(stream.readline(_LONGEST_LINE))
    skeleton = json.loads(stream.read(lengths["skeleton"]))
    return _full(skeleton, [stream.read(length) for length in lengths["blobs"]])


def _flat(value: Any, places: dict[bytes, int]) -> Any:
    match value:
        case dict():
            return {name: _flat(inner, places) for name, inner in value.items()}
        case list():
            return [_flat(inner, places) for inner in value]
        case bytes():
            return {_BYTES: places.setdefault(value, len(places))}
        case str() if len(value) > _LONG:
            return {_TEXT: places.setdefault(value.encode(), len(places))}
    return value


def _full(value: Any, blobs: list[bytes]) -> Any:
    match value:
        case {"$bytes": int(place)}:
            return blobs[place]
        case {"$text": int(place)}:
            return blobs[place].decode()
        case dict():
            return {name: _full(inner, blobs) for name, inner in value.items()}
        case list():
            return [_full(inner, blobs) for inner in value]
    return value
