"""Presets, devices, and what the makers return."""

import pickle
import pickletools
import subprocess
import sys

import lightgbm
import numpy as np
import pytest
import xgboost

from numerai_features.trees import _device, _names, make_lightgbm, make_xgboost

# LightGBM 4.6 warns of arrays that it was trained on itself
pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")

DOCUMENTED = {
    "small": (2000, 0.01, 5, 31, 0.1),
    "large": (20_000, 0.001, 6, 64, 0.1),
    "deep": (30_000, 0.001, 10, 1024, 0.1),
}


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, size=(2000, 20), dtype=np.int8)
    return X, X[:, 0] * X[:, 1] / 16 + rng.normal(0, 0.1, size=2000)


@pytest.fixture(autouse=True)
def _forget_devices():
    caches = (_device.nvidia_device_visible, _device.lightgbm_device_error)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("preset", DOCUMENTED)
def test_presets_are_the_documented_parameters(preset):
    light = make_lightgbm(preset, device="cpu").get_params()
    boost = make_xgboost(preset, device="cpu").get_params()
    common = ("n_estimators", "learning_rate", "max_depth")
    for parameters, leaves in ((light, "num_leaves"), (boost, "max_leaves")):
        names = (*common, leaves, "colsample_bytree")
        assert tuple(parameters[name] for name in names) == DOCUMENTED[preset]
        assert parameters["max_bin"] == 63
    rows_in_a_leaf = 10_000 if preset == "deep" else 20
    assert light["min_child_samples"] == boost["min_child_weight"] == rows_in_a_leaf
    assert light["verbosity"] == -1
    assert boost["tree_method"] == "hist"
    assert boost["grow_policy"] == "lossguide"


@pytest.mark.parametrize(
    ("make", "cls"),
    [(make_lightgbm, lightgbm.LGBMRegressor), (make_xgboost, xgboost.XGBRegressor)],
)
def test_makers_return_plain_classes_that_fit(make, cls, rows):
    model = make(device="cpu", n_estimators=20, max_bin=15, random_state=3, n_jobs=1)
    assert type(model) is cls
    assert model.get_params()["max_bin"] == 15
    assert model.get_params()["random_state"] == 3
    model.set_params(learning_rate=0.1, colsample_bytree=0.5).fit(*rows)
    assert np.corrcoef(model.predict(rows[0]), rows[1])[0, 1] > 0.8
    named = [arg for _, arg, _ in pickletools.genops(pickle.dumps(model))]
    assert not any("numerai_features" in str(arg) for arg in named)


# Those of a library that mean its own default.
LEFT_OPEN = (
    "learning_rate max_depth max_bin min_child_weight colsample_bytree subsample "
    "reg_alpha reg_lambda"
).split()


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (make_lightgbm, [*LEFT_OPEN, "num_leaves", "min_child_samples"]),
        (make_xgboost, [*LEFT_OPEN, "n_estimators", "max_leaves"]),
    ],
)
def test_parameters_can_be_left_to_the_library(make, names, rows):
    model = make(device="cpu", **{"n_estimators": 3, **dict.fromkeys(names)})
    assert all(model.get_params()[name] is None for name in names)
    assert np.corrcoef(model.fit(*rows).predict(rows[0]), rows[1])[0, 1] > 0.3


