"""What the tests of panels share beside the fixtures."""

import numpy as np

from numerai_features._eras import LIVE

N_ROWS, N_FEATURES = 60, 7
FEATURES = [f"feature_{j}" for j in range(N_FEATURES)]
TARGETS = ["target", "target_x_60"]
NUMBERS = [1, 2, 3, 5, 8, LIVE]


def assert_same(a, b):
    np.testing.assert_array_equal(a.X, b.X)
    np.testing.assert_array_equal(a.eras, b.eras)
    np.testing.assert_array_equal(a.targets, b.targets)
    np.testing.assert_array_equal(a.ids, b.ids)
    assert (a.feature_names, a.target_names) == (b.feature_names, b.target_names)
    assert a.info == b.info
