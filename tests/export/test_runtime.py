"""The code that runs on the server, on live rows of every kind."""

import numpy as np
import pandas as pd
import pytest
from export_parts import FRAME, NAMES, PANEL, Y, beside, live_frame
from sklearn.linear_model import Ridge

from numerai_features import EraNeutralizer, EraRanker, export_predict
from numerai_features.compose import neutralize_by_era, rank_by_era
from numerai_features.encoders import (
    Activation,
    Affine,
    Argmax,
    Concatenate,
    Encoder,
    Fill,
    Quantize,
    Recurrent,
    Softmax,
)
from numerai_features.export import _runtime
from numerai_features.export._images import IMAGES
from numerai_features.export._model import TABLES
from numerai_features.export._own import encoder
from numerai_features.export._place import Place

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    pipeline = beside(Ridge(), quantize="uint8").fit(FRAME, Y)
    file = tmp_path_factory.mktemp("export") / "model.pkl"
    return pd.read_pickle(export_predict(pipeline, file))


@pytest.fixture(scope="module")
def predict_by_benchmark(tmp_path_factory):
    file = tmp_path_factory.mktemp("export") / "model.pkl"
    model = Ridge().fit(FRAME[NAMES], Y)
    export_predict(model, file, neutralize="benchmark", benchmark="v1")
    return pd.read_pickle(file)


# --- live rows ---------------------------------------------------------------------

LIVE = live_frame()
OTHER_FRAMES = {
    "columns in another order": LIVE[LIVE.columns[::-1]],
    "further columns": LIVE.assign(data_type="live", target=np.nan, feature_new=7),
    "floats": LIVE.astype(dict.fromkeys(NAMES, np.float32)),
    "some floats": LIVE.astype({NAMES[4]: np.float64}),
    "nullable": LIVE.astype(dict.fromkeys(NAMES[:3], "Int8")),
    "wider": LIVE.astype({NAMES[1]: np.int64}),
    "categories of eras": LIVE.astype({"era": "category"}),
    "no era": LIVE.drop(columns="era"),
    "in one block": LIVE.copy(deep=True),
}


@pytest.mark.parametrize("kind", OTHER_FRAMES)
def test_the_same_rows_in_other_frames(predict, kind):
    frame = OTHER_FRAMES[kind]
    answer = predict(frame)
    assert type(answer) is pd.DataFrame
    pd.testing.assert_frame_equal(answer, predict(LIVE))
    assert answer.index.equals(frame.index)
    assert answer["prediction"].between(0, 1, inclusive="neither").all()


def test_the_order_of_the_rows_is_kept(predict):
    shuffled = LIVE.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(predict(shuffled), predict(LIVE).loc[shuffled.index])


def test_a_missing_cell_is_the_middle_bin_whatever_its_type(predict):
    filled = LIVE.copy()
    filled.iloc[[2, 5], 3] = 2
    expected = predict(filled)
    for dtype, gap in [(np.float32, np.nan), ("Int8", pd.NA), (np.float16, np.nan)]:
        frame = LIVE.astype({LIVE.columns[3]: dtype})
        frame.iloc[[2, 5], 3] = gap
        pd.testing.assert_frame_equal(predict(frame), expected)


def test_one_row_is_in_the_middle(predict, predict_by_benchmark):
    row = LIVE.iloc[:1]
    assert predict(row)["prediction"].tolist() == [0.5]
    benchmark = pd.DataFrame({"v1": [0.3]}, index=row.index)
    assert predict_by_benchmark(row, benchmark)["prediction"].tolist() == [0.5]


def test_ranks_are_within_the_era(predict):
    eras = np.tile(["0001", "X"], 35)
    answer = predict(LIVE.assign(era=eras))["prediction"]
    for era in ("0001", "X"):
        own = predict(LIVE[eras == era])["prediction"]
        pd.testing.assert_series_equal(answer[eras == era], own)


