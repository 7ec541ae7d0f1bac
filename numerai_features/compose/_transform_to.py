"""Writing the latents of a panel's rows to a folder of their own."""

from __future__ import annotations

import pickle
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._bins import N_BINS
from numerai_features._cache import fingerprint, versions
from numerai_features._eras import encode_eras, era_label
from numerai_features._names import some_names
from numerai_features._rows import Rows
from numerai_features.compose._independent import independent_blocks
from numerai_features.datasets import EraPanel
from numerai_features.datasets._panel_features import panel_key, write_features

if TYPE_CHECKING:
    from numerai_features.datasets._arguments import PathLike


def write_latents(
    latents: Any, panel: EraPanel, path: PathLike, *, overwrite: bool
) -> EraPanel:
    """Write quantised latents; see `LatentFeatures.transform_to`."""
    known = latents._fitted_with
    _check(latents, panel)

    def read(block: slice) -> tuple[Rows, Any]:
        table, eras = panel.as_X()[block], None
        if not hasattr(latents, "feature_names_in_"):  # it would warn of names
            table, eras = np.asarray(table), panel.eras[block]
        return Rows.read(latents, table, None, eras, reset=False), table

    def make(block: slice) -> NDArray[Any]:
        rows, table = read(block)
        [(_, found)] = latents._in_blocks(rows, rows.X, table)
        return np.hstack(found)

    read(slice(0, 1))  # raises if the panel has other features than fit
    originals = panel.feature_names
    names, counts = latents._columns_of_latents(np.array(originals, object), originals)
    _check_bins(names, counts, known.quantize)
    eras = encode_eras(panel.eras)
    blocks = list(independent_blocks(latents.embedders_, panel.n_rows, eras))
    about = {
        "embedders": [name for name, _ in latents.embedders_],
        "quantize": known.quantize,
        "categorical_columns": [n for n, c in zip(names, counts, strict=True) if c],
    }
    if latents.fitted_eras_ is not None and len(latents.fitted_eras_):
        ends = latents.fitted_eras_[[0, -1]].tolist()
        about["fitted_eras"] = [era_label(number) for number in ends]
    return write_features(
        panel,
        path,
        make,
        feature_names=names,
        dtype=known.quantize,
        blocks=blocks,
        key=fingerprint(
            _state_of(latents),
            names,
            known.quantize,
            [(block.start, block.stop) for block in blocks],
            panel_key(panel),
            versions(),
        ),
        info={"latents": about},
        overwrite=overwrite,
    )


def _check(latents: Any, panel: Any) -> None:
    if not isinstance(panel, EraPanel):
        raise TypeError(
            f"panel must be an EraPanel; got {type(panel).__name__}. Use transform for "
            "other tables."
        )
    if latents._fitted_with.quantize is None:
        raise ValueError(
            "transform_to writes one byte a cell, but quantize is None. Set "
            "quantize='uint8' or 'int8', and fit again."
        )
    if not latents.embedders_:
        raise ValueError("embedders is None: there are no latents to write. Pass one.")


def _check_bins(names: list[str], counts: list[int], quantize: str) -> None:
    """Raise if categories are no bins: a panel of int8 holds bins 0 to 4."""
    many = [n for n, c in zip(names, counts, strict=True) if c > N_BINS]
    if quantize == "int8" and many:
        raise ValueError(
            f"quantize is 'int8', but the categories of {some_names(many)} are more "
            f"than the {N_BINS} bins of an int8 panel. Set quantize='uint8', and fit "
            "again."
        )


def _state_of(latents: Any) -> Any:
    """Return what the latents depend on, in a form that survives pickling.

    What cannot be pickled cannot be compared: it never equals that of another run.
    """
    state = latents.embedders_, latents.quantizers_
    try:
        # Once: a pickle may change the memory order of an array, and so its hash.
        return pickle.loads(pickle.dumps(state))
    except (pickle.PicklingError, AttributeError, TypeError):
        return secrets.token_hex()
