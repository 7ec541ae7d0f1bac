"""Original features and latents in one table of one type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from inspect import Parameter, signature
from typing import Any

import numpy as np
from sklearn.base import TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import MEMORY, ROWS, Methods, Whole, checked
from numerai_features._bins import N_BINS
from numerai_features._blocks import row_blocks
from numerai_features._cache import fingerprint, open_cache
from numerai_features._compat import (
    BaseComposition,
    StrOptions,
    check_feature_names_in,
)
from numerai_features._frozen import selects_columns
from numerai_features._latents import as_latents
from numerai_features._names import unlike
from numerai_features._residual import read_benchmark
from numerai_features._rows import Rows
from numerai_features._scratch import empty_like
from numerai_features._validation import (
    ERA_COLUMN,
    check_columns,
    check_same_rows,
    check_spread,
    index_of,
    known_numbers,
    named_rows,
    require_target,
    take_eras,
    take_rows,
    with_eras,
)
from numerai_features._whole_fit import whole_fit
from numerai_features.compose._independent import independent_blocks
from numerai_features.compose._reach import extras_of, request_as_wanted, wants
from numerai_features.compose._whole_cells import WholeCells, tell_odd_cell
from numerai_features.encoders import Quantize

_OF_COLUMNS = ("n_features_in_", "feature_names_in_")
_NO_BENCHMARK = {"benchmark": None}
_MOST_CATEGORIES = 128
_LEAST_SHARE = 1e-5  # range / size of a column that has < 100 distinct float32 values


class LatentFeatures(TransformerMixin, BaseComposition):
    """Original features and the latents of one or several embedders.

    Use it as the first step of a Pipeline on frames with eras. It removes the column
    ``era``, passes it to the embedders, and returns a table to train a tree on. With
    `quantize`, each latent is ranked into bins whose edges were learned in `fit`, so
    that the whole table has one byte per cell. It is never copied as floats.

    Parameters
    ----------
    embedders : estimator, list of (str, estimator) or None, default=None
        Transformers of any library, of which clones are fitted. If X is a frame with
        names, they get a frame without the column ``era``: polars if X is, otherwise
        pandas. None means the originals only, as a baseline. If a transformer returns
        a tuple, as PLSRegression does, its first table is used; a sparse table is made
        dense, up to 4 GiB.
    passthrough : bool, default=True
        Whether to keep the original features, before the latents.
    quantize : {None, "int8", "uint8"}, default=None
        None: latents, and so the whole table, are float32. "int8": latents are ranked
        into 5 bins, 0 to 4. "uint8": into `n_bins` bins, 0 to ``n_bins - 1``. For both,
        the originals must be integers of this range. Categories, such as the number
        that `EraAutoencoder` returns with ``output="argmax"``, are not ranked: they
        keep their number.
    n_bins : int, default=255
        Number of bins for ``quantize="uint8"``, 2 to 255. A tree with as many bins
        loses nothing.
    keep_era : bool, default=False
        Whether to return a pandas frame whose first column is ``era``, for a next step
        that removes it. A model that does not know eras would use it as a feature.
    memory : str, path or joblib.Memory, default=None
        Folder that stores each fitted embedder with the latents of its training rows
        (of a joblib.Memory, the folder that its ``clear()`` removes). So a search over
        the parameters of the next step's model fits embedders once per fold, not once
        per candidate. Entries are identified by the embedder's parameters, the contents
        of X, y, eras and weights, and the versions of the libraries. They are checked
        when they are read, but they are pickles: use no folder that others can write
        to.

    Attributes
    ----------
    embedders_ : list of (str, estimator)
        The fitted embedders.
    quantizers_ : list of (Quantize or None)
        The learned edges of each embedder's latents; None without `quantize`.
    categorical_columns_ : list of str
        Names of the columns that are categories, not quantities: of embedders with
        ``n_categories_``, such as `EraAutoencoder`. LightGBM takes them as
        ``categorical_feature`` for a frame with these names.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers seen in fit; None if there were no eras.
    n_features_in_ : int
        Number of features seen in fit, without ``era``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    sklearn.pipeline.FeatureUnion : The same for floats. It converts int8 beside
        float32 to float32, and does not know eras.

    Examples
    --------
    >>> from numerai_features.compose import LatentFeatures
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import FactorAnalysisEmbedder
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           random_state=0)
    >>> latents = LatentFeatures(FactorAnalysisEmbedder(3), quantize="uint8")
    >>> table = latents.fit_transform(panel.to_frame(targets=[]))
    >>> table.shape, table.dtype
    ((800, 23), dtype('uint8'))
    >>> latents.get_feature_names_out()[[0, -1]]
    array(['feature_0000', 'factoranalysisembedder2'], dtype=object)
    """

    __metadata_request__fit = {"eras": True, "benchmark": True}
    __metadata_request__transform = {"eras": True}

    _whole_cells = None  # also in objects that an earlier version fitted

    _parameter_constraints: dict[str, list[Any]] = {
        "embedders": [Methods(["fit", "transform"]), list, None],
        "passthrough": ["boolean"],
        "quantize": [StrOptions({"int8", "uint8"}), None],
        "n_bins": [Whole(2, 255)],
        "keep_era": ["boolean"],
        "memory": MEMORY,
    }

    def __init__(
        self,
        embedders=None,
        *,
        passthrough=True,
        quantize=None,
        n_bins=255,
        keep_era=False,
        memory=None,
    ):
        self.embedders = embedders
        self.passthrough = passthrough
        self.quantize = quantize
        self.n_bins = n_bins
        self.keep_era = keep_era
        self.memory = memory

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, eras=None, sample_weight=None, benchmark=None):
        """Fit every embedder, and the bins of its latents.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The column ``era`` of a frame is removed, and used as `eras`.
        y : array-like, default=None
            Targets, for supervised embedders.
        eras : array-like of shape (n_rows,), default=None
            Era labels, which are passed to the embedders that accept them.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights, which are passed to the embedders that accept them, and used for
            the bins of `quantize`. It is an error if nothing that is fitted uses them.
            They are ignored if nothing is fitted: no embedders, or frozen ones, and no
            bins.
        benchmark : array-like of shape (n_rows,) or frame, default=None
            Predictions of a benchmark, which are passed to the embedders that accept
            them, such as `SupervisedAEMLP`; it is an error if none does. A Series or a
            whole file of Numerai's is matched by id if `X`, `y` or `eras` has ids.

        Returns
        -------
        self
        """
        self._fit(X, y, eras, sample_weight, benchmark, keep=False)
        return self

    def transform(self, X, *, eras=None):
        """Return the original features and the latents.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit. If these were integers, NaN in floats is filled (with 2
            in columns of bins 0 to 4, otherwise with the median of fit), and floats are
            cast to the type of fit, unless an embedder has ``missing="raise"``.
        eras : array-like of shape (n_rows,), default=None
            Era labels, which are passed to the embedders that accept them.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out)
            float32, or the type of `quantize`. Without embedders and `quantize`, the
            originals unchanged (the caller's memory). A pandas frame if
            ``keep_era=True``.
        """
        check_is_fitted(self)
        rows = Rows.read(self, X, None, eras, reset=False)
        restored = self._restored(rows.X)
        table = self._table(restored, self._in_blocks(rows, restored, X))
        return self._with_era(table, X, eras)

    def transform_to(self, panel, path, *, overwrite=False):
        """Write the latents of a panel's rows to a panel of their own.

        Its features are the latents that `transform` returns behind the originals, to
        the bit, and its rows those of `panel`, with eras and ids. It has no targets:
        `EraPanel.with_latents` puts the latents beside the originals, with the targets
        of these, which `EraPanel.update` fills in as they are resolved.

        Of rows that a cross-fitted embedder was fitted on, these are not the latents to
        train on: `fit_transform` returns those.

        The latents are written in blocks of rows, and the folder appears when they are
        complete. A run that was stopped goes on where it was if it is started again,
        with the same panel, the same fitted state and the same versions of the
        libraries; otherwise it starts anew. What it has written until then lies beside
        `path`, as ``.NAME.unfinished``. Embedders of other libraries than this one and
        scikit-learn get all rows at once, because their latents may depend on them.

        Parameters
        ----------
        panel : EraPanel
            The features of fit.
        path : str or path-like
            Folder to create.
        overwrite : bool, default=False
            Whether to replace a panel at `path`. A folder with files other than a
            panel's is never replaced.

        Returns
        -------
        EraPanel
            The panel of latents, opened: int8 or uint8, as `quantize` says.
            ``info["latents"]`` tells how they were made.

        Raises
        ------
        BlockingIOError
            If another process is writing to `path`.
        FileExistsError
            If something exists at `path` that must not be replaced.
        OSError
            If the disk has too little free space.
        ValueError
            If `quantize` is None, there are no embedders, or the panel has other
            features than fit.
        """
        from numerai_features.compose._transform_to import write_latents

        check_is_fitted(self)
        return write_latents(self, panel, path, overwrite=overwrite)

    def _in_blocks(self, rows, X, frame):
        """Yield blocks of checked rows, and their latents, an array per embedder.

        X are the rows with missing cells restored, and `frame` is the caller's table.
        """
        names = rows.feature_names
        came = whole = rows.X, named_rows(rows.X, names, frame)
        if X is not rows.X:
            whole = X, named_rows(X, names, frame, changed=True)
        labels = rows.era_labels
        for block in independent_blocks(self.embedders_, rows.n_rows, rows.eras):
            every = block == slice(0, rows.n_rows)
            eras = None if labels is None else labels[block]
            found = []
            fitted = zip(self.embedders_, self.quantizers_, strict=True)
            for (name, embedder), bins in fitted:
                table = _as_fitted(
                    embedder, *(came if refuses_nan(embedder) else whole)
                )
                table = table if every else take_rows(table, block)
                with _telling_whose(name, table):
                    latents = _call(embedder.transform, table, eras=eras)
                latents = self._checked(name, latents, block)
                found.append(_quantize(latents, bins, self._fitted_with.quantize))
            yield block, found

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_transform(
        self, X, y=None, *, eras=None, sample_weight=None, benchmark=None
    ):
        """Fit, and return originals and the embedders' ``fit_transform``.

        For a supervised embedder with cross-fitting, ``fit_transform`` differs from
        ``fit`` followed by ``transform``. Train on the result of ``fit_transform``.

        Parameters
        ----------
        X, y, eras, sample_weight, benchmark
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out)
            As in `transform`.
        """
        return self._fit(X, y, eras, sample_weight, benchmark, keep=True)

    @checked(input_features=[ROWS, None])
    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the originals, if fit saw none.

        Returns
        -------
        ndarray of shape (n_features_out,), object
            Names of the originals, followed by those of the embedders. The latter have
            the embedder's name and ``__`` as a prefix if `embedders` is a list, or if
            one of the names is taken. All names are unique, and only the column of eras
            is called ``era``.
        """
        check_is_fitted(self)
        if input_features is not None:  # a ColumnTransformer names the era too
            input_features = [n for n in input_features if n != ERA_COLUMN]
        return np.asarray(self._columns(input_features)[0], dtype=object)

    @property
    def categorical_columns_(self):
        """Names of the columns that are categories."""
        check_is_fitted(self)
        names, counts = self._columns(None)
        return [name for name, count in zip(names, counts, strict=True) if count]

    def _columns(self, input_features):
        """Return the columns' names and numbers of categories; 0 of a quantity."""
        originals = check_feature_names_in(self, input_features)
        _check_unique(originals)
        known = self._fitted_with
        before = [ERA_COLUMN] if known.keep_era else []
        before += list(originals) if known.passthrough else []
        names, counts = self._columns_of_latents(originals, before)
        return [*before, *names], [*[0] * len(before), *counts]

    def _columns_of_latents(self, originals, before):
        """Return the same of the latents alone; `before` are names that are taken."""
        names: list[str] = []
        counts: list[int] = []
        for name, embedder in self.embedders_:
            with _telling_whose(name):
                own = embedder.get_feature_names_out(originals)
            always = isinstance(self._fitted_with.embedders, list)
            taken = [ERA_COLUMN, *before, *names]
            names += unlike(taken, own, name, always=always)
            found = _categories(embedder)
            counts += [0] * len(own) if found is None else list(found)
        return names, counts

    def get_params(self, deep=True):
        """Return the parameters, including those of the embedders.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parameters of the embedders.

        Returns
        -------
        dict
        """
        if isinstance(self.embedders, list):
            return self._get_params("embedders", deep=deep)
        return super().get_params(deep=deep)

    def set_params(self, **params):
        """Set parameters, also of the embedders (``fa__n_components``).

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self
        """
        if isinstance(self.embedders, list):
            return self._set_params("embedders", **params)
        return super().set_params(**params)

    def get_metadata_routing(self):
        """Return which metadata `fit` and `transform` request.

        Returns
        -------
        MetadataRequest
            A benchmark is requested if an embedder uses it.
        """
        return request_as_wanted(self, super().get_metadata_routing(), {"fit": "fit"})

    def _wants(self, extra, method="fit"):
        """Whether a method uses an extra argument."""
        if extra != "benchmark":
            return extra in extras_of(getattr(self, method))
        embedders = self.embedders
        if not isinstance(embedders, list):
            embedders = [("", embedders)]
        return method == "fit" and any(wants(e, extra) for _, e in embedders)

    def _fit(self, X, y, eras, sample_weight, benchmark, *, keep):
        """Fit; return the table if `keep`."""
        frame, given = X, eras
        embedders = self._list_embedders()
        check_same_rows(X=X, y=y, eras=eras, sample_weight=sample_weight)
        rows = Rows.read(self, X, None, eras, sample_weight)
        if self.quantize is None:  # the bins of quantize are computed with weights
            _check_weights(embedders, rows.weights)
        X, named = rows.X, named_rows(rows.X, rows.feature_names, frame)
        if self.passthrough and self.quantize is None and embedders:
            _check_originals(X)
        self.fitted_eras_ = known_numbers(rows.eras)
        self._whole_cells = WholeCells.of(X)
        if benchmark is not None:
            _check_wanted(embedders)
            benchmark = read_benchmark(benchmark, rows.n_rows, X=frame, y=y, eras=given)
        extras = {
            "eras": rows.era_labels,
            "sample_weight": rows.weights,
            "benchmark": benchmark,
        }
        cache = open_cache(self.memory)
        names = None if rows.feature_names is None else list(rows.feature_names)
        key = "" if cache is None else fingerprint(X, names, y, *extras.values())
        self.embedders_, self.quantizers_, blocks = [], [], []
        for name, embedder in embedders:
            embedder = clone(embedder)
            _check_reachable(name, embedder, extras)
            table = _as_fitted(embedder, X, named)
            own = extras if wants(embedder, "benchmark") else extras | _NO_BENCHMARK
            bins = None
            if keep or self.quantize is not None or cache is not None:
                make = partial(_fit_transform, name, embedder, table, y, own)
                if cache is None:
                    embedder, latents = make()
                else:
                    parts = (embedder, key)
                    embedder, latents = cache.recall_object("latents", parts, make)
                latents = self._checked(name, latents, slice(0, rows.n_rows))
                if self.quantize is not None:
                    bins = _learn_bins(
                        latents, self._n_bins, rows.weights, _categories(embedder)
                    )
                if keep:
                    blocks.append(_quantize(latents, bins, self._fitted_with.quantize))
                del latents
            else:
                _fit(name, embedder, table, y, own)
            self.embedders_.append((name, embedder))
            self.quantizers_.append(bins)
        if not keep:
            return None
        table = self._table(X, [(slice(0, rows.n_rows), blocks)])
        return self._with_era(table, frame, given)

    def _restored(self, X):
        """Return rows in the type of fit, if one missing cell made them floats."""
        return X if self._whole_cells is None else self._whole_cells.restore(X)

    @property
    def _n_bins(self):
        return N_BINS if self.quantize == "int8" else self.n_bins

    def _list_embedders(self):
        """Check the embedders, and return them with their names."""
        if self.embedders is None:
            if not self.passthrough:
                raise ValueError(
                    "embedders=None and passthrough=False leave no columns. Pass an "
                    "embedder, or passthrough=True for the originals alone."
                )
            return []
        if not isinstance(self.embedders, list):
            return [(type(self.embedders).__name__.lower(), self.embedders)]
        if not self.embedders:
            raise ValueError(
                "embedders is an empty list; pass None for the originals alone."
            )
        for item in self.embedders:
            if not (isinstance(item, tuple) and len(item) == 2):
                raise ValueError(
                    "embedders must be an estimator or a list of (name, estimator); "
                    f"it holds {item!r}."
                )
        self._validate_names([name for name, _ in self.embedders])
        for name, estimator in self.embedders:
            if not Methods(["fit", "transform"]).is_satisfied_by(estimator):
                raise TypeError(
                    f"embedders: {name!r} must have fit and transform; got "
                    f"{type(estimator).__name__}."
                )
        return self.embedders

    def _checked(self, name, returned, rows):
        """Check the result of an embedder for a slice of rows; return it as latents."""
        latents = as_latents(returned, f"embedders: {name!r}")
        n_rows = rows.stop - rows.start
        if len(latents) != n_rows:
            raise ValueError(
                f"embedders: {name!r} returned {len(latents)} rows for {n_rows} of X; "
                "expected as many, in their order."
            )
        if latents.dtype.kind == "f" and np.isinf(latents).any():
            raise ValueError(
                f"embedders: {name!r} returned infinity in row "
                f"{rows.start + int(np.isinf(latents).any(axis=1).argmax())} of X. "
                "Its rows may not "
                "be on the scale of those of fit."
            )
        if self._fitted_with.quantize is not None and np.isnan(latents).any():
            raise ValueError(
                f"quantize cannot rank NaN, which the embedder {name!r} returned. Fill "
                "missing cells ahead of it."
            )
        return latents

    def _table(self, X, parts):
        """Return the originals and the latents of blocks of rows in one array."""
        known = self._fitted_with
        if not self.embedders_ and known.quantize is None:
            return X
        n_kept = X.shape[1] if known.passthrough else 0
        table = None
        for rows, blocks in parts:
            if table is None:  # the first block tells how many latents there are
                width = n_kept + sum(block.shape[1] for block in blocks)
                table = empty_like(X, (len(X), width), known.quantize or np.float32)
            start = n_kept
            for block in blocks:
                table[rows, start : start + block.shape[1]] = block
                start += block.shape[1]
        if known.passthrough:
            self._copy_originals(X, table)
        return table

    def _copy_originals(self, X, table):
        if table.dtype.kind != "f" and X.dtype.kind not in "iub":
            raise ValueError(
                f"quantize={table.dtype.name!r} keeps originals in one byte a cell, "
                f"but X is {X.dtype}{tell_odd_cell(X, table.dtype)}. Cast bins to int8 "
                "(fill NaN with 2 first), or use quantize=None or passthrough=False."
            )
        bounds = None if table.dtype.kind == "f" else np.iinfo(table.dtype)
        for rows in row_blocks(*X.shape):
            block = X[rows]
            if bounds is not None and block.dtype != table.dtype:
                low, high = int(block.min()), int(block.max())
                if low < bounds.min or high > bounds.max:
                    raise ValueError(
                        f"quantize={table.dtype.name!r} holds {bounds.min} to "
                        f"{bounds.max}, but X has values from {low} to {high}. Shift "
                        "the features, or use quantize=None."
                    )
            table[rows, : X.shape[1]] = block

    def _with_era(self, table, frame, eras):
        """Insert the column of eras, if it is to be kept."""
        if not self._fitted_with.keep_era:
            return table
        import pandas as pd

        _, eras = take_eras(frame, eras)
        if eras is None:
            raise ValueError(
                "keep_era=True needs eras: pass eras=, or a frame with the column "
                "'era'."
            )
        names = self.get_feature_names_out()[1:]
        out = pd.DataFrame(table, columns=names, index=index_of(frame))
        if table.dtype.kind == "f":
            out = out.astype(dict.fromkeys(self.categorical_columns_, np.int8))
        return with_eras(out, eras)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        embedders = self.embedders
        if not isinstance(embedders, list):
            embedders = [] if embedders is None else [("", embedders)]
        theirs = [get_tags(embedder) for _, embedder in embedders]
        tags.input_tags.allow_nan = all(t.input_tags.allow_nan for t in theirs)
        tags.target_tags.required = any(
            get_tags(embedder).target_tags.required
            for _, embedder in embedders
            if not isinstance(embedder, FrozenEstimator)
        )
        tags.transformer_tags.preserves_dtype = []
        return tags


