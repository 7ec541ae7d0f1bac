"""Tables as text, for a console of 100 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

WIDTH = 100
"""Most characters of a table's line."""

_FEWEST = 12  # characters of a name, whatever the width
_FORMATS = {"s": "{:.1f}", "eras": "{:.0f}"}  # by the last word of a column's name


def formatted(table: pd.DataFrame, width: int = WIDTH) -> str:
    """Return a table as text, as several tables below each other if it is too wide.

    The columns up to ``eras`` stay together, and a column whose name ends in " eras"
    stays with the column before it.

    Parameters
    ----------
    table : DataFrame
        A row for each arm, with columns of numbers or text.
    width : int, default=100
        Most characters of a line. Arms' names are shortened only if the widest columns
        would not fit otherwise.
    """
    blocks = _blocks([str(name) for name in table.columns])
    plain = table.rename_axis(None)
    widest = max(_width(_written(plain.set_axis([""] * len(table))[b])) for b in blocks)
    names = shortened([str(name) for name in table.index], width - widest)
    plain = plain.set_axis(names)
    if _width(whole := _written(plain)) <= width:
        return whole
    groups = [blocks[0]]
    for block in blocks[1:]:
        # The scores up to their number of eras are a table of their own.
        joined = [*groups[-1], *block]
        if len(groups) > 1 and _width(_written(plain[joined])) <= width:
            groups[-1] = joined
        else:
            groups.append(block)
    return "\n\n".join(_written(plain[group]) for group in groups)


def shortened(names: Sequence[str], most: int) -> list[str]:
    """Return names of at most so many characters (at least 12), all of them distinct.

    The middle of a long name is replaced by dots. If two names would be equal, a number
    is added.
    """
    most = max(most, _FEWEST)
    found: list[str] = []
    for name in names:
        short = _short(name, most)
        number = 1
        while short in found:
            number += 1
            short = f"{_short(name, most - len(f'~{number}'))}~{number}"
        found.append(short)
    return found


def _short(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    end = (most - 3) // 2
    return f"{name[: most - 3 - end]}...{name[-end:]}"


def _blocks(names: list[str]) -> list[list[str]]:
    """Return the columns that stay together."""
    blocks: list[list[str]] = []
    for name in names:
        if name == "eras":
            blocks = [[*(n for block in blocks for n in block), name]]
        elif name.endswith(" eras") and blocks:
            blocks[-1].append(name)
        else:
            blocks.append([name])
    return blocks


def _width(text: str) -> int:
    return max(map(len, text.splitlines()))


def _written(table: pd.DataFrame) -> str:
    def text(name: str) -> Any:
        number = _FORMATS.get(name.split()[-1], "{:.4f}")
        return lambda cell: cell if isinstance(cell, str) else number.format(cell)

    columns = {name: text(str(name)) for name in table.columns}
    return str(table.to_string(formatters=columns, na_rep="-"))