@pytest.mark.parametrize(
    ("make", "wrong", "told"),
    [
        (
            make_lightgbm,
            {"n_estimator": 7},
            "n_estimator: is not .*mean 'n_estimators'",
        ),
        (
            make_lightgbm,
            {"num_leafs": 7},
            "num_leafs: is not .*lightgbm.* 'num_leaves'",
        ),
        (make_xgboost, {"n_estimator": 7}, "n_estimator: is not .*mean 'n_estimators'"),
        (make_xgboost, {"max_leafs": 7}, "max_leafs: is not .*xgboost.* 'max_leaves'"),
        (make_xgboost, {"num_leaves": 7}, "num_leaves: is not a parameter of xgboost"),
        (make_xgboost, {"num_boost_round": 7}, "num_boost_round: is not a parameter"),
        (make_xgboost, {"num_trees": 7}, "num_trees: is not a parameter of xgboost"),
        (make_lightgbm, {"eta": 0.1, "learning_rate": 0.1}, "the same as 'eta': pass"),
        (make_xgboost, {"gamma": 1, "min_split_loss": 1}, "the same as 'gamma': pass"),
    ],
)
def test_parameters_that_no_library_knows(make, wrong, told):
    with pytest.raises(ValueError, match=told):
        make(device="cpu", **wrong)


@pytest.mark.parametrize(
    ("make", "wrong", "told"),
    [
        (make_lightgbm, {"random_state": 1, "seed": 1}, "seed: .*as 'random_state': p"),
        (make_lightgbm, {"random_state": 0, "random_seed": None}, "as 'random_state'"),
        (
            make_lightgbm,
            {"n_jobs": 1, "num_threads": 2},
            "threads: .*as 'n_jobs': ",
        ),
        (
            make_lightgbm,
            {"device_type": "gpu"},
            "type: .* as 'device': pass",
        ),
        (make_xgboost, {"random_state": 1, "seed": 2}, "seed: .*as 'random_state': p"),
        (
            make_xgboost,
            {"n_jobs": 1, "nthread": 2},
            "nthread: .* as 'n_jobs': p",
        ),
    ],
)
def test_arguments_by_another_name_too(make, wrong, told):
    with pytest.raises(ValueError, match=told):
        make(**{"device": "cpu", **wrong})


def test_another_name_of_an_argument_that_did_not_come():
    model = make_lightgbm(seed=5, num_threads=1, device_type="cpu").get_params()
    assert (model["random_state"], model["n_jobs"]) == (5, 1)
    assert model["device_type"] == "cpu"
    model = make_xgboost(device="cpu", seed=5, nthread=1).get_params()
    assert (model["random_state"], model["n_jobs"]) == (5, 1)


def test_a_lightgbm_that_does_not_tell_its_names_refuses_none(monkeypatch):
    caches = (_names._lightgbm_aliases, _names._lightgbm_names)
    for cached in caches:
        cached.cache_clear()
    monkeypatch.delattr(lightgbm.basic, "_ConfigAliases")
    model = make_lightgbm(device="cpu", learning_rate=0.3, lambda_l2=2.0)
    for cached in caches:
        cached.cache_clear()
    assert model.learning_rate == 0.3
    assert model.get_params()["lambda_l2"] == 2.0


def test_every_wrong_name_is_told_at_once():
    with pytest.raises(ValueError, match=r"num_leafs: is not .*\n  rate: is not a"):
        make_lightgbm(device="cpu", num_leafs=7, rate=0.1)


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (make_lightgbm, ["path_smooth", "importance_type", "boosting_type", "verbose"]),
        (make_lightgbm, ["linear_tree", "cegb_tradeoff", "class_weight", "lambda_l2"]),
        (make_xgboost, ["callbacks", "eval_metric", "importance_type", "missing"]),
        (make_xgboost, ["rate_drop", "huber_slope", "max_cached_hist_node", "lambda"]),
    ],
)
def test_parameters_that_the_library_knows(make, known):
    given = make(device="cpu", **dict.fromkeys(known)).get_params()
    own = {"verbose": "verbosity", "lambda_l2": "reg_lambda", "lambda": "reg_lambda"}
    assert all(given[own.get(name, name)] is None for name in known)


def test_every_parameter_of_the_class_is_known():
    for make, cls in (
        (make_lightgbm, lightgbm.LGBMRegressor),
        (make_xgboost, xgboost.XGBRegressor),
    ):
        own = set(cls().get_params())
        own -= {"n_estimators", "n_jobs", "random_state", "device"}
        make(device="cpu", **dict.fromkeys(own))


