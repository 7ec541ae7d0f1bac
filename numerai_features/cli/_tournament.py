"""The commands ``download``, ``submit``, ``scores`` and ``weekly``."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from numerai_features.cli._say import note, say, shows_bars
from numerai_features.cli._values import minutes, model, positive, version
from numerai_features.experiment import ExperimentError
from numerai_features.tournament import (
    DownloadedFile,
    ModelUpload,
    Submission,
    download,
    scores,
    submit_model,
    submit_predictions,
    weekly,
)
from numerai_features.tournament._errors import WHEN, NoSuchFile

if TYPE_CHECKING:
    import pandas as pd

_KEYS = (
    "The key of your account is read from the environment variables NUMERAI_PUBLIC_ID "
    "and NUMERAI_SECRET_KEY (or a file .env, if python-dotenv is installed), and is "
    "written nowhere."
)
_STATES = {
    "accepted": "Numerai has accepted it",
    "sent": "Numerai has taken it, but does not list it yet: look at "
    "https://numer.ai/models",
    "sending": "Numerai's answer was lost: run this again",
    "already there": "the round has a submission that was not sent from here",
    "not sent": "a dry run, nothing was sent; without --dry-run it is sent",
}

_NO_ROUND = f"No round is open now, so it could not be sent. {WHEN}."


def add_download_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``download``."""
    parser.description = (
        "Download Numerai's files, as far as they are not here or have changed. A "
        "download that was cut off is resumed. Each file is verified. No key is needed."
    )
    _add_data(parser, "the newest")
    parser.add_argument(
        "--files",
        nargs="+",
        metavar="NAME",
        help="such as live live_benchmark_models (default: features, train, "
        "validation, live, their benchmark models, and meta_model)",
    )
    parser.add_argument(
        "--force", action="store_true", help="download files that have not changed, too"
    )


def add_submit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``submit``."""
    parser.description = (
        "Submit predictions (FILE.csv) for the open round, or upload a model "
        "(FILE.pkl), which Numerai then runs each round. A model with an uploaded file "
        f"takes no submissions by hand any more. {_KEYS}"
    )
    parser.add_argument("file", metavar="FILE", help="a .csv or a .pkl")
    _add_model(parser)
    _add_dry_run(parser, "check everything, and tell what would be sent")
    csv = parser.add_argument_group("predictions (.csv)")
    csv.add_argument("--live", metavar="FILE", help="live.parquet, to compare the ids")
    csv.add_argument(
        "--benchmark",
        metavar="FILE",
        help="live_benchmark_models.parquet, to note the correlations with it",
    )
    csv.add_argument(
        "--force", action="store_true", help="send a csv again that was sent"
    )
    _add_submissions(csv)
    pkl = parser.add_argument_group("a model (.pkl)")
    pkl.add_argument(
        "--image",
        metavar="VERSION",
        help="version of Python that it was exported for (default: 3.13)",
    )
    pkl.add_argument(
        "--data-version",
        type=version,
        metavar="VERSION",
        help="of its data, such as v5.3 (needed)",
    )
    pkl.add_argument(
        "--yes",
        action="store_true",
        help="I know that the model will take no submissions by hand any more",
    )
    pkl.add_argument(
        "--any-pickle",
        action="store_true",
        help="upload a pickle that the command export has not written",
    )


def add_scores_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``scores``."""
    parser.description = (
        "Show Numerai's scores of your models, round by round, beside what was "
        f"submitted from here. {_KEYS}"
    )
    parser.add_argument(
        "--model",
        type=model,
        action="append",
        metavar="NAME",
        help="one of your models; may be repeated (default: all)",
    )
    parser.add_argument(
        "--rounds", type=positive, default=20, help="how many of the last (default: 20)"
    )
    _add_submissions(parser)


def add_weekly_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``weekly``."""
    parser.description = (
        "Wait for a round, download its live rows, predict them with a fitted model, "
        "and submit. A round that has a submission is left alone: run this as often as "
        f"you like. {_KEYS}"
    )
    parser.add_argument("fitted", metavar="FOLDER", help="folder of a fitted model")
    _add_model(parser)
    _add_data(parser, "that of the model's fit")
    _add_submissions(parser)
    parser.add_argument(
        "--wait",
        type=minutes,
        default=60.0,
        metavar="MINUTES",
        help="how long to wait for a round and its data (default: 60)",
    )
    _add_dry_run(parser, "do all but submit")
    parser.add_argument(
        "--force", action="store_true", help="submit though the round has a submission"
    )


def run_download(arguments: argparse.Namespace) -> dict[str, Any]:
    """Download Numerai's files."""
    try:
        files = download(
            arguments.data,
            version=arguments.version,
            files=arguments.files,
            force=arguments.force,
            verbose=shows_bars(arguments),
        )
    except NoSuchFile as error:
        raise ExperimentError(f"--{error}") from error
    for file in files:
        say(arguments, _tell_file(file))
    return {"files": [asdict(file) for file in files]}


