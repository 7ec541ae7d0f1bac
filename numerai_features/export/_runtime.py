"""The code of an exported model; its source text is part of the exported file.

It runs where this package is not installed: it imports numpy and pandas, the tree
library of the model if there is one, and nothing else. It must stay valid in Python
3.10, and use only what numpy 1.26 and pandas 2.2 have.

`MODEL` is nested plain data: dicts, lists, text, bytes and numbers. Each dict with a
"kind" is a fitted estimator, which the function of that name in one of the three tables
at the end of this file runs. An array is a dict of its bytes, dtype and shape.
"""

import linecache
import re
from datetime import date
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

Node = dict[str, Any]
Eras = list[Any]

# The exported file defines them.
MODEL: Node = globals().get("MODEL", {})
SOURCE: str = globals().get("SOURCE", "")

_BLOCK_BYTES = 4 << 20  # of float32
_TREE_ROWS = 4096
FILE = "<numerai_export>"  # the name of this source in tracebacks
_ERA = "era"
_LEAST_SHARE = 1e-12  # a column that others explain but for this share is left out
_ROUNDING = 1e-13
_SMALL = 1e-10
_MOST_PASSES = 8
_TINY = 1e-6
_EPS = 1e-5
_PAIRS = 1 << 22  # of tokens, in one table


