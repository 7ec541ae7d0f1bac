"""Latents written to a panel of their own, beside those of `transform`."""

import errno
import json
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from numerai_features import _scratch
from numerai_features.compose import (
    LatentFeatures,
    PanelLGBMRegressor,
    PanelXGBRegressor,
    _independent,
)
from numerai_features.datasets import EraPanel, _panel_features, make_era_panel
from numerai_features.embedders import (
    DAEEmbedder,
    EraAutoencoder,
    EraRegimes,
    EraStatistics,
    EraTransformer,
    FactorAnalysisEmbedder,
    UMAPEmbedder,
)
from numerai_features.model_selection import EraKFold
from numerai_features.trees import make_lightgbm, make_xgboost

BLOCK_ROWS = 200  # two eras and a half
FAST = {"max_epochs": 1, "validation": None, "random_state": 0}
TARGET = "target_alpha_20"


class LessAllRows(TransformerMixin, BaseEstimator):
    """A transformer of somebody else, whose latents depend on all rows."""

    def fit(self, X, y=None):
        self.n_rows_ = len(X)
        return self

    def transform(self, X):
        X = np.asarray(X, float)[:, :2]
        return X - X.mean(axis=0)

    def get_feature_names_out(self, names=None):
        return np.array(["less0", "less1"], object)


