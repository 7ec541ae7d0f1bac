"""Base class of the networks that learn from targets and predict them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import CROSS_FIT, ROWS
from numerai_features._compat import StrOptions
from numerai_features._residual import read_benchmark, residual_targets
from numerai_features._rows import Rows
from numerai_features._validation import as_floats, check_missing, require_target
from numerai_features._warn import warn
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._encode import encode
from numerai_features.embedders._holdout import varies_within_an_era
from numerai_features.embedders._network import NetworkEmbedder
from numerai_features.encoders import Affine, Concatenate, Encoder, Fill

_FARTHEST = 1e3  # from 0, in units of a target's range
CORRELATIONS = ("corr", "numerai_corr")
"""Losses within an era."""


def _predicts(net: Any) -> bool:
    net._check_predicts()
    return True


class TargetNetwork(RegressorMixin, NetworkEmbedder, abstract=True):
    """Base class of networks that are embedders and regressors.

    A subclass declares ``loss``, ``target_weights``, ``cross_fit`` and ``monitor``, and
    defines ``_make_task`` and `_encoders_of`.
    """

    __metadata_request__predict = {"eras": True}
    __metadata_request__score = {"eras": True}

    # Parameters of subclasses: the loss may have the penalty, the outputs a sigmoid.
    benchmark_penalty = 0.0
    output = "linear"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "target_weights": [ROWS, None],
        "cross_fit": CROSS_FIT,
        "monitor": [StrOptions({"valid_loss", "valid_corr"})],
    }

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, eras=None, sample_weight=None, benchmark=None):
        """Train the network.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's ``era`` column is removed
            and used as `eras`.
        y : array-like or frame of shape (n_rows,) or (n_rows, n_targets)
            Targets. NaN are ignored; rows without any target are left out.
        eras : array-like of shape (n_rows,), default=None
            Era labels; `validation` holds out the last eras.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows in all losses; rows of weight zero are left out.
        benchmark : array-like of shape (n_rows,) or frame, default=None
            Predictions of a benchmark. The network is trained on the residuals of the
            targets: in each era, a constant and the benchmark are fitted to them by
            least squares and subtracted. Rows without a benchmark (NaN) are left out.
            A network with a positive ``benchmark_penalty`` is trained on the targets
            themselves, and penalised instead. A Series or Numerai's whole file is
            matched by id where `X` or `y` is.

        Returns
        -------
        self
        """
        return self._fit(self._read(X, y, eras, sample_weight, benchmark))

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_transform(
        self, X, y=None, *, eras=None, sample_weight=None, benchmark=None
    ):
        """Train the network and return the rows' latents.

        With `cross_fit`, each row's latents come from a network that was not trained on
        the row's era. They are aligned with those of the fitted network by the rotation
        that fits them best on rows that both networks were trained on (orthogonal
        Procrustes). So the result differs from ``fit(X, y).transform(X)``. Rows in no
        test fold get the fitted network's latents.

        Parameters
        ----------
        X, y, eras, sample_weight, benchmark
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        return self._fit_transform(self._read(X, y, eras, sample_weight, benchmark))

    @available_if(_predicts)
    def predict_targets(self, X, *, eras=None):
        """Return a prediction of every target, averaged over networks.

        Parameters
        ----------
        X, eras
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_rows, n_targets), float32
        """
        X, eras = self._check_rows(X, eras)
        return encode(self.predictor_, X, eras)

    @available_if(_predicts)
    def predict(self, X, *, eras=None):
        """Return the `target_weights`-weighted mean of `predict_targets` over targets.

        Parameters
        ----------
        X, eras
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_rows,), float64
        """
        return self._mean_of(self.predict_targets(X, eras=eras))

    @available_if(_predicts)
    def score(self, X, y, sample_weight=None, *, eras=None):
        """Return the R^2 of `predict` for the `target_weights`-weighted mean target.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Targets; rows without any are ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows.
        eras : Ignored
            Present for API consistency.

        Returns
        -------
        float
        """
        from sklearn.metrics import r2_score

        check_is_fitted(self)
        rows: Any = Rows.read(self, X, y, eras, sample_weight, reset=False)
        require_target(rows.y, self)
        check_missing(rows.X, self._fitted_with.missing)
        self._require_eras(rows.eras)
        p, y = self._mean_of(encode(self.predictor_, rows.X, rows.eras)), rows.y
        if y.shape[1] == self.n_targets_ > 1:
            self._check_names(rows.target_names)
        if y.shape[1] not in (1, self.n_targets_):
            raise ValueError(
                f"y must have one column, or {self.n_targets_} as in fit; got "
                f"{y.shape[1]}."
            )
        shares = self._shares() if y.shape[1] == self.n_targets_ else np.ones(1)
        total = ~np.isnan(y) @ shares
        told = total > 0
        mean = (np.nan_to_num(y) @ shares)[told] / total[told]
        weights = None if rows.weights is None else rows.weights[told]
        return r2_score(mean, p[told], sample_weight=weights)

    def _mean_of(self, each):
        """Return the mean over targets, by their weights."""
        return each.astype(np.float64) @ (self._shares() / self._shares().sum())

    def _check_predicts(self):
        """Raise an AttributeError if there is nothing to predict."""

    def _require_eras(self, eras):
        """Raise if rows cannot be encoded without eras."""

    # --- reading targets -------------------------------------------------------------

    def _read(self, X, y, eras, sample_weight, benchmark=None, *, reset=True):
        require_target(y, self)
        rows: Any = Rows.read(self, X, y, eras, sample_weight, reset=reset, min_rows=2)
        benchmark = read_benchmark(benchmark, rows.n_rows, X=X, y=y, eras=eras)
        if np.asarray(y).ndim == 2 and rows.y.shape[1] == 1:
            warn(
                "A column-vector y was passed when a 1d array was expected. Please "
                "change the shape of y to (n_samples,), for example using ravel().",
                DataConversionWarning,
            )
        self._check_parameters(rows.X.shape[1], rows.y.shape[1])
        self._check_eras(rows.eras)
        targets, counted = rows.y, rows.counted
        if not counted.all():
            targets = np.where(counted[:, None], targets, np.nan)
        self._check_targets(targets)
        has_benchmark = benchmark is not None
        on_residuals = has_benchmark and not self.benchmark_penalty
        if not reset:
            self._check_further(rows, on_residuals)
        self._on_residuals = on_residuals
        if on_residuals:
            targets = self._residuals(targets, benchmark, rows)
        targets = self._without_constants(targets, rows, all_targets=reset)
        unknown = np.isnan(targets).all(axis=0)
        beside = " and benchmark" if has_benchmark else ""
        if unknown.all():
            raise ValueError(
                f"y{beside} hold no number in any row of positive weight: nothing to "
                "learn. Choose rows whose targets are known."
            )
        if unknown.any() and reset:
            raise ValueError(
                f"y: target {int(unknown.argmax())} is NaN in all rows that count"
                f"{beside and ' and whose benchmark is known'}. Leave it out."
            )
        if self.benchmark_penalty:
            self._check_penalty(has_benchmark, rows)
            known = ~np.isnan(targets).all(axis=1)
            rows = replace(rows, benchmark=np.where(known, benchmark, np.nan))
        return replace(rows, y=targets)

    def _without_constants(self, targets, rows, *, all_targets):
        """Return the targets without those that tell this loss nothing."""
        return targets

    def _check_penalty(self, has_benchmark, rows):
        """Raise unless predictions can be penalised for following a benchmark."""
        if not has_benchmark or rows.eras is None:
            what = "eras" if has_benchmark else "benchmark"
            raise ValueError(
                f"benchmark_penalty={self.benchmark_penalty} needs {what}: pass "
                f"{what}=, or set benchmark_penalty=0."
            )

    def _learnable(self, rows):
        return rows.counted & rows.labelled

    def _residuals(self, targets, benchmark, rows):
        """Return the residuals of the targets after a benchmark is fitted to them."""
        if self._want_shares(targets.shape[1]).any():
            raise ValueError(
                f"benchmark leaves targets around zero, but {self._sigmoid} needs "
                "them in [0, 1]. Use loss='mse' and linear outputs, or a correlation."
            )
        return residual_targets(targets, benchmark, rows.eras, rows.weights)

    def _shares(self):
        weights = self._fitted_with.target_weights
        if weights is None:
            return np.ones(self.n_targets_)
        return as_floats(weights, "target_weights")

    @property
    def _losses(self):
        """The loss of all targets, or of each."""
        return [self.loss] if isinstance(self.loss, str) else [*self.loss]

    @property
    def _sigmoid(self):
        """What maps predictions to [0, 1], for messages; "" if nothing does."""
        if "bce" in self._losses:
            return "loss='bce'"
        return "output='sigmoid'" if self.output == "sigmoid" else ""

    def _want_shares(self, n_targets):
        """Return a mask of the targets that must be in [0, 1]."""
        losses = np.broadcast_to(self._losses, n_targets)
        return ~np.isin(losses, CORRELATIONS) & bool(self._sigmoid)

    def _check_targets(self, y):
        high, low = np.fmax.reduce(y, axis=0), np.fmin.reduce(y, axis=0)
        far = np.fmax(high, -low) > _FARTHEST * (high - low)
        far &= high > low
        if far.any():
            j = int(far.argmax())
            raise ValueError(
                f"y: target {j} is between {low[j]:g} and {high[j]:g}, too far from 0 "
                "for predictions in float32 to tell its rows apart. Subtract its mean."
            )
        beyond = self._want_shares(y.shape[1]) & ((low < 0) | (high > 1))
        if beyond.any():
            j = int(beyond.argmax())
            raise ValueError(
                f"{self._sigmoid} makes all outputs sigmoids and needs targets in "
                f"[0, 1]; got target {j} from {low[j]} to {high[j]}. Scale it, or use "
                "loss='mse' and linear outputs."
            )

    def _check_parameters(self, n_features, n_targets):
        if self.target_weights is None:
            return
        shares = as_floats(self.target_weights, "target_weights")
        known = shares.shape == (n_targets,) and np.isfinite(shares).all()
        if not known or not shares.sum() > 0:
            raise ValueError(
                f"target_weights must be a finite weight for each of {n_targets} "
                f"targets, with a positive sum; got {self.target_weights!r}."
            )

    def _check_eras(self, eras):
        if eras is None and self.monitor == "valid_corr":
            raise needs_eras("monitor", "valid_corr")
        told = self.validation is None or hasattr(self.validation, "split")
        if eras is None and not told:
            warn(
                "No eras were passed: rows held out for early stopping may share eras "
                "with training rows, and then training stops too late. Pass eras=, or "
                "validation=None.",
            )

    def _check_further(self, rows, on_residuals):
        """Raise if networks of other targets would be trained further."""
        if rows.y.shape[1] != self.n_targets_:
            raise ValueError(
                f"y must have {self.n_targets_} columns, as in fit; got "
                f"{rows.y.shape[1]}. A target that is not known yet is NaN."
            )
        self._check_names(rows.target_names)
        if on_residuals != self._on_residuals:
            had, has = (
                f"with{'' if there else 'out'} a benchmark whose residuals are learned"
                for there in (self._on_residuals, on_residuals)
            )
            raise ValueError(
                f"benchmark: the networks were fitted {had}, and this call is {has}. "
                "Pass the same as in fit, or fit new networks."
            )

    def _check_names(self, names):
        """Raise if targets are not those of fit, in their order."""
        known = self.target_names_
        if names is None or known is None or list(names) == list(known):
            return
        raise ValueError(
            f"y has the columns {[*names]}, but in fit they were {[*known]}. Pass the "
            "same columns in the same order, NaN where a target is not known yet."
        )

    def _check_monitor(self, course):
        if course.valid is not None and not any(self._told_by_held_out(course)):
            raise ValueError(
                f"loss={self.loss!r} is not told by the rows held out, which select "
                "the best epoch: no target is known, or, for a correlation, has two "
                "values in one of their eras. Set validation to more eras, or to None."
            )
        if self.monitor == "valid_corr" and not varies_within_an_era(
            course.rows, course.valid
        ):
            raise ValueError(
                "monitor='valid_corr' needs rows held out of one era whose first "
                "targets are known and differ. Set validation to more eras, or "
                "monitor='valid_loss'."
            )

    def _told_by_held_out(self, course):
        """Yield for each target whether its loss is known in the rows held out."""
        y = course.rows.y
        for j, loss in enumerate(np.broadcast_to(self._losses, y.shape[1])):
            if loss in CORRELATIONS:
                yield varies_within_an_era(course.rows, course.valid, j)
            else:
                yield not np.isnan(y[course.valid, j]).all()

    # --- what is kept ----------------------------------------------------------------

    def _encoders_of(self, task, course):
        """Return a trained network's encoders, to its latents and its prediction."""
        raise NotImplementedError

    def _keep(self, tasks, course):
        columns, n_targets = course.columns, course.rows.y.shape[1]
        pairs = [self._encoders_of(task, course) for task in tasks]
        latents, predictors = zip(*pairs, strict=True)
        fill = ("fill", Fill(columns.fill))
        each = np.eye(n_targets) / len(tasks)
        mean = Affine(np.tile(each, (len(tasks), 1)).astype(columns.dtype))
        return {
            "encoder_": Encoder([fill, ("models", Concatenate(latents))]),
            "predictor_": Encoder(
                [fill, ("models", Concatenate(predictors)), ("mean", mean)]
            ),
            "target_names_": course.rows.target_names,
            "n_targets_": n_targets,
            "mean_": columns.mean,
            "scale_": columns.scale,
        }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.regressor_tags.poor_score = True
        return tags


def needs_eras(name: str, value: Any) -> ValueError:
    """Return the error of a parameter that means nothing without eras."""
    return ValueError(
        f"{name}={value!r} needs eras: pass eras=, or a frame with a column 'era', "
        "which LatentFeatures(keep_era=True) keeps."
    )
