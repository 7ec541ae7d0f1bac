import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from numerai_features._cache import fingerprint


@pytest.fixture
def table(panel):
    return panel.to_frame().head(300)


def test_equal_contents_have_one_hash(table, tmp_path):
    assert fingerprint(table) == fingerprint(table.copy(deep=True))
    X = np.arange(60, dtype=np.int8).reshape(20, 3)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="c")
    assert fingerprint(X, 1, "a") == fingerprint(mapped, 1, "a")
    assert fingerprint(mapped[5:10]) == fingerprint(X[5:10].copy())


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas])
def test_other_frames(table, convert):
    plain = table.reset_index(drop=True)
    other = plain.copy()
    other.iloc[7, 3] += 1
    assert fingerprint(convert(plain)) == fingerprint(convert(plain))
    assert fingerprint(convert(plain)) != fingerprint(convert(other))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.assign(era=t["era"].replace("0001", "0009")),
        lambda t: t.rename(columns={"feature_0000": "renamed"}),
        lambda t: t.iloc[::-1],
        lambda t: t.iloc[:, ::-1],
        lambda t: t.head(299),
        lambda t: t.assign(feature_0000=t["feature_0000"].astype(float)),
    ],
)
def test_any_change_has_another_hash(table, change):
    assert fingerprint(change(table)) != fingerprint(table)


def test_equal_texts_need_not_be_the_same_objects():
    def words():
        return np.array(["".join(["er", "a"]), "".join(["e", "ra"]), "b"], dtype=object)

    assert fingerprint(words()) == fingerprint(words())
    assert fingerprint(pd.Series(words())) != fingerprint(pd.Series(words()[::-1]))
    same = "era"
    assert fingerprint(np.array([same, same], object)) == fingerprint(
        np.array([same, "".join(["e", "ra"])], object)
    )


def test_the_order_of_values_counts():
    assert fingerprint(1, 2) != fingerprint(2, 1)
    assert fingerprint(None) != fingerprint()
