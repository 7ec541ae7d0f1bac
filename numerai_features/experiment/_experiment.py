"""What a user holds: an experiment that is checked, resolved and ready to run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features.experiment._arms import labels_of
from numerai_features.experiment._file import (
    ExperimentError,
    as_path,
    as_toml_has_it,
    check_and_resolve,
    check_boolean,
    read_toml,
)
from numerai_features.experiment._toml import write_toml

if TYPE_CHECKING:
    from numerai_features.experiment._result import ExperimentResult

PathLike = str | os.PathLike[str]

_UNNAMED = "experiment"


@dataclass(frozen=True, repr=False)
class Experiment:
    """A comparison of arms: the same folds, model and seeds for each of them.

    The arms are the original features, originals and the latents of each embedder,
    originals and random columns, and models of their own. `from_file` and `from_dict`
    make one; both check everything that it says, and tell all problems at once.

    Attributes
    ----------
    name : str
        The name of its file without the ending; ``"experiment"`` for a mapping.
    tables : dict
        What its file holds, with all defaults filled in: paths are absolute, the purge
        is a number, and each arm has all parameters of its class. ``experiment["cv"]``
        is ``experiment.tables["cv"]``. To be read, not changed: for another
        experiment change what `from_dict` or the file was given, or the purge of the
        old target and its seeds stay.

    See Also
    --------
    ExperimentResult : What `run` returns.

    Examples
    --------
    >>> from numerai_features.experiment import Experiment
    >>> experiment = Experiment.from_dict({
    ...     "data": {"synthetic": {"n_eras": 40, "rows_per_era": 50}},
    ...     "cv": {"n_splits": 2},
    ...     "latents": {"fa": {"embedder": "FactorAnalysisEmbedder"}},
    ... })
    >>> experiment
    Experiment('experiment': 3 arms, walk-forward, target_alpha_20)
    >>> experiment.arms
    {'originals': 'originals', 'fa': '+ fa', 'random': '+ random'}
    >>> experiment["cv"]["purge"]
    8
    """

    name: str
    tables: dict[str, Any]

    @classmethod
    def from_file(
        cls, path: PathLike, output: PathLike | None = None, *, trusted: bool = False
    ) -> Experiment:
        """Read, check and resolve an experiment file.

        Parameters
        ----------
        path : path
            A TOML file; ``numerai-features run --help`` lists what it may hold. Paths
            in it are relative to its own folder, but for ``output.folder``.
        output : path, default=None
            Where results go, instead of the file's ``output.folder``; relative to the
            current folder. Where neither is given: ``runs/`` and the name of the file.
        trusted : bool, default=False
            Whether it may say what could reach other machines, or files outside of its
            folders: a tree library's parameters such as ``machines`` or
            ``input_model``, and an arm's ``checkpoint``, ``log_dir`` and ``memory``.
            Unless it is True these are problems: a file may be somebody else's.

        Returns
        -------
        Experiment

        Raises
        ------
        ExperimentError
            If the file cannot be read or anything is wrong with it; all problems are
            told at once, each with its line.
        """
        path = as_path(path, "path")
        output = None if output is None else as_path(output, "output")
        check_boolean(trusted, "trusted")
        given, text = read_toml(path)
        tables = check_and_resolve(
            given,
            told_as=str(path),
            name=path.stem,
            base=path.absolute().parent,
            output=output,
            trusted=trusted,
            text=text,
        )
        return cls(path.stem, tables)

    @classmethod
    def from_dict(
        cls,
        mapping: Mapping[str, Any],
        *,
        base: PathLike = ".",
        output: PathLike | None = None,
        trusted: bool = False,
    ) -> Experiment:
        """Check and resolve an experiment that is written as a mapping.

        Parameters
        ----------
        mapping : mapping
            What an experiment file holds, table by table, as tomllib reads it. Tuples,
            arrays, numpy's numbers and paths are taken, too; None means "not set"
            where nothing is the default. It is copied.
        base : path, default="."
            The folder that relative paths of data begin at.
        output : path, default=None
            Where results go, instead of ``mapping["output"]["folder"]``; relative to
            the current folder. Where neither is given: ``runs/experiment``.
        trusted : bool, default=False
            Whether it may say what could reach other machines, or files outside of its
            folders: a tree library's parameters such as ``machines`` or
            ``input_model``, and an arm's ``checkpoint``, ``log_dir`` and ``memory``.
            Unless it is True these are problems.

        Returns
        -------
        Experiment

        Raises
        ------
        ExperimentError
            If anything is wrong with it; all problems are told at once.
        """
        if not isinstance(mapping, Mapping):
            raise ExperimentError(
                "mapping must hold the tables of an experiment file, as in "
                '{"data": {"synthetic": {}}}; '
                f"got {type(mapping).__name__}. A file is read by from_file."
            )
        base = as_path(base, "base")
        output = None if output is None else as_path(output, "output")
        check_boolean(trusted, "trusted")
        tables = check_and_resolve(
            as_toml_has_it(mapping),
            told_as="The experiment",
            name=_UNNAMED,
            base=base.absolute(),
            output=output,
            trusted=trusted,
        )
        return cls(_UNNAMED, tables)

    def __getitem__(self, name: str) -> Any:
        return self.tables[name]

    def __repr__(self) -> str:
        scheme, target = self["cv"]["scheme"], self["targets"]["main"]
        n_arms = len(self.arms)
        return f"Experiment({self.name!r}: {n_arms} arms, {scheme}, {target})"

    @property
    def folder(self) -> Path:
        """Where results go."""
        return Path(self.tables["output"]["folder"])

    @property
    def arms(self) -> dict[str, str]:
        """Names of all arms, and how they are written in results."""
        return labels_of(self.tables)

    def to_toml(self) -> str:
        """Write it as the text of a file that resolves to the same experiment."""
        return write_toml(self.tables)

    def run(self, *, verbose: bool = True) -> ExperimentResult:
        """Run it, or go on with it, and write its results into its folder.

        Each arm of each fold is kept as soon as it is done. After Ctrl-C, or an error,
        the same call goes on from there, to the same results; when everything is done
        it costs no more than reading and scoring the predictions.

        Parameters
        ----------
        verbose : bool, default=True
            Whether to say what there is to do, and to show progress.

        Returns
        -------
        ExperimentResult

        Raises
        ------
        ExperimentError
            If the folder holds results of another experiment, or a panel that no
            experiment made.
        ValueError, OSError, ImportError
            If the data, the folds or the model cannot be made.

        Warns
        -----
        SetAsideWarning
            If what is kept is damaged, or other versions of the libraries have made it:
            it is given another name, and made anew.
        """
        from numerai_features.experiment._run import run_experiment

        check_boolean(verbose, "verbose")
        return run_experiment(self, verbose=verbose)
