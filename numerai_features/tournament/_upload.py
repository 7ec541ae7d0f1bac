"""Upload a model's file, which Numerai then runs each round."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from numerai_features._names import some_names
from numerai_features.tournament import _http
from numerai_features.tournament._check import checksum_of
from numerai_features.tournament._client import Client
from numerai_features.tournament._log import DRY_RUN, SENT
from numerai_features.tournament._submit import check_model

if TYPE_CHECKING:
    from numerai_features.datasets._arguments import PathLike

NO_WAY_BACK = (
    "A model with an uploaded file is run by Numerai each round, and takes no "
    "submissions of yours any more, until you remove the upload at "
    "https://numer.ai/models."
)


@dataclass(frozen=True)
class ModelUpload:
    """A model's file on Numerai's server.

    Parameters
    ----------
    model : str
        Name of the model.
    file : str
    checksum : str
        Of the file.
    size : int
        Bytes.
    image : str
        The server's name for the image that runs it, such as ``"Python 3.13"``.
    data_version : str
        Version of the data that it gets, such as ``"v5.3"``.
    state : str
        ``"sent"``, or ``"not sent"`` for a dry run.
    id : str, default=None
        The server's id of the upload.
    """

    model: str
    file: str
    checksum: str
    size: int
    image: str
    data_version: str
    state: str
    id: str | None = None


def submit_model(
    file: PathLike,
    model: str,
    *,
    image: str = "3.13",
    data_version: str,
    dry_run: bool = False,
    confirmed: bool = False,
    any_pickle: bool = False,
) -> ModelUpload:
    """Upload a model's file, such as `export_predict` writes.

    Parameters
    ----------
    file : path
        A file that ends with ``.pkl``.
    model : str
        Name of one of your models. From then on, it takes no submissions by hand.
    image : str, default="3.13"
        Version of Python of the image that runs it: the one that it was exported for.
    data_version : str
        Version of the data that it was fitted on, such as ``"v5.3"``.
    dry_run : bool, default=False
        Whether to only check everything. Without keys, only the file is checked.
    confirmed : bool, default=False
        Whether you know that the model will take no submissions by hand.
    any_pickle : bool, default=False
        Whether to upload a pickle that `export_predict` has not written. It is not
        opened, so you must know that it runs in the image.

    Returns
    -------
    ModelUpload

    Raises
    ------
    ValueError
        If it is not confirmed, the model is none of yours, the server has no such image
        or version of the data, or the file was not exported for them.
    ServerError
        If the server cannot be reached, or refuses.
    """
    from numerai_features.datasets._arguments import check_flag, check_path

    path = check_path(file, "file")
    check_model(model)
    _check_version(image, "image", "3.13")
    _check_version(data_version, "data_version", "v5.3")
    check_flag(dry_run, "dry_run")
    if not check_flag(confirmed, "confirmed") and not dry_run:
        raise ValueError(
            f"{NO_WAY_BACK} Pass confirmed=True (--yes) to upload to {model!r}."
        )
    _check_file(path)
    if not check_flag(any_pickle, "any_pickle"):
        _check_export(path, image, data_version)
    about = ModelUpload(
        model, str(path), checksum_of(path), path.stat().st_size, image, data_version,
        DRY_RUN,
    )  # fmt: skip
    client = Client()
    if dry_run and not client.has_keys:
        return about
    model_id = client.model_id(model)
    about, image_id = _choose_image(about, client.images())
    data_id = _choose_data(data_version, client.data_versions())
    if dry_run:
        return about
    filename, url = client.model_place(path.name, model_id)
    _http.put(url, path)
    made = client.create_model(filename, model_id, image=image_id, data_version=data_id)
    return replace(about, state=SENT, id=made)


def _check_version(value: object, name: str, example: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"v?\d+(\.\d+)*", value):
        raise ValueError(
            f'{name} must be a version such as "{example}"; got {value!r}.'
        )


def _check_file(file: Path) -> None:
    from numerai_features.datasets._parquet_names import check_file

    check_file(file)
    if file.suffix != ".pkl":
        raise ValueError(
            f"file must end with .pkl, as the command export writes it; got {file}."
        )
    if not file.stat().st_size:
        raise ValueError(f"{file} is empty. Export the model again.")


def _check_export(file: Path, image: str, data_version: str) -> None:
    """Raise if a file was not exported for an image and a version of the data."""
    from numerai_features.export._pickle import read_about

    try:
        about = read_about(file)
    except ValueError as error:
        raise ValueError(
            f"{error} Numerai could not run it. Write the file with the command export "
            "or, if another program has written a pickle that runs there, pass "
            "any_pickle=True (--any-pickle)."
        ) from error
    for name, given, told in (
        ("image", image, about.get("image")),
        ("data_version", data_version, about.get("version")),
    ):
        if told is not None and told.lstrip("v") != given.lstrip("v"):
            raise ValueError(
                f"{name}={given!r}, but {file} was exported for {told!r}. Pass that, "
                "or export a model for the other one."
            )


def _choose_image(
    about: ModelUpload, images: dict[str, str]
) -> tuple[ModelUpload, str]:
    """Return the image of a version of Python, by its name and its id."""
    for name, id_ in images.items():
        if re.search(rf"(?<![\d.]){re.escape(about.image)}(?![\d.])", name):
            return replace(about, image=name), id_
    raise ValueError(
        f"image={about.image!r} is none of Numerai's: {some_names(list(images))}. "
        "Export the model for one of them."
    )


def _choose_data(version: str, versions: dict[str, str]) -> str:
    if version not in versions:
        raise ValueError(
            f"data_version={version!r} is none that Numerai gives to uploaded models: "
            f"{some_names(list(versions))}. Fit the model on one of them."
        )
    return versions[version]
