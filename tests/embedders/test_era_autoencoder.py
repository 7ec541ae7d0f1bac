import warnings

import numpy as np
import pytest
from sklearn.model_selection import PredefinedSplit

from numerai_features import LatentFeatures
from numerai_features._eras import encode_eras
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import EraAutoencoder, EraStatistics
from numerai_features.embedders._era_autoencoder import era_positions

SMALL = {"hidden": (16,), "random_units": (6, 10), "max_epochs": 4, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    return make_era_panel(
        n_eras=20, rows_per_era=100, n_features=30, n_factors=4, random_state=1
    )


def net(n_components=4, **options):
    return EraAutoencoder(n_components, **{**SMALL, **options})


def positions(labels, train=None, n=12):
    train = np.arange(len(labels)) if train is None else np.asarray(train)
    return era_positions(encode_eras(labels), train, n).tolist()


class TestPositions:
    def test_the_first_era_is_at_0_and_the_last_at_11(self):
        assert positions(np.arange(1, 13)) == pytest.approx(range(12))
        assert positions(["0100", "0210"]) == [0, 11]

    def test_gaps_are_told_in_era_numbers(self):
        """Not in places of a list: every fourth era, and a gap of 56 behind."""
        assert positions([1, 5, 9, 13, 69, 89]) == pytest.approx(
            [0, 0.5, 1, 1.5, 8.5, 11]
        )

    def test_rows_in_any_order(self):
        order = np.random.default_rng(0).permutation(12)
        assert positions(order + 1) == pytest.approx(order)
        assert positions([3, 1, 3, 2, 1], n=5) == [4, 0, 4, 2, 0]

    def test_later_and_earlier_eras_are_at_the_ends(self):
        """Of eras that are not trained on, those held out say."""
        labels = [1, 2, 10, 21, 30, 40]
        assert positions(labels, train=[2, 3]) == [0, 0, 0, 11, 11, 11]

    def test_the_live_era_is_at_the_last(self):
        assert positions(["0001", "0012", "X"]) == [0, 11, 11]
        assert positions(["X", "0001", "0012"], train=[1, 2]) == [11, 0, 11]
        assert positions(["X", "X"]) == [11, 11]

    def test_a_single_era_is_the_last(self):
        assert positions([7, 7]) == [11, 11]

    def test_dates_are_weeks(self):
        labels = ["2020-01-03", "2020-01-10", "2020-03-13"]
        assert positions(labels, n=11) == [0, 1, 10]


class TestEras:
    def test_are_required(self, rows):
        with pytest.raises(ValueError, match="n_positions=12 needs eras: pass eras="):
            net().fit(rows.X)
        assert net(n_positions=None).fit(rows.X).transform(rows.X).shape == (2000, 4)

    def test_names_have_no_position(self, rows):
        names = np.array([f"era {e} of mine" for e in rows.eras])
        with pytest.raises(ValueError, match="n_positions=12 places eras by their num"):
            net(validation=None).fit(rows.X, eras=names)

    def test_every_row_is_transformed_at_the_last_position(self, rows):
        fitted = net().fit(rows.X, eras=rows.eras)
        first = fitted.transform(rows.X, eras=rows.eras)
        np.testing.assert_array_equal(fitted.transform(rows.X), first)
        np.testing.assert_array_equal(
            fitted.transform(rows.X, eras=rows.eras[::-1]), first
        )

    def test_the_position_is_an_input(self, rows):
        """Of rows that drift, and that are hardly seen, it tells the drift."""
        drift = (np.arange(30) % 2 * 2 - 1) * (rows.eras[:, None] - 10.5) / 6
        X = (rows.X + drift).astype(np.float32)
        options = {"feature_dropout": 0.95, "random_scale": 1e-9, "max_epochs": 10}
        options |= {"batch_size": 64, "learning_rate": 0.01}
        losses = [
            net(n_positions=n, validation=None, **options)
            .fit(X, eras=rows.eras)
            .history_[-1]["train_loss"][0]
            for n in (12, None)
        ]
        assert losses[0] < losses[1] - 0.1

    def test_held_out_eras_are_at_the_last_position_of_training(self, rows):
        """As new eras will be, however far away they are."""
        late = rows.eras > 15
        losses = []
        for gap in (0, 500):
            fold = PredefinedSplit(np.where(late, 0, -1))
            eras = rows.eras + gap * late
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The groups parameter is ignored")
                fitted = net(validation=fold, max_epochs=2).fit(rows.X, eras=eras)
            losses.append([record["valid_loss"] for record in fitted.history_])
        assert losses[0] == losses[1]


class TestOutputs:
    def test_argmax_is_the_number_of_the_largest_latent(self, rows):
        latents, argmax, both = (
            net(output=output).fit_transform(rows.X, eras=rows.eras)
            for output in ("latent", "argmax", "both")
        )
        assert ((latents > 0) & (latents < 1)).all()
        np.testing.assert_array_equal(argmax[:, 0], latents.argmax(axis=1))
        np.testing.assert_array_equal(both, np.hstack([latents, argmax]))
        assert len(np.unique(argmax)) > 1

    def test_several_networks_are_side_by_side(self, rows):
        pair = net(output="both", n_models=2).fit(rows.X, eras=rows.eras)
        Z = pair.transform(rows.X)
        np.testing.assert_array_equal(
            Z[:, [4, 9]], np.stack([Z[:, :4].argmax(1), Z[:, 5:9].argmax(1)], axis=1)
        )
        np.testing.assert_array_equal(pair.n_categories_, [0, 0, 0, 0, 4] * 2)
        assert not np.array_equal(Z[:, :4], Z[:, 5:9])

    def test_wrong_parameters(self, rows):
        with pytest.raises(ValueError, match="random_units must be the widths of two"):
            net(random_units=(4, 4, 4)).fit(rows.X, eras=rows.eras)
        with pytest.raises(
            ValueError, match="n_components=129 must be at most 128 for"
        ):
            net(129, output="argmax").fit(rows.X, eras=rows.eras)


class TestInLatentFeatures:
    @pytest.mark.parametrize("quantize", [None, "int8", "uint8"])
    @pytest.mark.parametrize("n_bins", [2, 255])
    def test_a_category_keeps_its_number(self, rows, quantize, n_bins):
        embedder = net(7, output="both")
        plain = embedder.fit(rows.X, eras=rows.eras).transform(rows.X)
        table = LatentFeatures(embedder, quantize=quantize, n_bins=n_bins)
        found = table.fit_transform(rows.X, eras=rows.eras)
        np.testing.assert_array_equal(found[:, -1], plain[:, -1])
        assert found.dtype == (quantize or np.float32)
        assert table.categorical_columns_ == ["eraautoencoder7"]
        alone = LatentFeatures(net(7, output="argmax"), quantize=quantize)
        alone = alone.fit_transform(rows.X, eras=rows.eras)
        np.testing.assert_array_equal(alone[:, -1], plain[:, -1])
        if quantize:  # the others are ranked as ever
            latents = LatentFeatures(net(7), quantize=quantize, n_bins=n_bins)
            ranked = latents.fit_transform(rows.X, eras=rows.eras)
            np.testing.assert_array_equal(found[:, :-1], ranked)
            assert latents.categorical_columns_ == []

    def test_frames_have_a_column_of_int8(self, rows):
        frame = rows.to_frame(targets=[])
        two = [("a", net(3, output="argmax")), ("b", net(3, output="both"))]
        table = LatentFeatures(two, keep_era=True)
        for found in (table.fit_transform(frame), table.transform(frame)):
            names = ["a__eraautoencoder0", "b__eraautoencoder3"]
            assert table.categorical_columns_ == names
            kinds = found.dtypes
            assert (kinds[names] == np.int8).all()
            assert (kinds.drop(["era", *names]) == np.float32).all()

    def test_more_categories_than_int8_holds_are_refused(self, rows):
        class Many(EraStatistics):
            n_categories_ = np.array([0, 129])

        table = LatentFeatures(Many(statistics=["mean"]), quantize="uint8")
        with pytest.raises(ValueError, match="n_categories_ of Many is up to 129, but"):
            table.fit(rows.X[:, :2], eras=rows.eras)

    def test_lightgbm_splits_it_as_a_category(self, rows):
        lightgbm = pytest.importorskip("lightgbm")
        table = LatentFeatures(
            net(7, output="argmax"), passthrough=False, keep_era=True
        )
        X = table.fit_transform(rows.to_frame(targets=[])).drop(columns="era")
        y = np.isin(X.iloc[:, 0], [1, 3, 5]).astype(float)
        model = lightgbm.LGBMRegressor(
            n_estimators=1, learning_rate=1, num_leaves=2, min_child_samples=1,
            min_data_per_group=1, cat_smooth=0, cat_l2=0, max_cat_to_onehot=1,
            verbose=-1,
        )  # fmt: skip
        model.fit(X, y, categorical_feature=table.categorical_columns_)
        np.testing.assert_allclose(model.predict(X), y, atol=1e-6)
