"""The store of finished fits: what is damaged, another's or of other versions."""

import warnings

import numpy as np
import pytest

from numerai_features._sealed import SealError, SetAsideWarning, write_sealed
from numerai_features.experiment import ExperimentError
from numerai_features.experiment._identity import identity_of
from numerai_features.experiment._store import ArmResult, FoldStore

LATENTS = {
    "quantize": "uint8", "pca": True, "random_columns": True,
    "fa": {"embedder": "FactorAnalysisEmbedder", "n_components": 2},
}  # fmt: skip
SETTINGS = {
    "seed": 3, "latents": LATENTS, "models": {}, "arms": {},
    "model": {"library": "lightgbm"},
}  # fmt: skip
IDENTITY = {"settings": SETTINGS, "versions": {"numpy": "2.0"}}
KEYS = [("fa", 1, 0), ("originals", 1, 0), ("fa", 2, 0)]


def result_of(key):
    arm, fold, seed = key
    prediction = np.random.default_rng([fold, len(arm), seed]).normal(size=7)
    return ArmResult(prediction.astype(np.float32), fold, 0.25, 1.5)


@pytest.fixture
def folder(tmp_path):
    store = FoldStore(tmp_path / "folds", IDENTITY)
    for key in KEYS:
        store[key] = result_of(key)
    return store.folder


def changed(identity, part, **values):
    return {**identity, part: {**identity[part], **values}}


def assert_good(store, keys):
    for key in keys:
        got, expected = store[key], result_of(key)
        np.testing.assert_array_equal(got.prediction, expected.prediction)
        assert got.prediction.dtype == np.float32
        assert (got.n_latents, got.latent_seconds) == (key[1], 0.25)


def test_results_are_read_again(folder):
    store = FoldStore(folder, IDENTITY)
    assert len(store) == 3
    assert ("turned", 1, 0) not in store
    assert ("fa", 1, 1) not in store
    assert_good(store, KEYS)


def test_every_flip_and_cut_is_seen(folder):
    """What is read is what was written; and what was not is made again."""
    rng = np.random.default_rng(0)
    files = sorted(path for path in folder.iterdir())
    good = {file: file.read_bytes() for file in files}
    n_aside = 0
    for attempt in range(120):
        file = files[rng.integers(len(files))]
        bad = bytearray(good[file])
        place = rng.integers(len(bad))
        if attempt % 2:
            bad[place] ^= 1 << rng.integers(8)
        else:
            del bad[place:]
        file.write_bytes(bad)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            store = FoldStore(folder, IDENTITY)
            there = [key for key in KEYS if key in store]
            assert len(store) == len(there)
        assert [w.category for w in told] == [SetAsideWarning]
        n_aside += len(told)
        assert len(there) == (3 if file.name == "experiment.json" else 2)
        assert_good(store, there)
        for key in KEYS:
            if key not in store:
                store[key] = result_of(key)
        assert_good(store, KEYS)
        assert file.with_name(f"{file.name}.unusable").read_bytes() == bytes(bad)
    assert n_aside == 120


def test_damage_after_the_check_is_an_error(folder):
    store = FoldStore(folder, IDENTITY)
    assert KEYS[0] in store
    (folder / "001.fa.fold").write_bytes(b"{}")
    with pytest.raises(SealError, match=r"001\.fa\.fold is damaged, or not written by"):
        store[KEYS[0]]


def test_a_result_of_another_arm_fold_seed_or_experiment_is_not_taken(folder, tmp_path):
    (folder / "001.fa.1.fold").write_bytes((folder / "001.fa.fold").read_bytes())
    (folder / "002.fa.fold").write_bytes((folder / "001.fa.fold").read_bytes())
    other = FoldStore(tmp_path / "other", changed(IDENTITY, "settings", seed=4))
    other["originals", 1, 0] = result_of(KEYS[0])
    theirs = (other.folder / "001.originals.fold").read_bytes()
    (folder / "001.originals.fold").write_bytes(theirs)
    store = FoldStore(folder, IDENTITY, n_seeds=2)
    with pytest.warns(SetAsideWarning, match="belongs to something else") as told:
        assert len(store) == 1
    assert len(told) == 3
    assert_good(store, KEYS[:1])


