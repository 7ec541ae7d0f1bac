import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator

from numerai_features._eras import encode_eras
from numerai_features._rows import Rows

X = np.arange(12, dtype=np.int8).reshape(6, 2)
ERAS = ["0002", "0001", "0002", "X", "0001", "0002"]


def read(*args, **options):
    return Rows.read(BaseEstimator(), *args, **options)


class TestRead:
    def test_everything(self):
        rows = read(X, np.arange(6), ERAS, np.array([1, 0, 2, 1, 1, 1]))
        assert rows.X is X
        assert rows.y.dtype == np.float64
        assert rows.y.shape == (6, 1)
        assert rows.eras.numbers[:2].tolist() == [1, 2]
        assert rows.weights.tolist() == [1, 0, 2, 1, 1, 1]
        assert rows.counted.tolist() == [True, False, True, True, True, True]
        assert rows.n_rows == 6

    def test_what_does_not_come_is_none(self):
        rows = read(X)
        assert (rows.y, rows.eras, rows.weights, rows.era_labels) == (None,) * 4
        assert rows.counted.all()
        assert not rows.labelled.any()

    @pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
    def test_frames(self, make):
        frame = make({"era": ERAS, "a": X[:, 0], "b": X[:, 1]})
        targets = make({"u": [0.5] * 6, "v": [0.0, None, 0.0, 1.0, 1.0, 1.0]})
        rows = read(frame, targets)
        assert np.array_equal(rows.X, X)
        assert rows.X.dtype == np.int8
        assert rows.era_labels.tolist() == ERAS
        assert rows.y.shape == (6, 2)
        assert np.isnan(rows.y[1, 1])

    def test_the_estimator_learns_the_features_in_fit_alone(self):
        estimator = BaseEstimator()
        Rows.read(estimator, pd.DataFrame(X, columns=["a", "b"]))
        assert estimator.n_features_in_ == 2
        with pytest.raises(ValueError, match="feature names should match"):
            Rows.read(estimator, pd.DataFrame(X, columns=["b", "a"]), reset=False)

    def test_fewest_rows(self):
        with pytest.raises(ValueError, match="minimum of 2 is required"):
            read(X[:1], min_rows=2)

    def test_the_callers_values_are_not_lent(self):
        y, weights = np.zeros(6), np.ones(6)
        rows = read(X, y, None, weights)
        rows.y[:], rows.weights[:] = 1, 2
        assert not y.any()
        assert (weights == 1).all()

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (np.zeros(5), r"a row for each of 6 rows of X, .*got shape \(5,\)"),
            (np.zeros((6, 1, 1)), r"got shape \(6, 1, 1\)"),
            (np.zeros((6, 0)), "y has no columns"),
            (list("abcdef"), "y must be numbers"),
            ([0, 1, 2, np.inf, 4, 5], "y contains infinity, first in row 3"),
            (pd.DataFrame({"era": range(6)}), "column 'era', which is not a target"),
        ],
    )
    def test_wrong_targets(self, y, message):
        with pytest.raises(ValueError, match=message):
            read(X, y)

    def test_wrong_eras_and_weights(self):
        with pytest.raises(ValueError, match="eras has 2 labels, but X has 6 rows"):
            read(X, None, [1, 2])
        with pytest.raises(ValueError, match=r"sample_weight must have shape \(6,\)"):
            read(X, None, None, [1])


class TestEras:
    def test_without_eras_all_rows_are_one(self):
        rows = read(X)
        assert rows.n_eras == 1
        assert not rows.codes.any()
        [(code, mine)] = rows.by_era()
        assert code == 0
        assert mine.tolist() == [0, 1, 2, 3, 4, 5]

    def test_by_era_gives_indices(self):
        parts = {code: rows.tolist() for code, rows in read(X, None, ERAS).by_era()}
        assert parts == {0: [1, 4], 1: [0, 2, 5], 2: [3]}
        ordered = read(X, None, [1, 1, 2, 2, 3, 3])
        assert [mine.tolist() for _, mine in ordered.by_era()] == [
            [0, 1],
            [2, 3],
            [4, 5],
        ]


def test_labelled_rows_have_a_target():
    y = np.array([[np.nan, 1], [np.nan, np.nan], [0, 1]])
    assert read(X[:3], y).labelled.tolist() == [True, False, True]


class TestTake:
    @pytest.mark.parametrize("some", [slice(1, 4), np.array([5, 0, 1])])
    def test_all_that_belongs_to_a_row_goes_with_it(self, some):
        rows = read(X, np.arange(6), ERAS, np.arange(1, 7))
        taken = rows.take(some)
        assert np.array_equal(taken.X, X[some])
        assert np.array_equal(taken.y, np.arange(6.0)[some, None])
        assert np.array_equal(taken.weights, np.arange(1.0, 7)[some])
        assert taken.era_labels.tolist() == np.array(ERAS)[some].tolist()
        assert taken.n_eras == len(set(taken.era_labels))

    def test_a_slice_is_a_view(self):
        assert np.shares_memory(read(X).take(slice(2, 4)).X, X)

    def test_a_frame_that_is_only_handed_on_stays_one(self):
        frame = pd.DataFrame({"era": ERAS, "a": range(6)}, index=list("uvwxyz"))
        rows = Rows(frame, None, encode_eras(ERAS)).take(np.array([3, 0]))
        assert rows.X.index.tolist() == ["x", "u"]
        assert rows.n_rows == 2
        assert rows.era_labels.tolist() == ["X", "0002"]


def test_the_era_may_be_what_is_predicted():
    """A series of that name is a target; a column among targets is a slip."""
    y = pd.Series(np.arange(6), name="era")
    rows = Rows.read(BaseEstimator(), np.zeros((6, 2)), y)
    np.testing.assert_array_equal(rows.y[:, 0], y)