def _check_originals(X):
    """Raise if a column becomes constant in float32, the type of the table."""
    if X.dtype == np.float32 or X.dtype.itemsize <= 2:
        return
    low, high = check_spread(X)
    lost = (low < high) & (high - low < _LEAST_SHARE * np.fmax(-low, high))
    if lost.any():
        j = int(lost.argmax())
        raise ValueError(
            f"X runs from {low[j]:.8g} to {high[j]:.8g} in column {j}, which float32 "
            "does not tell apart: originals are kept in it beside latents. Subtract "
            "the column's mean, leave it out, or use passthrough=False."
        )


@contextmanager
def _telling_whose(name: str, table: Any = None) -> Iterator[None]:
    """Add a note to an error: which embedder raised it, and for what table."""
    try:
        yield
    except Exception as error:
        note = f"It came out of the embedder {name!r} of LatentFeatures"
        if table is not None:
            kind = type(table).__name__
            note += f", which was handed a {kind} of shape {table.shape}"
        error.add_note(f"{note}.")
        raise


@contextmanager
def _telling_of_y(embedder: Any, y: Any) -> Iterator[None]:
    """Raise a clear error if a fit that requires y fails because y is None.

    The tags of PLSRegression do not say that it requires a target, and a Pipeline does
    not pass on such tags. A fit that requires y but ignores it stays without an error,
    and an error that is not about y stays unchanged.
    """
    try:
        yield
    except Exception as error:
        parts = [embedder, *embedder.get_params(deep=True).values()]
        frozen = any(isinstance(part, FrozenEstimator) for part in parts)
        about_y = y is None and not frozen and re.search(r"\by\b|None", str(error))
        for part in parts if about_y else ():
            if _asks_for_y(part):
                require_target(None, part, "Pass y to LatentFeatures, too.")
        raise