def test_what_is_no_number_may_be_a_parameter(rows):
    def loss(y, prediction):
        return prediction - y, np.ones_like(y)

    given = {"device": "cpu", "n_estimators": 3, "objective": loss}
    for make in (make_lightgbm, make_xgboost):
        assert np.isfinite(make(**given).fit(*rows).predict(rows[0])).all()


@pytest.mark.parametrize(
    ("make", "alias", "name"),
    [
        (make_lightgbm, {"shrinkage_rate": 0.3}, {"learning_rate": 0.3}),
        (make_lightgbm, {"eta": 0.3}, {"learning_rate": 0.3}),
        (make_lightgbm, {"max_leaf": 3}, {"num_leaves": 3}),
        (make_lightgbm, {"max_bins": 3}, {"max_bin": 3}),
        (make_lightgbm, {"sub_feature": 0.9}, {"colsample_bytree": 0.9}),
        (make_lightgbm, {"seed": 3}, {"random_state": 3}),
        (make_lightgbm, {"num_iterations": 3}, {"n_estimators": 3}),
        (make_xgboost, {"eta": 0.3}, {"learning_rate": 0.3}),
        (make_xgboost, {"lambda": 1000}, {"reg_lambda": 1000}),
    ],
)
def test_another_name_overrides_the_preset_too(make, alias, name, rows):
    trees = {} if "n_estimators" in name else {"n_estimators": 10}
    given = {"device": "cpu", "n_jobs": 1}
    expected = make(**given, **trees, **name).fit(*rows).predict(rows[0])
    found = make(**given, **trees, **alias).fit(*rows).predict(rows[0])
    np.testing.assert_array_equal(found, expected)
    plain = make(**given, n_estimators=10).fit(*rows).predict(rows[0])
    assert not np.array_equal(plain, expected)


def test_values_of_other_names_are_checked_too():
    with pytest.raises(ValueError, match="'sub_feature' parameter of make_light"):
        make_lightgbm(device="cpu", sub_feature=5.0)
    assert make_lightgbm(device="cpu", num_threads=2).n_jobs == 2
    assert make_xgboost(device="cpu", nthread=2).n_jobs == 2


def test_lightgbm_needs_a_number_of_trees():
    with pytest.raises(ValueError, match="'n_estimators' parameter of make_lightgbm"):
        make_lightgbm(device="cpu", n_estimators=None)


@pytest.mark.parametrize("make", [make_lightgbm, make_xgboost])
@pytest.mark.parametrize("seed", [np.random.RandomState, np.random.default_rng])
def test_generators_are_handed_on(make, seed, rows):
    def fitted(random_state):
        model = make(device="cpu", n_estimators=3, random_state=random_state)
        return model.fit(*rows).predict(rows[0])

    np.testing.assert_array_equal(fitted(seed(0)), fitted(seed(0)))
    rng = seed(0)
    fitted(rng)
    assert rng.random() != seed(0).random()  # a seed was drawn by it


def test_smaller_sample_for_bins_finds_the_same_bins():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, size=(30_000, 10), dtype=np.int8)
    X[: len(X) * 99 // 100, 3] = 2  # missing in most eras
    y = X[:, 0] + X[:, 3] + rng.normal(size=len(X))
    given = {"device": "cpu", "n_estimators": 10, "learning_rate": 0.1, "n_jobs": 2}
    model = make_lightgbm(**given, random_state=0).fit(X, y)
    full = make_lightgbm(**given, random_state=0, subsample_for_bin=200_000).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), full.predict(X))


def test_presets_are_not_shared():
    make_lightgbm(device="cpu").set_params(num_leaves=5)
    assert make_lightgbm(device="cpu", num_leaves=7).num_leaves == 7
    assert make_lightgbm(device="cpu").num_leaves == 31


