"""A small panel: its parts, in memory, and on disk."""

import numpy as np
import pytest
from panel_parts import FEATURES, N_FEATURES, N_ROWS, NUMBERS, TARGETS

from numerai_features.datasets import EraPanel


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    y = rng.random((N_ROWS, 2), np.float32)
    y[3, 1] = np.nan
    return {
        "X": rng.integers(0, 5, (N_ROWS, N_FEATURES), np.int8),
        "eras": np.repeat(NUMBERS, 10),
        "targets": y,
        "feature_names": FEATURES,
        "target_names": TARGETS,
        "ids": [f"n{i:03d}" for i in range(N_ROWS)],
        "info": {"n_missing": 3},
    }


@pytest.fixture
def memory(parts):
    return EraPanel(**parts)


@pytest.fixture
def disk(memory, tmp_path):
    memory.save(tmp_path / "panel")
    return EraPanel.open(tmp_path / "panel")
