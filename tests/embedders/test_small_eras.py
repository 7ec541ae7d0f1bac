"""Eras of one row, or of a few: a live one, or what a filter has left."""

import numpy as np
import pytest

from numerai_features import make_era_panel
from numerai_features.embedders import DAEEmbedder, EraMLP, SupervisedAEMLP
from numerai_features.model_selection import EraKFold

DAE = DAEEmbedder(
    4, hidden=(16,), batching="era", max_epochs=4, validation=4, random_state=0
)
NET = SupervisedAEMLP(
    4, hidden=(8,), decoder_units=8, dropout=(0.1,) * 4, batching="era",
    max_epochs=4, validation=4, random_state=0,
)  # fmt: skip
MLP = EraMLP((16, 4), loss="mse", max_epochs=4, validation=4, random_state=0)
LIKE_LOSS = 1.2
LIKE_SPREAD = 1.15


@pytest.fixture(scope="module")
def panel():
    return make_era_panel(n_eras=34, rows_per_era=60, n_features=20, random_state=0)


def with_small_eras(panel, n_rows):
    """Put an era of so many rows of its rows behind each of the first 30 eras."""
    X, y, eras = panel.X, panel.y(), panel.eras
    behind = np.concatenate([np.flatnonzero(eras == e)[:n_rows] for e in range(1, 31)])
    rows = np.concatenate([np.arange(len(X)), behind])
    labels = np.concatenate([2 * eras, 2 * eras[behind] + 1])
    return X[rows], y[rows], labels


@pytest.mark.parametrize("net", [DAE, NET, MLP], ids=lambda net: type(net).__name__)
def test_change_a_network_little(panel, net):
    net.fit(panel.X, panel.y(), eras=2 * panel.eras)
    losses = np.array([record["valid_loss"][0] for record in net.history_])
    spread = net.transform(panel.X).std(axis=0)
    for n_rows in (1, 3):
        X, y, eras = with_small_eras(panel, n_rows)
        net.fit(X, y, eras=eras)
        now = [record["valid_loss"][0] for record in net.history_]
        np.testing.assert_array_less(now, LIKE_LOSS * losses)
        ratio = net.transform(panel.X).std(axis=0) / spread
        assert np.all((ratio < LIKE_SPREAD) & (ratio > 1 / LIKE_SPREAD))


@pytest.mark.parametrize("loss", ["mse", "corr", "numerai_corr"])
def test_constant_targets_and_features(panel, loss):
    X, y, eras = with_small_eras(panel, 1 if loss == "mse" else 16)
    X, y = X.copy(), y.copy()
    y[eras == 14], X[eras == 18] = 0.5, 2
    net = SupervisedAEMLP(**{**NET.get_params(), "loss": loss, "max_epochs": 2})
    net.fit(X, y, eras=eras)
    assert np.isfinite([record["valid_loss"] for record in net.history_]).all()
    assert net.transform(X).std() < 5


@pytest.mark.parametrize("loss", ["corr", "numerai_corr"])
class TestCorrelationWithinAnEra:
    """Of eras that share a batch it would be with their levels, too."""

    def net(self, loss, **options):
        return SupervisedAEMLP(**{**NET.get_params(), "loss": loss, **options})

    def test_small_eras_are_refused(self, panel, loss):
        X, y, eras = with_small_eras(panel, 15)
        told = rf"loss='{loss}' .* batching='era'.*22 of 44 .*, such as 3 with 15"
        with pytest.raises(ValueError, match=told):
            self.net(loss).fit(X, y, eras=eras)
        names = np.array([f"era {e} of mine" for e in eras])
        splitter = EraKFold(3, purge=0)
        with pytest.raises(ValueError, match=r"such as 'era \d+ of mine' with 15"):
            self.net(loss, validation=splitter).fit(X, y, eras=names)

    def test_rows_that_count_are_counted(self, panel, loss):
        """Neither a live era's rows nor those of weight zero are trained on."""
        net = self.net(loss, max_epochs=1, validation=None)
        X, y, eras = with_small_eras(panel, 15)
        large = eras % 2 == 0
        net.fit(X, np.where(large, y, np.nan), eras=eras)
        net.fit(X, y, eras=eras, sample_weight=large)
        some = np.where(eras == 2, np.arange(len(y)) < 15, large)
        with pytest.raises(ValueError, match="1 of 34 eras to train on, such as 2 w"):
            net.fit(X, y, eras=eras, sample_weight=some)

    def test_a_single_small_era_is_alone(self, panel, loss):
        net = self.net(loss, max_epochs=1)
        net.fit(panel.X[:9], panel.y()[:9], eras=panel.eras[:9])
        assert np.isfinite(net.transform(panel.X)).all()


def test_correlation_cannot_be_watched_where_no_era_has_one(panel):
    eras = np.where(panel.eras > 30, 1000 + np.arange(panel.n_rows), panel.eras)
    rows = np.r_[: 30 * 60, -6:0]
    net = SupervisedAEMLP(**{**NET.get_params(), "monitor": "valid_corr"})
    with pytest.raises(ValueError, match="held out of one era whose first targets are"):
        net.fit(panel.X[rows], panel.y()[rows], eras=eras[rows])


def test_a_batch_of_one_row_is_refused(panel):
    with pytest.raises(ValueError, match=r"'batch_size'.*range \[2"):
        DAEEmbedder(4, batch_size=1).fit(panel.X, eras=panel.eras)
