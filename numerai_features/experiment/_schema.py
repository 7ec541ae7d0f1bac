"""What an experiment file may hold: a table of fields, and the check of any such table.

The tables below are the whole schema; a new field is a new line. `validate` fills in
defaults and gathers every problem of a file instead of stopping at the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

from numerai_features._names import near_names

KeyPath = tuple[str, ...]
Problems = list[tuple[KeyPath, str]]

WINDOW = ("test_eras", "first_test_era", "min_train_eras", "max_train_eras")
"""Fields of ``[cv]`` that go with a walk forward alone."""

_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True)
class Field:
    """One key of a table.

    Attributes
    ----------
    help : str
        What it means, in a few words.
    types : tuple of type
        Types that TOML may give; true and false are no whole numbers.
    default : object
        What stands where the key is not given; None is "not set".
    choices : tuple
        Values allowed whatever `types` says; with no `types`, the only ones.
    minimum : int or None
        The smallest number allowed.
    items : type or None
        The type of a list's items.
    neutral : bool
        Whether results do not depend on it: a run may go on with another value.
    """

    help: str
    types: tuple[type, ...] = ()
    default: Any = None
    choices: tuple[Any, ...] = ()
    minimum: int | None = None
    items: type | None = None
    neutral: bool = False

    @property
    def expected(self) -> str:
        """Say what is allowed."""
        options = [json.dumps(choice) for choice in self.choices]
        for kind in self.types:
            word = _WORDS[kind]
            if kind in (int, float) and self.minimum is not None:
                word += f" >= {self.minimum}"
            if kind is list and self.items is not None:
                word += f" of {_WORDS[self.items].split()[-1]}s"
            options.append(word)
        return " or ".join(options)

    def allows(self, value: Any) -> bool:
        """Whether a value is allowed; None, which no file can say, means "not set"."""
        if value is None:
            return self.default is None
        if any(value == c and type(value) is type(c) for c in self.choices):
            return True
        kinds = (*self.types, int) if float in self.types else self.types
        if not any(type(value) is kind for kind in kinds):
            return False
        if isinstance(value, list) and self.items is not None:
            return bool(value) and all(type(item) is self.items for item in value)
        if self.minimum is not None and isinstance(value, int | float):
            return value >= self.minimum
        return True


@dataclass(frozen=True)
class Table:
    """One table of the file.

    Attributes
    ----------
    help : str
        What it is about.
    fields : mapping of str to Field
        Its keys.
    tables : mapping of str to Table
        The tables within it.
    named : str
        What further tables, whose names the user chooses, are; empty for none.
    optional : bool
        Whether it stays away when it is not given, instead of being filled in.
    """

    help: str = ""
    fields: Mapping[str, Field] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    named: str = ""
    optional: bool = False

    @property
    def keys(self) -> list[str]:
        """Names of the fields and the tables."""
        return [*self.fields, *self.tables]


def got(value: Any) -> str:
    """Write a value as it would stand in the file."""
    if isinstance(value, date | time):  # which stand without quotes
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, which are near, and which there are."""
    names = list(known)
    listed = ", ".join(names) or "none"
    return f"unknown {kind}.{near_names(name, names)} Allowed: {listed}."


def validate(
    table: Table, given: Any, problems: Problems, path: KeyPath = ()
) -> dict[str, Any]:
    """Check a table and what is in it; return it with all defaults.

    Parameters
    ----------
    table : Table
        What is allowed.
    given : object
        What the file holds.
    problems : list of (path, message)
        Grows by whatever is wrong.
    path : tuple of str, default=()
        Where the table is.

    Returns
    -------
    dict
        Every field, by its default where the value given is wrong; the tables within;
        then the named tables, unchecked.
    """
    if not isinstance(given, dict):
        problems.append((path, f"expected a table; got {got(given)}."))
        given = {}
    values: dict[str, Any] = {}
    for name, spec in table.fields.items():
        values[name] = _field_value(spec, given, name, problems, path)
    for name, inner in table.tables.items():
        if name in given or not inner.optional:
            inside = given.get(name, {})
            values[name] = validate(inner, inside, problems, (*path, name))
    for name, value in given.items():
        if name in values:
            continue
        if table.named and isinstance(value, dict):
            values[name] = value
            continue
        kind = "key" if not isinstance(value, dict) else "table"
        problems.append(((*path, name), unknown(kind, name, table.keys)))
    return values


def _field_value(
    spec: Field, given: dict[str, Any], name: str, problems: Problems, path: KeyPath
) -> Any:
    value = given.get(name, spec.default)
    if name not in given or spec.allows(value):
        return value
    message = f"got {got(value)}; expected {spec.expected}."
    if isinstance(value, str) and spec.choices:
        message += near_names(value, [str(choice) for choice in spec.choices])
    problems.append(((*path, name), message))
    return spec.default


def neutral_paths(table: Table, path: KeyPath = ()) -> set[KeyPath]:
    """Return the fields that results do not depend on."""
    found = {(*path, name) for name, spec in table.fields.items() if spec.neutral}
    for name, inner in table.tables.items():
        found |= neutral_paths(inner, (*path, name))
    return found