@pytest.mark.parametrize("make", [make_lightgbm, make_xgboost])
def test_unknown_preset_or_device(make):
    with pytest.raises(ValueError, match=r"'preset' parameter of .*Got 'tiny'"):
        make("tiny")
    with pytest.raises(ValueError, match=r"device.* must be .*'cpu'.*(?i:got) 'tpu'"):
        make(device="tpu")


@pytest.mark.parametrize(
    ("make", "module"), [(make_lightgbm, "lightgbm"), (make_xgboost, "xgboost")]
)
def test_missing_package_names_the_extra(make, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf"pip install 'numerai-features\[{module}\]'"
    ):
        make()


def test_auto_is_cpu_without_a_driver(monkeypatch):
    monkeypatch.setattr(_device, "nvidia_device_visible", lambda: False)
    monkeypatch.setattr(_device, "lightgbm_device_error", pytest.fail)
    assert "device_type" not in make_lightgbm().get_params()
    assert make_xgboost().get_params()["device"] == "cpu"


@pytest.mark.parametrize(
    ("working", "expected"),
    [({"cuda", "gpu"}, "cuda"), ({"gpu"}, "gpu"), (set(), None)],
)
def test_lightgbm_auto_takes_the_first_device_that_works(
    monkeypatch, working, expected
):
    monkeypatch.setattr(_device, "nvidia_device_visible", lambda: True)
    monkeypatch.setattr(
        _device, "lightgbm_device_error", lambda d: None if d in working else "no"
    )
    assert make_lightgbm().get_params().get("device_type") == expected


def test_lightgbm_device_that_does_not_work(monkeypatch, capfd):
    """The wheel has no CUDA: its fatal error is in our message, not on the screen."""
    error = _device.lightgbm_device_error("cuda")
    if error is None:
        pytest.skip("this LightGBM is built with CUDA and has a device")
    with pytest.raises(
        ValueError, match=r"device='cuda' does not work with this Light"
    ):
        make_lightgbm(device="cuda")
    assert "CUDA" in error
    assert capfd.readouterr() == ("", "")


def test_lightgbm_probe_works_on_the_cpu():
    assert _device.lightgbm_device_error("cpu") is None


def test_lightgbm_probe_that_hangs_is_a_device_that_does_not_work(monkeypatch):
    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert "timed out" in _device.lightgbm_device_error("gpu")


@pytest.mark.parametrize(
    ("built", "visible", "expected"),
    [(True, True, "cuda"), (True, False, "cpu"), (False, True, "cpu")],
)
def test_xgboost_auto_needs_build_and_driver(monkeypatch, built, visible, expected):
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": built})
    monkeypatch.setattr(_device, "nvidia_device_visible", lambda: visible)
    assert make_xgboost().get_params()["device"] == expected
    if expected == "cuda":
        assert make_xgboost(device="cuda:1").get_params()["device"] == "cuda:1"
    else:
        reason = "no NVIDIA driver" if built else "built without CUDA"
        with pytest.raises(ValueError, match=f"'cuda' does not work: .*{reason}"):
            make_xgboost(device="cuda")


class _Driver:
    """A CUDA driver that shows some devices."""

    def __init__(self, devices, status=0):
        self.devices, self.status = devices, status

    def cuInit(self, flags):
        return self.status

    def cuDeviceGetCount(self, pointer):
        pointer._obj.value = self.devices
        return 0


@pytest.mark.parametrize(
    ("devices", "status", "expected"), [(2, 0, True), (0, 0, False), (1, 100, False)]
)
def test_driver_must_show_a_device(monkeypatch, devices, status, expected):
    monkeypatch.setattr("ctypes.CDLL", lambda name: _Driver(devices, status))
    assert _device.nvidia_device_visible() is expected


def test_no_driver(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert _device.nvidia_device_visible() is False


def test_making_a_model_imports_no_torch():
    code = (
        "import sys, numerai_features.trees as t; t.make_lightgbm(); t.make_xgboost();"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr
