"""Experiments: compare arms on the same folds of eras, from a file or from Python.

Importing this package imports nothing heavy, because the command line's ``--help``
reads the schema from here. Heavy libraries are imported when an experiment runs.
"""

from numerai_features.experiment._evaluation import Evaluation
from numerai_features.experiment._experiment import Experiment
from numerai_features.experiment._file import ExperimentError
from numerai_features.experiment._fitted_model import FittedModel
from numerai_features.experiment._result import ExperimentResult

__all__ = [
    "Evaluation",
    "Experiment",
    "ExperimentError",
    "ExperimentResult",
    "FittedModel",
]
