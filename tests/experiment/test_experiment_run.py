"""Experiments, run end to end on a tiny synthetic panel."""

import dataclasses
import os
import pickle
import re
import shutil
from types import SimpleNamespace

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from joblib import parallel_config
from numerai_tools.scoring import numerai_corr

from numerai_features import embedders
from numerai_features._cache import versions
from numerai_features._sealed import SetAsideWarning
from numerai_features.compose import LatentFeatures
from numerai_features.datasets import EraPanel, make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder, SupervisedAEMLP
from numerai_features.experiment import Experiment, ExperimentError, _run
from numerai_features.experiment._eras import make_folds
from numerai_features.experiment._figure import draw_cumulative
from numerai_features.experiment._fits import FoldFits
from numerai_features.experiment._run import _FoldDone, _sendable, _WholeFolds
from numerai_features.metrics import paired_differences
from numerai_features.model_selection import EraWalkForward

EXPERIMENT = """
seed = 3
[data.synthetic]
n_eras = 30
rows_per_era = 40
n_features = 12
n_factors = 3
horizon = 2
[cv]
n_splits = 2
purge = 3
[latents]
pca = false
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = 3
[latents.turned]
embedder = "FactorAnalysisEmbedder"
n_components = 2
rotation = "varimax"
[model]
n_jobs = 1
device = "cpu"
params = { n_estimators = 8, colsample_bytree = 0.5 }
"""
ARMS = ["originals", "+ fa", "+ turned", "+ random"]


def run(folder, text=EXPERIMENT, **options):
    """Run an experiment file of that text into the folder ``out``."""
    folder.mkdir(exist_ok=True)
    file = folder / "tiny.toml"
    file.write_text(text, encoding="utf-8")
    experiment = Experiment.from_file(file, output=folder / "out")
    return experiment.run(**{"verbose": False, **options})


def finished(folder):
    """Return the files of finished fits; one that is fitted again is another file."""
    files = (folder / "out" / "folds").glob("*.fold")
    return {file.stem: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def contents(folder):
    """Return the files of a folder, but for the panel, and what they hold."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if path.is_file() and not name.startswith("panel")
    }


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_latents_have_other_names_than_features(tmp_path, library):
    """Trees refuse a name that comes twice."""
    file = tmp_path / "tiny.toml"
    text = EXPERIMENT.replace("[model]", f'[model]\nlibrary = "{library}"')
    text = text.replace("pca = false", "pca = true")
    file.write_text(text, encoding="utf-8")
    experiment = Experiment.from_file(file, output=tmp_path / "out")
    panel = make_era_panel(n_eras=30, rows_per_era=40, n_features=12, random_state=0)
    arms = ("fa", "turned", "pca", "random")
    names = [f"{arm}__{j}" for arm in arms for j in (0, 1)]
    names = ["fa__fa__0", *names, *panel.feature_names[9:]]
    panel = EraPanel(
        panel.X, panel.eras, panel.y(), feature_names=names,
        target_names=[experiment["targets"]["main"]],
    )  # fmt: skip
    [fold, _] = make_folds(experiment.tables, panel)
    fits = FoldFits(experiment, panel, fold)
    for arm in arms:
        result = fits.run(arm, width=3, tell=lambda what: None)
        assert np.isfinite(result.prediction).all()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return run(tmp_path_factory.mktemp("done"))


@pytest.fixture
def given(monkeypatch):
    """Note what LightGBM is given: for each fit the rows to train on and to predict."""
    given = []
    fit, predict = lightgbm.LGBMRegressor.fit, lightgbm.LGBMRegressor.predict

    def noted_fit(self, X, *args, **kwargs):
        given.append([X])
        return fit(self, X, *args, **kwargs)

    def noted_predict(self, X, *args, **kwargs):
        given[-1].append(X)
        return predict(self, X, *args, **kwargs)

    monkeypatch.setattr(lightgbm.LGBMRegressor, "fit", noted_fit)
    monkeypatch.setattr(lightgbm.LGBMRegressor, "predict", noted_predict)
    return given


def plain_folds(panel):
    y = panel.y("target_alpha_10")
    splitter = EraWalkForward(2, purge=3)
    for train, test in splitter.split(panel.X, y, groups=panel.eras):
        yield train, test, y


def plain_model():
    return lightgbm.LGBMRegressor(
        n_estimators=8, learning_rate=0.01, max_depth=5, num_leaves=31, max_bin=63,
        colsample_bytree=0.5, n_jobs=1, random_state=3, verbosity=-1,
    )  # fmt: skip


class TestResult:
    def test_files_that_are_written(self, done):
        folder = done.experiment.folder
        names = {path.name for path in folder.iterdir()}
        parquet = {"predictions.parquet", "scores.parquet", "summary.parquet"}
        others = {"cumulative.png", "folds", "resolved.toml", "panel", "panel.truth"}
        assert names == parquet | others | {"differences.png"}
        assert len(list((folder / "folds").glob("*.fold"))) == 8
        assert (folder / "cumulative.png").read_bytes().startswith(b"\x89PNG")
        again = Experiment.from_file(folder / "resolved.toml")
        assert again.tables == done.experiment.tables

    def test_the_figure_is_written_whole(self, done, tmp_path):
        """A new file takes the old one's place, of which there is another name here."""
        (tmp_path / "before").write_bytes(b"old")
        os.link(tmp_path / "before", tmp_path / "figure")
        draw_cumulative(done, tmp_path / "figure")
        assert (tmp_path / "figure").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "before").read_bytes() == b"old"

    def test_the_files_hold_the_frames(self, done):
        folder = done.experiment.folder
        for name in ("predictions", "scores"):
            written = pd.read_parquet(folder / f"{name}.parquet")
            pd.testing.assert_frame_equal(getattr(done, name), written)
        written = pd.read_parquet(folder / "summary.parquet")
        own = {name: f"difference_{name}" for name in ("n_eras", "n_needed")}
        both = done.summary.join(done.differences.rename(columns=own))
        both = both.join(done.expected.add_prefix("expected_"))
        pd.testing.assert_frame_equal(both, written)

    def test_predictions_cover_every_test_row_once(self, done):
        predictions = done.predictions
        assert list(predictions.columns) == ["era", "target", "fold", *ARMS]
        assert predictions.index.name == "id"
        assert predictions.index.is_unique
        assert (predictions[ARMS].dtypes == np.float32).all()
        assert list(predictions["era"].unique()) == [f"{n:04d}" for n in range(11, 31)]
        ends = predictions.groupby("fold")["era"].agg(["min", "max"])
        assert ends.to_numpy().tolist() == [["0011", "0020"], ["0021", "0030"]]

    def test_scores_are_those_of_numerai_tools(self, done):
        expected = {}
        for era, rows in done.predictions.reset_index(drop=True).groupby("era"):
            rows = rows.reset_index(drop=True).astype({"target": float})
            expected[int(era)] = numerai_corr(rows[ARMS].astype(float), rows["target"])
        expected = pd.DataFrame(expected).T
        np.testing.assert_allclose(done.scores, expected[ARMS], rtol=1e-12)
        assert list(done.scores.index) == list(expected.index)
        summary = done.summary
        assert list(summary.index) == ARMS
        np.testing.assert_allclose(summary["mean"], expected[ARMS].mean())
        np.testing.assert_allclose(summary["sd"], expected[ARMS].std(ddof=0))
        assert summary["n_latents"].tolist() == [0, 3, 2, 3]
        assert (summary["model_seconds"] > 0).all()

    def test_differences_are_paired(self, done):
        expected = paired_differences(done.scores, "originals", 3)
        assert list(done.differences.index) == ARMS[1:]
        pd.testing.assert_frame_equal(done.differences, expected)

    def test_it_prints_as_tables(self, done):
        text = str(done)
        assert text.startswith("CORR with target_alpha_10, walk-forward, 20 eras\n")
        assert all(f"\n{arm} " in text for arm in ARMS)
        title, head, first, *_ = text[text.index("\nArm less") + 1 :].splitlines()
        told = "Arm less originals, mean CORR with 95 % interval (for an overlap of 3 "
        assert title == f"{told}eras)"
        assert head.split() == ["mean_difference", "low", "high", "eras"]
        assert first.endswith("   20")

    def test_every_figure_says_its_number_of_eras(self, done):
        """An arm of which some eras have no score, and FNC and CORR over others."""
        assert done.summary["n_eras"].tolist() == [20] * 4
        assert done.summary["fnc_n_eras"].tolist() == [20] * 4
        head = str(done).splitlines()[1]
        assert " eras " in head
        assert "FNC eras" not in head
        summary = done.summary.assign(fnc_n_eras=[20, 20, 19, 20])
        told = str(dataclasses.replace(done, summary=summary))
        assert " FNC FNC eras " in told
        assert "exposure eras" not in told
        assert repr(done) == (
            f"ExperimentResult(4 arms, 20 eras, folder='{done.experiment.folder}')"
        )

    def test_it_is_frozen(self, done):
        with pytest.raises(dataclasses.FrozenInstanceError, match="scores"):
            done.scores = None


class TestArms:
    def test_originals_are_a_plain_lightgbm_loop(self, done):
        panel = EraPanel.open(done.experiment.folder / "panel")
        expected = []
        for train, test, y in plain_folds(panel):
            model = plain_model().fit(panel.X[train], y[train])
            expected.append(model.booster_.predict(panel.X[test]))
        expected = np.concatenate(expected).astype(np.float32)
        np.testing.assert_array_equal(done.predictions["originals"], expected)
        assert done.predictions["originals"].nunique() > 20

    def test_latents_are_a_plain_loop_over_latent_features(self, done):
        panel = EraPanel.open(done.experiment.folder / "panel")
        expected = []
        for train, test, y in plain_folds(panel):
            fa = [("fa", FactorAnalysisEmbedder(3))]
            latents = LatentFeatures(fa, quantize="uint8")
            X = latents.fit_transform(panel.X[train], eras=panel.eras[train])
            model = plain_model().fit(X, y[train])
            expected.append(model.booster_.predict(latents.transform(panel.X[test])))
        expected = np.concatenate(expected).astype(np.float32)
        np.testing.assert_array_equal(done.predictions["+ fa"], expected)

    def test_a_model_of_its_own(self, tmp_path):
        """It has the original features, the fold's training rows, and its eras."""
        net = {
            "n_components": 3, "decoder_units": 4, "hidden": (8,), "max_epochs": 2,
            "dropout": (0.0, 0.0, 0.0, 0.0),
        }  # fmt: skip
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in net.items()}
        toml = "\n".join(f"{k} = {v}" for k, v in lists.items())
        text = f'{EXPERIMENT}\n[models.net]\nmodel = "SupervisedAEMLP"\n{toml}\n'
        text += "[latents.codes]\nembedder = 'SupervisedAEMLP'\ncross_fit = 2\n"
        text = text.replace("n_eras = 30", "n_eras = 90")
        result = run(tmp_path, f"{text}{toml}\n")
        assert list(result.scores) == [*ARMS[:3], "+ codes", "+ random", "net"]
        panel = EraPanel.open(tmp_path / "out" / "panel")
        for train, test, y in plain_folds(panel):
            known = train[~np.isnan(y[train])]
            model = SupervisedAEMLP(random_state=3, **net)
            named = pd.Series(y[known], name="target_alpha_10")
            model.fit(panel.X[known], named, eras=panel.eras[known])
            expected = model.predict(panel.X[test]).astype(np.float32)
            eras = [f"{n:04d}" for n in np.unique(panel.eras[test])]
            mine = result.predictions[result.predictions["era"].isin(eras)]
            np.testing.assert_array_equal(mine["net"], expected)

    @pytest.mark.parametrize("quantize", ["none", "int8", "uint8"])
    def test_random_columns_are_of_the_latents_type(self, tmp_path, given, quantize):
        run(tmp_path, quantized(quantize))
        tables = {"fa": given[1][0], "random": given[3][0]}
        kind = pa.float32() if quantize == "none" else pa.type_for_alias(quantize)
        for name, table in tables.items():
            latents = [f"{name}__{j}" for j in range(3)]
            assert table.column_names[:12] == given[0][0].column_names
            assert table.column_names[12:] == latents
            assert all(table.schema.field(latent).type == kind for latent in latents)
        if quantize != "none":
            n_bins = 5 if quantize == "int8" else 255
            for j in range(3):  # the factors may have ties
                counts = np.bincount(tables["random"][f"random__{j}"], minlength=n_bins)
                assert len(counts) == n_bins
                assert np.ptp(counts) <= 1
                assert max(tables["fa"][f"fa__{j}"].to_numpy()) < n_bins

    def test_random_columns_belong_to_the_row(self, tmp_path, given):
        """A row has the same ones in every fold, others with another seed."""

        def columns(text):
            """Return those of fold 1's training and test rows, and of fold 2's."""
            given.clear()
            run(tmp_path / f"{len(list(tmp_path.iterdir()))}", text)
            fits = (*given[3], *given[7])
            return [table.to_pandas().iloc[:, 12:].to_numpy() for table in fits]

        train, test, later_train, later_test = columns(quantized("none"))
        # Training ends after eras 7 and 17 of 40 rows, tests begin with 11 and 21.
        np.testing.assert_array_equal(train, later_train[: 7 * 40])
        np.testing.assert_array_equal(test[: 7 * 40], later_train[10 * 40 :])
        assert train.shape[1] == 3
        assert abs(np.corrcoef(later_train.T) - np.eye(3)).max() < 0.2
        assert abs(later_test[:280] - train).min() > 0
        more = quantized("none").replace("n_components = 3", "n_components = 4")
        np.testing.assert_array_equal(columns(more)[1][:, :3], test)
        other = columns(quantized("none").replace("seed = 3", "seed = 4"))
        assert abs(other[1] - test).min() > 0

    @pytest.mark.parametrize("quantize", ["none", "int8", "uint8"])
    def test_old_lightgbm_gets_one_array_of_the_same_values(
        self, done, tmp_path, given, monkeypatch, quantize
    ):
        """Up to 4.6 it took no table of columns of several types."""
        run(tmp_path, quantized(quantize))
        tables = [X for X, _ in given]
        given.clear()
        monkeypatch.setattr("importlib.metadata.version", lambda name: "4.6.0")
        run(tmp_path / "old", quantized(quantize))
        for table, (array, _) in zip(tables, given, strict=True):
            floats = array.shape[1] > 12 and quantize == "none"
            assert array.dtype == (np.float32 if floats else np.uint8)
            np.testing.assert_array_equal(array, table.to_pandas())


def quantized(how):
    return EXPERIMENT.replace("[latents]", f"[latents]\nquantize = '{how}'")


class Stopping(FactorAnalysisEmbedder):
    """An embedder that raises `stop` in the fit that follows `last` others."""

    n_done, last, stop = 0, None, None

    def fit(self, X, y=None, *, eras=None, sample_weight=None):
        if Stopping.n_done == Stopping.last:
            raise Stopping.stop
        Stopping.n_done += 1
        return super().fit(X, y, eras=eras, sample_weight=sample_weight)

    def fit_transform(self, X, y=None, *, eras=None, sample_weight=None):
        fitted = self.fit(X, y, eras=eras, sample_weight=sample_weight)
        return fitted.transform(X, eras=eras)


@pytest.fixture
def stopping(monkeypatch):
    names = [*embedders.__all__, "Stopping"]
    monkeypatch.setattr(embedders, "Stopping", Stopping, raising=False)
    monkeypatch.setattr(embedders, "__all__", names)
    old = 'turned]\nembedder = "FactorAnalysisEmbedder"'
    return EXPERIMENT.replace(old, 'turned]\nembedder = "Stopping"')


class TestGoingOn:
    @pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
    @pytest.mark.parametrize("last", [0, 1])
    def test_what_is_finished_is_kept(
        self, done, tmp_path, stopping, monkeypatch, last, stop
    ):
        monkeypatch.setattr(Stopping, "n_done", 0)
        with monkeypatch.context() as patch:
            patch.setattr(Stopping, "last", last)
            patch.setattr(Stopping, "stop", stop("in a fit"))
            with pytest.raises(stop, match="in a fit"):
                run(tmp_path, stopping)
        kept = finished(tmp_path)
        expected = {"001.originals", "001.fa"}
        if last == 1:
            expected |= {"001.turned", "001.random", "002.originals", "002.fa"}
        assert set(kept) == expected
        assert not (tmp_path / "out" / "predictions.parquet").exists()
        result = run(tmp_path, stopping)
        assert kept.items() <= finished(tmp_path).items()
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    def test_only_what_is_missing_is_fitted(self, done, tmp_path, capsys):
        run(tmp_path)
        before = finished(tmp_path)
        (tmp_path / "out" / "folds" / "002.fa.fold").unlink()
        result = run(tmp_path, verbose=True)
        after = finished(tmp_path)
        assert {name for name in after if after[name] != before[name]} == {"002.fa"}
        told = capsys.readouterr()
        assert "4 arms, 2 folds.\n7 of 8 fits are done already and are" in told.out
        assert "fold 2 of 2, + fa" in told.err
        assert "originals" not in told.err
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    def test_a_finished_one_is_not_fitted_again(self, done, tmp_path, capsys):
        run(tmp_path)
        before = finished(tmp_path)
        result = run(tmp_path, verbose=True)
        assert finished(tmp_path) == before
        told = capsys.readouterr()
        assert "8 of 8 fits are done already and are kept." in told.out
        assert "%" not in told.err  # no bar for nothing
        pd.testing.assert_frame_equal(result.scores, done.scores)

    def test_another_experiment_in_the_folder_is_refused(self, tmp_path):
        run(tmp_path, EXPERIMENT.replace("[latents.turned]", "[latents.other]"))
        message = (
            r"holds results of another experiment:\n"
            r"  latents\.other: .* then, not set now\n"
            r"  latents\.turned: not set then, .* now\n"
            r"  model\.params\.n_estimators: 8 then, 9 now\n"
            r"Choose another output folder \(output=, or --output .*delete from this "
            r"one: folds, predictions\.parquet, scores\.parquet, summary\.parquet, "
            r"cumulative\.png, differences\.png\. The panel can stay\."
        )
        with pytest.raises(ExperimentError, match=message):
            run(tmp_path, EXPERIMENT.replace("n_estimators = 8", "n_estimators = 9"))

    @pytest.mark.parametrize("how", ["removed", "set aside", "with their folder"])
    def test_finished_results_without_their_fits_are_not_replaced(
        self, done, tmp_path, how
    ):
        run(tmp_path)
        out = tmp_path / "out"
        for file in (out / "folds").glob("*.fold"):
            file.rename(f"{file}.unusable") if how == "set aside" else file.unlink()
        if how == "with their folder":
            shutil.rmtree(out / "folds")
        before = contents(out)
        told = "None of the results" if how == "with their folder" else "n_estimators"
        told += (
            r".*\n?.* from this one: predictions\.parquet, scores\.parquet, summary\."
        )
        other = EXPERIMENT.replace("n_estimators = 8", "n_estimators = 9")
        with pytest.raises(ExperimentError, match=told):
            run(tmp_path, other)
        assert contents(out) == before
        result = run(tmp_path)  # the same again
        pd.testing.assert_frame_equal(result.predictions, done.predictions)
        assert len(finished(tmp_path)) == 8

    def test_results_that_no_run_has_made_are_not_replaced(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "predictions.parquet").write_bytes(b"mine")
        told = (
            r"None of the results in .*out can .* from this one: predictions\.parquet\."
        )
        with pytest.raises(ExperimentError, match=told):
            run(tmp_path)
        assert contents(tmp_path / "out") == {"predictions.parquet": b"mine"}

    def test_an_arm_that_failed_is_corrected_and_the_others_are_kept(
        self, done, tmp_path, stopping, monkeypatch
    ):
        monkeypatch.setattr(Stopping, "n_done", 0)
        with monkeypatch.context() as patch:
            patch.setattr(Stopping, "last", 0)
            patch.setattr(Stopping, "stop", ValueError("too many"))
            wrong = stopping.replace("n_components = 2", "n_components = 12")
            with pytest.raises(ValueError, match="too many"):
                run(tmp_path, wrong)
        kept = finished(tmp_path)
        assert set(kept) == {"001.originals", "001.fa"}
        result = run(tmp_path)
        assert kept.items() <= finished(tmp_path).items()
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    def test_an_arm_of_which_there_are_results_is_not_changed(self, tmp_path):
        run(tmp_path)
        before = contents(tmp_path / "out")
        told = (
            r"another experiment:\n  latents\.turned\.n_components: 2 then, 1 now\n"
            r"Choose .* from this one: folds/\*\.turned\.fold, predictions\.parquet, "
            r".*differences\.png\. Fits of other arms, and the panel, can stay\."
        )
        other = EXPERIMENT.replace("n_components = 2", "n_components = 1")
        with pytest.raises(ExperimentError, match=told):
            run(tmp_path, other)
        fewer = EXPERIMENT.replace("[latents]", "[latents]\nrandom_columns = false")
        with pytest.raises(
            ExperimentError, match="the arm random: there then, not now"
        ):
            run(tmp_path, fewer)
        assert contents(tmp_path / "out") == before
        out = tmp_path / "out"
        for file in [*out.glob("*.p*"), *(out / "folds").glob("*.turned.fold")]:
            file.unlink()
        kept = finished(tmp_path)
        with pytest.warns(SetAsideWarning, match="random columns"):
            run(tmp_path, other)
        same = {
            name for name, file in finished(tmp_path).items() if kept.get(name) == file
        }
        assert same == {f"00{n}.{arm}" for n in (1, 2) for arm in ("originals", "fa")}

    def test_an_arm_more_leaves_the_others(self, done, tmp_path):
        text = EXPERIMENT[: EXPERIMENT.index("[latents.turned]")]
        run(tmp_path, text + EXPERIMENT[EXPERIMENT.index("[model]") :])
        kept = finished(tmp_path)
        told = (
            r"random columns or principal components in .* other latents.* kept as "
            r"\*\.unusable, and the fits"
        )
        with pytest.warns(SetAsideWarning, match=told) as warned:
            result = run(tmp_path)
        assert len(warned) == 1
        now = finished(tmp_path)
        same = {name for name in kept if now[name] == kept[name]}
        assert same == {f"00{n}.{arm}" for n in (1, 2) for arm in ("originals", "fa")}
        assert len(list((tmp_path / "out" / "folds").glob("*.random.fold.unus*"))) == 2
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    def test_the_file_that_was_read_stays_as_it_was(self, done, tmp_path):
        """Though results go where it is, and whatever it is called."""
        for name in ("experiment.toml", "resolved.toml"):
            folder = tmp_path / name.partition(".")[0]
            folder.mkdir()
            (folder / name).write_text(f"# mine\n{EXPERIMENT}", encoding="utf-8")
            experiment = Experiment.from_file(folder / name, output=folder)
            if name == "experiment.toml":
                result = experiment.run(verbose=False)
                pd.testing.assert_frame_equal(result.predictions, done.predictions)
            else:
                with pytest.raises(ExperimentError, match="is not replaced"):
                    experiment.run(verbose=False)
                assert list(contents(folder)) == [name]
            assert (folder / name).read_text() == f"# mine\n{EXPERIMENT}"

    def test_the_resolved_file_can_be_run_where_it_is(self, done, tmp_path):
        run(tmp_path)
        before = finished(tmp_path)
        resolved = tmp_path / "out" / "resolved.toml"
        for edit in ("", "# mine\n"):
            resolved.write_text(edit + resolved.read_text())
            text = resolved.read_text()
            result = Experiment.from_file(resolved).run(verbose=False)
            pd.testing.assert_frame_equal(result.predictions, done.predictions)
            assert resolved.read_text() == text
        assert finished(tmp_path) == before

    def test_a_typo_that_is_corrected_is_not_refused(self, done, tmp_path):
        typo = "[features]\nset = ['feature_0003', 'featur_0001']\n[cv]"
        with pytest.raises(ValueError, match="featur_0001"):
            run(tmp_path, EXPERIMENT.replace("[cv]", typo))
        result = run(tmp_path)
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    def test_damaged_files_are_made_anew(self, done, tmp_path):
        run(tmp_path)
        folds = tmp_path / "out" / "folds"
        flipped = bytearray((folds / "002.turned.fold").read_bytes())
        flipped[-3] ^= 1
        (folds / "002.turned.fold").write_bytes(flipped)
        for name in ("001.originals.fold", "experiment.json"):
            (folds / name).write_bytes((folds / name).read_bytes()[:-30])
        with pytest.warns(SetAsideWarning, match="made again") as told:
            result = run(tmp_path)
        assert len(told) == 3
        pd.testing.assert_frame_equal(result.predictions, done.predictions)
        pd.testing.assert_frame_equal(result.scores, done.scores)
        before = finished(tmp_path)
        run(tmp_path)
        assert finished(tmp_path) == before

    def test_threads_and_places_make_no_other_experiment(self, tmp_path):
        run(tmp_path)
        before = finished(tmp_path)
        (tmp_path / "out").rename(tmp_path / "moved")
        (tmp_path / "out").symlink_to(tmp_path / "moved")
        run(tmp_path, EXPERIMENT.replace("n_jobs = 1", "n_jobs = 2"))
        panel = f"[data]\npanel = '{tmp_path / 'panel'}'\n[data.synthetic]"
        run(tmp_path, EXPERIMENT.replace("[data.synthetic]", panel))
        assert finished(tmp_path) == before