def describe(table: Table, path: KeyPath = ()) -> str:
    """Write the schema out for ``--help``."""
    lines = [f"[{'.'.join(path)}] {table.help}"] if path else []
    for name, spec in table.fields.items():
        default = "" if spec.default is None else f" (default {got(spec.default)})"
        lines.append(f"  {name}: {spec.expected}{default}")
        lines.append(f"      {spec.help}")
    if table.named:
        lines.append(f"  [{'.'.join((*path, 'NAME'))}] {table.named}")
    inner = [describe(t, (*path, name)) for name, t in table.tables.items()]
    return "\n".join([*lines, *inner])


_SYNTHETIC = Table(
    "a panel of numerai_features.datasets.make_era_panel, instead of files",
    {
        "n_eras": Field("eras", (int,), 40, minimum=2),
        "rows_per_era": Field(
            "rows of an era, or the two bounds they are drawn between",
            (int, list),
            300,
            minimum=5,
            items=int,
        ),
        "n_features": Field("features", (int,), 60, minimum=1),
        "n_factors": Field("latent factors behind them", (int,), 8, minimum=1),
        "structure": Field(
            "how the features depend on the factors",
            default="linear",
            choices=("linear", "curved", "none"),
        ),
        "n_targets": Field("targets", (int,), 4, minimum=1),
        "horizon": Field("eras that the first target spans", (int,), 4, minimum=1),
        "group_size": Field("features of a correlated group", (int,), 10, minimum=1),
        "missing_share": Field(
            "share of features that start late", (float,), 0.1, minimum=0
        ),
        "random_state": Field("seed (default: the experiment's)", (int,), minimum=0),
    },
    optional=True,
)

EXPERIMENT = Table(
    fields={"seed": Field("seed of everything that draws", (int,), 0, minimum=0)},
    tables={
        "data": Table(
            "the rows: files or synthetic, exactly one of them",
            {
                "files": Field(
                    "parquet files, relative to the experiment file",
                    (list,),
                    items=str,
                ),
                "metadata": Field(
                    "features.json (default: the one beside the first file)", (str,)
                ),
                "every": Field("keep every n-th era", (int,), 1, minimum=1),
                "panel": Field(
                    "folder of the int8 panel made of them, used again while files "
                    "and settings are the same (default: OUTPUT/panel)",
                    (str,),
                    neutral=True,
                ),
            },
            {"synthetic": _SYNTHETIC},
        ),
        "features": Table(
            "which features",
            {"set": Field("a set or names", (str, list), "all", items=str)},
        ),
        "targets": Table(
            "which target",
            {
                "main": Field(
                    "what is learned and scored, of a list the first that the data "
                    "have; its last number tells the purge (default: the first one of "
                    "synthetic data)",
                    (str, list),
                    items=str,
                )
            },
        ),
        "cv": Table(
            "the folds",
            {
                "scheme": Field(
                    "train on the past alone, or on both sides of the test eras",
                    default="walk-forward",
                    choices=("walk-forward", "k-fold"),
                ),
                "test_eras": Field(
                    "eras of a walk-forward test block, instead of n_splits",
                    (int,),
                    minimum=1,
                ),
                "n_splits": Field("folds", (int,), 5, minimum=1),
                "first_test_era": Field(
                    "where walk-forward tests begin, such as the first validation era "
                    "(default: behind a first block, or min_train_eras)",
                    (int, str),
                ),
                "min_train_eras": Field(
                    "shortest walk-forward training window", (int,), minimum=1
                ),
                "max_train_eras": Field(
                    "longest walk-forward training window (default: all of the past)",
                    (int,),
                    minimum=1,
                ),
                "purge": Field(
                    "eras kept between training and test; auto: 8 for 20-day "
                    "targets, 16 for all others",
                    (int,),
                    "auto",
                    choices=("auto",),
                    minimum=0,
                ),
                "embargo": Field(
                    "further eras left out after a test block", (int,), 0, minimum=0
                ),
            },
        ),
        "latents": Table(
            "the arms of the comparison",
            {
                "quantize": Field(
                    "type of the latents: float32, 5 bins or 255 bins",
                    default="uint8",
                    choices=("none", "int8", "uint8"),
                ),
                "random_columns": Field(
                    "also an arm with as many random columns", (bool,), True
                ),
            },
            named="an arm: embedder = a class of numerai_features.embedders, and its "
            "parameters",
        ),
        "models": Table(
            "arms that are models of their own, on the original features",
            named="a model: model = a class of numerai_features.embedders that "
            "predicts, and its parameters",
        ),
        "model": Table(
            "the model that every arm of latents trains",
            {
                "library": Field(
                    "tree library",
                    default="lightgbm",
                    choices=("lightgbm", "xgboost"),
                ),
                "preset": Field(
                    "Numerai's published parameters",
                    default="small",
                    choices=("small", "large", "deep"),
                ),
                "device": Field(
                    "auto, cpu, gpu (LightGBM's OpenCL) or cuda", (str,), "auto"
                ),
                "n_jobs": Field("threads; -1: all", (int,), -1, neutral=True),
                "params": Field("what to override, by name", (dict,), {}),
            },
        ),
        "output": Table(
            "where results go",
            {
                "folder": Field(
                    "relative to the current folder (default: runs/NAME OF THE FILE)",
                    (str,),
                    neutral=True,
                )
            },
        ),
    },
)