def predict(live_features: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of live rows, in one column."""
    return _answer(MODEL, live_features, None)


def predict_beside_benchmark(
    live_features: pd.DataFrame, live_benchmark_models: pd.DataFrame
) -> pd.DataFrame:
    """Return the predictions of live rows; the model uses those of a benchmark."""
    return _answer(MODEL, live_features, live_benchmark_models)


# --- from a frame to rows, and from predictions to a frame -------------------------


class Rows:
    """The cells of rows, the positions of each era's rows, and a benchmark.

    `labels` are those of the eras; None if there are none.
    """

    def __init__(
        self, table: Any, eras: Eras, benchmark: Any = None, labels: Any = None
    ) -> None:
        self.table, self.eras, self.benchmark = table, eras, benchmark
        self.labels = labels

    def of(self, table: Any) -> "Rows":
        """Return the same rows with other cells."""
        return Rows(table, self.eras, self.benchmark, self.labels)

    def selecting(self, columns: Any) -> "Rows":
        """Return the same rows with some of their columns, or with all if None."""
        return self if columns is None else self.of(self.table[:, columns])

    def by_era(self, node: Node) -> Eras:
        """Return the positions of each era's rows; all rows if a node has no eras."""
        return self.eras if node["by_era"] else [np.arange(len(self.table))]


def _answer(model: Node, frame: Any, benchmarks: Any) -> pd.DataFrame:
    value = raw_predictions(model, frame, benchmarks)
    if model["rank"] == "era":
        value = _rank_by_era(value, _eras(frame), gauss=False)
    elif not ((value >= 0) & (value <= 1)).all():
        raise ValueError(
            f"predictions are between {value.min():g} and {value.max():g}, but Numerai "
            "takes 0 to 1. Export the model with rank='era'."
        )
    return pd.DataFrame({model["name"]: value}, index=frame.index)


def raw_predictions(model: Node, frame: Any, benchmarks: Any = None) -> Any:
    """Return predictions before they are ranked, float64 of shape (n_rows,)."""
    _check_frame(frame, "live_features")
    eras = _eras(frame)
    benchmark, name = None, model["benchmark"]
    if name is not None:
        column = _benchmark(benchmarks, name, frame)
        benchmark = column.astype(np.float64)
        frame = frame.assign(**{name: column})  # it may be a feature
    labels = list(frame[_ERA].unique()) if _ERA in frame.columns else None
    rows = Rows(_cells(frame, model["features"]), eras, benchmark, labels)
    value = _finite(_predict(model["predictor"], rows).reshape(len(frame)))
    after = model["neutralize"]
    if after is not None:
        value = _rank_by_era(value, eras, gauss=True)
        table = rows.benchmark[:, None] if after["features"] is None else None
        if table is None:
            table = _fill_middle(_cells(frame, after["features"]))
        value = _neutral(value, table, eras, after["proportion"])
    return value


def _check_frame(frame: Any, name: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"{name} must be a DataFrame; got {type(frame).__name__}.")
    if not len(frame):
        raise ValueError(f"{name} has no rows; expected the rows to predict.")


def _check_columns(frame: Any, names: list[str], name: str) -> None:
    """Raise if a frame lacks columns, or has some of them more than once."""
    known = set(frame.columns)
    missing = [column for column in names if column not in known]
    if missing:
        some = ", ".join(map(repr, missing[:5]))
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(
            f"{name} lacks {len(missing)} of the {len(names)} columns that the model "
            f"needs: {some}{more}. Pass a file of the version that it was trained on."
        )
    twice = frame.columns[frame.columns.duplicated()]
    twice = [column for column in twice.unique() if column in set(names)]
    if twice:
        raise ValueError(f"{name} has the column {twice[0]!r} more than once.")


def _cells(frame: Any, names: list[str]) -> Any:
    """Return columns as one array: int8 if all are, NaN where a cell is missing."""
    _check_columns(frame, names, "live_features")
    part = frame[names]
    numeric = {t: pd.api.types.is_numeric_dtype(t) for t in set(part.dtypes)}
    for column, dtype in part.dtypes.items():
        if not numeric[dtype]:
            raise ValueError(
                f"live_features must hold numbers; its column {column!r} is {dtype}."
            )
    nullable = any(isinstance(t, pd.api.extensions.ExtensionDtype) for t in numeric)
    if nullable and part.isna().any(axis=None):
        table = part.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        wide = [getattr(t, "numpy_dtype", t) for t in numeric]
        dtype = np.result_type(*wide)
        if dtype == np.float16 and len(set(wide)) > 1:
            dtype = np.dtype(np.float32)  # as where they are combined one by one
        table = part.to_numpy(dtype=dtype)
    if table.dtype.kind == "f" and np.isinf(table).any():
        row, column = np.argwhere(np.isinf(table))[0]
        raise ValueError(
            f"live_features is infinite in row {row}, column {names[column]!r}."
        )
    return table


def _eras(frame: Any) -> Eras:
    """Return the positions of each era's rows; all rows if there is no era."""
    if _ERA not in frame.columns:
        for column in map(str, frame.columns):
            if column.casefold().strip(" _") in ("era", "eras"):
                raise ValueError(
                    f"live_features has a column {column!r}, but the column of eras is "
                    f"called {_ERA!r}. Rename it, or drop it: without eras all rows "
                    "are one era."
                )
        return [np.arange(len(frame))]
    _check_columns(frame, [_ERA], "live_features")
    codes, _ = pd.factorize(frame[_ERA])
    if (codes < 0).any():
        raise ValueError(f"live_features has no era in row {(codes < 0).argmax()}.")
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _era_number(label: Any, dated: bool) -> float:
    """Return an era's number: that of a label, or the week of a date; X is last.

    `dated` is whether eras were dates in fit; those and numbers cannot be compared.
    """
    text = str(label).strip().removesuffix(".0")
    if text in ("X", "x", "eraX", "erax"):
        return np.inf
    day = re.fullmatch(r"((?:19|20)\d{6}|\d{4}-\d{2}-\d{2})(?:[ T].*)?", text)
    if (day is not None) != dated:
        kinds = ("numbers", "dates")
        raise ValueError(
            f"live_features has the era {text!r}, but in fit eras were {kinds[dated]}: "
            "which eras come before is not known. Write it as they are, or as 'X'."
        )
    if day is not None:
        first = date.fromisoformat("1970-01-05")
        parts = re.findall(r"(\d{4})-?(\d{2})-?(\d{2})", day.group(1))[0]
        return float((date(*map(int, parts)) - first).days // 7)
    number = re.fullmatch(r"(?:[^\W\d]+\s*-?\s*(?=\d)|)(-?\d+)(?:\.0*)?", text)
    if number is None:
        raise ValueError(
            f"live_features has the era {text!r}; expected a number, a date, or 'X'."
        )
    return float(number.group(1))


def _benchmark(benchmarks: Any, name: str, frame: Any) -> Any:
    """Return a benchmark's predictions in the order of the rows, matched by id."""
    _check_frame(benchmarks, "live_benchmark_models")
    _check_columns(benchmarks, [name], "live_benchmark_models")
    column = benchmarks[name]
    if not column.index.is_unique:
        raise ValueError("live_benchmark_models has ids more than once.")
    value = column.reindex(frame.index).to_numpy()
    missing = ~np.isfinite(value.astype(np.float64))
    if missing.any():
        raise ValueError(
            f"live_benchmark_models has no number in {name!r} for {missing.sum()} of "
            f"{len(value)} rows of live_features, the first is "
            f"{frame.index[missing.argmax()]!r}."
        )
    return value


def _finite(value: Any) -> Any:
    if not np.isfinite(value).all():
        first = int(np.argwhere(~np.isfinite(value))[0][0])
        raise ValueError(f"the prediction of row {first} is {value[first]}.")
    return value


# --- arrays and blocks -------------------------------------------------------------


def _array(data: Node) -> Any:
    return np.frombuffer(data["bytes"], data["dtype"]).reshape(data["shape"])


def _blocks(n_rows: int, n_columns: int) -> list[slice]:
    step = max(256, _BLOCK_BYTES // (4 * max(1, n_columns)))
    return [slice(i, min(i + step, n_rows)) for i in range(0, n_rows, step)]


def _fill(block: Any, fill: Any) -> Any:
    """Return rows whose NaN are replaced, in the type of the rows."""
    if block.dtype.kind != "f" or not np.isnan(block).any():
        return block
    # The steps of sequences are side by side, each with all columns.
    fill = np.tile(fill.astype(block.dtype), max(1, block.shape[1] // len(fill)))
    return np.where(np.isnan(block), fill, block)


def _fill_middle(table: Any) -> Any:
    """Return a table whose NaN are replaced by the median of the column."""
    if table.dtype.kind != "f" or not np.isnan(table).any():
        return table
    fill = np.zeros(table.shape[1])
    known = ~np.isnan(table).all(axis=0)
    fill[known] = np.nanmedian(table[:, known], axis=0)
    return _fill(table, fill)


def _check_missing(table: Any) -> None:
    if table.dtype.kind == "f" and np.isnan(table).any():
        row = int(np.isnan(table).any(axis=1).argmax())
        raise ValueError(f"a cell of row {row} is missing, which the model refuses.")


# --- encoders ----------------------------------------------------------------------


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


_ACTIVATIONS: dict[str, Any] = {
    "hardswish": lambda x: x * (np.clip(x + 3, 0, 6) / 6),
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, np.zeros_like(x)),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
}


def _softmax(x: Any) -> Any:
    x = np.exp(x - np.max(x, axis=1, keepdims=True))
    return x / np.sum(x, axis=1, keepdims=True)


def _quantize(x: Any, edges: Any) -> Any:
    """Return the number of edges below each cell, as floats."""
    bins = [np.searchsorted(e, x[:, j].copy()) for j, e in enumerate(edges)]
    return np.stack(bins, axis=1).astype(x.dtype)


def _affine(x: Any, step: Node) -> Any:
    x = x @ _array(step["weight"])
    return x if step["bias"] is None else x + _array(step["bias"])


def _layer_norm(x: Any, step: Node) -> Any:
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + _EPS)
    return x * _array(step["gamma"]) + _array(step["beta"])


def _attention(x: Any, others: Any, step: Node) -> Any:
    """Return what tokens learn from others; tokens are the second last axis."""
    tables = [(x, "query"), (others, "key"), (others, "value")]
    q, k, v = (_heads(t @ _array(step[name]), step["n_heads"]) for t, name in tables)
    if step["attention"] == "linear":
        q, k = (np.where(z > 0, z + 1, np.exp(np.minimum(z, 0))) for z in (q, k))
        total = k.mean(axis=-2, keepdims=True)
        found = q @ (np.swapaxes(k, -1, -2) @ v / k.shape[-2])
        found = found / ((q * total).sum(axis=-1, keepdims=True) + _TINY)
    else:
        found = np.empty(q.shape, q.dtype)
        size = max(1, _PAIRS // (int(np.prod(q.shape[:-2])) * k.shape[-2]))
        for start in range(0, q.shape[-2], size):
            some = q[..., start : start + size, :]
            near = some @ np.swapaxes(k, -1, -2) * q.shape[-1] ** -0.5
            near = np.exp(near - near.max(axis=-1, keepdims=True))
            part = near @ v / near.sum(axis=-1, keepdims=True)
            found[..., start : start + size, :] = part
    found = np.swapaxes(found, -2, -3).reshape(x.shape)
    return found @ _array(step["out"]) + _array(step["bias"])


def _heads(x: Any, n_heads: int) -> Any:
    return np.swapaxes(x.reshape(*x.shape[:-1], n_heads, -1), -2, -3)


def _induced(x: Any, step: Node) -> Any:
    points = _array(step["points"])
    points = np.broadcast_to(points, (*x.shape[:-2], *points.shape))
    held = points + _attention(points, x, step["gather"])
    return _attention(x, _layer_norm(held, step["norm"]), step["spread"])


def _positions(x: Any, step: Node) -> Any:
    places, columns = np.arange(len(x))[:, None], np.arange(x.shape[1])
    angle = places * 10_000.0 ** (-2 * (columns // 2) / x.shape[1])
    waves = np.where(columns % 2 == 0, np.sin(angle), np.cos(angle))
    return x + waves.astype(np.float32)


def _feature_tokens(x: Any, step: Node) -> Any:
    """Return a token for each group of features: sums of vectors of bins."""
    bins = sum((x > edge).astype(np.int8) for edge in _array(step["edges"]))
    vectors, groups = _array(step["vectors"]), _array(step["groups"])
    own = np.stack([bins == b for b in range(len(vectors))], axis=1).astype(x.dtype)
    borders, tokens = step["borders"], []
    for i, first in enumerate(borders[:-1]):
        part = slice(first, borders[i + 1])
        table = vectors[:, part].reshape(-1, vectors.shape[2])
        tokens.append(own[:, :, part].reshape(len(x), -1) @ table + groups[i])
    return np.stack(tokens, axis=1)


def _recurrent(x: Any, step: Node) -> Any:
    """Return the last states of sequences, whose steps are side by side in rows."""
    weight, recurrent = _array(step["weight"]), _array(step["recurrent"])
    bias, k, n = _array(step["bias"]), len(weight), len(recurrent)
    state = np.zeros((1, n), recurrent.dtype)
    for first in range(0, x.shape[1], k):
        a, u = x[:, first : first + k] @ weight + bias, state @ recurrent
        if step["cell"] == "rnn":
            state = np.tanh(a + u)
            continue
        gates = _sigmoid(a[:, : 2 * n] + u[:, : 2 * n])
        new = np.tanh(a[:, 2 * n :] + gates[:, :n] * u[:, 2 * n :])
        state = new + gates[:, n:] * (state - new)
    return state


_STEPS: dict[str, Any] = {
    "fill": lambda x, step: _fill(x, _array(step["values"])),
    "affine": _affine,
    "activation": lambda x, step: _ACTIVATIONS[step["name"]](x),
    "softmax": lambda x, step: _softmax(x),
    "argmax": lambda x, step: np.argmax(x, axis=1)[:, None].astype(x.dtype),
    "quantize": lambda x, step: _quantize(x, _array(step["edges"])),
    "recurrent": _recurrent,
    "concatenate": lambda x, step: np.concatenate(
        [_run(branch, x) for branch in step["branches"]], axis=1
    ),
    "layer_norm": _layer_norm,
    "residual": lambda x, step: x + _run(step["branch"], x),
    "attention": lambda x, step: _attention(x, x, step),
    "induced": _induced,
    "positions": _positions,
    "feature_tokens": _feature_tokens,
    "token_mean": lambda x, step: x.mean(axis=1),
}


def _run(steps: list[Node], x: Any) -> Any:
    for step in steps:
        x = _STEPS[step["step"]](x, step)
    return x


def _encode(node: Node, rows: Rows) -> Any:
    """Return the output of an encoder, of a block of rows, or an era, at a time."""
    table = rows.table
    if node["missing"] == "raise":
        _check_missing(table)
    out = np.empty((len(table), node["n_out"]), node["out"])
    alone = node["by_era"] is None
    blocks = _blocks(len(table), max(table.shape[1], node["n_cells"]))
    for block in blocks if alone else rows.by_era(node):
        with np.errstate(over="ignore", invalid="ignore"):
            x = table[block].astype(node["dtype"], order="C")
            out[block] = _run(node["steps"], x)
    if not np.isfinite(out).all():
        row = int((~np.isfinite(out)).any(axis=1).argmax())
        raise ValueError(f"row {row} is so far from the fitted rows that it overflows.")
    return out


# --- other transformers ------------------------------------------------------------


def _pipeline(node: Node, rows: Rows) -> Any:
    for step in node["steps"]:
        rows = rows.of(_transform(step, rows))
    return rows.table


def _center(node: Node, rows: Rows) -> Any:
    table = rows.table.copy()
    for mine in rows.by_era(node):
        table[mine] -= table[mine].mean(axis=0)
    return table.astype(np.float32)


def _era_statistics(node: Node, rows: Rows) -> Any:
    columns, fill, names = node["columns"], _array(node["fill"]), node["statistics"]
    if node["missing"] == "raise":
        _check_missing(rows.table[:, columns])
    out = np.empty((len(rows.table), len(columns) * len(names)), np.float32)
    for mine in rows.by_era(node):
        first = _fill(rows.table[mine[:1]][:, columns].astype(np.float64), fill)[0]
        total = squares = np.zeros(len(columns))
        for squared in (False, True):
            for part in _blocks(len(mine), rows.table.shape[1]):
                block = rows.table[mine[part]][:, columns].astype(np.float64)
                block = _fill(block, fill) - first
                if squared:
                    block = np.square(block - total)
                    squares = squares + block.sum(axis=0) / len(mine)
                else:
                    total = total + block.sum(axis=0) / len(mine)
        value = {"mean": first + total, "std": np.sqrt(squares)}
        out[mine] = np.concatenate([value[name] for name in names])
    return out


def _era_regimes(node: Node, rows: Rows) -> Any:
    """Return the code of the statistics of each era and of fitted eras before it."""
    if rows.labels is None:
        raise ValueError(
            "live_features has no column 'era', which the model needs: it depends on "
            "the eras before. Pass the file whole."
        )
    mean, axes, fill = _array(node["mean"]), _array(node["axes"]), _array(node["fill"])
    columns, table = node["columns"], _array(node["table"])
    if node["missing"] == "raise":
        _check_missing(rows.table[:, columns])
    out = np.empty((len(rows.table), node["n_out"]), np.float32)
    for label, mine in zip(rows.labels, rows.eras, strict=True):
        scores = np.empty((len(mine), axes.shape[1]))
        for part in _blocks(len(mine), rows.table.shape[1]):
            block = rows.table[mine[part]][:, columns].astype(np.float64)
            scores[part] = (_fill(block, fill) - mean) @ axes
        mean_score, std = scores.mean(axis=0), scores.std(axis=0)
        std = np.where(std > node["least"], std, 0)
        z = (scores - mean_score) / np.where(std > 0, std, np.inf)
        z = z[:, : node["paired"]]
        pairs = np.triu_indices(z.shape[1], 1)
        value = {"mean": mean_score, "std": std, "corr": (z.T @ z / len(z))[pairs]}
        own = np.concatenate([value[name] for name in node["statistics"]])
        own = np.where(_array(node["varies"]) > 0, own, 0)
        end = int((_array(node["eras"]) < _era_number(label, node["dated"])).sum())
        before = table[max(0, end - node["n_steps"] + 1) : end]
        flat = np.vstack([before, own]).reshape(1, -1)
        out[mine] = _encode(node["encoder"], rows.of(flat))
    return out


def _latent_features(node: Node, rows: Rows) -> Any:
    """Return originals and latents in one table."""
    table = rows.table if node["whole"] is None else _restore(node["whole"], rows.table)
    parts = [table] if node["passthrough"] else []
    for embedder in node["embedders"]:
        came = rows if embedder["as_it_came"] else rows.of(table)
        latents = _transform(embedder["node"], came)
        if embedder["edges"] is not None:
            latents = _quantized(latents, _array(embedder["edges"]))
        parts.append(latents)
    if not node["embedders"] and node["quantize"] is None:
        return table
    dtype = np.dtype(node["quantize"] or np.float32)
    out = np.empty((len(table), sum(part.shape[1] for part in parts)), dtype)
    start = 0
    for part in parts:
        if dtype.kind != "f" and part is table:
            _check_fits(part, dtype)
        out[:, start : start + part.shape[1]] = part
        start += part.shape[1]
    return out


def _quantized(latents: Any, edges: Any) -> Any:
    out = np.empty(latents.shape, np.uint8)
    for block in _blocks(*latents.shape):
        _check_missing(latents[block])
        out[block] = _quantize(latents[block], edges)
    return out


def _restore(whole: Node, table: Any) -> Any:
    """Return floats in the integer type of fit if it holds all cells."""
    if table.dtype.kind != "f":
        return table
    fill, limits = _array(whole["fill"]), np.iinfo(whole["dtype"])
    out = np.empty(table.shape, whole["dtype"])
    for rows in _blocks(*table.shape):
        block = _fill(table[rows].astype(np.float64), fill)
        inside = (block >= float(limits.min)) & (block < float(limits.max) + 1)
        if not (inside & (block == np.rint(block))).all():
            return _fill(table, fill)
        out[rows] = block
    return out


def _check_fits(table: Any, dtype: Any) -> None:
    limits = np.iinfo(dtype)
    fits = table.dtype.kind in "iub"
    if not fits or table.min() < limits.min or table.max() > limits.max:
        raise ValueError(
            f"live_features must be integers from {limits.min} to {limits.max}, as in "
            f"fit; got {table.dtype} from {np.nanmin(table)} to {np.nanmax(table)}."
        )


def _fill_cells(node: Node, rows: Rows) -> Any:
    return _fill(rows.table, _array(node["values"]))


def _beside(node: Node, rows: Rows) -> Any:
    """Return columns, the latents of columns and a benchmark side by side."""
    parts = [_column_part(part, rows) for part in node["parts"]]
    if len(parts) == 1 and node["dtype"] is None:
        return parts[0]
    dtype = node["dtype"] or np.result_type(*parts)
    out = np.empty((len(rows.table), sum(p.shape[1] for p in parts)), dtype)
    start = 0
    for part, values in zip(node["parts"], parts, strict=True):
        own = out[:, start : start + values.shape[1]]
        own[:] = values
        if part["scale"] is not None:
            own *= part["scale"]
        start += values.shape[1]
    return out


def _column_part(part: Node, rows: Rows) -> Any:
    if part["benchmark"]:
        return rows.benchmark[:, None]
    own = rows.selecting(part["columns"])
    return own.table if part["node"] is None else _transform(part["node"], own)


def _scale(node: Node, rows: Rows) -> Any:
    table = rows.table.astype(_float_type(rows.table))
    if node["mean"] is not None:
        table -= _array(node["mean"])
    if node["scale"] is not None:
        table /= _array(node["scale"])
    return table


def _float_type(table: Any) -> Any:
    return table.dtype if table.dtype.kind == "f" else np.dtype(np.float64)


def _project(node: Node, rows: Rows) -> Any:
    """Return rows minus a shift, multiplied by axes; PCA and linear models."""
    _check_missing(rows.table)
    weight, bias = _array(node["weight"]), _array(node["bias"])
    dtype = np.result_type(_float_type(rows.table), weight)
    out = np.empty((len(rows.table), weight.shape[1]), dtype)
    for block in _blocks(*rows.table.shape):
        out[block] = rows.table[block].astype(dtype) @ weight + bias
    return out


def _union(node: Node, rows: Rows) -> Any:
    parts = []
    for part in node["parts"]:
        out = _transform(part["node"], rows.selecting(part["columns"]))
        parts.append(out if part["weight"] is None else out * part["weight"])
    return np.hstack(parts)


# --- models ------------------------------------------------------------------------


def _pipeline_predict(node: Node, rows: Rows) -> Any:
    return _predict(node["last"], rows.of(_pipeline(node, rows)))


def _linear(node: Node, rows: Rows) -> Any:
    return _project(node, rows)


def _network(node: Node, rows: Rows) -> Any:
    each = _encode(node["encoder"], rows)
    return each.astype(np.float64) @ _array(node["shares"])


def _tree_blocks(table: Any) -> Any:
    """Yield blocks of rows as the tree libraries read frames of these cells."""
    dtype = np.result_type(table.dtype, np.float32)
    for start in range(0, len(table), _TREE_ROWS):
        yield np.ascontiguousarray(table[start : start + _TREE_ROWS], dtype)


def _lightgbm(node: Node, rows: Rows) -> Any:
    import lightgbm

    booster = lightgbm.Booster(model_str=node["text"])
    return np.concatenate(
        [booster.predict(x, num_threads=1) for x in _tree_blocks(rows.table)]
    )


def _xgboost(node: Node, rows: Rows) -> Any:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(node["json"], "utf-8"))
    parts = []
    for block in _tree_blocks(rows.table):
        matrix = xgboost.DMatrix(block, missing=node["missing"], nthread=1)
        parts.append(booster.predict(matrix, validate_features=False))
    return np.concatenate(parts)


def _trees(node: Node, rows: Rows) -> Any:
    predict = globals()["tree_predict"]  # of _tree_runtime.py, whose source follows
    blocks = _tree_blocks(rows.table)
    return np.concatenate([predict(node["tables"], x) for x in blocks])


def _voting(node: Node, rows: Rows) -> Any:
    each = np.stack([_predict(part, rows) for part in node["parts"]])
    return np.average(each, axis=0, weights=node["weights"])


def _stacking(node: Node, rows: Rows) -> Any:
    columns = [_predict(part, rows) for part in node["parts"]]
    if node["passthrough"]:
        columns.append(rows.table)
    return _predict(node["last"], rows.of(np.column_stack(columns)))


def _era_ranker(node: Node, rows: Rows) -> Any:
    value = _predict(node["regressor"], rows)
    return _rank_by_era(value, rows.by_era(node), gauss=node["output"] == "gauss")


def _era_blend(node: Node, rows: Rows) -> Any:
    each = np.column_stack([_predict(part, rows) for part in node["parts"]])
    ranked = _rank_by_era(each, rows.by_era(node), gauss=True)
    weights = _array(node["weights"])
    total = ranked[:, 0] * weights[0]
    for column, weight in zip(ranked.T[1:], weights[1:], strict=True):
        total += column * weight  # in this order, as EraBlend adds
    return total


def _era_neutralizer(node: Node, rows: Rows) -> Any:
    value = _finite(_predict(node["regressor"], rows))
    if node["to"] == "benchmark":
        table, fill = rows.benchmark[:, None], None
    else:
        table, fill = rows.table, _array(node["fill"])
        if node["columns"] is not None:
            table = table[:, node["columns"]]
    if fill is not None:
        table = _fill(table, fill)
    return _neutral(value, table, rows.by_era(node), node["proportion"])


def _shrinker(node: Node, rows: Rows) -> Any:
    value = _predict(node["regressor"], rows)
    eras = rows.by_era(node)
    ranked = _rank_by_era(value, eras, gauss=True)
    own = rows.selecting(node["columns"])
    score = _SCORES[node["density"]["kind"]](node["density"], own)
    if node["per"] == "era":
        for mine in eras:
            score[mine] = score[mine].mean()
    below = np.maximum(0, (node["median"] - score) / node["spread"])
    factor = np.maximum(np.exp(-node["strength"] * below), np.finfo(np.float64).tiny)
    return (ranked.T * factor).T


def _dae_score(node: Node, rows: Rows) -> Any:
    """Return minus the mean squared error of reconstruction of each row."""
    scale = _array(node["scale"])
    varying = scale > 0
    score = np.zeros(len(rows.table))
    for block in _blocks(*rows.table.shape):
        part = rows.table[block]
        code = _encode(node["encoder"], rows.of(part))
        x = part[:, varying].astype(np.float64)
        for start, decoder in zip(node["starts"], node["decoders"], strict=True):
            own = rows.of(code[:, start : start + node["n_components"]])
            error = (_encode(decoder, own)[:, varying] - x) / scale[varying]
            known = ~np.isnan(error)
            squares = np.where(known, error, 0) ** 2
            score[block] -= squares.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return score / len(node["decoders"])


def _gaussian_score(node: Node, rows: Rows) -> Any:
    """Return the log-likelihood of each row under a factor model."""
    fill, mean, psi = _array(node["fill"]), _array(node["mean"]), _array(node["psi"])
    score, active, whiten = np.empty(len(rows.table)), psi > 0, _array(node["whiten"])
    if node["missing"] == "raise":
        _check_missing(rows.table)
    for block in _blocks(*rows.table.shape):
        x = (_fill(rows.table[block].astype(np.float64), fill) - mean)[:, active]
        distance = (x * x / psi[active]).sum(axis=1)
        distance -= ((x @ whiten) ** 2).sum(axis=1)
        score[block] = -0.5 * (node["constant"] + distance)
    return score


# --- ranks and neutralisation ------------------------------------------------------


def _rank_by_era(value: Any, eras: Eras, *, gauss: bool) -> Any:
    """Return ranks within the era between 0 and 1, or their normal quantiles."""
    _finite(value)
    out = np.empty(value.shape)
    for mine in eras:
        out[mine] = np.apply_along_axis(_ranks, 0, value[mine], gauss)
    return out


def _ranks(value: Any, gauss: bool) -> Any:
    _, where, counts = np.unique(value, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    place, n = 2 * mean_rank - 1, len(value)
    ranks = np.minimum(place, 2 * n - place) / (2 * n) if gauss else place / (2 * n)
    if gauss:  # equally far from the middle: equal but for the sign, to the bit
        lower = np.array([NormalDist().inv_cdf(r) for r in ranks.tolist()])
        ranks = np.where(place > n, -lower, lower)
    return ranks[where.reshape(-1)]


def _neutral(value: Any, table: Any, eras: Eras, proportion: float) -> Any:
    """Return predictions minus a proportion of their fit to columns in each era."""
    out = np.empty(value.shape)
    for mine in eras:
        own = value[mine]
        rest = _rest(own.reshape(len(own), -1), table[mine]).reshape(own.shape)
        out[mine] = own - proportion * (own - rest)
    return out


def _rest(value: Any, table: Any) -> Any:
    """Return residuals of each column of values on a constant and the table."""
    rest = np.zeros(value.shape)
    varies = value.max(axis=0) > value.min(axis=0)
    if varies.any():
        own = value[:, varies] - value[:, varies].mean(axis=0)
        size = np.abs(own).max(axis=0)
        leave = _rest_by_rows if len(own) <= table.shape[1] + 1 else _rest_by_columns
        rest[:, varies] = leave(own / size, table) * size
    return rest


def _standardised(table: Any) -> Any:
    """Return the columns that vary, centred, and divided by their deviation."""
    table = table.astype(np.float64)
    mean = table.mean(axis=0)
    table -= mean
    scale = np.sqrt(np.einsum("ij,ij->j", table, table) / len(table))
    used = scale > _ROUNDING * np.abs(mean)
    return table[:, used] / scale[used]


def _rest_by_columns(value: Any, table: Any) -> Any:
    """Return residuals by the normal equations, refined until exposures are small."""
    table = _standardised(table)
    if not table.shape[1]:
        return value
    kept, _ = _pivoted(table.T @ table / len(table), _LEAST_SHARE)
    table = table[:, kept]
    inverse = np.linalg.inv(table.T @ table / len(table))
    rest = value.copy()
    for _ in range(_MOST_PASSES):
        exposure = table.T @ rest / len(rest)
        size = np.sqrt((rest**2).mean(axis=0))
        if (np.abs(exposure).max(axis=0) <= _SMALL * size).all():
            break
        rest -= table @ (inverse @ exposure)
    return rest


def _rest_by_rows(value: Any, table: Any) -> Any:
    """Return residuals by products of rows, for at most one row more than columns."""
    table = _standardised(table)
    products = table @ table.T
    largest = float(np.diag(products).max(initial=0))
    if largest == 0:
        return value
    kept, factor = _pivoted(products, _LEAST_SHARE * largest)
    if len(kept) >= len(value) - 1:  # the columns explain any values
        return np.zeros(value.shape)
    basis = np.linalg.qr(factor)[0]
    for _ in range(2):  # the second pass removes the rounding error of the first
        value = value - basis @ (basis.T @ value)
    return value


def _pivoted(products: Any, least: float) -> Any:
    """Return the pivots and the factor of a pivoted Cholesky decomposition."""
    left = np.diag(products).copy()
    factor = np.zeros_like(products)
    kept: list[int] = []
    for k in range(len(products)):
        pivot = int(left.argmax())
        if not left[pivot] > least:
            break
        column = products[:, pivot] - factor[:, :k] @ factor[pivot, :k]
        factor[:, k] = column / np.sqrt(left[pivot])
        left -= factor[:, k] ** 2
        left[pivot] = 0
        kept.append(pivot)
    return kept, factor[:, : len(kept)]


# --- the tables --------------------------------------------------------------------

_TRANSFORMS = {
    "beside": _beside,
    "fill": _fill_cells,
    "encoder": _encode,
    "pipeline": _pipeline,
    "center": _center,
    "era_regimes": _era_regimes,
    "era_statistics": _era_statistics,
    "latent_features": _latent_features,
    "scale": _scale,
    "project": _project,
    "union": _union,
}
_PREDICTORS = {
    "pipeline": _pipeline_predict,
    "linear": _linear,
    "network": _network,
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "trees": _trees,
    "voting": _voting,
    "stacking": _stacking,
    "era_ranker": _era_ranker,
    "era_blend": _era_blend,
    "era_neutralizer": _era_neutralizer,
    "shrinker": _shrinker,
}
_SCORES = {"dae": _dae_score, "gaussian": _gaussian_score}


def _transform(node: Node, rows: Rows) -> Any:
    return _TRANSFORMS[node["kind"]](node, rows)


def _predict(node: Node, rows: Rows) -> Any:
    """Return predictions as float64, of shape (n_rows,) if there is one a row."""
    value = np.asarray(_PREDICTORS[node["kind"]](node, rows), np.float64)
    return value[:, 0] if value.ndim == 2 and value.shape[1] == 1 else value


def _register_source() -> None:
    """Let tracebacks show the lines of this source."""
    lines = SOURCE.splitlines(keepends=True)
    linecache.cache[FILE] = (len(SOURCE), None, lines, FILE)


if SOURCE:
    _register_source()
