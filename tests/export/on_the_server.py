"""Do what Numerai's server does with exported files: a program of its own.

    python on_the_server.py FOLDER [FORBIDDEN ...]

FOLDER holds `rows.npz` and files `*.pkl`. For each of them, the predictions before
ranking and the answer are written to a file `*.npz`, or what went wrong, to `*.txt`. It
needs numpy and pandas, and whatever an exported file needs. FORBIDDEN modules cannot be
imported.
"""

import inspect
import sys
import traceback
from pathlib import Path

import numpy as np
import pandas as pd


class Refuse:
    def __init__(self, names):
        self.names = set(names)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"the server has no {name}")


def frames(rows):
    ids = pd.Index(rows["ids"].tolist(), name="id")
    live = pd.DataFrame(rows["features"], index=ids, columns=rows["names"].tolist())
    live.insert(0, "era", rows["eras"].tolist())
    live["data_type"] = "live"
    order = np.argsort(rows["ids"])  # the benchmark's file has its own order
    benchmark = {"era": "X", "v1": rows["benchmark"][order], "v2": 0.5}
    return live, pd.DataFrame(benchmark, index=ids[order])


def run(file, live, benchmark):
    predict = pd.read_pickle(file)
    n_parameters = len(inspect.signature(predict).parameters)
    if n_parameters == 1:
        given = (live,)
    elif n_parameters == 2:
        given = (live, benchmark)
    else:
        raise ValueError(f"predict has {n_parameters} parameters")
    answer = predict(*given)
    if type(answer) is not pd.DataFrame or answer.empty or answer.isna().any(axis=None):
        raise ValueError("predict must return a DataFrame without NaN")
    first = answer.iloc[:, 0]
    if not first.between(0, 1).all() or not first.std() > 0:
        raise ValueError("predictions must be between 0 and 1, and differ")
    if not answer.index.equals(live.index):
        raise ValueError("predictions must be of the live ids")
    inside = predict.__globals__
    raw = inside["raw_predictions"](inside["MODEL"], *given)
    np.savez(file.with_suffix(".npz"), raw=raw, answer=first.to_numpy())


def main(folder, *forbidden):
    sys.meta_path.insert(0, Refuse(forbidden))
    live, benchmark = frames(np.load(folder / "rows.npz"))
    for file in sorted(folder.glob("*.pkl")):
        try:
            run(file, live, benchmark)
        except Exception:
            file.with_suffix(".txt").write_text(traceback.format_exc())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
