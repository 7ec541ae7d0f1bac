"""Checksums of a panel's files, one for each block of rows.

A file's first bytes, the header of an array, have a checksum of their own. What follows
is cut into blocks of whole rows, or of bytes if a file is no array. So the checksums of
a file that grows are extended without reading what was there, and a changed byte is
known by its block.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import numpy as np

READ_BYTES = 8 << 20  # at a time

_LONGEST_HEADER = 10_000  # as numpy reads it


class Sums:
    """CRC-32 of consecutive blocks of bytes, which is four times as fast as BLAKE2.

    It detects accidental damage. The manifest that holds it is sealed.

    Parameters
    ----------
    step : int
        Bytes in a block.
    blocks : sequence of int, default=()
        Checksums of bytes that were there before.
    n_bytes : int, default=0
        Number of these bytes.
    """

    def __init__(self, step: int, blocks: Sequence[int] = (), n_bytes: int = 0) -> None:
        self.step = step
        self.blocks = list(blocks)
        self.n_bytes = n_bytes

    def add(self, data: Any) -> None:
        """Add bytes, or an array in C order, at the end."""
        if isinstance(data, np.ndarray):
            data = data.reshape(-1).view(np.uint8)
        rest = memoryview(data)
        while len(rest):
            inside = self.n_bytes % self.step
            if inside == 0:
                self.blocks.append(0)
            part = rest[: self.step - inside]
            self.blocks[-1] = zlib.crc32(part, self.blocks[-1])
            self.n_bytes += len(part)
            rest = rest[len(part) :]

    def read(self, stream: IO[bytes], n_bytes: int | None = None) -> None:
        """Add what a file holds from here on, up to a number of bytes."""
        left = n_bytes
        while left is None or left > 0:
            wanted = READ_BYTES if left is None else min(READ_BYTES, left)
            chunk = stream.read(wanted)
            if not chunk:
                return
            self.add(chunk)
            left = None if left is None else left - len(chunk)


class Layout(NamedTuple):
    """Where a file's rows are.

    Attributes
    ----------
    row_bytes : int
        Bytes of a row; 1 for a file that is no array: its bytes take the place of rows.
    n_rows : int or None
        None: up to the end of the file.
    """

    row_bytes: int
    n_rows: int | None

    def step(self, block_bytes: int) -> int:
        """Return the size of a block, which holds whole rows."""
        row = max(1, self.row_bytes)
        return max(1, block_bytes // row) * row

    @property
    def n_bytes(self) -> int | None:
        """Bytes of all rows, or None."""
        return None if self.n_rows is None else self.n_rows * self.row_bytes


def sum_file(stream: IO[bytes], layout: Layout, block_bytes: int) -> dict[str, Any]:
    """Return the checksums of a file, as the manifest holds them."""
    start = 0 if layout.n_rows is None else header_bytes(stream)
    stream.seek(0)
    header = zlib.crc32(stream.read(start))
    sums = Sums(layout.step(block_bytes))
    sums.read(stream, layout.n_bytes)
    return {"start": [header], "blocks": sums.blocks}


def what_differs(
    stream: IO[bytes], layout: Layout, block_bytes: int, entry: dict[str, Any]
) -> str:
    """Return which blocks of a file differ from the manifest, as text, or ""."""
    found = sum_file(stream, layout, block_bytes)
    if found["start"][0] not in entry["start"]:
        return "of the header"
    expected = entry["blocks"]
    pairs = zip(found["blocks"], expected, strict=False)
    wrong = [i for i, (one, other) in enumerate(pairs) if one != other]
    if len(found["blocks"]) != len(expected):
        wrong.append(min(len(found["blocks"]), len(expected)))
    if not wrong:
        return ""
    rows = layout.step(block_bytes) // max(1, layout.row_bytes)
    what = "bytes" if layout.n_rows is None else "rows"
    places = [f"{i * rows} to {(i + 1) * rows - 1}" for i in wrong[:3]]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return (
        f"of {what} {', '.join(places)}{more} ({len(wrong)} of {len(expected)} blocks)"
    )


def header_bytes(stream: IO[bytes]) -> int:
    """Return the length of the header of a file of ``numpy.save``."""
    stream.seek(0)
    major, _ = np.lib.format.read_magic(stream)
    size = 2 if major == 1 else 4
    length = int.from_bytes(stream.read(size), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header seems to have {length} bytes")
    return len(np.lib.format.MAGIC_PREFIX) + 2 + size + length


def whole_sum(stream: IO[bytes]) -> int:
    """Return the one checksum of a file of format 2."""
    value = 0
    while chunk := stream.read(READ_BYTES):
        value = zlib.crc32(chunk, value)
    return value
