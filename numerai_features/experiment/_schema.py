"""The schema of experiment files, and a check of tables against it.

The tables below are the whole schema; a new field is a new entry. `validate` fills in
defaults and collects all problems of a file instead of stopping at the first one.
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
"""Fields of ``[cv]`` that are allowed only with walk-forward."""

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
        A short description.
    types : tuple of type
        Allowed types of the TOML value; a boolean does not count as a whole number.
    default : object
        The value if the key is missing; None is "not set".
    choices : tuple
        Values that are allowed in addition to `types`; without `types`, the only
        allowed values.
    minimum : int or None
        The smallest number allowed.
    items : type or None
        The type of a list's items.
    neutral : bool
        Whether fits do not depend on it: a run can be resumed with another value.
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
        """Return a text that lists the allowed values."""
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
        """Whether a value is allowed; None means "not set", and cannot be in a file."""
        if value is None:
            return self.default is None
        if any(value == c and type(value) is type(c) for c in self.choices):
            return True
        kinds = (*self.types, int) if float in self.types else self.types
        if not any(type(value) is kind for kind in kinds):
            return False
        if isinstance(value, list) and self.items is not None:
            kinds = (float, int) if self.items is float else (self.items,)
            return bool(value) and all(type(item) in kinds for item in value)
        if self.minimum is not None and isinstance(value, int | float):
            return value >= self.minimum
        return True


@dataclass(frozen=True)
class Table:
    """One table of the file.

    Attributes
    ----------
    help : str
        A short description.
    fields : mapping of str to Field
        Its keys.
    tables : mapping of str to Table
        The tables within it.
    named : str
        Description of the tables within it whose names the user chooses; empty if
        there cannot be any.
    optional : bool
        Whether a missing table stays missing, instead of being filled with defaults.
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
    """Return a value as TOML text, for messages."""
    if isinstance(value, date | time):  # TOML has no quotes around these
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return a message that a name is unknown, with similar and all known names."""
    names = list(known)
    listed = ", ".join(names) or "none"
    return f"unknown {kind}.{near_names(name, names)} Allowed: {listed}."


def validate(
    table: Table, given: Any, problems: Problems, path: KeyPath = ()
) -> dict[str, Any]:
    """Check a table and the tables within it; return them with all defaults.

    Parameters
    ----------
    table : Table
        The schema of the table.
    given : object
        The table in the file.
    problems : list of (path, message)
        New problems are appended.
    path : tuple of str, default=()
        The path of the table in the file.

    Returns
    -------
    dict
        All fields, with the default in place of an invalid value; the tables within;
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
    """Return the paths of the fields that results do not depend on."""
    found = {(*path, name) for name, spec in table.fields.items() if spec.neutral}
    for name, inner in table.tables.items():
        found |= neutral_paths(inner, (*path, name))
    return found


def describe(table: Table, path: KeyPath = ()) -> str:
    """Return the schema as text for ``--help``."""
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
        "n_eras": Field("number of eras", (int,), 120, minimum=2),
        "rows_per_era": Field(
            "rows of each era, or two bounds within which their number is drawn",
            (int, list),
            300,
            minimum=5,
            items=int,
        ),
        "n_features": Field("number of features", (int,), 60, minimum=1),
        "n_factors": Field(
            "number of latent factors that generate them", (int,), 8, minimum=1
        ),
        "structure": Field(
            "how the features depend on the factors",
            default="linear",
            choices=("linear", "curved", "none"),
        ),
        "n_targets": Field("number of targets", (int,), 4, minimum=1),
        "horizon": Field(
            "number of eras that the first target spans", (int,), 4, minimum=1
        ),
        "group_size": Field(
            "number of features in a correlated group", (int,), 10, minimum=1
        ),
        "missing_share": Field(
            "share of features that are missing in the first eras",
            (float,),
            0.1,
            minimum=0,
        ),
        "random_state": Field("seed (default: the experiment's)", (int,), minimum=0),
    },
    optional=True,
)