def test_names_that_are_no_results_do_not_count(folder):
    for name in ("notes.fold", "001.fa.parquet", "1.fa.fold", "001.fa.fold.unusable"):
        (folder / name).touch()
    (folder / "003.fa.fold").mkdir()
    assert len(FoldStore(folder, IDENTITY)) == 3


@pytest.mark.parametrize("what", ["package", "library"])
def test_other_versions_are_put_aside_with_one_warning(folder, monkeypatch, what):
    before = (folder / "001.fa.fold").read_bytes()
    now = changed(IDENTITY, "versions", numpy="2.1")
    message = r'made by other versions.*numpy: "2\.0" then, "2\.1" now.* are repeated'
    if what == "package":
        monkeypatch.setattr("numerai_features._sealed.__version__", "9.9")
    with pytest.warns(SetAsideWarning, match=message) as told:
        store = FoldStore(folder, now)
    assert len(told) == 1
    assert len(store) == 0
    assert (folder / "001.fa.fold.unusable").read_bytes() == before
    store[KEYS[0]] = result_of(KEYS[0])
    again = FoldStore(folder, now)  # and no warning
    assert len(again) == 1
    assert_good(again, KEYS[:1])


def test_another_experiment_is_refused_and_left_whole(folder):
    before = {file: file.read_bytes() for file in folder.iterdir()}
    for versions in ({}, {"numpy": "2.1"}):
        now = changed(changed(IDENTITY, "settings", seed=4), "versions", **versions)
        with pytest.raises(ExperimentError, match="seed: 3 then, 4 now\nChoose"):
            FoldStore(folder, now)
    assert before == {file: file.read_bytes() for file in folder.iterdir()}


def test_a_folder_without_results_belongs_to_nobody(tmp_path):
    FoldStore(tmp_path, IDENTITY)
    store = FoldStore(tmp_path, changed(IDENTITY, "settings", seed=4))
    store[KEYS[0]] = result_of(KEYS[0])
    with pytest.raises(ExperimentError, match="seed: 4 then, 3 now"):
        FoldStore(tmp_path, IDENTITY)


def test_a_parameter_that_is_not_a_number_is_the_same_again(tmp_path):
    identity = changed(IDENTITY, "settings", missing=float("nan"))
    FoldStore(tmp_path, identity)[KEYS[0]] = result_of(KEYS[0])
    again = FoldStore(tmp_path, changed(IDENTITY, "settings", missing=float("nan")))
    assert_good(again, KEYS[:1])
    with pytest.raises(ExperimentError, match="missing: NaN then, not set now"):
        FoldStore(tmp_path, IDENTITY)


def test_a_record_of_another_form_is_put_aside(folder):
    for record in (None, {"seed": 3}):
        write_sealed(folder / "experiment.json", record, kind="experiment")
        with pytest.warns(SetAsideWarning, match="another version's format"):
            store = FoldStore(folder, IDENTITY)
        assert len(store) == 3


@pytest.mark.parametrize("damage", ["cut short", "removed"])
def test_another_experiment_is_refused_without_its_record_too(folder, damage):
    record = folder / "experiment.json"
    if damage == "removed":
        record.unlink()
    else:
        record.write_bytes(record.read_bytes()[:-5])
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ExperimentError, match=r"None of the results in .*Choose anot"):
        FoldStore(folder, changed(IDENTITY, "settings", seed=4))
    assert before == {file: file.read_bytes() for file in folder.iterdir()}


def test_what_killed_writers_left_is_swept(folder):
    (folder / f".009.gone.fold.{'0' * 16}.tmp").mkdir()
    FoldStore(folder, IDENTITY)
    assert not list(folder.glob(".*"))


def test_the_identity_has_what_results_depend_on():
    from numerai_features.experiment import Experiment

    def identity(library="lightgbm", **output):
        tables = {"data": {"synthetic": {}}, "model": {"library": library}}
        experiment = Experiment.from_dict(tables, **output)
        return identity_of(experiment.tables, {"version": "1", "data": 5})

    mine = identity(output="here")
    assert mine == identity(output="there")
    expected = {"numerai-features", "numpy", "scipy", "scikit-learn", "torch"}
    assert set(mine["versions"]) == {*expected, "lightgbm"}
    assert set(identity("xgboost")["versions"]) == {*expected, "xgboost"}
    assert mine["settings"]["signature"] == {"data": 5}
