"""Two worker processes of a Dask cluster, beside one process with the same rows."""

import contextlib
import os
import pickle
import signal
import time

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from numerai_features.compose import LatentFeatures
from numerai_features.datasets import EraPanel, make_era_panel
from numerai_features.embedders import (
    DAEEmbedder,
    EraStatistics,
    FactorAnalysisEmbedder,
)
from numerai_features.experiment import Experiment
from numerai_features.experiment._fits import FoldFits
from numerai_features.model_selection import EraKFold, cross_val_predict_eras
from numerai_features.moments import EraMoments, Moments

dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")
cluster_of = pytest.importorskip("distributed")

from numerai_features.distributed import (  # noqa: E402
    gather_moments,
    panel_frame,
    transform_partitions,
)

N_FEATURES = 12
PATIENCE = 300  # seconds, on a busy machine


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of two worker processes on this machine."""
    cluster = cluster_of.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        memory_limit=0,
        local_directory=str(tmp_path_factory.mktemp("dask")),
    )
    with cluster_of.Client(cluster) as client:
        yield client
    # On a busy machine the workers' ends may take longer than Dask waits for them.
    with contextlib.suppress(TimeoutError):
        cluster.close()


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    """A panel on a disk that both workers see."""
    made = make_era_panel(
        n_eras=24, rows_per_era=50, n_features=N_FEATURES, random_state=3
    )
    folder = tmp_path_factory.mktemp("panel") / "rows"
    made.save(folder)
    return EraPanel.open(folder)


@pytest.fixture(scope="module")
def rows(panel):
    """The panel's features and eras in five partitions."""
    return panel_frame(panel, n_partitions=5)[["era", *panel.feature_names]]


@pytest.fixture(scope="module")
def latents(panel):
    """Features and the latents of two embedders."""
    embedders = [
        ("fa", FactorAnalysisEmbedder(3)),
        ("dae", DAEEmbedder(2, hidden=(8,), max_epochs=1, random_state=0)),
    ]
    return LatentFeatures(embedders, quantize="uint8").fit(panel.as_X())


def delayed_parts(tables):
    return [dask.delayed(table) for table in tables]


def in_this_process(value):
    return value.compute(scheduler="sync")


def assert_same_factors(ours, theirs, atol=1e-10):
    for name in ("mean_", "components_", "noise_variance_", "loglike_"):
        expected = getattr(theirs, name)
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=0, atol=atol)
    np.testing.assert_array_equal(ours.fitted_eras_, theirs.fitted_eras_)