EXPERIMENT = Table(
    fields={"seed": Field("seed of all random draws", (int,), 0, minimum=0)},
    tables={
        "data": Table(
            "the rows: either files or [data.synthetic]",
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
                "benchmark": Field(
                    "parquet files with a benchmark's predictions, matched by id; for "
                    "BMC",
                    (str, list),
                    items=str,
                    neutral=True,
                ),
                "benchmark_column": Field(
                    "its column (default: the only one)", (str,), neutral=True
                ),
                "meta_model": Field(
                    "parquet files with the meta model's predictions, matched by id; "
                    "for MMC",
                    (str, list),
                    items=str,
                    neutral=True,
                ),
                "meta_model_column": Field(
                    "its column (default: the only one)", (str,), neutral=True
                ),
                "panel": Field(
                    "folder of the int8 panel made of these rows, reused if files and "
                    "settings are the same (default: OUTPUT/panel)",
                    (str,),
                    neutral=True,
                ),
            },
            {"synthetic": _SYNTHETIC},
        ),
        "features": Table(
            "the features",
            {
                "set": Field(
                    "a feature set or feature names", (str, list), "all", items=str
                )
            },
        ),
        "targets": Table(
            "the target",
            {
                "main": Field(
                    "the target to learn and score; of a list, the first one in the "
                    "data. The number at the end of its name sets the purge (default: "
                    "the first target of synthetic data)",
                    (str, list),
                    items=str,
                )
            },
        ),
        "cv": Table(
            "the folds",
            {
                "scheme": Field(
                    "train on eras before the test eras, or on both sides of them",
                    default="walk-forward",
                    choices=("walk-forward", "k-fold"),
                ),
                "test_eras": Field(
                    "number of eras of a walk-forward test block, instead of n_splits",
                    (int,),
                    minimum=1,
                ),
                "n_splits": Field("number of folds", (int,), 5, minimum=1),
                "first_test_era": Field(
                    "first walk-forward test era, such as the first validation era "
                    "(default: after a first block, or min_train_eras)",
                    (int, str),
                ),
                "min_train_eras": Field(
                    "shortest walk-forward training window", (int,), minimum=1
                ),
                "max_train_eras": Field(
                    "longest walk-forward training window (default: no limit)",
                    (int,),
                    minimum=1,
                ),
                "purge": Field(
                    "number of eras left out between training and test; auto: 8 for "
                    "20-day targets, 16 for all others",
                    (int,),
                    "auto",
                    choices=("auto",),
                    minimum=0,
                ),
                "embargo": Field(
                    "number of further eras left out after a test block",
                    (int,),
                    0,
                    minimum=0,
                ),
            },
        ),
        "latents": Table(
            "the arms that add latents to the originals",
            {
                "quantize": Field(
                    "type of the latents: float32, 5 bins or 255 bins",
                    default="uint8",
                    choices=("none", "int8", "uint8"),
                ),
                "random_columns": Field(
                    "whether to add an arm with random columns, whose number is the "
                    "largest number of latents of any arm",
                    (bool,),
                    True,
                ),
            },
            named="an arm: embedder = a class of numerai_features.embedders, and its "
            "parameters",
        ),
        "models": Table(
            "arms that are complete models, trained on the original features",
            named="an arm: model = a class of numerai_features.embedders that "
            "predicts, and its parameters",
        ),
        "model": Table(
            "the model of all other arms: originals, latents and random columns",
            {
                "library": Field(
                    "tree library",
                    default="lightgbm",
                    choices=("lightgbm", "xgboost"),
                ),
                "preset": Field(
                    "set of Numerai's published parameters",
                    default="small",
                    choices=("small", "large", "deep"),
                ),
                "device": Field(
                    "auto, cpu, gpu (LightGBM's OpenCL) or cuda", (str,), "auto"
                ),
                "n_jobs": Field("number of threads; -1: all", (int,), -1, neutral=True),
                "params": Field("parameters that override the preset", (dict,), {}),
            },
        ),
        "report": Table(
            "how results are summarised; it can be changed after the fits",
            {
                "weights": Field(
                    "weights of CORR and of MMC (BMC without a meta model) in payout",
                    (list,),
                    [3, 15],
                    items=float,
                    neutral=True,
                ),
                "periods": Field(
                    "periods of test eras that get their own tables, as in "
                    '["0575-0800", "0801-1200"]',
                    (list,),
                    items=str,
                    neutral=True,
                ),
            },
        ),
        "output": Table(
            "the results",
            {
                "folder": Field(
                    "output folder, relative to the current folder (default: runs/NAME "
                    "OF THE FILE)",
                    (str,),
                    neutral=True,
                )
            },
        ),
    },
)
