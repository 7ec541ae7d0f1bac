"""A transformer whose sequence is an era: rows look at the other rows of their era."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.metaestimators import available_if

from numerai_features._arguments import (
    ANY_ACTIVATION,
    COUNT,
    NOT_NEGATIVE,
    WIDTH,
    Finite,
)
from numerai_features._compat import StrOptions
from numerai_features._residual import read_benchmark
from numerai_features._rows import Rows
from numerai_features._validation import fill_missing, require_eras
from numerai_features._warn import warn
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._cells import bin_edges
from numerai_features.embedders._encode import encode
from numerai_features.embedders._era_network import EraNetwork, check_no_targets
from numerai_features.embedders._network import NetworkEmbedder


def _known(net: Any) -> Any:
    """Return the parameters of the fit, or those to fit with."""
    return getattr(net, "_fitted_with", net)


def _tells_cells(net: Any) -> bool:
    if _known(net).objective == "targets":
        raise AttributeError(
            "EraTransformer was trained with objective='targets': it restores no "
            "cells. Use objective='both' or 'cells'."
        )
    return True


class EraTransformer(EraNetwork):
    r"""Latent features of a row beside the other rows of its era.

    An era is one sequence, whose tokens are its rows. In each block of the network, a
    row attends to all rows of its era (pre-norm transformer [1]_), so its latents
    depend on what kind of era it is in, and on nothing else: not on other eras, and
    not on the order of rows. AdamW minimises the sum of

    - "cells": the mean squared error of masked cells, in standardised columns, restored
      linearly from the latents (`MaskedAutoencoder` does so for rows alone);
    - "targets": the loss of the targets, predicted linearly from the latents of whole
      rows;
    - `orthogonality` times the mean squared correlation between different latents.

    Eras of any sizes are trained on without padding. There is no batch normalisation:
    latents are what the training used. `transform` and `predict` need the eras that
    `fit` had, and all rows of an era in one call.

    With ``tokens="features"``, the sequence is a row instead, whose tokens are groups
    of its features, and its latents depend on that row alone.

    Parameters
    ----------
    n_components : int, default=None
        Number of latents; None means ``min(30, n_features)``.
    width : int, default=64
        Numbers in a token, a multiple of `n_heads`.
    n_layers : int, default=2
        Number of blocks: attention, and two layers for each token.
    n_heads : int, default=4
        Heads of the attention.
    attention : {"linear", "full", "induced"}, default="linear"
        "full": each token attends to each by a softmax, in time quadratic in the number
        of tokens. "linear" [2]_: a kernel takes the place of the softmax, so that time
        and memory are linear. "induced" [3]_: tokens attend to `n_inducing` learned
        points, which attend to all tokens; linear, too.
    n_inducing : int, default=32
        Number of the points of "induced".
    tokens : {"rows", "features"}, default="rows"
        What a token is: a row of an era, or a group of features of a row. The cell of a
        feature is cut into five bins, each with a learned vector; a token is the sum of
        its features' vectors.
    n_groups : int, default=32
        Number of groups of neighbouring columns for "features", at most `n_features`.
    positional : bool, default=False
        Whether sinusoids of a row's place in its era are added to its token. Then the
        order of rows matters.
    objective : {"both", "cells", "targets"}, default="both"
        What is told. "cells" needs no y, and does not predict. Otherwise eras without
        any known target are left out; rows without one are part of their era, but not
        of the loss of the targets.
    mask_share : float, default=0.3
        Probability that a cell is masked, from 1/64 on and below 1.
    loss : {"mse", "corr", "numerai_corr"}, default="mse"
        Loss of the targets: squared error of standardised targets, or one minus the
        correlation within an era, as in `EraMLP`. Not with ``objective="cells"``.
    orthogonality : float, default=0.0
        Weight of the mean squared correlation between different latents over the rows
        of a batch.
    activation : str, default="silu"
        Activation of the layers of a token: "silu", "relu", "tanh", "sigmoid",
        "hardswish" or "identity".
    dropout : float, default=0.1
        Dropout rate of what attention and layers add to a token.
    eras_per_batch : int, default=1
        Largest number of eras in a batch. Without eras, batches of random rows take
        the place of eras in training.
    target_weights : array-like of shape (n_targets,), default=None
        Weights of the targets in `predict` and `score`; None: equal weights. Not with
        ``objective="cells"``.
    cross_fit : int or splitter, default=None
        Makes `fit_transform` give each row the latents of a network that was not
        trained on its era or the eras around it. An int is the number of blocks of
        eras, one network each (`EraKFold`, purged by the longest horizon in the names
        of y, as in ``target_ender_60``, else by 16 eras). A splitter has one network
        for each fold.
    monitor : {"valid_loss", "valid_corr"}, default="valid_loss"
        Held-out metric that selects the best epoch: the loss, or the mean over eras of
        its CORR with the first target.
    n_models : int, default=1
        Number of networks, each with its own seed. Their latents are concatenated,
        their predictions averaged.

    Attributes
    ----------
    predictor_ : Encoder
        The encoder that `predict_targets` runs; not with ``objective="cells"``.
    decoders_ : list of Encoder
        One for each network, from its latents to the features; not with
        ``objective="targets"``.
    target_names_ : list of str or None
        Names of the columns of y, if it has any; not with ``objective="cells"``.
    n_targets_ : int
        Number of targets; not with ``objective="cells"``.
    n_components_ : int
        The resolved number of latents of one network.
    n_eras_left_out_ : int
        Number of eras, of the last call's, that a correlation could not be trained on;
        not with ``objective="cells"``.
    mean_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of each column over the training rows. The deviation
        is 0 for a constant column; columns of int8 bins share one.

    See Also
    --------
    EraMLP : Each row alone, trained on whole eras.
    EraStatistics : Means and deviations over an era.
    MaskedAutoencoder : Masked cells of rows alone.

    Notes
    -----
    Unless ``objective="cells"``, latents of training rows depend on those rows'
    targets, so a model fitted on these latents overfits; ``cross_fit=5`` prevents it.

    It is trained in one process: under ``torchrun`` it raises.

    References
    ----------
    .. [1] Vaswani, A., et al. (2017). Attention is all you need. NeurIPS 30.
    .. [2] Katharopoulos, A., Vyas, A., Pappas, N., Fleuret, F. (2020). Transformers are
       RNNs: fast autoregressive transformers with linear attention. ICML.
    .. [3] Lee, J., et al. (2019). Set transformer: a framework for attention-based
       permutation-invariant neural networks. ICML.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import EraTransformer
    >>> panel = make_era_panel(n_eras=30, rows_per_era=50, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> net = EraTransformer(4, width=16, max_epochs=3, random_state=0)
    >>> net = net.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras)
    >>> net.transform(panel.X, eras=panel.eras).shape
    (1500, 4)
    >>> net.predict(panel.X, eras=panel.eras).shape
    (1500,)
    """

    n_components: int | None = field(default=None, kw_only=False)
    width: int = 64
    n_layers: int = 2
    n_heads: int = 4
    attention: str = "linear"
    n_inducing: int = 32
    tokens: str = "rows"
    n_groups: int = 32
    positional: bool = False
    objective: str = "both"
    mask_share: float = 0.3
    loss: str = "mse"
    orthogonality: float = 0.0
    activation: str = "silu"
    dropout: float = 0.1
    eras_per_batch: int = 1
    target_weights: Any = None
    cross_fit: Any = None
    monitor: str = "valid_loss"
    batching: ClassVar[str] = "era"  # type: ignore[misc]  # a constant here
    batch_size: ClassVar[str] = "auto"  # type: ignore[misc]  # if there are no eras
    learning_rate: float = 0.001

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [COUNT, None],
        "width": [WIDTH],
        "n_layers": [COUNT],
        "n_heads": [COUNT],
        "attention": [StrOptions({"linear", "full", "induced"})],
        "n_inducing": [WIDTH],
        "tokens": [StrOptions({"rows", "features"})],
        "n_groups": [COUNT],
        "positional": ["boolean"],
        "objective": [StrOptions({"both", "cells", "targets"})],
        "mask_share": [Finite(1 / 64, 1, "left")],  # draws are bytes
        "loss": [StrOptions({"mse", "corr", "numerai_corr"})],
        "orthogonality": [NOT_NEGATIVE],
        "activation": [ANY_ACTIVATION],
        "dropout": [Finite(0, 1, "left")],
        "eras_per_batch": [COUNT],
    }

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, eras=None, sample_weight=None, benchmark=None):
        """Train the network.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's ``era`` column is removed
            and used as `eras`.
        y : array-like or frame of shape (n_rows,) or (n_rows, n_targets), default=None
            Targets; NaN are ignored. Not used with ``objective="cells"``.
        eras : array-like of shape (n_rows,), default=None
            Era labels; `validation` holds out the last eras.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows in all losses; rows of weight zero are left out.
        benchmark : array-like of shape (n_rows,) or frame, default=None
            Predictions of a benchmark: the network is trained on the residuals of the
            targets, see `EraMLP`.

        Returns
        -------
        self
        """
        return self._fit(self._read(X, y, eras, sample_weight, benchmark))

    def transform(self, X, *, eras=None):
        """Return the latents of each row.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit; all rows of their eras, in any order.
        eras : array-like of shape (n_rows,), default=None
            Era labels; required if `fit` had eras. Not used with ``tokens="features"``.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        return super().transform(X, eras=eras)

    @available_if(_tells_cells)
    def reconstruct(self, X, *, eras=None):
        """Return the rows as the networks restore them, averaged over networks.

        Parameters
        ----------
        X, eras
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
            In the units of X.
        """
        X, eras = self._check_rows(X, eras)
        codes = np.split(encode(self.encoder_, X, eras), len(self.decoders_), axis=1)
        parts = zip(self.decoders_, codes, strict=True)
        restored = [decoder.transform(code) for decoder, code in parts]
        return np.mean(restored, axis=0, dtype=np.float32)

    def _check_predicts(self):
        if _known(self).objective == "cells":
            raise AttributeError(
                "EraTransformer was trained with objective='cells', without targets: "
                "it predicts none. Use objective='both' or 'targets'."
            )

    def _corrupt(self, X, seed):
        """Return rows with masked cells, as in training; a picture shows them."""
        X, _ = super()._check_rows(X, None)
        X = fill_missing(X, self.missing_values_)
        masked = np.random.default_rng(seed).random(X.shape)
        masked = masked < self._fitted_with.mask_share
        return np.where(masked, self.missing_values_.astype(X.dtype), X)

    def _check_rows(self, X, eras):
        X, eras = super()._check_rows(X, eras)
        self._require_eras(eras)
        return X, eras

    @property
    def _by_era(self):
        return self.encoder_.by_era

    @property
    def _whole_eras(self):  # an era is held out as a whole
        return self.tokens == "rows"

    def _require_eras(self, eras):
        if self._by_era:
            require_eras(eras, self._had_eras, type(self).__name__)

    def _read(self, X, y, eras, sample_weight, benchmark=None, *, reset=True):
        if self.objective != "cells":
            return super()._read(X, y, eras, sample_weight, benchmark, reset=reset)
        rows = Rows.read(self, X, None, eras, sample_weight, min_rows=2)
        if read_benchmark(benchmark, rows.n_rows, X=X, eras=eras) is not None:
            raise ValueError(
                "benchmark has no effect with objective='cells', which has no targets. "
                "Leave it out, or use objective='both'."
            )
        self._check_parameters(rows.X.shape[1], 0)
        self._check_eras(rows.eras)
        return rows

    def _check_eras(self, eras):
        if eras is None and self.tokens == "rows":
            warn(
                "No eras were passed: all rows of a call are one era, in which they "
                "look at each other, and batches of random rows take the place of eras "
                "in training. Pass eras=, or a frame with a column 'era'.",
            )
        if self.objective != "cells":
            super()._check_eras(eras)

    def _check_parameters(self, n_features, n_targets):
        if self.n_components is not None and self.n_components > n_features:
            raise ValueError(
                f"n_components={self.n_components} must be at most n_features="
                f"{n_features}. Ask for fewer latents, or leave it None."
            )
        if self.width % self.n_heads:
            raise ValueError(
                f"width={self.width} must be a multiple of n_heads={self.n_heads}: "
                "each head has an equal part of a token."
            )
        if self.positional and self.tokens == "features":
            raise ValueError(
                "positional=True is the place of a row in its era, which "
                "tokens='features' does not look at. Leave it out, or use "
                "tokens='rows'."
            )
        if self.objective == "cells":
            check_no_targets(self)
        if n_targets:
            super()._check_parameters(n_features, n_targets)

    def _learnable(self, rows):
        if self.objective == "cells":
            return rows.counted
        told = np.zeros(rows.n_eras, bool)
        told[rows.codes[rows.labelled]] = True
        return rows.counted & told[rows.codes]

    def _make_batches(self, course, seed, task):
        from numerai_features.nn._parallel import n_processes

        if n_processes() > 1:
            raise ValueError(
                "EraTransformer is trained in one process, since the rows of an era "
                "look at each other. Start it without torchrun."
            )
        return super()._make_batches(course, seed, task)

    def _make_task(self, course):
        from numerai_features.nn._attention import AttentionBlock
        from numerai_features.nn._era_transformer import EraTask, TransformerNetwork

        table, y = course.table, course.rows.y
        if y is not None:
            self._check_monitor(course)
        blocks = [
            AttentionBlock(
                self.width, self.n_heads, self.attention, self.n_inducing,
                self.activation, self.dropout,
            )
            for _ in range(self.n_layers)
        ]  # fmt: skip
        network = TransformerNetwork(
            table, blocks, self.width, self.n_components or min(30, table.n_features),
            0 if y is None else y.shape[1], self.objective != "targets",
            self._make_tokens(course), self.positional, self.loss == "mse",
        )  # fmt: skip
        if y is not None:
            network.set_units(*course.more["units"])
        return EraTask(
            network, self.mask_share, course.middle, table.varies, self.loss,
            self.orthogonality, course.has_missing,
            has_eras=course.rows.eras is not None,
        )  # fmt: skip

    def _make_tokens(self, course):
        if self.tokens == "rows":
            return None
        import torch

        from numerai_features.nn._era_transformer import Tokens

        table = course.table
        if "edges" not in course.more:
            course.more["edges"] = bin_edges(table.X, course.train)
        edges = torch.stack([table.as_taken(own) for own in course.more["edges"]])
        return Tokens(edges, self.width, min(self.n_groups, table.n_features))

    def _encoder_of(self, task, course):
        columns, edges = course.columns, course.more.get("edges")
        return task.network.latents(columns.units, columns.dtype, edges)

    def _encoders_of(self, task, course):
        latents = self._encoder_of(task, course)
        return latents, task.network.prediction(latents, course.columns.dtype)

    def _keep(self, tasks, course):
        columns, owner = course.columns, EraNetwork
        if self.objective == "cells":  # there is no prediction to keep
            owner = NetworkEmbedder
        kept = {
            **owner._keep(self, tasks, course),
            "mean_": columns.mean,
            "scale_": columns.scale,
            "n_components_": self.n_components or min(30, len(columns.mean)),
            # Eras that are names have no numbers, but they are eras.
            "_had_eras": course.rows.eras is not None,
        }
        if self.objective != "targets":
            units, dtype = columns.units, columns.dtype
            kept["decoders_"] = [t.network.decoding(units, dtype) for t in tasks]
        return kept

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if self.objective == "cells":
            tags.estimator_type = tags.regressor_tags = None
            tags.target_tags.required = False
        return tags
