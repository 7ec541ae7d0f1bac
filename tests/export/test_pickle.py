"""The file is plain data and source text, whole or not there."""

import ast
import pickletools
import traceback

import numpy as np
import pandas as pd
import pytest
from export_parts import FRAME, NAMES, Y, live_frame, needs_benchmark, unfitted
from sklearn.linear_model import Ridge

from numerai_features import EraNeutralizer, export_predict
from numerai_features.export import _pickle, _runtime
from numerai_features.export._pickle import pickled, runtime_source

BY_REFERENCE = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "PERSID"}
CALLS = {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "BUILD"}


@pytest.fixture(scope="module")
def model():
    return Ridge().fit(FRAME[NAMES], Y)


@pytest.mark.parametrize("name", unfitted())
def test_the_only_global_is_eval_and_it_is_called_once(fitted, name, tmp_path):
    own = {"benchmark": "v1"} if needs_benchmark(fitted[name]) else {}
    file = export_predict(fitted[name], tmp_path / "model.pkl", **own)
    found = list(pickletools.genops(file.read_bytes()))
    kinds = [code.name for code, _, _ in found]
    texts = [value for _, value, _ in found if isinstance(value, str)]
    assert [kind for kind in kinds if kind in BY_REFERENCE] == ["STACK_GLOBAL"]
    assert texts[:2] == ["builtins", "eval"]
    assert kinds.index("STACK_GLOBAL") <= 6  # right behind the two texts
    assert [kind for kind in kinds if kind in CALLS] == ["REDUCE"]
    assert texts[2].startswith("exec(compile(SOURCE, ")
    assert found[0][1] == 4  # the protocol


@pytest.mark.parametrize("odd", [np.float64(1), np.zeros(2), 1j, np.str_("a"), len])
def test_what_is_not_plain_is_never_written(odd):
    with pytest.raises(TypeError, match="an exported file cannot hold a"):
        pickled({"benchmark": None, "predictor": {"kind": [odd]}}, {})


@pytest.mark.parametrize("kind", ["linear", "trees"])
def test_the_source_is_python_3_10_and_imports_nothing_else(kind):
    source = runtime_source({"predictor": {"kind": kind}})
    assert ("def tree_predict" in source) == (kind == "trees")
    tree = ast.parse(source, feature_version=(3, 10))
    asked = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            asked |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            asked.add(node.module)
    assert asked == {
        *("datetime", "linecache", "re", "statistics", "typing"),
        *("numpy", "pandas", "lightgbm", "xgboost"),
    }


def test_a_traceback_shows_the_lines_of_the_source(model, tmp_path):
    predict = pd.read_pickle(export_predict(model, tmp_path / "model.pkl"))
    with pytest.raises(ValueError, match="lacks 1 of the 12 columns") as caught:
        predict(live_frame().drop(columns=NAMES[3]))
    shown = "".join(traceback.format_exception(caught.value))
    assert '_check_columns(frame, names, "live_features")' in shown
    assert _runtime.FILE in shown


def test_two_files_know_nothing_of_each_other(model, tmp_path):
    one = pd.read_pickle(export_predict(model, tmp_path / "one.pkl"))
    other = EraNeutralizer(Ridge(), features=[0]).fit(FRAME, Y)
    other = pd.read_pickle(export_predict(other, tmp_path / "other.pkl"))
    live = live_frame()
    assert not one(live).equals(other(live))
    assert one.__module__ == "numerai_export"


def test_a_file_is_replaced_whole_or_not_at_all(model, tmp_path, monkeypatch):
    file = tmp_path / "model.pkl"
    file.write_bytes(b"before")
    monkeypatch.setattr(_pickle, "pickled", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_predict(model, file)
    assert file.read_bytes() == b"before"
    monkeypatch.undo()
    assert export_predict(model, str(file)) == file
    assert len(pd.read_pickle(file)(live_frame())) == 70
    assert [*tmp_path.iterdir()] == [file]


def test_a_refused_pipeline_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="feature_names is None"):
        export_predict(Ridge().fit(FRAME[NAMES].to_numpy(), Y), tmp_path / "model.pkl")
    assert not [*tmp_path.iterdir()]


def test_the_folder_must_exist(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        export_predict(model, tmp_path / "nowhere" / "model.pkl")
