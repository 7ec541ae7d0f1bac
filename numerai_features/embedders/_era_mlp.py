"""A perceptron that is trained on correlations within eras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any, ClassVar

from numerai_features._arguments import (
    ACTIVATION,
    COUNT,
    NOT_NEGATIVE,
    WIDTH,
    Each,
    Finite,
)
from numerai_features._compat import StrOptions
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._era_network import EraNetwork
from numerai_features.embedders._further import kept_to_continue, train_further
from numerai_features.embedders._target_network import CORRELATIONS


class EraMLP(EraNetwork):
    r"""Multilayer perceptron that is trained on correlations within eras.

    Let :math:`p` be the network's predictions of a target :math:`y`, and :math:`b` a
    benchmark's predictions. AdamW minimises the mean over the eras of a batch of

    .. math::

        1 - \operatorname{corr}(p, y) + \lambda \operatorname{corr}(p, b)^2

    in which correlations are over the rows of an era, and averaged over targets. A
    batch is a few whole eras. `predict` returns the mean of the predictions over the
    targets, `transform` the last hidden layer. Every hidden layer has batch
    normalisation. The table stays at one byte per cell.

    A few epochs are enough, and more harm. So by default nothing is held out: all rows
    are trained on, for `max_epochs`. Six epochs and a dropout of .3 were the best for
    ``loss="corr"`` on synthetic panels; see "Perceptrons beside trees" in the guide.

    Parameters
    ----------
    hidden : sequence of int, default=(1024, 512, 256)
        Widths of the hidden layers; the last one is the number of latents.
    activation : {"relu", "silu", "tanh", "sigmoid", "hardswish"}, default="relu"
        Activation of the hidden layers.
    dropout : float, default=0.3
        Dropout rate of the hidden layers.
    feature_dropout : float, default=0.0
        Share of a row's cells that are set to the middle bin (for floats, to the
        column's median), drawn for each cell and step.
    loss : {"corr", "numerai_corr", "mse", "mae", "bce"}, default="corr"
        "corr": one minus the correlation within an era. "numerai_corr": the same, with
        deviations raised to the power of 1.5. "mse" and "mae": squared and absolute
        error of standardised targets. "bce": cross-entropy, for targets in [0, 1].
    benchmark_penalty : float, default=0.0
        The weight :math:`\lambda` of the squared correlation with a benchmark, for
        ``fit(..., benchmark=)``. 0: the targets' residuals on the benchmark are trained
        on instead.
    eras_per_batch : int, default=4
        Largest number of eras in a batch. An era of fewer than 16 rows shares the place
        of a neighbouring era; its correlations are its own.
    target_weights : array-like of shape (n_targets,), default=None
        Weights of the targets in `predict` and `score`; None: equal weights.
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
        The encoder that `predict_targets` runs.
    target_names_ : list of str or None
        Names of the columns of y, if it has any.
    n_targets_ : int
        Number of targets.
    n_eras_left_out_ : int
        Number of eras, of the last call's, that a correlation could not be trained on:
        no target has two different values in the era, as in an era of one row.
    mean_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of each column over the training rows. The deviation
        is 0 for a constant column; columns of int8 bins share one.
    states_ : list of dict of str to ndarray
        The networks' weights, from which `partial_fit` continues.

    See Also
    --------
    SupervisedAEMLP : An autoencoder and a perceptron, trained together.
    numerai_features.compose.ResidualTargetRegressor : Residual targets for any model.

    Notes
    -----
    A correlation does not tell the units of predictions. After training on one, each
    network's prediction of a target gets the factor and the constant that fit the
    target best in the training rows (least squares within eras).

    The latents of training rows depend on those rows' targets, so a model fitted on
    these latents overfits; ``cross_fit=5`` prevents it.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import EraMLP
    >>> panel = make_era_panel(n_eras=30, rows_per_era=50, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> net = EraMLP((16, 8), random_state=0)
    >>> net.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras)
    EraMLP(...)
    >>> net.predict(panel.X).shape, net.transform(panel.X).shape
    ((1500,), (1500, 8))
    """

    hidden: Sequence[int] = field(default=(1024, 512, 256), kw_only=False)
    activation: str = "relu"
    dropout: float = 0.3
    feature_dropout: float = 0.0
    loss: str = "corr"
    benchmark_penalty: float = 0.0
    eras_per_batch: int = 4
    target_weights: Any = None
    cross_fit: Any = None
    monitor: str = "valid_loss"
    validation: Any = None
    batching: ClassVar[str] = "era"  # type: ignore[misc]  # a constant here
    batch_size: ClassVar[str] = "auto"  # type: ignore[misc]  # if there are no eras
    max_epochs: int = 6
    learning_rate: float = 0.001

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden": [Each(WIDTH, fewest=1)],
        "activation": [ACTIVATION],
        "dropout": [Finite(0, 1, "left")],
        "feature_dropout": [Finite(0, 1, "left")],
        "loss": [StrOptions({"mse", "mae", "bce", "corr", "numerai_corr"})],
        "benchmark_penalty": [NOT_NEGATIVE],
        "eras_per_batch": [COUNT],
    }

    @whole_fit(
        prefer_skip_nested_validation=False,
        fixed=["hidden", "activation", "loss", "n_models"],
    )
    def partial_fit(self, X, y=None, *, eras=None, sample_weight=None, benchmark=None):
        """Train the fitted network further, such as on a week's new era.

        Each call trains for at most `max_epochs` more, with the current training
        parameters. Columns are standardised, and predictions have units, as in the
        first call, which is the same as `fit`.

        Parameters
        ----------
        X, y, eras, sample_weight, benchmark
            As in `fit`.

        Returns
        -------
        self
        """
        if not hasattr(self, "encoder_"):
            return self.fit(
                X, y, eras=eras, sample_weight=sample_weight, benchmark=benchmark
            )
        rows = self._read(X, y, eras, sample_weight, benchmark, reset=False)
        rows = replace(rows, target_names=rows.target_names or self.target_names_)
        return self._assign(train_further(self, rows))

    def _make_task(self, course):
        from numerai_features.nn._perceptron import Perceptron, Predicting

        self._check_monitor(course)
        n_targets, has_level = course.rows.y.shape[1], self.loss not in CORRELATIONS
        network = Perceptron(
            course.table, [*self.hidden], n_targets, self.activation, self.dropout,
            self.feature_dropout, course.middle, has_level,
        )  # fmt: skip
        network.set_units(*course.more["units"])
        return Predicting(
            network, self.loss, self.benchmark_penalty, course.middle,
            course.has_missing, has_eras=course.rows.eras is not None,
        )  # fmt: skip

    def _keep(self, tasks, course):
        return {**super()._keep(tasks, course), **kept_to_continue(tasks, course)}

    def _encoders_of(self, task, course):
        columns, network = course.columns, task.network
        latents = network.latents(columns.units, columns.dtype)
        sigmoid = self.loss == "bce"
        return latents, network.prediction(latents, columns.dtype, sigmoid=sigmoid)
