"""The zoo: experiments that are ready to run, one file each in the folder ``zoo``."""

from __future__ import annotations

import json
import re
from importlib.resources import files

from numerai_features._names import near_names
from numerai_features.experiment._file import ExperimentError

_FOLDER = files("numerai_features.experiment").joinpath("zoo")
_FIRST = ("small", "medium", "full")  # by size; the others by name
NEWEST = "v5.3"
"""The version of the data that the experiments were written for."""
_DATA = f"data/{NEWEST}/"
_BENCHMARK = "v53_"
_OLDEST = (5, 2)  # has target_ender_60


def zoo() -> dict[str, str]:
    """Return the names of the zoo's experiments, and what each one is, in a line."""
    found = {
        file.name.removesuffix(".toml"): file.read_text(encoding="utf-8")
        for file in _FOLDER.iterdir()
        if file.name.endswith(".toml")
    }
    names = [*_FIRST, *sorted(found.keys() - {*_FIRST})]
    return {name: found[name].split("\n", 1)[0].removeprefix("# ") for name in names}


def zoo_text(name: str, data: str = "data", version: str = NEWEST) -> str:
    """Return the text of an experiment file of the zoo.

    Parameters
    ----------
    name : str
        The experiment's name.
    data : str, default="data"
        The folder of the data, with a folder for each version, relative to where the
        file is to be; with "/" between its parts.
    version : str, default="v5.3"
        The version of the data.

    Raises
    ------
    ExperimentError
        If there is no such experiment, or the version lacks its target.
    """
    there = zoo()
    if name not in there:
        raise ExperimentError(
            f"the zoo has no experiment {name!r}.{near_names(name, there)} It has: "
            f"{', '.join(there)}."
        )
    number = re.fullmatch(r"v(\d+)\.(\d+)", version)
    if number is None:
        raise ExperimentError(
            f"version must be v and two numbers, such as {NEWEST!r}; got {version!r}."
        )
    if tuple(map(int, number.groups())) < _OLDEST:
        raise ExperimentError(
            f"version: the experiments learn target_ender_60, which {version} does not "
            f"have. Use v{_OLDEST[0]}.{_OLDEST[1]} or later."
        )
    text = _FOLDER.joinpath(f"{name}.toml").read_text(encoding="utf-8")
    text = text.replace(_BENCHMARK, f"v{''.join(number.groups())}_")
    inside_quotes = json.dumps(f"{data}/{version}/", ensure_ascii=False)[1:-1]
    return text.replace(_DATA, inside_quotes)
