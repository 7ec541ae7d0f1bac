"""What an exported file predicts is what the pipeline predicts."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from export_parts import (
    BENCHMARK,
    FRAME,
    NAMES,
    NOT_THERE,
    Y,
    live_frame,
    needs_benchmark,
    on_the_server,
    table_for,
    trees,
)
from sklearn.base import clone
from sklearn.linear_model import Ridge

from numerai_features import EraNeutralizer, EraRanker, export_predict
from numerai_features.compose import neutralize_by_era, rank_by_era
from numerai_features.export._images import IMAGES

LIBRARIES = ("scipy", "joblib", "narwhals", "lightgbm", "xgboost")
NO_TREES = "every_embedder aemlp mlp union columns ranked search".split()


def export_all(pipelines, folder, **options):
    for name, pipeline in pipelines.items():
        own = {"benchmark": "v1"} if needs_benchmark(pipeline) else {}
        export_predict(pipeline, folder / f"{name}.pkl", **own, **options)


def assert_same(pipelines, found, live, benchmark):
    """Compare absolute values, and ranks; return the largest differences."""
    largest = {}
    for name, pipeline in pipelines.items():
        assert not isinstance(found[name], str), f"{name}: {found[name]}"
        own = {"benchmark": benchmark} if needs_benchmark(pipeline) else {}
        expected = pipeline.predict(table_for(pipeline, live), **own)
        raw, answer = found[name]["raw"], found[name]["answer"]
        np.testing.assert_allclose(raw, expected, rtol=0, atol=1e-6, err_msg=name)
        assert np.std(expected) > 1e-3, name
        ranks = rank_by_era(expected.round(9), live["era"])
        same = rank_by_era(raw.round(9), live["era"])
        np.testing.assert_array_equal(same, ranks, err_msg=name)
        np.testing.assert_allclose(answer, ranks, atol=1e-6, err_msg=name)
        largest[name] = np.abs(raw - expected).max()
    return largest


@pytest.mark.parametrize("eras", ["X", ["0001", "0002", "X"] * 24])
def test_without_this_package_the_predictions_are_those_of_the_pipeline(
    fitted, tmp_path, eras
):
    export_all(fitted, tmp_path)
    live = live_frame(72, eras)
    found, benchmark = on_the_server(tmp_path, live)
    assert_same(fitted, found, live, benchmark)


def test_without_trees_it_needs_numpy_and_pandas_alone(fitted, tmp_path):
    chosen = {name: fitted[name] for name in NO_TREES}
    export_all(chosen, tmp_path)
    live = live_frame()
    found, benchmark = on_the_server(tmp_path, live, forbidden=(*NOT_THERE, *LIBRARIES))
    assert_same(chosen, found, live, benchmark)


def test_trees_by_numpy_need_no_library(fitted, tmp_path):
    """To the last bit, alone and inside of pipelines, or refused in words."""
    live, exported = live_frame(), {}
    for name, pipeline in fitted.items():
        own = {"benchmark": "v1"} if needs_benchmark(pipeline) else {}
        file = tmp_path / f"{name}.pkl"
        export_predict(pipeline, file, trees="numpy", **own)
        exported[name] = pipeline
    found, benchmark = on_the_server(tmp_path, live, forbidden=(*NOT_THERE, *LIBRARIES))
    assert_same(exported, found, live, benchmark)
    assert any(b"tree_predict" in file.read_bytes() for file in tmp_path.glob("*.pkl"))


def test_trees_that_numpy_cannot_evaluate_are_refused_with_their_place(tmp_path):
    model = trees(linear_tree=True).fit(FRAME[NAMES], Y)
    with pytest.raises(ValueError, match=r"^pipeline: .*Leave trees='numpy' out"):
        export_predict(model, tmp_path / "model.pkl", trees="numpy")
    assert not [*tmp_path.iterdir()]


def test_neutralised_to_features_and_a_benchmark(tmp_path):
    model = Ridge().fit(FRAME[NAMES], Y)
    both = [NAMES[2], "v1"]
    export_predict(model, tmp_path / "model.pkl", neutralize=both, benchmark="v1")
    live = live_frame()
    found, benchmark = on_the_server(tmp_path, live)
    ranked = rank_by_era(model.predict(live[NAMES]), live["era"], output="gauss")
    table = live[both[:1]].assign(v1=benchmark)
    expected = neutralize_by_era(ranked, table, live["era"])
    np.testing.assert_allclose(found["model"]["raw"], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("to", [NAMES[2:5], "benchmark"], ids=["features", "benchmark"])
def test_neutralised_predictions_are_those_of_EraNeutralizer(to, tmp_path):
    by_benchmark = to == "benchmark"
    model = Ridge().fit(FRAME[NAMES], Y)
    column = {"benchmark": "v1"} if by_benchmark else {}
    options = {"neutralize": to, "proportion": 0.75, **column}
    export_predict(model, tmp_path / "model.pkl", **options)
    live = live_frame()
    found, benchmark = on_the_server(tmp_path, live)
    own = {"neutralize_to": "benchmark"} if by_benchmark else {"features": to}
    same = EraNeutralizer(EraRanker(Ridge(), output="gauss"), proportion=0.75, **own)
    same.fit(FRAME, Y)
    given = {"benchmark": benchmark} if by_benchmark else {}
    expected = same.predict(live, **given)
    np.testing.assert_allclose(found["model"]["raw"], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "model", [Ridge(), EraNeutralizer(Ridge(), features=["v1"]), trees()]
)
def test_a_benchmark_may_be_a_feature(model, tmp_path):
    frame = FRAME[NAMES].assign(v1=BENCHMARK)
    model = clone(model).fit(frame, Y)
    export_predict(model, tmp_path / "model.pkl", benchmark="v1")
    live = live_frame()
    found, benchmark = on_the_server(tmp_path, live)
    expected = model.predict(live[NAMES].assign(v1=benchmark))
    np.testing.assert_allclose(found["model"]["raw"], expected, rtol=0, atol=1e-9)


def test_unranked_predictions_come_as_they_are_and_must_be_between_0_and_1(tmp_path):
    file = export_predict(
        Ridge().fit(FRAME[NAMES], Y), tmp_path / "a.pkl", rank=None, name="mine"
    )
    live = live_frame()
    answer = pd.read_pickle(file)(live)
    expected = Ridge().fit(FRAME[NAMES], Y).predict(live[NAMES])
    assert [*answer.columns] == ["mine"]
    np.testing.assert_allclose(answer["mine"], expected, rtol=0, atol=1e-12)
    shifted = Ridge().fit(FRAME[NAMES], Y + 1)
    file = export_predict(shifted, tmp_path / "b.pkl", rank=None)
    predict = pd.read_pickle(file)
    with pytest.raises(ValueError, match=r"Numerai takes 0 to 1.*rank='era'"):
        predict(live)


def test_a_booster_and_a_model_without_names_are_exported(tmp_path):
    live = live_frame()
    model = trees().fit(FRAME[NAMES], Y)
    unnamed = trees().fit(FRAME[NAMES].to_numpy(), Y)
    export_predict(model.booster_, tmp_path / "booster.pkl")
    export_predict(unnamed, tmp_path / "unnamed.pkl", feature_names=NAMES)
    found, _ = on_the_server(tmp_path, live)
    for one in found.values():
        np.testing.assert_array_equal(one["raw"], model.predict(live[NAMES]))


def test_nothing_is_changed(fitted, tmp_path):
    pipeline = fitted["latents"]
    before = pipeline.predict(FRAME)
    export_predict(pipeline, tmp_path / "model.pkl")
    np.testing.assert_array_equal(pipeline.predict(FRAME), before)
    live = live_frame().astype({NAMES[0]: float})
    live.iloc[3, live.columns.get_loc(NAMES[0])] = np.nan
    copy = live.copy()
    pd.read_pickle(tmp_path / "model.pkl")(live)
    pd.testing.assert_frame_equal(live, copy)


WITH_GAPS = [
    "latents", "latents_xgboost", "every_embedder", "aemlp", "mlp", "blend", "shrunk",
    "neutral", "neutral_to_some",
]  # fmt: skip


@pytest.mark.parametrize("name", WITH_GAPS)
def test_missing_cells_are_filled_as_the_pipeline_fills_them(fitted, tmp_path, name):
    predict = pd.read_pickle(export_predict(fitted[name], tmp_path / "model.pkl"))
    live = live_frame().astype(dict.fromkeys(NAMES[:5], np.float32))
    for row, column in [(0, 1), (3, 1), (3, 2), (9, 5)]:
        live.iloc[row, column] = np.nan
    inside = predict.__globals__
    raw = inside["raw_predictions"](inside["MODEL"], live)
    expected = fitted[name].predict(live)
    np.testing.assert_allclose(raw, expected, rtol=0, atol=1e-6)


# --- other versions ------------------------------------------------------------------

ALL_IMAGES_HAVE = "scikit-learn==1.6.1; python_version < '3.14'"  # later: no wheel


def packages(image):
    found = [f"numpy=={image.numpy}", f"pandas=={image.pandas}", ALL_IMAGES_HAVE]
    new = image.version("xgboost") >= (2, 1)  # since then there is one without CUDA
    xgboost = f"xgboost-cpu=={image.xgboost}" if new else f"xgboost=={image.xgboost}"
    return [*found, "scipy", f"lightgbm=={image.lightgbm}", xgboost]


def python_for(name):
    """Return the Python of an image; for the newest image, the newest that is here."""
    newest_first = list(IMAGES)[::-1]
    for version in newest_first if name == newest_first[0] else [name]:
        beside = Path(sys.base_prefix).parent.glob(f"{version}*/bin/python{version}")
        for python in filter(None, [shutil.which(f"python{version}"), *beside]):
            if not subprocess.run([python, "-c", ""], capture_output=True).returncode:
                return python
    return None


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_in_the_versions_of_the_images(fitted, tmp_path, name):
    """Needs the network, and the Python of the image."""
    python = python_for(name)
    if python is None:
        pytest.skip(f"no Python {name} on this machine")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    own = tmp_path / "venv" / "bin" / "python"
    install = [own, "-m", "pip", "install", "-q", "--only-binary=:all:"]
    subprocess.run([*install, *packages(IMAGES[name])], check=True)
    compare_in(own, fitted, tmp_path, name)


def compare_in(python, fitted, tmp_path, name):
    """Compare all pipelines, with and without a tree library, in another Python."""
    live = live_frame(72, ["0001", "0002", "X"] * 24)
    absent = {"library": NOT_THERE[:2], "numpy": (*NOT_THERE, *LIBRARIES)}
    for trees_by, forbidden in absent.items():
        folder = tmp_path / trees_by
        folder.mkdir()
        export_all(fitted, folder, image=name, trees=trees_by)
        beside = {"neutralize": "benchmark", "benchmark": "v1", "trees": trees_by}
        export_predict(fitted["blend"], folder / "beside.pkl", image=name, **beside)
        found, benchmark = on_the_server(
            folder, live, python=python, forbidden=forbidden
        )
        largest = assert_same(fitted, found, live, benchmark)
        ranked = fitted["blend"].predict(live)
        ranked = rank_by_era(ranked, live["era"], output="gauss")
        expected = neutralize_by_era(ranked, benchmark[:, None], live["era"])
        np.testing.assert_allclose(found["beside"]["raw"], expected, rtol=0, atol=1e-6)
        told = ", ".join(f"{name} {value:.1g}" for name, value in largest.items())
        print(f"image {name}, trees by {trees_by}, largest differences: {told}")