def _asks_for_y(part: Any) -> bool:
    """Whether the fit of an estimator cannot be called without y.

    In scikit-learn 1.6, y of PLSRegression has a default, because it was named Y.
    """
    if isinstance(part, type) or not hasattr(part, "fit"):
        return False
    takes = signature(part.fit).parameters
    return "y" in takes and (takes["y"].default is Parameter.empty or "Y" in takes)


def _fit(name, embedder, X, y, extras):
    with _telling_whose(name, X), _telling_of_y(embedder, y):
        _check_fit(embedder, X, y)
        _call(embedder.fit, X, y, **extras)


def _fit_transform(name, embedder, X, y, extras):
    """Return the fitted embedder, and the latents of its training rows.

    They may differ from the result of `transform`.
    """
    together = getattr(embedder, "fit_transform", None)
    with _telling_whose(name, X), _telling_of_y(embedder, y):
        _check_fit(embedder, X, y)
        if together is not None and extras_of(embedder.fit) <= extras_of(together):
            return embedder, _call(together, X, y, **extras)
        # The fit_transform of TransformerMixin does not pass metadata on.
        _call(embedder.fit, X, y, **extras)
        return embedder, _call(embedder.transform, X, **extras)


def _check_fit(embedder, X, y):
    """Raise if an embedder lacks a target, or a frozen one knows other columns."""
    if isinstance(embedder, FrozenEstimator):
        _check_frozen(embedder, X)
    elif get_tags(embedder).target_tags.required:
        require_target(y, embedder)


