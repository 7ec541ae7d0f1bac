"""Score a fitted model on eras after its training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numerai_features._eras import era_label
from numerai_features._progress import progress
from numerai_features._scratch import take
from numerai_features.datasets import EraPanel, NumeraiMetadata, read_numerai
from numerai_features.datasets._parquet_eras import read_eras
from numerai_features.datasets._parquet_names import check_files, read_columns
from numerai_features.datasets._parquet_predictions import (
    Predictions,
    choose_column,
    read_predictions,
)
from numerai_features.experiment._era_tables import EraTables
from numerai_features.experiment._evaluation import Evaluation
from numerai_features.experiment._judge import judged_features
from numerai_features.experiment._references import without_gaps
from numerai_features.metrics import mean_interval

if TYPE_CHECKING:
    from numerai_features.experiment._fitted_model import FittedModel

_PANEL = "evaluation"
_MOST_ROWS = 30_000  # predicted at once, unless an era has more


def evaluate(
    model: FittedModel,
    files: Any,
    references: dict[str, Any],
    columns: dict[str, str | None],
    from_era: Any,
    *,
    verbose: bool,
) -> Evaluation:
    """Score a model; see `FittedModel.evaluate`."""
    paths, target = check_files(files), model.record["targets"][0]
    columns_there = [read_columns(file) for file in paths]
    for own in columns_there:
        model.check_features(own)
    if not any(target in own for own in columns_there):
        raise ValueError(
            f"files have no column {target!r}, which the model is scored on. Pass "
            "files with targets, such as validation.parquet."
        )
    read = {
        name: _reference(given, columns[name], name)
        for name, given in references.items()
        if given is not None
    }
    if model.benchmark is not None and "benchmark" not in read:
        raise ValueError(
            f"benchmark is None, but the model {model.record['arm']!r} needs the "
            f"predictions of {model.benchmark!r}. Pass "
            "validation_benchmark_models.parquet (--benchmark on the command line)."
        )
    notes: list[str] = []
    eras = _eras(model, paths, target, from_era, notes)
    folder = model.folder / _PANEL
    panel = read_numerai(
        paths,
        folder,
        features=model.feature_names,
        targets=[target],
        eras=eras,
        overwrite=True,  # only a panel, which a stopped evaluation has left
        verbose=verbose,
    )
    try:
        with progress(hidden=not verbose, total=len(eras), unit=" eras") as bar:
            rows, raw = _predicted(model, panel, read, notes, bar)
            scores, table = _scored(model, panel, rows, raw, read, paths, notes, bar)
    finally:
        rmtree(folder, ignore_errors=True)  # a copy of the files' rows
    return Evaluation(scores, table, target, tuple(notes))


def _reference(files: Any, column: str | None, name: str) -> Predictions:
    paths = check_files(files)
    option = f"--{name.replace('_', '-')}-column"
    key = f"{name}_column ({option} on the command line)"
    column = choose_column(paths, column, key)
    return read_predictions(paths, column, name)


def _eras(
    model: FittedModel, files: Sequence[Path], target: str, first: Any, notes: list[str]
) -> list[int]:
    """Return the resolved eras after the fit and its purge; tell what is left out."""
    numbers, known = read_eras(files, target, 1)
    resolved = numbers[~np.isnan(known)]
    last, purge = int(model.record["last_era"]), model.record["purge"]
    after = last + purge
    begin = after + 1 if first is None else max(after + 1, _number(first))
    kept = resolved[resolved >= begin]
    n_near = int((resolved <= after).sum())
    told = (
        f"the model was fitted on eras to {era_label(last)}, and its purge has {purge} "
        "eras"
    )
    if not len(kept) and len(resolved) and resolved[-1] > after:
        raise ValueError(
            f"from_era={first!r} leaves no era to score: {target} is known for eras to "
            f"{era_label(int(resolved[-1]))}. Choose an earlier one."
        )
    if not len(kept):
        there = "no era"
        if len(resolved):
            there = f"eras to {era_label(int(resolved[-1]))}"
        raise ValueError(
            f"There is no era to score: {told}, so the first that counts is "
            f"{era_label(begin)}, and {target} is known for {there}. Wait for more "
            "eras, or fit on files that end earlier, such as train.parquet alone."
        )
    if n_near:
        notes.append(f"{n_near} resolved eras are left out: {told}.")
    return [int(number) for number in kept]


def _number(era: Any) -> int:
    try:
        return int(era)
    except (TypeError, ValueError):
        raise ValueError(
            f"from_era must be an era, such as 1000 or '1000'; got {era!r}."
        ) from None


def _predicted(
    model: FittedModel,
    panel: EraPanel,
    references: dict[str, Predictions],
    notes: list[str],
    bar: Any,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return rows and their predictions; eras without the benchmark are left out."""
    labels = np.array([era_label(int(number)) for number in panel.era_numbers])
    codes = np.unique(panel.eras, return_inverse=True)[1]
    kept = np.ones(len(labels), bool)
    benchmark = None
    if model.benchmark is not None:
        benchmark = _of_rows(references["benchmark"], panel)
        kept[codes[np.isnan(benchmark)]] = False
        without = labels[~kept]
        if not kept.any():
            raise ValueError(
                f"The benchmark {model.benchmark!r} covers none of the {len(kept)} "
                "eras to score. Pass its file of the same release."
            )
        if len(without):
            notes.append(
                f"{len(without)} eras are left out: the benchmark that the model needs "
                f"lacks rows of them (the first is {without[0]})."
            )
    rows, parts = [], []
    for eras in _blocks(np.bincount(codes), kept):
        bar.set_description_str(f"predicting era {labels[eras[0]]}")
        own = np.flatnonzero(np.isin(codes, eras))
        frame = pd.DataFrame(panel.X[own], own, columns=panel.feature_names)
        frame = frame.assign(era=labels[codes[own]])
        beside = None
        if benchmark is not None:
            beside = pd.DataFrame({model.benchmark: benchmark[own]}, own)
        found = model.predict(frame, beside, rank=None)
        rows.append(own)
        parts.append(found.iloc[:, 0].to_numpy())
        bar.update(len(eras))
    return np.concatenate(rows), np.concatenate(parts)


