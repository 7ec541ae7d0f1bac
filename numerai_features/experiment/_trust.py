"""Settings that an experiment file may have only if its user trusts its author.

Parameters of tree libraries and networks can open ports, and read and write files. An
experiment compares models and needs none of that, so an untrusted file cannot reach
beyond its own folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from numbers import Real
from typing import Any

REMEDY = "Pass trusted=True (--trusted on the command line) if you trust this file."

# LightGBM's parameters, and their aliases, that read or write files or connect to other
# machines. XGBoost has no numeric parameters of this kind, and _TEXTS limits text.
_REACHING = set(
    """
    config config_file
    data train train_data train_data_file data_filename
    valid test valid_data valid_data_file test_data test_data_file valid_filenames
    input_model model_input model_in output_model model_output model_out
    snapshot_freq save_period save_binary is_save_binary is_save_binary_file
    output_result predict_result prediction_result predict_name prediction_name
    pred_name name_pred convert_model convert_model_file convert_model_language
    initscore_filename init_score_filename init_score_file init_score input_init_score
    forcedsplits_filename fs forced_splits_filename forced_splits_file forced_splits
    forcedbins_filename parser_config_file
    num_machines num_machine local_listen_port local_port port time_out
    machine_list_filename machine_list_file machine_list mlist machines workers nodes
    """.split()
)
# Parameters that may be text. No other parameter needs text, and any text could be a
# path.
_TEXTS = set(
    """
    boosting boosting_type boost data_sample_strategy extra_metric importance_type
    metric metrics metric_types objective objective_type app application loss
    device device_type tree_learner tree tree_type tree_learner_type
    monotone_constraints mc monotone_constraint monotonic_cst
    monotone_constraints_method monotone_constraining_method mc_method
    interaction_constraints categorical_feature cat_feature categorical_column
    cat_column categorical_features
    booster eval_metric feature_selector feature_types grow_policy multi_strategy
    normalize_type process_type sample_type sampling_method tree_method updater
    """.split()
)
_NAME = re.compile(r"[A-Za-z0-9_]+")
# LightGBM joins its parameters into one text with spaces and "=". A value with these
# characters could set other parameters.
_TEXT = re.compile(r"[A-Za-z0-9_.,:()\[\]+-]*")

_SAFE = (Real, str, type(None))  # the libraries skip parameters that are None

_ARMS_PARAMETERS = ("checkpoint", "log_dir", "memory")


def untrusted_params(params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the parameters of ``[model] params`` that need trust, and why.

    Parameters
    ----------
    params : dict
        Parameters of a tree library.
    """
    for name, value in params.items():
        single = list(flat(value))
        texts = [item for item in single if isinstance(item, str)]
        others = [item for item in single if not isinstance(item, _SAFE)]
        if name in _REACHING:
            reason = "reaches files or other machines"
        elif not _NAME.fullmatch(name):
            reason = "is not a parameter's name, and might set several"
        elif others:
            kind = type(others[0]).__name__
            reason = f"holds a {kind}, which the library might turn into any text"
        elif texts and name not in _TEXTS:
            reason = "is not known to take text, which might be a path"
        elif not all(map(_TEXT.fullmatch, texts)):
            reason = "has a space or a character that might set several parameters"
        else:
            continue
        yield name, f"{reason}. {REMEDY}"


def untrusted_parameters(arm: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the parameters of an arm that need trust, and why.

    Parameters
    ----------
    arm : dict
        Its parameters as given.
    """
    for name in _ARMS_PARAMETERS:
        if arm.get(name) is not None:
            yield name, f"writes files to any path. {REMEDY}"


def flat(value: Any) -> Iterator[Any]:
    """Yield a value, or the values of its nested lists."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from flat(item)
    else:
        yield value