def _check_frozen(embedder, X):
    """Raise if a frozen embedder, whose fit checks nothing, knows other columns.

    Embedders that select columns by name find them, and report missing ones.
    """
    if selects_columns(embedder.estimator):
        return
    if any(hasattr(embedder, known) for known in _OF_COLUMNS):
        check_columns(embedder.estimator, X, reset=False)


def _call(method, *args, **extras):
    """Call a method with those extra arguments that it accepts."""
    wanted = extras_of(method)
    return method(*args, **{k: v for k, v in extras.items() if k in wanted})


def _as_fitted(embedder, X, named):
    """Return rows with their names, or without if a frozen embedder saw none."""
    frozen = isinstance(embedder, FrozenEstimator)
    counted = frozen and hasattr(embedder, "n_features_in_")
    return X if counted and not hasattr(embedder, "feature_names_in_") else named


def refuses_nan(embedder: Any) -> bool:
    """Whether an embedder, or a part of it, is set to raise if cells are missing."""
    if not hasattr(embedder, "get_params"):
        return False
    parameters = embedder.get_params().items()
    return any(
        name.split("__")[-1] == "missing" and value == "raise"
        for name, value in parameters
        if isinstance(value, str)
    )


def _check_reachable(name, embedder, extras):
    """Raise if eras or weights are given but would not reach a Pipeline's step."""
    steps = [step for _, step in getattr(embedder, "steps", [])]
    for extra, values in extras.items():
        if values is not None and any(
            wants(step, extra) for step in steps if hasattr(step, "fit")
        ):
            raise ValueError(
                f"embedders: a step of the Pipeline {name!r} takes {extra}, which a "
                "Pipeline does not hand on here. Make LatentFeatures a step of the "
                "Pipeline instead, with that step as its embedder."
            )


