"""`check_export` finds what would fail on Numerai's server."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from types import FunctionType

import numpy as np
import pandas as pd
import polars as pl
import pytest
from export_parts import (
    BENCHMARK,
    FRAME,
    NAMES,
    Y,
    boosted,
    live_frame,
    needs_benchmark,
    trees,
)
from sklearn.linear_model import Ridge

from numerai_features import check_export, export_predict
from numerai_features.compose import rank_by_era
from numerai_features.export import _check, _process, _server

RIDGE = Ridge().fit(FRAME[NAMES], Y)
LIVE = live_frame()


def benchmark_of(live):
    values = np.random.default_rng(0).normal(size=len(live))
    frame = pd.DataFrame({"era": "X", "v1": values}, index=live.index)
    return frame.sample(frac=1, random_state=0)


@pytest.fixture
def file(tmp_path):
    return export_predict(RIDGE, tmp_path / "model.pkl")


def written(path, source, namespace=()):
    """Write a function by its source, as an exported file is."""

    class Function:
        def __reduce__(self):
            run = "exec(compile(SOURCE, 'f', 'exec')) or predict"
            return eval, (run, {"SOURCE": source, **dict(namespace)})

    path.write_bytes(pickle.dumps(Function(), 4))
    return path


def returning(path, body):
    """Write a file whose function returns something else than it should."""
    source = (
        "import pandas as pd, numpy as np, os\n"
        "def raw_predictions(model, live, benchmarks=None):\n"
        "    return np.zeros(len(live))\n"
        f"def predict(live_features):\n    {body}\n"
    )
    model = {"predictor": {}, "features": NAMES, "benchmark": None, "rank": "era"}
    return written(path, source, {"MODEL": model})


def test_every_kind_of_pipeline_passes_and_is_as_its_pipeline(fitted, tmp_path):
    chosen = "latents latents_xgboost blend neutral_blend augmented shrunk columns"
    chosen = [*chosen.split(), "search", "union", "mlp"]
    for name in chosen:
        pipeline = fitted[name]
        own = {"benchmark": "v1"} if needs_benchmark(pipeline) else {}
        file = export_predict(pipeline, tmp_path / f"{name}.pkl", **own)
        beside = {"benchmark": benchmark_of(LIVE)} if own else {}
        found = check_export(file, LIVE, pipeline, **beside)
        assert found.max_difference < 1e-6, name
        assert found.n_parameters == (2 if own else 1), name
        assert found.n_rows == len(LIVE)


def test_what_is_measured(file):
    found = check_export(file, LIVE, RIDGE)
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert (found.numpy, found.pandas) == (np.__version__, pd.__version__)
    assert 0 < found.seconds < 60
    assert 20 << 20 < found.peak_anonymous < found.peak_resident < 1 << 30
    assert found.share_tied == 0
    assert found.spread == pytest.approx(RIDGE.predict(LIVE[NAMES]).std(), rel=1e-9)
    assert found.warnings == ()
    told = str(found)
    assert told.startswith("70 rows in ")
    assert "largest difference from the pipeline: " in told
    assert "largest difference" not in str(check_export(file, LIVE))


@pytest.mark.parametrize("kind", ["path", "polars", "column id"])
def test_live_rows_come_as_a_file_or_any_frame(file, tmp_path, kind):
    live = LIVE.reset_index()
    if kind == "path":
        live = tmp_path / "live.parquet"
        LIVE.to_parquet(live)
    elif kind == "polars":
        live = pl.from_pandas(live)
    assert check_export(file, live, RIDGE).max_difference < 1e-9


def test_a_booster_is_compared_too(tmp_path):
    for model in (trees(), boosted()):
        fitted = model.fit(FRAME[NAMES], Y)
        booster = getattr(fitted, "booster_", None) or fitted.get_booster()
        file = export_predict(booster, tmp_path / "booster.pkl")
        assert check_export(file, LIVE, booster).max_difference < 1e-6


def test_a_shift_that_ranks_hide_is_found(file):
    shifted = Ridge().fit(FRAME[NAMES], Y + 0.3)
    ranks = [rank_by_era(m.predict(LIVE[NAMES]), LIVE["era"]) for m in (RIDGE, shifted)]
    np.testing.assert_array_equal(*ranks)
    with pytest.raises(ValueError, match=r"70 of 70 rows differ\. Is it the pipeline"):
        check_export(file, LIVE, shifted)


def test_a_neutralised_export_is_compared_before_that(tmp_path):
    options = {"neutralize": [NAMES[0], "v1"], "benchmark": "v1"}
    file = export_predict(RIDGE, tmp_path / "model.pkl", **options)
    found = check_export(file, LIVE, RIDGE, benchmark=benchmark_of(LIVE))
    assert found.max_difference < 1e-9
    with pytest.raises(ValueError, match=r"counting|predicting.*Pass benchmark="):
        check_export(file, LIVE, RIDGE)


def test_a_benchmark_may_be_a_feature(tmp_path):
    model = Ridge().fit(FRAME[NAMES].assign(v1=BENCHMARK), Y)
    file = export_predict(model, tmp_path / "model.pkl", benchmark="v1")
    found = check_export(file, LIVE, model, benchmark=benchmark_of(LIVE))
    assert found.max_difference < 1e-9


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("import torch", "No module named 'torch' on Numerai's server"),
        ("import numerai_features.moments", "No module named 'numerai_features"),
        ("import sklearn", "No module named 'sklearn' on Numerai's server"),
        ("return live_features[[]]", "it returned no predictions"),
        ("return [1]", "it returned a list, not a DataFrame"),
        ("return type('F', (pd.DataFrame,), {})({'p': [1]})", "it returned a F, not"),
        ("return pd.DataFrame({'p': np.nan}, live_features.index)", "70 of its pred"),
        ("return pd.DataFrame({'p': 2.0}, live_features.index)", "between 2 and 2, no"),
        ("return pd.DataFrame({'p': [.5, .6]}, ['a', 'b'])", "its ids are not those"),
        ("return pd.DataFrame({'p': .5}, live_features.index)", "non-zero standard"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("os._exit(4)", "ended the process with status 4"),
    ],
)
def test_what_the_server_would_refuse(tmp_path, body, told):
    file = returning(tmp_path / "model.pkl", body)
    with pytest.raises(ValueError, match=told) as caught:
        check_export(file, LIVE)
    assert str(file) in str(caught.value)


def test_the_traceback_of_the_exported_code_is_a_note(file):
    with pytest.raises(ValueError, match=f"lacks 1 of .*'{NAMES[3]}'") as caught:
        check_export(file, LIVE.drop(columns=NAMES[3]))
    assert "numerai_export" in caught.value.__notes__[0]


def test_the_number_of_parameters(tmp_path):
    source = "def raw_predictions(*rows): ...\ndef predict(a, b, c): ...\n"
    file = written(tmp_path / "f.pkl", source, {"MODEL": {"predictor": {}}})
    with pytest.raises(ValueError, match="has 3 parameters, not 1 or 2"):
        check_export(file, LIVE)


def test_what_export_predict_did_not_write(tmp_path):
    file = tmp_path / "other.pkl"
    file.write_bytes(pickle.dumps(len))
    with pytest.raises(ValueError, match="export_predict has not written it"):
        check_export(file, LIVE)
    file.write_bytes(b"no pickle")
    with pytest.raises(
        ValueError, match="is damaged, or export_predict has not written it: Unp"
    ):
        check_export(file, LIVE)


def test_limits(file, tmp_path, monkeypatch):
    slow = returning(tmp_path / "slow.pkl", "import time; time.sleep(99)")
    monkeypatch.setattr(_process, "_GRACE", 1)
    with pytest.raises(ValueError, match=r"has not ended after 1 s, the limit"):
        check_export(slow, LIVE, seconds=1)
    monkeypatch.setattr(_process, "BYTES", 1 << 20)
    with pytest.raises(ValueError, match=r"needs .* bytes; the limit is 1,048,5"):
        check_export(file, LIVE)
    monkeypatch.setattr(_process, "BYTES", 4 << 30)
    monkeypatch.setattr(_check, "BYTES", 150 << 20)
    with pytest.warns(UserWarning, match="MiB; Numerai allows 150 MiB"):
        check_export(file, LIVE)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the process in /proc")
def test_the_process_ends_with_the_one_that_started_it(tmp_path):
    mark = tmp_path / "started"
    body = (
        f"open({str(mark)!r}, 'w').write(str(os.getpid())); import time; time.sleep(99)"
    )
    file = returning(tmp_path / "slow.pkl", body)
    LIVE.to_parquet(tmp_path / "live.parquet")
    program = (
        "from numerai_features import check_export\n"
        f"check_export({str(file)!r}, {str(tmp_path / 'live.parquet')!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        wait_until(lambda: mark.exists() and mark.read_text())
        process.kill()
    inside = Path("/proc") / mark.read_text()
    wait_until(
        lambda: not inside.exists() or "zombie" in (inside / "status").read_text()
    )


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ties_are_told(tmp_path):
    model = trees(n_estimators=1, num_leaves=3).fit(FRAME[NAMES], Y)
    file = export_predict(model, tmp_path / "model.pkl")
    with pytest.warns(UserWarning, match="100% of the live rows have the prediction"):
        found = check_export(file, LIVE, model)
    assert found.share_tied == 1
    assert len(found.warnings) == 1
    assert not check_export(file, LIVE, model, train=FRAME).warnings
    model = Ridge().fit(FRAME[NAMES], Y)
    file = export_predict(model, tmp_path / "model.pkl")
    same = LIVE.assign(**{name: LIVE[name] // 3 for name in NAMES})
    same[NAMES[4:]] = 2
    with (
        pytest.warns(UserWarning, match="have a standard deviation"),
        pytest.warns(UserWarning, match=r"% of the live rows .*; on train at most 0%"),
    ):
        check_export(file, same, model, train=FRAME)


def test_another_spread_than_on_training_rows_is_told(file):
    calm = LIVE.assign(**{name: 2 for name in NAMES[1:]}).astype({NAMES[0]: float})
    calm[NAMES[0]] = np.linspace(1.99, 2.01, len(calm))
    with pytest.warns(UserWarning, match=r"standard deviation of .* times that on tr"):
        check_export(file, calm, RIDGE, train=FRAME)
    assert not check_export(file, LIVE, RIDGE, train=FRAME).warnings


def test_predictions_that_are_not_ranked_are_told(tmp_path):
    file = export_predict(RIDGE, tmp_path / "model.pkl", rank=None)
    with pytest.warns(UserWarning, match="not ranked; another week's may be outside"):
        check_export(file, LIVE, RIDGE)


def test_wrong_arguments(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path: there is no file .*none\.pkl"):
        check_export(tmp_path / "none.pkl", LIVE)
    with pytest.raises(FileNotFoundError, match="live: there is no file none"):
        check_export(file, "none")
    with pytest.raises(ValueError, match="live is a ndarray; expected a frame, or the"):
        check_export(file, LIVE.to_numpy())
    with pytest.raises(ValueError, match="live has no rows; expected the rows to pred"):
        check_export(file, LIVE.head(0))
    with pytest.raises(ValueError, match="python='nowhere' cannot be run"):
        check_export(file, LIVE, python="nowhere")
    with pytest.raises(ValueError, match=r"live is a polars.*LazyFrame; .*collect\(\)"):
        check_export(file, pl.LazyFrame({"id": [1]}))


def test_nothing_is_changed(file):
    before, environment = LIVE.copy(), dict(os.environ)
    check_export(file, LIVE, RIDGE)
    pd.testing.assert_frame_equal(LIVE, before)
    assert dict(os.environ) == environment


def test_the_program_names_what_trees_need():
    nodes = {"a": [{"kind": "lightgbm"}, {"b": {"kind": "xgboost"}}], "c": b"lightgbm"}
    assert _server._libraries(nodes) == {"lightgbm", "xgboost"}
    assert _server._libraries({"kind": "trees"}) == set()
    assert isinstance(_server.main, FunctionType)