class LessTheEraBefore(LessAllRows):
    """Latents that depend on the eras before."""

    def fit(self, X, y=None, *, eras=None):
        return super().fit(X)

    def transform(self, X, *, eras):
        X, eras = np.asarray(X, float)[:, :2], np.asarray(eras).astype(int)
        before = [X[eras < e].mean() if (eras < e).any() else 0 for e in eras]
        return X - np.array(before)[:, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panel") / "rows"
    make_era_panel(n_eras=12, rows_per_era=80, n_features=12, random_state=3).save(
        folder
    )
    return folder


@pytest.fixture
def panel(folder, monkeypatch):
    monkeypatch.setattr(_independent, "BLOCK_ROWS", BLOCK_ROWS)
    monkeypatch.setattr(_scratch, "LEAST_BYTES", 1000)
    monkeypatch.setattr(_panel_features, "BLOCK_BYTES", 999)
    return EraPanel.open(folder)


@pytest.fixture
def calls(monkeypatch):
    """The number of rows of each block that is transformed; ``at`` ends them."""

    class Calls(list):
        at = None

    found = Calls()
    plain = LatentFeatures._in_blocks

    def counted(self, rows, *rest):
        if len(found) == found.at:
            raise KeyboardInterrupt
        for block, latents in plain(self, rows, *rest):
            if self.quantize is not None:  # not of one inside another
                found.append(block.stop - block.start)
            yield block, latents

    monkeypatch.setattr(LatentFeatures, "_in_blocks", counted)
    return found


def fitted(panel, embedder=None, **options):
    embedder = FactorAnalysisEmbedder(3) if embedder is None else embedder
    latents = LatentFeatures(embedder, **{"quantize": "uint8", **options})
    return latents.fit(panel.as_X(), panel.y(TARGET))


def bytes_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


SMALL_STEPS = [200] * 4 + [160]
WHOLE_ERAS = [160] * 6
ALL_ROWS = [960]
EMBEDDERS = {
    "factors": (FactorAnalysisEmbedder(3), SMALL_STEPS),
    "factors by era": (FactorAnalysisEmbedder(3, center="era"), WHOLE_ERAS),
    "network": (DAEEmbedder(4, hidden=(8,), **FAST), SMALL_STEPS),
    "categories": (
        EraAutoencoder(
            7, hidden=(8,), random_units=(2, 2), output="argmax", random_state=0,
            max_epochs=1,
        ),
        SMALL_STEPS,
    ),
    "umap": (UMAPEmbedder(2, n_neighbors=4, hidden=(8,), **FAST), SMALL_STEPS),
    "statistics": (EraStatistics([0, 1]), WHOLE_ERAS),
    "attention": (
        EraTransformer(2, width=8, n_heads=2, n_layers=1, **FAST),
        WHOLE_ERAS,
    ),
    "regimes": (
        EraRegimes(2, n_axes=3, hidden=4, n_steps=4, max_epochs=1, random_state=0),
        WHOLE_ERAS,
    ),
    "scikit-learn's": (make_pipeline(StandardScaler(), PCA(2)), SMALL_STEPS),
    "a frozen one": (None, WHOLE_ERAS),
    "several": (
        [("a", FactorAnalysisEmbedder(2)), ("b", EraStatistics([3]))],
        WHOLE_ERAS,
    ),
    "nested": (LatentFeatures(EraStatistics([3]), passthrough=False), WHOLE_ERAS),
    "of all rows": (LessAllRows(), ALL_ROWS),
    "of the eras before": (LessTheEraBefore(), ALL_ROWS),
    "a function": (FunctionTransformer(lambda X: np.asarray(X) - 1.5), ALL_ROWS),
    "one that is unknown": (
        [("pca", PCA(2)), ("all", make_pipeline(PCA(2), LessAllRows()))],
        ALL_ROWS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", EMBEDDERS)
def test_they_are_those_of_transform(panel, calls, tmp_path, which):
    embedder, blocks = EMBEDDERS[which]
    if which == "a frozen one":
        embedder = FactorAnalysisEmbedder(3, center="era").fit(panel.as_X())
        embedder = FrozenEstimator(embedder)
    latents = fitted(panel, embedder)
    if which == "a function":
        latents.embedders_[0][1].get_feature_names_out = lambda names: names
    written = latents.transform_to(panel, tmp_path / "latents")
    assert calls == blocks
    table = latents.transform(panel.as_X())
    assert calls == blocks * 2
    n_features = panel.n_features
    assert written.X.dtype == table.dtype == np.uint8
    np.testing.assert_array_equal(written.X, table[:, n_features:])
    assert written.feature_names == list(latents.get_feature_names_out())[n_features:]
    np.testing.assert_array_equal(written.eras, panel.eras)
    np.testing.assert_array_equal(written.ids, panel.ids)
    assert written.target_names == []
    about = written.info["latents"]
    assert about["fitted_eras"] == ["0001", "0012"]
    assert about["categorical_columns"] == latents.categorical_columns_
    assert bool(about["categorical_columns"]) == (which == "categories")
    written.verify()
    assert [path.name for path in tmp_path.iterdir()] == ["latents"]


@pytest.mark.parametrize("which", ["factors by era", "network", "regimes"])
def test_a_block_changes_nothing_but_the_last_bits(panel, which, monkeypatch):
    latents = fitted(panel, EMBEDDERS[which][0], passthrough=False)
    for quantize in ("uint8", None):
        latents._fitted_with.quantize = quantize
        if quantize is None:
            latents.quantizers_ = [None]
        monkeypatch.setattr(_independent, "BLOCK_ROWS", BLOCK_ROWS)
        blocks = latents.transform(panel.as_X())
        monkeypatch.setattr(_independent, "BLOCK_ROWS", 10_000)
        whole = latents.transform(panel.as_X())
        if quantize is None:
            np.testing.assert_allclose(blocks, whole, rtol=1e-4, atol=1e-5)
        else:
            assert (blocks != whole).mean() < 1e-3


@pytest.mark.parametrize("by_array", [False, True])
@pytest.mark.parametrize("options", [{}, {"passthrough": False}, {"keep_era": True}])
@pytest.mark.parametrize("quantize", ["int8", "uint8"])
def test_what_is_beside_them_changes_nothing(
    panel, tmp_path, by_array, options, quantize
):
    latents = LatentFeatures(FactorAnalysisEmbedder(2), quantize=quantize, **options)
    if by_array:
        latents.fit(panel.X, eras=panel.eras)
    else:
        latents.fit(panel.as_X())
    for rows in (panel, panel.select(every=3), panel.select(first=3, last=9)):
        written = latents.transform_to(rows, tmp_path / "latents", overwrite=True)
        assert written.X.dtype == np.dtype(quantize)
        given = (rows.X, rows.eras) if by_array else (rows.as_X(), None)
        table = np.asarray(latents.transform(given[0], eras=given[1]))
        np.testing.assert_array_equal(written.X, table[:, -2:])
        both = rows.with_latents(written)
        if not options and not by_array:
            np.testing.assert_array_equal(both.X, table)
            assert both.feature_names == list(latents.get_feature_names_out())


def test_latents_of_a_panel_with_latents(panel, tmp_path):
    first = fitted(panel).transform_to(panel, tmp_path / "first")
    both = panel.with_latents(first)
    second = fitted(both, PCA(2))
    written = second.transform_to(both, tmp_path / "second")
    table = second.transform(both.as_X())
    np.testing.assert_array_equal(both.with_latents(written).X, table)


WRONG = {
    "quantize": ({"quantize": None}, "but quantize is None"),
    "no embedder": ({"embedder": "none"}, "embedders is None: there are no latents"),
    "categories": (
        {"embedder": EMBEDDERS["categories"][0], "quantize": "int8"},
        "the categories of 'eraautoencoder0' are more than the 5 bins",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_written_is_told(panel, tmp_path, wrong):
    options, message = WRONG[wrong]
    if options.get("embedder") == "none":
        latents = LatentFeatures(quantize="int8").fit(panel.as_X())
    else:
        latents = fitted(panel, **options)
    with pytest.raises(ValueError, match=message):
        latents.transform_to(panel, tmp_path / "latents")
    assert not list(tmp_path.iterdir())


def test_other_panels_are_refused(panel, tmp_path):
    latents = fitted(panel)
    with pytest.raises(TypeError, match="panel must be an EraPanel; got DataFrame"):
        latents.transform_to(panel.to_frame(), tmp_path / "latents")
    few = panel.select(features=panel.feature_names[:5])
    with pytest.raises(ValueError, match="feature names should match"):
        latents.transform_to(few, tmp_path / "latents")
    assert not list(tmp_path.iterdir())


def test_nothing_but_a_panel_is_replaced(panel, tmp_path, exchange):
    place = tmp_path / "latents"
    old = fitted(panel, FactorAnalysisEmbedder(1)).transform_to(panel, place)
    before = bytes_of(place)
    latents = fitted(panel)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        latents.transform_to(panel, place)
    assert bytes_of(place) == before
    latents.transform_to(panel, place, overwrite=True)
    assert EraPanel.open(place).n_features == 3
    assert old.X.shape == (960, 1)  # it stays
    (place / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"not a panel's.*notes\.txt"):
        latents.transform_to(panel, place, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latents"]


class TestGoingOn:
    """After a run that was stopped."""

    @pytest.fixture
    def wanted(self, panel, tmp_path):
        place = tmp_path / "wanted"
        fitted(panel).transform_to(panel, place)
        return bytes_of(place)

    @pytest.fixture
    def stopped(self, panel, calls, tmp_path):
        """The folder of a run that has written two blocks."""
        self.stop(fitted(panel), panel, calls, tmp_path / "latents")
        return tmp_path / "latents"

    @staticmethod
    def stop(latents, panel, calls, place):
        del calls[:]
        calls.at = 2
        with pytest.raises(KeyboardInterrupt):
            latents.transform_to(panel, place)
        assert not place.exists()
        calls.at = None
        del calls[:]

    def test_it_goes_on(self, panel, wanted, stopped, calls):
        for latents in (fitted(panel), pickle.loads(pickle.dumps(fitted(panel)))):
            latents.transform_to(panel, stopped)
            assert calls == [200, 200, 160]
            assert bytes_of(stopped) == wanted
            again = EraPanel.open(stopped)
            again.verify()
            for file in stopped.iterdir():
                file.unlink()
            stopped.rmdir()
            self.stop(latents, panel, calls, stopped)

    def test_with_another_fit_it_starts_anew(self, panel, stopped, calls, tmp_path):
        other = LatentFeatures(FactorAnalysisEmbedder(3), quantize="uint8")
        other.fit(panel.select(last=11).as_X())
        del calls[:]
        other.transform_to(panel, stopped)
        assert calls == SMALL_STEPS
        other.transform_to(panel, tmp_path / "wanted")
        assert bytes_of(stopped) == bytes_of(tmp_path / "wanted")

    @pytest.mark.parametrize("what", ["n_bins", "rows", "cells", "names", "copy"])
    def test_with_other_rows_or_parameters(self, panel, stopped, calls, tmp_path, what):
        latents, rows = fitted(panel), panel
        if what == "n_bins":
            latents = fitted(panel, n_bins=200)
        elif what == "rows":
            rows = panel.select(first=2)
        elif what == "names":
            latents = fitted(panel, [("fa", FactorAnalysisEmbedder(3))])
        elif what == "copy":
            panel.save(tmp_path / "copy")
            rows = EraPanel.open(tmp_path / "copy")
        else:
            X = panel.X.copy()
            X[0, 0] = 4 - X[0, 0]
            EraPanel(X, panel.eras, feature_names=panel.feature_names).save(
                tmp_path / "other"
            )
            rows = EraPanel.open(tmp_path / "other")
        del calls[:]
        latents.transform_to(rows, stopped)
        assert (calls == [200, 200, 160]) == (what == "copy")
        table = latents.transform(rows.as_X())
        np.testing.assert_array_equal(EraPanel.open(stopped).X, table[:, -3:])

    @pytest.mark.parametrize("part", ["features", "journal"])
    def test_what_was_damaged_is_made_again(
        self, panel, wanted, stopped, calls, part, tmp_path
    ):
        room = tmp_path / ".latents.unfinished"
        file = {
            "features": room / "new" / "features.npy",
            "journal": room / "journal.json",
        }[part]
        content = bytearray(file.read_bytes())
        content[200] ^= 1
        file.write_bytes(content)
        fitted(panel).transform_to(panel, stopped)
        assert calls == SMALL_STEPS
        assert bytes_of(stopped) == wanted
        assert not room.exists()

    def test_what_comes_again_is_not_kept(self, panel, stopped, monkeypatch, tmp_path):
        def fail(*_):
            raise ValueError("these rows")

        latents = fitted(panel)
        monkeypatch.setattr(LatentFeatures, "_checked", fail)
        with pytest.raises(ValueError, match="these rows"):
            latents.transform_to(panel, stopped)
        assert not list(tmp_path.iterdir())

    def test_a_full_disk(self, panel, wanted, stopped, calls, monkeypatch, tmp_path):
        """What was written stays, and the next run goes on from it."""
        plain = _panel_features.write_sealed

        def full(*args, **options):
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            plain(*args, **options)

        monkeypatch.setattr(_panel_features, "write_sealed", full)
        with pytest.raises(OSError, match="No space left"):
            fitted(panel).transform_to(panel, stopped)
        assert not stopped.exists()
        monkeypatch.undo()
        monkeypatch.setattr(_independent, "BLOCK_ROWS", BLOCK_ROWS)
        monkeypatch.setattr(_panel_features, "BLOCK_BYTES", 999)
        fitted(panel).transform_to(panel, stopped)
        assert bytes_of(stopped) == wanted

    def test_one_process_at_a_time(self, panel, stopped, monkeypatch):
        latents = fitted(panel)
        plain, told = LatentFeatures._in_blocks, []

        def twice(self, *args):
            monkeypatch.setattr(LatentFeatures, "_in_blocks", plain)
            with pytest.raises(BlockingIOError, match="Another process is writing"):
                latents.transform_to(panel, stopped)
            told.append(True)
            return plain(self, *args)

        monkeypatch.setattr(LatentFeatures, "_in_blocks", twice)
        latents.transform_to(panel, stopped)
        assert told


GO_ON = """
import pickle, sys
from numerai_features.compose import LatentFeatures, _independent
from numerai_features.datasets import EraPanel
_independent.BLOCK_ROWS = 200
latents = pickle.load(open(sys.argv[1], "rb"))
calls, plain = [], LatentFeatures._in_blocks
def counted(self, rows, *rest):
    calls.append(rows.n_rows)
    return plain(self, rows, *rest)
LatentFeatures._in_blocks = counted
latents.transform_to(EraPanel.open(sys.argv[2]), sys.argv[3])
print(calls)
"""


def test_another_process_goes_on(panel, folder, calls, tmp_path, monkeypatch):
    """With what was pickled: the fitted state is the same."""
    monkeypatch.setattr(_panel_features, "BLOCK_BYTES", 64 << 20)  # as it is there
    embedders = ["factors", "network", "categories", "umap", "attention", "regimes"]
    latents = fitted(panel, [(n.split()[0], EMBEDDERS[n][0]) for n in embedders])
    TestGoingOn.stop(latents, panel, calls, tmp_path / "latents")
    (tmp_path / "latents.pkl").write_bytes(pickle.dumps(latents))
    places = [tmp_path / "latents.pkl", folder, tmp_path / "latents"]
    done = subprocess.run(
        [sys.executable, "-c", GO_ON, *map(str, places)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [160] * 4
    written = EraPanel.open(tmp_path / "latents")
    table = latents.transform(panel.as_X())
    np.testing.assert_array_equal(written.X, table[:, 12:])


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="cannot fork")

KILL = """
import hashlib, json, os, random, signal, sys, time
from pathlib import Path
from numerai_features.compose import LatentFeatures, _independent
from numerai_features.datasets import EraPanel, _panel_features, make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder
_independent.BLOCK_ROWS = 50
_panel_features.BLOCK_BYTES = 500
folder, n_kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
make_era_panel(n_eras=20, rows_per_era=100, n_features=9, random_state=0).save(
    folder / "rows"
)
panel = EraPanel.open(folder / "rows")
latents = LatentFeatures(FactorAnalysisEmbedder(2), quantize="uint8")
latents.fit(panel.as_X())
place, room = folder / "latents", folder / ".latents.unfinished"

def in_fork(seconds=None, overwrite=False):
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            latents.transform_to(panel, place, overwrite=overwrite)
            os._exit(0)
        finally:
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, time.perf_counter() - start

def bytes_of(path):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in path.iterdir()}

code, whole = in_fork()
assert code == 0
wanted = bytes_of(place)
draw, found = random.Random(seed), []
n_killed = 0
while n_killed < n_kills:
    overwrite = n_killed % 2 == 1
    if not overwrite:
        for file in place.iterdir():
            file.unlink()
        place.rmdir()
    code, _ = in_fork(draw.uniform(0, whole), overwrite)
    journal = room / "journal.json"
    n_rows = json.loads(journal.read_bytes())["record"]["n_rows"] if (
        journal.exists()) else 0
    if overwrite or code == 0:
        assert bytes_of(place) == wanted
        EraPanel.open(place).verify()
    elif place.exists():
        assert bytes_of(place) == wanted
    n_killed += code == -9
    there = place.exists()
    code, seconds = in_fork(overwrite=overwrite or there)
    assert code == 0
    assert bytes_of(place) == wanted
    assert sorted(p.name for p in folder.iterdir()) == ["latents", "rows"]
    found.append(n_rows)
print(json.dumps(found))
"""


@needs_fork
@pytest.mark.parametrize("n", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, n):
    """Then there is nothing at the path, or the old panel; the next run finishes it."""
    seed = time.time_ns() % 10_000
    print(f"seed {seed}")
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(tmp_path), str(n), str(seed)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    print(found)
    assert len(found) >= n
    assert any(0 < n_rows < 2000 for n_rows in found) or n < 20


LIMIT = """
import json, os, resource, sys
from pathlib import Path
from numerai_features.compose import LatentFeatures
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder
panel = make_era_panel(n_eras=20, rows_per_era=1000, n_features=9, random_state=0)
latents = LatentFeatures(FactorAnalysisEmbedder(3), quantize="uint8")
latents.fit(panel.as_X())
limit, place = int(sys.argv[2]), Path(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
error = None
try:
    latents.transform_to(panel, place / "latents")
except OSError as raised:
    error = type(raised).__name__
print(json.dumps([error, sorted(str(p.relative_to(place)) for p in place.iterdir())]))
"""


def limited(place, limit):
    done = subprocess.run(
        [sys.executable, "-c", LIMIT, str(place), str(limit)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="limits no size of files")
def test_no_space_leaves_nothing(tmp_path):
    """A limit of the size of files fails where a full disk does: 60,128 bytes."""
    assert limited(tmp_path, 50_000) == ["OSError", []]


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounts a disk"
)
def test_a_disk_that_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (disk / "ballast").write_bytes(bytes(950_000))
        assert limited(disk, 0) == ["OSError", ["ballast"]]
        (disk / "ballast").unlink()
        assert limited(disk, 0) == [None, ["latents"]]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


FEW = {"device": "cpu", "n_jobs": 1, "random_state": 1, "n_estimators": 8}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.filterwarnings("ignore:The (XGB|following error):DeprecationWarning")
class TestTreesOfBothParts:
    """Trained on a panel with latents, beside the joined table."""

    @pytest.fixture
    def both(self, panel, tmp_path):
        latents = fitted(panel)
        panel = panel.with_latents(latents.transform_to(panel, tmp_path / "latents"))
        return panel, latents

    @pytest.mark.parametrize(
        ("kind", "make"),
        [(PanelLGBMRegressor, make_lightgbm), (PanelXGBRegressor, make_xgboost)],
    )
    def test_they_are_those_of_the_joined_table(self, both, panel, kind, make):
        pytest.importorskip(kind()._kind().__module__.partition(".")[0])
        joined, latents = both
        y = joined.y(TARGET)
        table = latents.transform(panel.as_X())
        model = kind(make(**FEW)).fit(joined.as_X(), y)
        expected = make(**FEW).fit(table, y).predict(table)
        np.testing.assert_array_equal(model.predict(joined.as_X()), expected)
        live = panel.to_frame(targets=[]).tail(50)
        new = latents.transform(live)
        names = latents.get_feature_names_out()
        import pandas as pd

        predicted = model.predict(pd.DataFrame(new, columns=names))
        np.testing.assert_array_equal(predicted, expected[-50:])

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_a_search(self, both, panel, n_jobs):
        pytest.importorskip("lightgbm")
        joined, latents = both
        y, table = joined.y(TARGET), latents.transform(panel.as_X())
        model = make_pipeline(
            LatentFeatures(), PanelLGBMRegressor(make_lightgbm(**FEW))
        )
        grid = {"panellgbmregressor__regressor__num_leaves": [3, 7]}
        scores = []
        for X in (joined.as_X(), table):
            cv = EraKFold(3, purge=1)
            search = GridSearchCV(clone(model), grid, cv=cv, n_jobs=n_jobs)
            search.fit(X, y, groups=joined.eras)
            scores.append(search.cv_results_["mean_test_score"].tolist())
        assert scores[0] == scores[1]
