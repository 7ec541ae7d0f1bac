"""An experiment that is checked, resolved and ready to run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features.experiment._arms import labels_of, recipes_of
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
    from numerai_features.experiment._fitted_model import FittedModel
    from numerai_features.experiment._result import ExperimentResult

PathLike = str | os.PathLike[str]

_UNNAMED = "experiment"


@dataclass(frozen=True, repr=False)
class Experiment:
    """A comparison of arms, each with the same folds and seeds.

    An arm is a recipe, ``[arms.NAME]``, of embedders, augmenters, a model, targets and
    more. Without recipes, the arms are: the original features; the originals plus the
    latents of one embedder, for each embedder; the originals plus principal components;
    the originals plus random columns; and the models of ``[models]``. Create an
    experiment with `from_file` or `from_dict`; both check all settings and report all
    problems at once.

    Attributes
    ----------
    name : str
        The name of its file without the extension; ``"experiment"`` for a mapping.
    tables : dict
        The contents of its file, with all defaults filled in: paths are absolute, the
        purge is a number, and each arm has all parameters of its class.
        ``experiment["cv"]`` is ``experiment.tables["cv"]``. Do not change these tables,
        because the purge and the seeds derived from the old values would stay. Change
        the file, or the mapping passed to `from_dict`.

    See Also
    --------
    ExperimentResult : Result of `run`.

    Examples
    --------
    >>> from numerai_features.experiment import Experiment
    >>> experiment = Experiment.from_dict({
    ...     "data": {"synthetic": {"n_eras": 40, "rows_per_era": 50}},
    ...     "cv": {"n_splits": 2},
    ...     "latents": {"fa": {"embedder": "FactorAnalysisEmbedder"}},
    ... })
    >>> experiment
    Experiment('experiment': 4 arms, walk-forward, target_alpha_20)
    >>> experiment.arms
    {'originals': 'originals', 'fa': '+ fa', 'pca': '+ pca', 'random': '+ random'}
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
            A TOML file; ``numerai-features run --help`` lists its tables and keys. Its
            paths are relative to its own folder, except for ``output.folder``.
        output : path, default=None
            Output folder, relative to the current folder; overrides the file's
            ``output.folder``. If neither is set, it is ``runs/`` and the file's name.
        trusted : bool, default=False
            Whether the file may set parameters that can reach other machines, or files
            outside its folders: a tree library's parameters such as ``machines`` or
            ``input_model``, and an arm's ``checkpoint``, ``log_dir`` and ``memory``.
            If False, such parameters are reported as problems, because somebody else
            may have written the file.

        Returns
        -------
        Experiment

        Raises
        ------
        ExperimentError
            If the file cannot be read or is invalid; all problems are reported at once,
            each with its line.
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
        """Check and resolve an experiment given as a mapping.

        Parameters
        ----------
        mapping : mapping
            The tables of an experiment file, as tomllib reads them. Tuples, arrays,
            NumPy numbers and paths are accepted, too. None means "not set" if a key has
            no default. The mapping is copied.
        base : path, default="."
            Base folder of relative data paths.
        output : path, default=None
            Output folder, relative to the current folder; overrides
            ``mapping["output"]["folder"]``. If neither is set, it is
            ``runs/experiment``.
        trusted : bool, default=False
            Whether the mapping may set parameters that can reach other machines, or
            files outside its folders: a tree library's parameters such as ``machines``
            or ``input_model``, and an arm's ``checkpoint``, ``log_dir`` and ``memory``.
            If False, such parameters are reported as problems.

        Returns
        -------
        Experiment

        Raises
        ------
        ExperimentError
            If the mapping is invalid; all problems are reported at once.
        """
        if not isinstance(mapping, Mapping):
            raise ExperimentError(
                "mapping must hold the tables of an experiment file, as in "
                '{"data": {"synthetic": {}}}; '
                f"got {type(mapping).__name__}. Use from_file to read a file."
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
        """The output folder."""
        return Path(self.tables["output"]["folder"])

    @property
    def arms(self) -> dict[str, str]:
        """Names of all arms, mapped to their labels in results."""
        return labels_of(self.tables)

    @property
    def recipes(self) -> dict[str, dict[str, Any]]:
        """What each arm is made of: its name, mapped to the keys of ``[arms.NAME]``."""
        return recipes_of(self.tables)

    @property
    def base(self) -> str:
        """Label of the first arm, from which differences are taken."""
        return next(iter(self.arms.values()))

    def to_toml(self) -> str:
        """Return the text of a file that resolves to the same experiment."""
        return write_toml(self.tables)

    def run(
        self, *, n_jobs: int | None = None, verbose: bool = True
    ) -> ExperimentResult:
        """Run or resume the experiment, and write its results to its folder.

        Finished fits are stored. After Ctrl-C or an error the same call resumes from
        there, with the same results. If everything is done, the call only reads and
        scores the predictions.

        Parameters
        ----------
        n_jobs : int, default=None
            Number of folds that run at once, as in joblib: None means one, or what
            ``joblib.parallel_config`` says, whose backend may be a Dask cluster. Each
            takes the memory of a fold, and its models as many threads as
            ``model.n_jobs`` says: with -1 all cores, so set that, too. With one fold at
            a time, each arm is stored as soon as it is done. With several, the arms of
            a fold are stored together: Ctrl-C loses the folds in progress, whereas an
            error waits for the other folds, and loses nothing.
        verbose : bool, default=True
            Whether to print the plan and show progress.

        Returns
        -------
        ExperimentResult

        Raises
        ------
        ExperimentError
            If the folder holds results of another experiment, or a panel that was not
            made by an experiment.
        ValueError, OSError, ImportError
            If the data cannot be read, or the folds or the model cannot be made.

        Warns
        -----
        SetAsideWarning
            If a stored file is damaged, or was made with other library versions: it is
            renamed, and the fit is repeated.
        """
        from numerai_features.experiment._run import run_experiment

        check_boolean(verbose, "verbose")
        return run_experiment(self, n_jobs=n_jobs, verbose=verbose)

    def fit(
        self,
        arm: str | None = None,
        *,
        folder: PathLike | None = None,
        seeds: int | None = None,
        verbose: bool = True,
    ) -> FittedModel:
        """Fit an arm on all eras with a target, as a model that predicts live rows.

        A blend fits its arms. Predictions of several seeds are ranked and gaussianised
        within their era, and averaged, as those of several targets are. Each arm and
        seed is stored as soon as it is fitted; after Ctrl-C or an error, the same call
        goes on from there.

        Parameters
        ----------
        arm : str, default=None
            The arm to fit; None: the only one that can be. Arms with the latents "pca"
            or "random", and arms with ``era_feature``, have no predictions of live
            rows.
        folder : path, default=None
            Folder of the model; None: ``models/ARM`` in the output folder.
        seeds : int, default=None
            Number of seeds; None: as many as the experiment has.
        verbose : bool, default=True
            Whether to print the plan and show progress.

        Returns
        -------
        FittedModel

        Raises
        ------
        ExperimentError
            If the arm cannot be fitted, none is given and there are several, or the
            folder holds the model of another experiment or arm.
        ValueError, OSError, ImportError
            If the data cannot be read, or the model cannot be fitted.

        Warns
        -----
        SetAsideWarning
            If a stored file is damaged, or was made with other library versions: it is
            renamed, and the fit is repeated.
        """
        from numerai_features.experiment._fit_all import fit_experiment
        from numerai_features.experiment._fitted_model import FittedModel

        check_boolean(verbose, "verbose")
        if seeds is not None and (type(seeds) is not int or seeds < 1):
            raise ExperimentError(
                f"seeds must be a whole number >= 1, or None; got {seeds!r}."
            )
        own = None if folder is None else as_path(folder, "folder").absolute()
        return FittedModel(fit_experiment(self, arm, own, seeds, verbose=verbose))
