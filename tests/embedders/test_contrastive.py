import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from numerai_features.datasets import make_era_panel
from numerai_features.embedders import ContrastiveEmbedder

SMALL = {"hidden": (32,), "max_epochs": 10, "learning_rate": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def made():
    return make_era_panel(
        n_eras=20, rows_per_era=100, n_features=30, n_factors=4, random_state=1,
        return_truth=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{}, {"negatives": "era"}, {"vime_weight": 1.0}, {"temperature": 1.0}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_latents_know_factors_without_labels(made, options, kind):
    rows, truth = made
    X = rows.X
    if kind == "floats":
        X = X.astype(np.float64)
        X[::7, 3] = np.nan
    net = ContrastiveEmbedder(4, **{**SMALL, **options}).fit(X, eras=rows.eras)
    Z = net.transform(X)
    untrained = ContrastiveEmbedder(
        4, **{**SMALL, **options, "learning_rate": 1e-12}
    ).fit(X, eras=rows.eras)
    known, before = (
        LinearRegression().fit(part, truth.factors).score(part, truth.factors)
        for part in (Z, untrained.transform(X))
    )
    assert known > before + 0.1


def test_history_tells_accuracy_and_the_parts(made):
    rows, _ = made
    net = ContrastiveEmbedder(4, vime_weight=0.5, **SMALL).fit(rows.X, eras=rows.eras)
    first, last = net.history_[0], net.history_[-1]
    assert last["valid_accuracy"][0] > first["valid_accuracy"][0]
    parts = last["valid_contrast"][0]
    parts += 0.5 * (last["valid_mask"][0] + 2 * last["valid_restored"][0])
    assert last["valid_loss"][0] == pytest.approx(parts, rel=1e-5)


def test_an_era_is_compared_within_itself(made):
    """What all rows of an era share tells nothing where others are of that era."""
    rows, _ = made
    level = np.random.default_rng(0).normal(size=(21, 1))[rows.eras]
    X = rows.X + 20 * level * np.ones(30)
    shares = []
    for negatives in ("batch", "era"):
        net = ContrastiveEmbedder(4, negatives=negatives, **SMALL)
        Z = net.fit(X, eras=rows.eras).transform(X)
        means = np.stack([Z[rows.eras == e].mean(axis=0) for e in range(1, 21)])
        shares.append(means.var(axis=0).sum() / Z.var(axis=0).sum())
    assert shares[1] < shares[0]


def test_eras_are_required_by_negatives_of_the_era(made):
    rows, _ = made
    net = ContrastiveEmbedder(4, negatives="era", **SMALL)
    assert net.batching == "era"
    assert ContrastiveEmbedder().batching == "rows"
    with pytest.raises(ValueError, match="negatives='era' needs eras: pass eras="):
        net.fit(rows.X)
    with pytest.raises(ValueError, match="n_components=31 must be at most n_features"):
        ContrastiveEmbedder(31).fit(rows.X)


class TestErasOfOneRow:
    """A row that is alone in its era has nothing to be compared with."""

    def fit(self, panel, eras, **options):
        net = ContrastiveEmbedder(
            4, hidden=(16,), negatives="era", max_epochs=2, random_state=0, **options
        )
        return net.fit(panel.X[: len(eras)], eras=eras)

    def test_all_of_them(self, panel):
        with pytest.raises(ValueError, match="no era has two rows to train on"):
            self.fit(panel, np.arange(1, 201))
        eras = np.r_[np.repeat(np.arange(1, 11), 40), np.arange(500, 550)]
        with pytest.raises(ValueError, match="no era has two rows held out"):
            self.fit(panel, eras, validation=20)

    def test_some_change_no_figure(self, panel):
        eras = np.repeat(np.arange(1, 21), 40)
        more = np.r_[eras, np.arange(101, 131)]  # held out, and alone
        whole = self.fit(panel, eras, validation=None)
        held = self.fit(panel, more, validation=31)
        record = held.history_[-1]
        assert record["valid_accuracy"][0] < 0.9
        assert record["valid_loss"][0] > 1
        assert whole.history_[-1]["train_loss"][0] > 1
