"""Experiments: several arms over the same folds of eras, from a file or from Python.

Importing it imports nothing heavy, for the command line's ``--help`` reads the schema
from here; what is heavy is imported where an experiment runs.
"""

from numerai_features.experiment._experiment import Experiment
from numerai_features.experiment._file import ExperimentError
from numerai_features.experiment._result import ExperimentResult

__all__ = ["Experiment", "ExperimentError", "ExperimentResult"]