class OfTwo(Exception):
    """An error that pickle cannot make again."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


class TestFoldsAtOnce:
    @pytest.mark.parametrize("seeds", [1, 2])
    def test_have_the_results_of_one_after_the_other(self, tmp_path, seeds):
        text = EXPERIMENT.replace("pca = false", "pca = true")
        text = f"seeds = {seeds}\n{text}"
        alone = run(tmp_path / "alone", text)
        at_once = run(tmp_path / "at once", text, n_jobs=2)
        pd.testing.assert_frame_equal(at_once.predictions, alone.predictions)
        kept = finished(tmp_path / "at once")
        assert set(kept) == set(finished(tmp_path / "alone"))
        for n_jobs in (2, None):
            run(tmp_path / "at once", text, n_jobs=n_jobs)
            assert finished(tmp_path / "at once") == kept

    def test_only_what_is_missing_is_fitted(self, done, tmp_path, capsys):
        run(tmp_path)
        before = finished(tmp_path)
        for name in ("fa", "random"):
            (tmp_path / "out" / "folds" / f"002.{name}.fold").unlink()
        result = run(tmp_path, n_jobs=2, verbose=True)
        changed = finished(tmp_path).items() - before.items()
        assert {name for name, _ in changed} == {"002.fa", "002.random"}
        told = capsys.readouterr()
        assert "6 of 8 fits are done already and are kept" in told.out
        assert "2/2" in told.err
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    def test_after_an_error_all_that_is_in_progress_is_kept(
        self, done, tmp_path, stopping, monkeypatch
    ):
        """One of both folds fails in its third arm, the other is ended."""
        monkeypatch.setattr(Stopping, "n_done", 0)
        with monkeypatch.context() as patch, parallel_config("threading"):
            patch.setattr(Stopping, "last", 1)
            patch.setattr(Stopping, "stop", MemoryError("too many"))
            with pytest.raises(MemoryError, match="too many") as told:
                run(tmp_path, stopping, n_jobs=2)
        *_, note = told.value.__notes__
        assert re.match(r"In the arm turned, fold [12], seed 0:\n\nTraceback", note)
        assert "raise Stopping.stop" in note
        kept = finished(tmp_path)
        by_fold = sorted(
            sorted(name[4:] for name in kept if name.startswith(fold))
            for fold in ("001", "002")
        )
        assert by_fold == [["fa", "originals"], ["fa", "originals", "random", "turned"]]
        result = run(tmp_path, stopping)
        assert kept.items() <= finished(tmp_path).items()
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    def test_after_an_error_no_fold_is_begun(self):
        places = [(number, 0) for number in range(1, 6)]
        folds = [SimpleNamespace(number=number) for number, _ in places]
        every = [SimpleNamespace(fold=fold, seed=0) for fold in folds]
        store = {("fa", 2, 0): "done"}
        whole = _WholeFolds(store, ["fa"], places)
        tasks = whole.tasks(every)
        assert [next(tasks).key, next(tasks).key] == [(1, 0), (3, 0)]
        whole[1, 0] = _FoldDone({"fa": "done"}, None)
        assert next(tasks).key == (4, 0)
        errors = [ValueError("first"), ValueError("second")]
        for place, error in zip(((3, 0), (4, 0)), errors, strict=True):
            whole[place] = _FoldDone({}, error)
        assert list(tasks) == []
        assert whole.error is errors[0]
        assert store == {("fa", 2, 0): "done", ("fa", 1, 0): "done"}

    @pytest.mark.parametrize("change", [{"lightgbm": "1.2.3"}, {"another": "1"}])
    def test_a_worker_with_other_versions_is_refused(self, monkeypatch, change):
        """Its results would be stored as those of the versions here."""
        here = versions()
        there = here | change
        for worker, wanted in ((there, here), (here, there)):
            monkeypatch.setattr(_run, "versions", lambda worker=worker: worker)
            done = _run._fit_arms(None, ["fa"], {}, wanted, None)
            assert done.results == {}
            [name] = change
            told = f"versions {{'{name}': {worker.get(name)!r}}}, but"
            assert told in str(done.error)

    @pytest.mark.parametrize("error", [ValueError("a and b"), OfTwo("a", "b")])
    def test_any_error_comes_from_another_process(self, error):
        """Also one that pickle cannot make again, unless another library helps it."""
        sent = pickle.loads(pickle.dumps(_sendable(error, "where")))
        assert str(sent) in ("a and b", "OfTwo: a and b")
        assert sent.__notes__ == ["where"]

    def test_a_backend_of_joblib_may_set_their_number(self, done, tmp_path):
        with parallel_config("loky", n_jobs=2):
            result = run(tmp_path)
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    @pytest.mark.parametrize("n_jobs", [0, 1.5, True, "all"])
    def test_another_number_is_refused(self, tmp_path, n_jobs):
        with pytest.raises(ValueError, match="n_jobs"):
            run(tmp_path, n_jobs=n_jobs)


class TestData:
    def test_real_rows(self, tmp_path, real_data):
        text = EXPERIMENT[EXPERIMENT.index("[cv]") :]
        files = [str(real_data / f"{name}.parquet") for name in ("train", "validation")]
        text = f"[data]\nfiles = {files}\n[targets]\nmain = 'target_bernie'\n{text}"
        predictions = run(tmp_path, text).predictions
        panel = EraPanel.open(tmp_path / "out" / "panel")
        assert panel.target_names == ["target_bernie"]
        rows = pd.concat([pd.read_parquet(file) for file in files])["target_bernie"]
        np.testing.assert_array_equal(
            predictions["target"], rows.loc[predictions.index]
        )
        made = (tmp_path / "out" / "panel" / "features.npy").stat()
        before = finished(tmp_path)
        run(tmp_path, text)  # neither the panel is made again nor anything fitted
        again = (tmp_path / "out" / "panel" / "features.npy").stat()
        assert (again.st_ino, again.st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
        assert finished(tmp_path) == before


class TestSettings:
    @pytest.mark.parametrize(
        ("old", "new", "title"),
        [
            ("n_splits = 2", "scheme = 'k-fold'\nn_splits = 2", "k-fold, 30 eras"),
            ("n_splits = 2", "test_eras = 8\nmax_train_eras = 6", "walk-forward, 22 e"),
            (
                "n_splits = 2",
                "n_splits = 1\nfirst_test_era = 21",
                "walk-forward, 10",
            ),
            ("pca = false", "random_columns = false", "20 eras"),
            ("pca = false", "", "20 eras"),
            ("[model]", "[model]\nlibrary = 'xgboost'", "20 eras"),
            (
                "[cv]",
                "[features]\nset = ['feature_0003', 'feature_0001']\n[cv]",
                "20 e",
            ),
        ],
    )
    def test_other_settings(self, tmp_path, old, new, title):
        text = EXPERIMENT.replace("n_components = 3", "n_components = 1")
        text = text.replace("n_components = 2", "n_components = 1").replace(old, new)
        told = str(run(tmp_path, text))
        assert title in told
        assert ("+ random" in told) == ("random_columns" not in new)
        assert ("+ pca" in told) == (old == "pca = false")

    def test_from_a_mapping_it_is_the_same(self, done, tmp_path):
        tables = done.experiment.tables
        experiment = Experiment.from_dict(tables, output=tmp_path / "out")
        result = experiment.run(verbose=False)
        assert result.experiment is experiment
        pd.testing.assert_frame_equal(result.predictions, done.predictions)

    def test_baseline_alone_has_no_differences(self, tmp_path):
        text = EXPERIMENT[: EXPERIMENT.index("[latents")]
        result = run(tmp_path, text + EXPERIMENT[EXPERIMENT.index("[model]") :])
        assert "Arm less" not in str(result)
        assert len(result.differences) == 0
        assert list(result.differences.columns[:3]) == [
            "mean_difference",
            "low",
            "high",
        ]
        written = pd.read_parquet(tmp_path / "out" / "summary.parquet")
        expected = result.expected.add_prefix("expected_")
        pd.testing.assert_frame_equal(written, result.summary.join(expected))

    def test_too_few_eras_for_intervals_are_told(self, tmp_path):
        text = EXPERIMENT.replace("n_eras = 30", "n_eras = 13")
        result = run(tmp_path, text.replace("n_splits = 2", "test_eras = 9"))
        [note] = result.notes
        assert note == (
            "No interval for + fa, + turned, + random: an interval needs 12 eras, four "
            "times the overlap of 3 eras. Test on more eras."
        )
        table = str(result)[str(result).index("\nArm less") :]
        assert table.count(" too few eras too few eras    4\n") == 3
        assert f"\n\n{note}\n\n+ fa: these 4 eras cannot tell" in str(result)
        expected = result.scores.sub(result.scores["originals"], axis=0).mean()[1:]
        np.testing.assert_allclose(result.differences["mean_difference"], expected)
        assert result.differences[["low", "high"]].isna().to_numpy().all()

    def test_without_matplotlib_the_rest_is_written(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
        result = run(tmp_path)
        told = "\n\nNo figures: cumulative.png needs matplotlib"
        assert told in str(result)
        assert not (tmp_path / "out" / "cumulative.png").exists()
        assert (tmp_path / "out" / "summary.parquet").exists()
