"""Whether a file has the contents that a tag of the server's stands for.

The file store's tag of a file is the MD5 of its contents. If it was uploaded in parts,
it is the MD5 of the parts' MD5s, and the number of parts.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_MIB = 1 << 20
_PARTS = (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256)  # usual sizes, in MiB


def has_etag(file: Path, etag: str) -> bool:
    """Whether the contents of a file give a tag; False also if that cannot be told.

    Parameters
    ----------
    file : Path
    etag : str
        As in the header, with its quotes.
    """
    told = re.fullmatch(r'"([0-9a-f]{32})(?:-(\d+))?"', etag)
    if told is None:
        return False
    if told[2] is None:
        return _digest(file, _MIB)[0] == told[1]
    size, n_parts = file.stat().st_size, int(told[2])
    sizes = (mib * _MIB for mib in _PARTS)
    return any(
        -(-size // part) == n_parts and _digest(file, part)[1] == told[1]
        for part in sizes
    )


def _digest(file: Path, part: int) -> tuple[str, str]:
    """Return the MD5 of a file, and that of the MD5s of its parts."""
    # It tells a file from another, and protects from nobody.
    whole = hashlib.md5(usedforsecurity=False)
    parts = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream:
        while True:
            own = hashlib.md5(usedforsecurity=False)
            left = part
            while left and (block := stream.read(min(left, _MIB))):
                own.update(block)
                whole.update(block)
                left -= len(block)
            if left == part:
                break
            parts.update(own.digest())
    return whole.hexdigest(), parts.hexdigest()