class TestPanelFrame:
    def test_rows_are_those_of_the_panel(self, panel):
        frame = panel_frame(panel, n_partitions=5)
        told = in_this_process(frame)
        expected = panel.to_frame().reset_index(drop=True)
        assert frame.npartitions == 5
        assert frame.known_divisions
        assert list(told.columns) == list(expected.columns)
        assert (told.dtypes[1:] == expected.dtypes[1:]).all()
        assert (told["era"].to_numpy() == expected["era"].to_numpy()).all()
        np.testing.assert_array_equal(told.iloc[:, 1:], expected.iloc[:, 1:])

    def test_partitions_hold_whole_eras(self, panel):
        seen = [
            set(in_this_process(part)["era"])
            for part in panel_frame(panel, n_partitions=7).partitions
        ]
        assert len(set.union(*seen)) == sum(map(len, seen)) == 24

    def test_partitions_are_small_by_default(self, panel, monkeypatch):
        monkeypatch.setattr("numerai_features.distributed._PARTITION_BYTES", 4000)
        n_bytes = panel.X.nbytes + panel.targets.nbytes
        assert panel_frame(panel).npartitions == min(24, -(-n_bytes // 4000))
        monkeypatch.undo()
        assert panel_frame(panel).npartitions == 1

    def test_tasks_hold_a_path_and_no_rows(self, panel):
        part = panel_frame(panel, n_partitions=2).to_delayed()[0]
        assert len(pickle.dumps(dict(part.dask))) < panel.X.nbytes

    def test_more_partitions_than_eras_are_refused(self, panel):
        with pytest.raises(ValueError, match=r"n_partitions must be at most .* 24"):
            panel_frame(panel, n_partitions=25)


class TestMoments:
    def test_two_workers_give_the_factors_of_one_process(self, client, panel, rows):
        moments = gather_moments(rows).compute()
        names = panel.feature_names
        ours = FactorAnalysisEmbedder.from_moments(
            moments, feature_names=names, n_components=3
        )
        frame = panel.to_frame(targets=[])
        whole = FactorAnalysisEmbedder(3).fit(frame)
        assert_same_factors(ours, whole)
        np.testing.assert_array_equal(ours.transform(frame), whole.transform(frame))
        seen = client.run(lambda: "numerai_features.distributed" in os.sys.modules)
        assert set(seen.values()) == {True}  # both have worked

    def test_bins_are_summed_to_the_last_bit(self, panel, rows):
        moments = in_this_process(gather_moments(rows))
        whole = EraMoments.from_rows(panel.X, panel.eras)
        np.testing.assert_array_equal(moments.totals, whole.totals)
        np.testing.assert_array_equal(moments.total().scatter, whole.total().scatter)
        assert len(moments.blocks) == 1

    def test_an_era_in_two_parts_is_one_era(self, panel):
        frame = panel.to_frame(targets=[])
        parts = delayed_parts(frame[i : i + 170] for i in range(0, len(frame), 170))
        moments = in_this_process(gather_moments(parts))
        ours = FactorAnalysisEmbedder.from_moments(
            moments, n_components=3, center="era"
        )
        whole = FactorAnalysisEmbedder(3, center="era").fit(panel.X, eras=panel.eras)
        assert_same_factors(ours, whole)

    def test_row_groups_of_a_parquet_file(self, client, panel, tmp_path):
        frame = panel.to_frame(targets=[])
        frame.to_parquet(tmp_path / "train.parquet", row_group_size=210)
        parts = [
            dask.delayed(row_group)(tmp_path / "train.parquet", i) for i in range(6)
        ]
        moments = gather_moments(parts).compute()
        whole = EraMoments.from_rows(panel.X, panel.eras)
        np.testing.assert_array_equal(moments.numbers, whole.numbers)
        np.testing.assert_array_equal(moments.total().scatter, whole.total().scatter)

    def test_arrays_of_floats_without_eras(self, client):
        X = np.random.default_rng(0).normal(3, 2, (500, 4))
        X[::9, 1] = np.nan
        parts = delayed_parts(np.array_split(X, 6))
        moments = gather_moments(parts, fill=np.zeros(4)).compute()
        assert isinstance(moments, Moments)
        whole = Moments.from_rows(X, fill=np.zeros(4))
        np.testing.assert_allclose(moments.mean, whole.mean, rtol=1e-12)
        covariance = whole.covariance()
        np.testing.assert_allclose(moments.covariance(), covariance, rtol=1e-12)
        with pytest.raises(ValueError, match="X contains NaN; pass fill="):
            in_this_process(gather_moments(parts))

    def test_the_order_of_adding_is_fixed(self, client):
        X = np.random.default_rng(1).normal(size=(500, 4))
        first = gather_moments(delayed_parts(np.array_split(X, 9))).compute()
        again = in_this_process(gather_moments(delayed_parts(np.array_split(X, 9))))
        assert first.scatter.tobytes() == again.scatter.tobytes()
        assert first.total.tobytes() == again.total.tobytes()

    def test_parts_without_rows_are_left_out(self, panel, rows):
        some = rows[rows["era"] > "0012"]
        moments = in_this_process(gather_moments(some))
        assert moments.numbers.tolist() == list(range(13, 25))
        with pytest.raises(ValueError, match="parts hold no rows"):
            in_this_process(gather_moments(rows[rows["era"] > "9"]))

    def test_other_columns_are_told(self, panel):
        frame = panel.to_frame(targets=[])
        parts = delayed_parts([frame[:100], frame[100:][frame.columns[::-1]]])
        with pytest.raises(
            ValueError, match=r"same columns in the same order; parts\["
        ):
            in_this_process(gather_moments(parts))
        parts = delayed_parts([frame[:100], frame[100:].drop(columns="era")])
        with pytest.raises(ValueError, match=r"or none of them; of parts\[0\] and"):
            in_this_process(gather_moments(parts))
        parts = delayed_parts([frame[:100], frame[100:].assign(feature_0001="a")])
        with pytest.raises(ValueError, match=r"parts\[1\] must hold numbers"):
            in_this_process(gather_moments(parts))
        parts = delayed_parts([frame.to_numpy()])
        with pytest.raises(ValueError, match=r"parts\[0\] must be .* got object of"):
            in_this_process(gather_moments(parts))

    @pytest.mark.parametrize("fill", [[], np.eye(3), 2.0])
    def test_fill_is_a_value_for_each_column(self, rows, fill):
        with pytest.raises(ValueError, match="fill"):
            gather_moments(rows, fill=fill)

    @pytest.mark.parametrize("parts", [[], np.eye(3), [np.eye(3)], "rows", None])
    def test_what_is_no_table_of_dask_is_refused(self, parts):
        with pytest.raises(ValueError, match=r"parts must be a dask\.dataframe"):
            gather_moments(parts)


def row_group(path, number):
    """Read a row group where the task runs."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read_row_group(number).drop(["id"])


class TestTransform:
    def test_two_workers_give_the_bytes_of_one_process(
        self, client, panel, rows, latents
    ):
        table = transform_partitions(latents, rows)
        whole = latents.transform(panel.to_frame(targets=[]))
        told = table.compute()
        assert list(told.columns) == ["era", *latents.get_feature_names_out()]
        assert told.iloc[:, 1:].to_numpy().tobytes() == whole.tobytes()
        assert (told["era"].to_numpy() == in_this_process(rows["era"])).all()
        assert table.divisions == rows.divisions
        pd.testing.assert_series_equal(table.dtypes, told.dtypes)

    @pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask under pandas 3.1
    def test_a_frame_of_files_keeps_its_index(self, client, panel, latents, tmp_path):
        frame = panel.to_frame(targets=[])
        frame[:500].to_parquet(tmp_path / "0.parquet")
        frame[500:].to_parquet(tmp_path / "1.parquet")
        told = transform_partitions(latents, dd.read_parquet(tmp_path)).compute()
        assert told.index.name == "id"
        assert told.index.to_list() == frame.index.to_list()
        whole = latents.transform(frame)
        assert told.iloc[:, 1:].to_numpy().tobytes() == whole.tobytes()

    @pytest.mark.parametrize(
        "make",
        [
            lambda: LatentFeatures(),
            lambda: LatentFeatures(FactorAnalysisEmbedder(2)),
            lambda: LatentFeatures(FactorAnalysisEmbedder(2), keep_era=True),
            lambda: LatentFeatures(
                FactorAnalysisEmbedder(2), passthrough=False
            ).set_output(transform="pandas"),
        ],
        ids=["originals", "floats", "keep_era", "frames"],
    )
    def test_any_table_of_latents(self, panel, rows, make):
        fitted = make().fit(panel.as_X())
        table = transform_partitions(fitted, rows)
        told = in_this_process(table)
        pd.testing.assert_series_equal(table.dtypes, told.dtypes)
        whole = fitted.transform(panel.to_frame(targets=[]))
        whole = (
            whole.drop(columns="era", errors="ignore")
            if hasattr(whole, "iloc")
            else whole
        )
        np.testing.assert_array_equal(told.iloc[:, 1:], whole)

    def test_parts_without_rows_stay_empty(self, panel, rows, latents):
        some = rows[rows["era"] > "0012"]
        told = in_this_process(transform_partitions(latents, some))
        whole = latents.transform(panel.select(first=13).to_frame(targets=[]))
        np.testing.assert_array_equal(told.iloc[:, 1:], whole)

    @pytest.mark.parametrize(
        "embedder", [FactorAnalysisEmbedder(2, center="era"), EraStatistics()]
    )
    def test_a_cut_era_is_told_where_the_era_matters(self, client, panel, embedder):
        frame = panel.to_frame(targets=[])
        fitted = LatentFeatures(FrozenEstimator(embedder.fit(frame))).fit(frame)
        cut = dd.from_pandas(frame.reset_index(drop=True), npartitions=5)
        with pytest.raises(
            ValueError, match="of the era '0005' in its partitions 0 and"
        ):
            transform_partitions(fitted, cut)
        with pytest.raises(ValueError, match="frame has no column 'era', but latents"):
            transform_partitions(fitted, cut[panel.feature_names])
        whole = panel_frame(panel, n_partitions=5)[list(frame.columns)]
        told = transform_partitions(fitted, whole).compute()
        np.testing.assert_array_equal(told.iloc[:, 1:], fitted.transform(frame))
        moved = transform_partitions(fitted, cut.shuffle(on="era")).compute()
        np.testing.assert_array_equal(moved.sort_index().iloc[:, 1:], told.iloc[:, 1:])

    def test_a_cut_era_is_no_matter_where_rows_stand_alone(self, panel, latents):
        frame = panel.to_frame(targets=[])
        cut = dd.from_pandas(frame.reset_index(drop=True), npartitions=5)
        told = in_this_process(transform_partitions(latents, cut))
        np.testing.assert_array_equal(told.iloc[:, 1:], latents.transform(frame))

    def test_another_fit_is_another_task(self, panel, rows):
        make = lambda p: LatentFeatures(FactorAnalysisEmbedder(2)).fit(p.as_X())  # noqa: E731
        one, same, other = map(make, (panel, panel, panel.select(last=12)))
        names = [
            transform_partitions(f, rows).__dask_keys__() for f in (one, same, other)
        ]
        assert names[0] == names[1] != names[2]

    def test_frames_of_one_machine_are_refused(self, panel, latents):
        with pytest.raises(ValueError, match=r"frame must be a dask\.dataframe"):
            transform_partitions(latents, panel.to_frame(targets=[]))


@pytest.fixture(scope="module")
def table(client, panel, rows, latents):
    """Features with latents, and a target, as they lie on the workers."""
    table = transform_partitions(latents, rows)
    X = table[list(latents.get_feature_names_out())]
    y = panel_frame(panel, n_partitions=5)[panel.target_names[0]]
    return dask.persist(X, y)


class TestTrees:
    """Dask's own classes of both libraries take what comes out, as it is."""

    def assert_trained(self, predictions, panel):
        told = np.asarray(predictions.compute()).ravel()
        assert len(told) == panel.n_rows
        assert np.corrcoef(told, panel.y())[0, 1] > 0.2

    # LightGBM tells of the default itself.
    @pytest.mark.filterwarnings("ignore:Parameter n_jobs will be ignored")
    def test_lightgbm(self, client, table, panel):
        lightgbm = pytest.importorskip("lightgbm")
        model = lightgbm.DaskLGBMRegressor(
            n_estimators=5, num_leaves=7, verbosity=-1, client=client
        ).fit(*table)
        assert model.feature_name_[-1] == "dae__daeembedder1"
        self.assert_trained(model.predict(table[0]), panel)

    def test_xgboost(self, client, table, panel):
        xgboost = pytest.importorskip("xgboost.dask")
        model = xgboost.DaskXGBRegressor(n_estimators=5, max_leaves=7)
        model.client = client
        self.assert_trained(model.fit(*table).predict(table[0]), panel)


class TestSearch:
    def test_scores_of_workers_are_those_of_one_process(self, client, panel):
        X, y = panel.as_X(), panel.y()
        pipeline = make_pipeline(
            LatentFeatures(FactorAnalysisEmbedder(2), passthrough=False), Ridge()
        )
        grid = {"latentfeatures__embedders__n_components": [2, 4]}
        search = GridSearchCV(pipeline, grid, cv=EraKFold(2, purge=1), n_jobs=2)
        alone = GridSearchCV(pipeline, grid, cv=EraKFold(2, purge=1)).fit(X, y)
        with joblib.parallel_config("dask"):
            search.fit(X, y)
        for name in ("split0_test_score", "split1_test_score"):
            np.testing.assert_array_equal(
                search.cv_results_[name], alone.cv_results_[name]
            )


def experiment(folder):
    data = {"n_eras": 30, "rows_per_era": 40, "n_features": 12, "n_factors": 3}
    fa = {"embedder": "FactorAnalysisEmbedder", "n_components": 3}
    tables = {
        "data": {"synthetic": data | {"horizon": 2}},
        "cv": {"n_splits": 2, "purge": 3},
        "latents": {"fa": fa},
        "model": {"n_jobs": 1, "device": "cpu", "params": {"n_estimators": 5}},
    }
    return Experiment.from_dict(tables, base=folder, output=folder / "out")


def not_here(*args, **kwargs):
    raise AssertionError("This runs on a worker, not here.")


def test_folds_of_an_experiment_run_on_the_workers(client, tmp_path, monkeypatch):
    pytest.importorskip("lightgbm")
    alone = experiment(tmp_path / "alone").run(verbose=False)
    with joblib.parallel_config("dask"):
        with monkeypatch.context() as patch:
            patch.setattr(FoldFits, "run", not_here)
            far = experiment(tmp_path / "far").run(verbose=False)
            with pytest.raises(AssertionError, match="on a worker, not here"):
                experiment(tmp_path / "near").run(n_jobs=1, verbose=False)
        near = experiment(tmp_path / "near").run(n_jobs=1, verbose=False)
    pd.testing.assert_frame_equal(far.predictions, alone.predictions)
    pd.testing.assert_frame_equal(near.predictions, alone.predictions)


def test_folds_of_cross_val_predict_eras_run_on_the_workers(client, panel, monkeypatch):
    model = make_pipeline(LatentFeatures(FactorAnalysisEmbedder(3)), Ridge())
    X, y = panel.as_X(), panel.y("target_alpha_20")
    options = {"cv": EraKFold(3, purge=1), "verbose": False}
    alone = cross_val_predict_eras(model, X, y, **options)
    monkeypatch.setattr(Ridge, "fit", not_here)
    with joblib.parallel_config("dask"):
        far = cross_val_predict_eras(model, X, y, **options)
    pd.testing.assert_frame_equal(far, alone)


def slow_row_group(path, number, seen):
    """Read a row group, leave a note of it, and take a while."""
    (seen / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(0.4)
    return row_group(path, number).to_pandas()


def late(number):
    return pytest.param(number, marks=pytest.mark.slow)


@pytest.mark.parametrize("at", [4, late(1), late(7), late(10)])
def test_a_killed_worker_changes_nothing(client, panel, latents, tmp_path, at):
    frame = panel.to_frame(targets=[])
    frame.to_parquet(tmp_path / "train.parquet", row_group_size=100)
    seen = tmp_path / "seen"
    seen.mkdir()
    read = dask.delayed(slow_row_group)
    parts = [read(tmp_path / "train.parquet", i, seen) for i in range(12)]
    client.wait_for_workers(2, PATIENCE)
    table = transform_partitions(latents, dd.from_delayed(parts, meta=frame[:0]))
    moments, table = client.compute(gather_moments(parts)), client.compute(table)
    end = time.monotonic() + PATIENCE
    while len(list(seen.iterdir())) < at and time.monotonic() < end:
        time.sleep(0.01)
    assert not moments.done()
    newest = max(seen.iterdir(), key=lambda note: int(note.name.split("-")[2]))
    victim = newest.name.split("-")[1]  # it is reading now
    os.kill(int(victim), signal.SIGKILL)
    killed, table = moments.result(PATIENCE), table.result(PATIENCE)
    notes = [note.name.split("-")[:2] for note in seen.iterdir()]
    assert {int(number) for number, _ in notes} == set(range(12))
    assert len(notes) > 12  # what the killed one was reading was read again
    whole = EraMoments.from_rows(panel.X, panel.eras)
    assert killed.total().scatter.tobytes() == whole.total().scatter.tobytes()
    ours = FactorAnalysisEmbedder.from_moments(killed, n_components=3)
    assert_same_factors(ours, FactorAnalysisEmbedder(3).fit(panel.X, eras=panel.eras))
    assert table.iloc[:, 1:].to_numpy().tobytes() == latents.transform(frame).tobytes()