def _blocks(n_rows: NDArray[np.intp], kept: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Yield eras that are predicted at once, as reading a model's trees takes time."""
    block: list[int] = []
    for era in np.flatnonzero(kept).tolist():
        if block and n_rows[[*block, era]].sum() > _MOST_ROWS:
            yield block
            block = []
        block.append(era)
    yield block


def _of_rows(reference: Predictions, panel: EraPanel) -> NDArray[np.float64]:
    import pyarrow as pa

    if panel.ids is None:
        raise ValueError(
            "The files have no ids, so that no predictions can be matched to their "
            "rows. Write them with an index 'id'."
        )
    return reference.at(pa.array(panel.ids, pa.string()))[1]


def _scored(
    model: FittedModel,
    panel: EraPanel,
    rows: NDArray[np.intp],
    raw: NDArray[np.float64],
    references: dict[str, Predictions],
    files: Sequence[Path],
    notes: list[str],
    bar: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores of each era, and their summary."""
    arm = model.record["arm"]
    target, eras = panel.y(model.record["targets"][0])[rows], panel.eras[rows]
    names = pd.MultiIndex.from_tuples([(arm, 0)], names=["arm", "seed"])
    predictions = pd.DataFrame(raw[:, None], columns=names)
    tables = EraTables(target, predictions, eras, bar.set_description_str)
    beside = files[0].parent / "features.json"
    metadata = NumeraiMetadata.read(beside) if beside.exists() else None
    chosen, features, metrics = judged_features(
        metadata, panel, eras[~np.isnan(target)]
    )
    tables.add_features(take(panel.X, rows, features), metrics)
    of = f"the {len(features)} features of {chosen}" if chosen else f"{len(features)}"
    notes.append(
        f"FNC and largest exposure are of {of}{'' if chosen else ' features'}."
    )
    for name, reference in references.items():
        values = _of_rows(reference, panel)[rows]
        values, gaps = without_gaps(name, values, eras, ~np.isnan(target))
        notes += [gaps] if gaps else []
        tables.add_reference(name, values)
    notes += tables.notes
    scores = pd.DataFrame({m: table[arm] for m, table in tables.by_metric.items()})
    corr, other = model.record["weights"]
    for metric in ("mmc", "bmc"):
        if metric in scores and scores[metric].notna().any():
            scores["payout"] = corr * scores["corr"] + other * scores[metric]
            notes.append(f"Payout: {corr:g} CORR + {other:g} {metric.upper()}.")
            break
    overlap = max(1, int(model.record["purge"]))
    summary = {m: _summary(column, overlap) for m, column in scores.items()}
    return scores, pd.DataFrame.from_dict(summary, orient="index").rename_axis("metric")


def _summary(scores: pd.Series[float], overlap: int) -> dict[str, Any]:
    known = scores.dropna()
    interval = None if known.empty else mean_interval(known, overlap=overlap)
    return {
        "mean": np.nan if interval is None else interval.mean,
        "low": np.nan if interval is None else interval.low,
        "high": np.nan if interval is None else interval.high,
        "n_eras": len(known),
        "n_needed": 0 if interval is None else interval.n_needed,
    }