def _check_wanted(embedders):
    """Raise if there is a benchmark, but no embedder accepts it."""
    if any(wants(e, "benchmark") for _, e in embedders):
        return
    for name, embedder in embedders:
        _check_reachable(name, embedder, {"benchmark": True})
    kinds = ", ".join(sorted({type(e).__name__ for _, e in embedders})) or "none"
    raise ValueError(
        f"benchmark was passed, but no embedder's fit takes it: {kinds}. Leave it out, "
        "or use an embedder that is trained on what a benchmark leaves, such as "
        "SupervisedAEMLP."
    )


def _check_weights(embedders, weights):
    """Raise if there are weights, but no embedder that is fitted accepts them."""
    fitted = [e for _, e in embedders if not isinstance(e, FrozenEstimator)]
    if weights is None or not fitted:
        return
    if not any("sample_weight" in extras_of(e.fit) for e in fitted):
        kinds = ", ".join(sorted({type(e).__name__ for e in fitted}))
        raise ValueError(
            f"sample_weight was passed, but no embedder's fit takes it: {kinds}. Leave "
            "it out, or use an embedder that takes weights."
        )


def _check_unique(names):
    """Raise if two original features have the same name."""
    if names is not None and len(set(names)) < len(names):
        repeated = next(n for n in names if list(names).count(n) > 1)
        raise ValueError(
            f"X has more than one column {repeated!r}; expected a name for each. "
            "Rename them, or pass an array."
        )


