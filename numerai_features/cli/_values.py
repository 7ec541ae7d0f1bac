"""Values of options that are wrong wherever they are: checked as they are read."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from numerai_features.tournament._download import check_version
from numerai_features.tournament._submit import check_model


def minutes(text: str) -> float:
    """Return a number of minutes."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(
            f"expected a number of minutes, 0 or more; got {text!r}"
        )
    return value


def positive(text: str) -> int:
    """Return a positive whole number."""
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(
            f"expected a positive whole number; got {text!r}"
        )
    return int(text)


def version(text: str) -> str:
    """Return a version of the data."""
    try:
        check_version(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a version of the data, such as v5.3; got {text!r}"
        ) from None
    return text


def model(text: str) -> str:
    """Return what can be the name of a model."""
    try:
        check_model(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            "expected the name of one of your models at https://numer.ai/models; got "
            f"{text!r}"
        ) from None
    return text


def csv(text: str) -> str:
    """Return the name of a csv file to write."""
    if Path(text).suffix != ".csv" or Path(text).is_dir():
        raise argparse.ArgumentTypeError(
            f"{text} is no name of a csv file, such as predictions.csv"
        )
    return text


def era(text: str) -> str:
    """Return the label of an era that has a number."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is no era, such as 1000")
    return text
