"""What Numerai's server does with an uploaded file: a program of its own.

    python _server.py FOLDER

It runs where this package cannot be imported, and must stay valid in Python 3.10.
FOLDER holds the file `model.pkl`, the rows `live.parquet`, perhaps `benchmark.parquet`
and `train.parquet`, and `forbidden.json`, the modules that cannot be imported. The
program writes `answer.parquet`, the values before ranking, `raw.npy` and
`raw_train.npy`, and `told.json`: what it measured, as soon as it has, or what went
wrong.
"""

import inspect
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

_OF_TREES = ("scipy", "sklearn", "joblib", "threadpoolctl", "narwhals")
_INTERVAL = 0.005  # seconds


class _Refusing:
    """An import hook that finds no module of some packages."""

    def __init__(self, names: list[str]) -> None:
        self.names = set(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self.names:
            raise ImportError(f"No module named {name!r} on Numerai's server")


class _Memory:
    """The largest memory of this process while a block runs, sampled, in bytes."""

    def __init__(self) -> None:
        self.anonymous = self.resident = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "_Memory":
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _sample(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return  # only Linux tells
        sizes = {
            key: value for key, _, value in (line.partition(":") for line in lines)
        }
        anonymous, resident = (
            int(sizes.get(key, "0").split()[0]) << 10 for key in ("RssAnon", "VmHWM")
        )
        self.anonymous = max(self.anonymous, anonymous)
        self.resident = max(self.resident, resident)


def main(folder: Path) -> None:
    """Do the server's steps; tell what happened in `told.json`."""
    told: dict[str, Any] = {"step": "starting"}
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        _serve(folder, told)
    except BaseException as error:
        told["error"] = f"{type(error).__name__}: {error}"
        told["traceback"] = traceback.format_exc()
    _tell(folder, told)


def _tell(folder: Path, told: dict[str, Any]) -> None:
    new = folder / "told.new"
    new.write_text(json.dumps(told), encoding="utf-8")
    os.replace(new, folder / "told.json")


def _end_with(parent: int) -> None:
    """End when the process ends that has started this one."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _serve(folder: Path, told: dict[str, Any]) -> None:
    """Read the function, call it once, and check what it returns."""
    hook = _Refusing(json.loads((folder / "forbidden.json").read_text()))
    sys.meta_path.insert(0, hook)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np
    import pandas as pd
    import pyarrow as pa  # reads the rows

    told["python"] = ".".join(map(str, sys.version_info[:3]))
    told |= {module.__name__: module.__version__ for module in (np, pd, pa)}
    told["step"] = "reading"
    with _Memory() as memory:
        start = time.perf_counter()
        predict = pd.read_pickle(folder / "model.pkl")
        loaded = time.perf_counter()
        model = _model_of(predict)
        libraries = _libraries(model["predictor"])
        if libraries:
            hook.names -= {*libraries, *_OF_TREES}
        told["step"] = "counting parameters"
        n_parameters = len(inspect.signature(predict).parameters)
        if n_parameters not in (1, 2):
            raise ValueError(f"the function has {n_parameters} parameters, not 1 or 2")
        told |= {
            "n_parameters": n_parameters,
            "features": model["features"],
            "benchmark": model["benchmark"],
            "to_benchmark": _is_to_benchmark(model["predictor"]),
            "ranked": model["rank"] is not None,
        }
        told["step"] = "predicting"
        beside = folder / "benchmark.parquet"
        if n_parameters == 2 and not beside.exists():
            raise ValueError(
                "the function has two parameters, and the second one, "
                "live_benchmark_models, is missing. Pass benchmark="
            )
        again = time.perf_counter()
        given = [pd.read_parquet(folder / "live.parquet")]
        if n_parameters == 2:
            given.append(pd.read_parquet(beside))
        answer = predict(*given)
        told["seconds"] = time.perf_counter() - again + loaded - start
    told |= {"anonymous": memory.anonymous, "resident": memory.resident}
    told["step"] = "checking"
    _tell(folder, told)  # what follows is not part of what the server does
    _check(answer, given[0])
    answer.to_parquet(folder / "answer.parquet")
    told["step"] = "predicting without ranks"
    inside, plain = predict.__globals__, {**model, "neutralize": None}
    np.save(folder / "raw.npy", inside["raw_predictions"](plain, *given))
    if (folder / "train.parquet").exists():
        told["step"] = "predicting train"
        given[0] = pd.read_parquet(folder / "train.parquet")
        np.save(folder / "raw_train.npy", inside["raw_predictions"](plain, *given))
    told["step"] = "done"


def _model_of(predict: Any) -> dict[str, Any]:
    inside = getattr(predict, "__globals__", {})
    if not {"MODEL", "raw_predictions"} <= set(inside):
        raise ValueError(f"{predict!r} was not written by export_predict")
    return inside["MODEL"]  # type: ignore[no-any-return]


def _libraries(node: Any) -> set[str]:
    """Return the tree libraries that nested plain data needs."""
    if isinstance(node, dict):
        own = {name for name in ("lightgbm", "xgboost") if node.get("kind") == name}
        return own.union(*map(_libraries, node.values()))
    return set().union(*map(_libraries, node)) if isinstance(node, list) else set()


def _is_to_benchmark(node: Any) -> bool:
    """Whether a part of the model neutralises to a benchmark that it is given."""
    if isinstance(node, dict):
        to = node.get("to") == "benchmark"
        return to or any(map(_is_to_benchmark, node.values()))
    return isinstance(node, list) and any(map(_is_to_benchmark, node))


def _check(answer: Any, live: Any) -> None:
    """Raise if the server would refuse an answer."""
    import pandas as pd

    if type(answer) is not pd.DataFrame:
        raise ValueError(f"it returned a {type(answer).__name__}, not a DataFrame")
    if answer.empty:
        raise ValueError("it returned no predictions")
    n_missing = int(answer.isna().to_numpy().sum())
    if n_missing:
        raise ValueError(f"{n_missing} of its predictions are NaN")
    first = answer.iloc[:, 0]
    if not first.between(0, 1).all():
        raise ValueError(
            f"its predictions are between {first.min():g} and {first.max():g}, not "
            "within 0 and 1"
        )
    if not answer.index.equals(live.index):
        raise ValueError("its ids are not those of live, in their order")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
