"""Which names are told as near to another one."""

import pytest

from numerai_features._names import near_names


@pytest.mark.parametrize(
    ("wrong", "names", "near"),
    [
        ("catboost", ["lightgbm", "xgboost"], []),
        ("lgbm", ["lightgbm", "xgboost"], ["lightgbm"]),
        ("XGBoost", ["lightgbm", "xgboost"], ["xgboost"]),
        ("gboost", ["lightgbm", "xgboost"], ["xgboost"]),
        ("medum", ["small", "medium", "all"], ["medium"]),
        ("mall", ["small", "medium", "all"], ["all", "small"]),
        ("arget", ["era", "target"], ["target"]),
        ("", ["era"], []),
    ],
)
def test_near_names(wrong, names, near):
    told = near_names(wrong, names)
    assert sorted(name for name in names if repr(name) in told) == near
    assert bool(told) == bool(near)