def _categories(embedder):
    """Return the number of categories of each latent, 0 if a quantity; None if all are.

    They are the whole numbers from 0 on.
    """
    while getattr(embedder, "steps", None):  # of a Pipeline, the last one returns them
        embedder = embedder.steps[-1][1]
    counts = getattr(embedder, "n_categories_", None)
    if counts is None or not np.any(counts):
        return None
    if np.max(counts) > _MOST_CATEGORIES:
        raise ValueError(
            f"embedders: n_categories_ of {type(embedder).__name__} is up to "
            f"{np.max(counts)}, but a column of categories is int8, which holds "
            f"{_MOST_CATEGORIES}. Merge some."
        )
    return np.asarray(counts)


def _learn_bins(latents, n_bins, weights, n_categories=None):
    """Return edges that divide each latent into bins of equal weight.

    Of a category the edges are those between its numbers, which it so keeps.
    """
    if n_categories is not None:
        counts = np.where(n_categories > 0, n_categories, n_bins)
        edges = np.full((len(counts), counts.max() - 1), np.inf, latents.dtype)
        if len(quantities := np.flatnonzero(n_categories == 0)):
            learned = _learn_bins(latents[:, quantities], n_bins, weights)
            edges[quantities, : n_bins - 1] = learned.edges
        for j in np.flatnonzero(n_categories).tolist():
            edges[j, : counts[j] - 1] = np.arange(counts[j] - 1) + 0.5
        return Quantize(edges)
    if latents.dtype.kind != "f":
        latents = latents.astype(np.float64)
    weights = np.ones(len(latents)) if weights is None else weights
    cuts = np.arange(1, n_bins) * weights.sum() / n_bins
    edges = np.empty((latents.shape[1], n_bins - 1), latents.dtype)
    for j in range(latents.shape[1]):
        order = np.argsort(latents[:, j])
        ordered = latents[order, j]
        below = np.cumsum(weights[order])
        last = np.searchsorted(below, cuts)
        first = np.searchsorted(below, cuts, side="right")
        first = np.minimum(first, len(ordered) - 1)
        edges[j] = ordered[last] + (ordered[first] - ordered[last]) / 2
    return Quantize(edges)


def _quantize(latents, bins, dtype):
    """Rank latents into bins, one block of rows at a time."""
    if bins is None:
        return latents
    out = np.empty(latents.shape, dtype)
    for rows in row_blocks(*latents.shape):
        out[rows] = bins(latents[rows], np)
    return out
