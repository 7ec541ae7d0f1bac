"""The commands ``prepare``, ``fit``, ``evaluate``, ``predict`` and ``export``."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numerai_features.cli._run import add_experiment
from numerai_features.cli._say import say, say_next, shown
from numerai_features.cli._values import csv, era, positive
from numerai_features.experiment import Experiment, FittedModel

IMAGES = ("3.10", "3.11", "3.12", "3.13", "3.14")  # export imports libraries

_MODEL_HELP = "the folder of a fitted model, such as runs/NAME/models/ARM"


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``prepare``."""
    parser.description = (
        "Make the int8 panel of an experiment's files, which run and fit read. They "
        "make it themselves if it is missing; an unchanged one is reused."
    )
    add_experiment(parser)


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fit``."""
    parser.description = (
        "Fit an arm of an experiment on all eras that have a target. Finished fits are "
        "kept: after Ctrl-C, the same command resumes."
    )
    add_experiment(parser)
    parser.add_argument("--arm", help="the arm (default: the only one that can be)")
    parser.add_argument(
        "--seeds",
        type=positive,
        metavar="N",
        help="number of seeds, whose predictions are averaged (default: the file's)",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="folder of the model (default: models/ARM in the experiment's folder)",
    )


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``evaluate``."""
    parser.description = (
        "Score a fitted model on resolved eras after its training rows and the purge."
    )
    parser.add_argument("model", help=_MODEL_HELP)
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="FILE", help="parquet files"
    )
    for name, what in (("benchmark", "BMC"), ("meta-model", "MMC")):
        parser.add_argument(
            f"--{name}", nargs="+", metavar="FILE", help=f"its predictions, for {what}"
        )
        parser.add_argument(f"--{name}-column", metavar="NAME", help="its column")
    parser.add_argument(
        "--from-era", type=era, metavar="ERA", help="the first era to score"
    )


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``predict``."""
    parser.description = (
        "Predict live rows, and write the csv that Numerai takes as a submission."
    )
    parser.add_argument("model", help=_MODEL_HELP)
    parser.add_argument(
        "--live", required=True, metavar="FILE", help="the rows, live.parquet"
    )
    _add_benchmark(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=csv,
        default="predictions.csv",
        help="the csv to write (default: predictions.csv)",
    )


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    parser.description = "Write a fitted model as one file for Numerai's model uploads."
    parser.add_argument("model", help=_MODEL_HELP)
    parser.add_argument(
        "--image",
        choices=IMAGES,
        default="3.13",
        help="Python's version of the image that will run it (default: 3.13)",
    )
    parser.add_argument(
        "--trees",
        choices=("library", "numpy"),
        default="library",
        help="what evaluates trees: the image's library, or numpy (default: library)",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        default="model.pkl",
        help="the file to write (default: model.pkl)",
    )
    parser.add_argument(
        "--live", metavar="FILE", help="live.parquet, to check the file on its rows"
    )
    _add_benchmark(parser)


def prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the panel of an experiment."""
    experiment = _read_experiment(arguments)
    from numerai_features.experiment._panel import load_panel

    panel = load_panel(experiment, verbose=not arguments.quiet)
    folder = Path(experiment["data"]["panel"])
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    eras = len(panel.era_numbers)
    say(
        arguments,
        f"{panel.n_rows:,} rows of {eras} eras, {panel.n_features} features, "
        f"{size:.1f} MB, in {folder}",
    )
    return {
        "folder": folder,
        "rows": panel.n_rows,
        "eras": eras,
        "features": panel.n_features,
        "megabytes": size,
    }


def fit(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit an arm of an experiment, or go on."""
    start = time.perf_counter()
    experiment = _read_experiment(arguments)
    model = experiment.fit(
        arguments.arm,
        folder=arguments.output,
        seeds=arguments.seeds,
        verbose=not arguments.quiet,
    )
    say(arguments, f"\n{model}\n\nThe model is in {model.folder}")
    say(arguments, f"{time.perf_counter() - start:.0f} seconds.")
    if files := experiment["data"]["files"]:
        live = shown(Path(files[0]).with_name("live.parquet"))
        say_next(arguments, "predict", shown(model.folder), "--live", live)
    return {"folder": model.folder, **model.record}


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a model on later eras."""
    model = _open(arguments)
    found = model.evaluate(
        arguments.data,
        benchmark=arguments.benchmark,
        meta_model=arguments.meta_model,
        benchmark_column=arguments.benchmark_column,
        meta_model_column=arguments.meta_model_column,
        from_era=arguments.from_era,
        verbose=not arguments.quiet,
    )
    say(arguments, f"\n{found}")
    return {
        "target": found.target,
        "eras": found.scores.index.tolist(),
        "scores": found.summary.to_dict("index"),
        "notes": list(found.notes),
    }


def predict(arguments: argparse.Namespace) -> dict[str, Any]:
    """Predict live rows."""
    model = _open(arguments)
    from numerai_features.experiment._live import notes_on
    from numerai_features.experiment._submission import write_submission

    warnings = notes_on(model, Path(arguments.live))
    for warning in warnings:
        say(arguments, f"Note: {warning}")
    predictions = model.predict(arguments.live, arguments.benchmark)
    file = Path(arguments.output)
    write_submission(predictions, file)
    say(arguments, f"{len(predictions):,} predictions are in {file}")
    more = ("--model", "NAME", "--live", arguments.live, "--dry-run")
    say_next(arguments, "submit", file, *more)
    return {"file": file, "rows": len(predictions), "warnings": warnings}


def export(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write a model as one file, and check it on live rows."""
    model = _open(arguments)
    file = model.export(arguments.output, image=arguments.image, trees=arguments.trees)
    size = file.stat().st_size / 1e6
    say(arguments, f"{file}, {size:.1f} MB, for Python {arguments.image}")
    checked = None
    if arguments.live is not None:
        from numerai_features.export import check_export

        try:
            checked = check_export(file, arguments.live, benchmark=arguments.benchmark)
        except ValueError as error:
            aside = file.with_name(f"{file.name}.failed")
            file.replace(aside)
            raise ValueError(f"{error} The file is kept as {aside}.") from error
        say(arguments, f"Checked as Numerai's server runs it: {checked}")
    version = model.record["version"] or "VERSION"
    more = ("--image", arguments.image, "--data-version", version, "--dry-run")
    say_next(arguments, "submit", file, "--model", "NAME", *more)
    return {
        "file": file,
        "megabytes": size,
        "image": arguments.image,
        "benchmark": model.benchmark,
        "checked": None if checked is None else asdict(checked),
    }


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--benchmark",
        metavar="FILE",
        help="live_benchmark_models.parquet, for a model that needs a benchmark",
    )


def _read_experiment(arguments: argparse.Namespace) -> Experiment:
    # the next lines import libraries, which takes seconds
    say(arguments, f"Reading {arguments.experiment}")
    return Experiment.from_file(arguments.experiment, trusted=arguments.trusted)


def _open(arguments: argparse.Namespace) -> FittedModel:
    say(arguments, f"Reading {arguments.model}")
    return FittedModel.open(arguments.model)