def run_submit(arguments: argparse.Namespace) -> dict[str, Any]:
    """Submit predictions, or upload a model."""
    if arguments.file.lower().endswith(".csv"):
        _refuse(arguments, ("image", "data_version", "yes", "any_pickle"), "a .pkl")
        sent = submit_predictions(
            arguments.file,
            arguments.model,
            live=arguments.live,
            benchmark=arguments.benchmark,
            submissions=arguments.submissions,
            dry_run=arguments.dry_run,
            force=arguments.force,
        )
        say(arguments, _tell(sent))
        if not arguments.live:
            say(arguments, "The ids were not compared: pass --live live.parquet.")
        _tell_keys(arguments)
        return asdict(sent)
    if not arguments.file.lower().endswith(".pkl"):
        raise ExperimentError(
            f"FILE must end with .csv or .pkl; got {arguments.file!r}."
        )
    _refuse(arguments, ("live", "benchmark", "force"), "a .csv")
    if arguments.data_version is None:
        raise ExperimentError(
            "--data-version is needed: the version of the data that the model was "
            "fitted on, such as v5.3."
        )
    uploaded = submit_model(
        arguments.file,
        arguments.model,
        image=arguments.image or "3.13",
        data_version=arguments.data_version,
        dry_run=arguments.dry_run,
        confirmed=arguments.yes,
        any_pickle=arguments.any_pickle,
    )
    say(arguments, _tell_upload(uploaded))
    _tell_keys(arguments)
    return asdict(uploaded)


def run_scores(arguments: argparse.Namespace) -> dict[str, Any]:
    """Show the scores of the user's models."""
    table = scores(
        arguments.model, rounds=arguments.rounds, folder=arguments.submissions
    )
    say(arguments, _tell_scores(table))
    return {"scores": table.reset_index().to_dict("records")}


def run_weekly(arguments: argparse.Namespace) -> dict[str, Any]:
    """Predict the open round, and submit."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            sent = _weekly(arguments)
    finally:  # also where an error ends it
        notes = [str(each.message) for each in caught]
        for text in notes:
            note(text)
    say(arguments, _tell(sent))
    _tell_keys(arguments)
    return {**asdict(sent), "warnings": notes}


def _weekly(arguments: argparse.Namespace) -> Submission:
    return weekly(
        arguments.fitted,
        arguments.model,
        folder=arguments.data,
        submissions=arguments.submissions,
        version=arguments.version,
        wait=60 * arguments.wait,
        dry_run=arguments.dry_run,
        force=arguments.force,
        verbose=shows_bars(arguments),
    )


def _add_data(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--data",
        default="data",
        metavar="FOLDER",
        help="the files are in FOLDER/VERSION (default: data)",
    )
    parser.add_argument(
        "--version",
        type=version,
        metavar="VERSION",
        help=f"such as v5.3 (default: {default})",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=model,
        required=True,
        metavar="NAME",
        help="one of your models at Numerai",
    )


def _add_submissions(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--submissions",
        default="submissions",
        metavar="FOLDER",
        help="where the log of what was sent is, a folder for each model (default: "
        "submissions)",
    )


def _add_dry_run(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--dry-run", action="store_true", help=what)


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], what: str) -> None:
    """Raise for an option that is of the other kind of file."""
    for name in names:
        if getattr(arguments, name):
            option = "--" + name.replace("_", "-")
            raise ExperimentError(
                f"{option} is for {what}; FILE is {arguments.file!r}. Leave it out."
            )


def _tell_file(file: DownloadedFile) -> str:
    from numerai_features.tournament._fetch import size_text

    rows = "" if file.rows is None else f", {file.rows:,} rows"
    news = "new" if file.is_new else "unchanged"
    return f"{file.path}: {news}, {size_text(file.size)}{rows}"


def _tell(sent: Submission) -> str:
    """Tell what was sent, to which model, and what became of it."""
    number = "no round is open" if sent.round is None else f"round {sent.round}"
    head = f"{number}, model {sent.model}: {_STATES[sent.state]}."
    if sent.round is None:  # only a dry run gets here
        head = f"a dry run, nothing was sent to model {sent.model}. {_NO_ROUND}"
    if sent.state == "accepted" and not sent.is_new:
        head = f"{number}, model {sent.model}: nothing to do; sent at {sent.sent_at}."
    lines = [head[0].upper() + head[1:]]
    if sent.file:
        lines.append(f"{sent.file}: {sent.rows:,} rows, checksum {sent.checksum}")
    found = sent.benchmark or {}
    lines += [f"Correlation with {name}: {r:.3f}" for name, r in found.items()]
    return "\n".join(lines)


def _tell_keys(arguments: argparse.Namespace) -> None:
    """Tell what a dry run without keys could not check."""
    from numerai_features.tournament._keys import WHERE, read_keys

    if arguments.dry_run and read_keys() is None:
        say(arguments, f"The model was not looked up, as no key is set. {WHERE}")


def _tell_upload(sent: ModelUpload) -> str:
    from numerai_features.tournament._fetch import size_text
    from numerai_features.tournament._upload import NO_WAY_BACK

    about = (
        f"{sent.file}, {size_text(sent.size)}, to model {sent.model}, to run with "
        f"{sent.image} and data {sent.data_version}"
    )
    if sent.id is None:
        return f"A dry run, nothing was sent. It would upload {about}.\n{NO_WAY_BACK}"
    return (
        f"Uploaded {about}. Numerai checks it now: see https://numer.ai/models.\n"
        f"{NO_WAY_BACK}"
    )


def _tell_scores(table: pd.DataFrame) -> str:
    if table.empty:
        return "No scores yet: they come some days after a round has closed."
    shown = table.drop(columns="checksum", errors="ignore")
    return str(shown.to_string(na_rep="-", float_format="{:.4f}".format))