ODD = {
    "no rows": (LIVE.iloc[:0], "live_features has no rows"),
    "no frame": (LIVE.to_numpy(), "live_features must be a DataFrame; got ndarray"),
    "one column missing": (
        LIVE.drop(columns=NAMES[5]),
        "lacks 1 of the 12 columns that the model needs: 'feature_0005'",
    ),
    "many columns missing": (
        LIVE[["era", *NAMES[:4]]],
        "lacks 8 .*'feature_0004', .*'feature_0008' and 3 more",
    ),
    "twice": (pd.concat([LIVE, LIVE[NAMES[2]]], axis=1), "'feature_0002' more than"),
    "text": (LIVE.astype({NAMES[7]: str}), "its column 'feature_0007' is"),
    "infinite": (
        LIVE.astype(np.float32, errors="ignore").assign(feature_0003=np.inf),
        "infinite in row 0, column 'feature_0003'",
    ),
    "an era missing": (
        LIVE.assign(era=["X"] * 69 + [None]), "has no era in row 69"
    ),
    "another spelling": (
        LIVE.rename(columns={"era": "Era"}), "a column 'Era', but .* is called 'era'"
    ),
    "not bins": (LIVE.assign(feature_0003=0.5), "must be integers from 0 to 255"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_what_cannot_be_predicted_is_told(predict, kind):
    frame, message = ODD[kind]
    with pytest.raises((ValueError, TypeError), match=message):
        predict(frame)


def test_a_benchmark_is_matched_by_id(predict_by_benchmark):
    own = pd.DataFrame({"v1": RNG.random(70), "v2": np.nan}, index=LIVE.index)
    answer = predict_by_benchmark(LIVE, own)
    more = pd.concat([own.iloc[::-1], own.head(3).rename("z{}".format)])
    pd.testing.assert_frame_equal(predict_by_benchmark(LIVE, more), answer)


BENCHMARK = pd.DataFrame({"v1": RNG.random(70)}, index=LIVE.index)
ODD_BENCHMARKS = {
    "no frame": (None, "live_benchmark_models must be a DataFrame; got NoneType"),
    "no column": (BENCHMARK.add_prefix("w"), "live_benchmark_models lacks 1 .*'v1'"),
    "a row missing": (BENCHMARK.iloc[1:], "no number in 'v1' for 1 of 70 rows"),
    "twice": (pd.concat([BENCHMARK, BENCHMARK]), "has ids more than once"),
}


@pytest.mark.parametrize("kind", ODD_BENCHMARKS)
def test_a_benchmark_that_is_none_is_told(predict_by_benchmark, kind):
    benchmark, message = ODD_BENCHMARKS[kind]
    with pytest.raises((ValueError, TypeError), match=message):
        predict_by_benchmark(LIVE, benchmark)


# --- its parts do what those of the package do ---------------------------------------


def weights(n_in, n_out, dtype=np.float32):
    return Affine(RNG.normal(size=(n_in, n_out)).astype(dtype), RNG.normal(size=n_out))


STEPS = {
    "fill": Fill(np.array([2, 0, 1], np.float32)),
    "affine": weights(3, 5),
    "affine in float64": weights(3, 2, np.float64),
    "affine without bias": Affine(np.eye(3)),
    "softmax": Softmax(),
    "argmax": Argmax(),
    "quantize": Quantize(np.sort(RNG.normal(size=(3, 4)), axis=1)),
    "fill of sequences": Fill(np.array([2], np.float32)),
    **{
        f"{kind} of {steps} steps": Recurrent(
            kind,
            *(RNG.normal(size=(n, 2 * gates)) for n in (3 // steps, 2)),
            RNG.normal(size=2 * gates),
        )
        for kind, gates in {"gru": 3, "rnn": 1}.items()
        for steps in (1, 3)
    },
    "concatenate": Concatenate(
        (Encoder([]), Encoder([("a", weights(3, 2)), ("b", Activation("tanh"))]))
    ),
    **{
        name: Activation(name)
        for name in ["hardswish", "identity", "relu", "sigmoid", "silu", "tanh"]
    },
}


@pytest.mark.parametrize("name", STEPS)
def test_encoders(name):
    X = (RNG.normal(size=(400, 3)) * 9).astype(np.float32)
    if name.startswith("fill"):
        X[::3, 1] = np.nan
    found = Encoder([("step", STEPS[name])])
    node = encoder(found, Place(TABLES, IMAGES["3.13"], "library", ["a", "b", "c"]))
    rows = _runtime.Rows(X, [np.arange(400)])
    np.testing.assert_array_equal(_runtime._encode(node, rows), found.transform(X))


@pytest.mark.parametrize("output", ["rank", "gauss"])
def test_ranks(output):
    values = RNG.integers(0, 9, (90, 2)).astype(float)
    eras = RNG.integers(1, 5, 90)
    groups = [np.flatnonzero(eras == era) for era in np.unique(eras)]
    for value in (values, values[:, 0]):
        found = _runtime._rank_by_era(value, groups, gauss=output == "gauss")
        expected = rank_by_era(value, eras, output=output)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def tables():
    bins = RNG.integers(0, 5, (300, 8)).astype(np.int8)
    floats = RNG.normal(1e6, 1, (300, 4))
    return {
        "bins": bins,
        "floats far from zero": floats,
        "columns twice": np.hstack([bins, bins[:, :3]]),
        "sums of others": np.hstack([bins, bins.sum(axis=1, keepdims=True)]),
        "constants": np.hstack([bins, np.full((300, 2), 2, np.int8)]),
        "only constants": np.full((300, 3), 2, np.int8),
        "more columns than rows": RNG.integers(0, 5, (30, 60)).astype(np.int8),
        "as many, some twice": np.repeat(RNG.integers(0, 5, (30, 6)), 9, axis=1),
    }


@pytest.mark.parametrize("kind", tables())
@pytest.mark.parametrize("proportion", [0.5, 1.0])
def test_neutralisation(kind, proportion):
    table = tables()[kind]
    value = table @ RNG.normal(size=table.shape[1]) + RNG.normal(size=len(table))
    eras = np.arange(len(table)) % 2
    groups = [np.flatnonzero(eras == era) for era in (0, 1)]
    for some in (value, np.column_stack([value, np.ones(len(value)), value**2])):
        found = _runtime._neutral(some, table, groups, proportion)
        expected = neutralize_by_era(some, table, eras, proportion=proportion)
        size = np.abs(some).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * size)


def test_many_rows_are_computed_in_blocks_without_another_result(monkeypatch, tmp_path):
    model = EraNeutralizer(EraRanker(Ridge()))
    model.fit(FRAME, Y)
    file = export_predict(model, tmp_path / "model.pkl")
    inside = pd.read_pickle(file).__globals__
    whole = inside["raw_predictions"](inside["MODEL"], FRAME)
    inside["_BLOCK_BYTES"] = 1  # 256 rows
    assert len(PANEL.X) > 2 * 256
    parts = inside["raw_predictions"](inside["MODEL"], FRAME)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-9)
