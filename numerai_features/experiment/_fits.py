"""The fits of an experiment: one for each arm of each fold and seed."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from numerai_features._eras import encode_eras
from numerai_features._names import unlike
from numerai_features._residual import residual_targets
from numerai_features._scratch import take
from numerai_features.augmenters._base import resample_beside
from numerai_features.compose._era_ranker import rank_rows, weighted_sum
from numerai_features.compose._neutral import neutral_rows
from numerai_features.compose._reach import extras_of
from numerai_features.experiment._fit_model import (
    ModelFit,
    Training,
    wants_benchmark,
)
from numerai_features.experiment._inputs import Block, as_array, as_input, as_table
from numerai_features.experiment._latents import FoldLatents, places_of
from numerai_features.experiment._parts import library_of, make_part
from numerai_features.experiment._store import ArmResult
from numerai_features.model_selection._folds import Fold
from numerai_features.model_selection._runner import Tell
from numerai_features.trees import tree_table

if TYPE_CHECKING:
    from numerai_features.datasets import EraPanel
    from numerai_features.experiment._arms import Recipe
    from numerai_features.experiment._experiment import Experiment

_ERA, _BENCHMARK = "era_number", "benchmark"


class FittedArm(NamedTuple):
    """An arm that is fitted: what its predictions are made of.

    Attributes
    ----------
    recipe : dict
        The arm's keys.
    latents : list of FoldLatents
    names : list of str
        Names of the model's columns.
    models : list
        Fitted models: one, or one for each target. Predictions of several, and several
        of one, are ranked and averaged.
    library : str or None
        The tree library of the models, if they are one's.
    floats : bool
        Whether the models get all columns as floats; only without a library.
    shrinker : FamiliarityShrinker or None
        It shrinks predictions of rows that are unfamiliar to `shrinks_by`.
    shrinks_by : FoldLatents or None
    """

    recipe: Recipe
    latents: list[FoldLatents]
    names: list[str]
    models: list[Any]
    library: str | None
    floats: bool
    shrinker: Any = None
    shrinks_by: FoldLatents | None = None


class FoldFits:
    """The fits of one fold and seed; its arms share originals and latents.

    Parameters
    ----------
    experiment : Experiment
        The experiment with its arms.
    panel : EraPanel
        Its rows.
    fold : Fold
        The training rows and the test rows.
    seed : int, default=0
        The number of the seed; it is added to all seeds.
    benchmark : ndarray of shape (n_rows,), default=None
        The benchmark's predictions of the panel's rows, NaN where it has none.
    """

    def __init__(
        self,
        experiment: Experiment,
        panel: EraPanel,
        fold: Fold,
        seed: int = 0,
        benchmark: NDArray[np.float64] | None = None,
    ) -> None:
        self.experiment = experiment
        self.panel = panel
        self.fold = fold
        self.seed = seed
        self.benchmark = benchmark
        self._latents: dict[str, FoldLatents] = {}

    @property
    def train_X(self) -> NDArray[np.int8]:
        """The original features of the training rows, which are not kept."""
        return take(self.panel.X, self.fold.train)

    @property
    def test_X(self) -> NDArray[np.int8]:
        """The original features of the test rows, which are not kept."""
        return take(self.panel.X, self.fold.test)

    @cached_property
    def train_table(self) -> pa.Table:
        """The original features of the training rows, column by column."""
        return tree_table(self.train_X, self.panel.feature_names)

    @cached_property
    def test_table(self) -> pa.Table:
        """The original features of the test rows, column by column."""
        return tree_table(self.test_X, self.panel.feature_names)

    def run(self, arm: str, *, width: int, tell: Tell) -> ArmResult:
        """Fit one arm, and predict the test rows.

        Parameters
        ----------
        arm : str
            Name of the arm.
        width : int
            Number of principal components, or of random columns, if it has any.
        tell : callable
            Called with a description of each step.

        Returns
        -------
        ArmResult
        """
        start = time.perf_counter()
        latents = self._latents_of_arm(self.experiment.recipes[arm], width, tell)
        n_latents = sum(part.test.shape[1] for part in latents)
        middle = time.perf_counter()
        prediction = self.predict(self.fit(arm, width=width, tell=tell))
        end = time.perf_counter()
        return ArmResult(
            prediction.astype(np.float32), n_latents, middle - start, end - middle
        )

    def fit(self, arm: str, *, width: int, tell: Tell) -> FittedArm:
        """Fit one arm to the training rows.

        Parameters
        ----------
        arm : str
            Name of the arm.
        width : int
            Number of principal components, or of random columns, if it has any.
        tell : callable
            Called with a description of each step.

        Returns
        -------
        FittedArm
        """
        recipe = self.experiment.recipes[arm]
        latents = self._latents_of_arm(recipe, width, tell)
        if recipe["augment"]:
            tell("new rows")
        rows = self._training_rows(recipe)
        tell("model")
        name = recipe["model"]
        library = library_of(self.experiment.tables, name)
        train = self._blocks(recipe, rows, latents, as_table=library is not None)
        fit = ModelFit(self.experiment.tables, name, self.seed, train, self.panel.X)
        targets = rows.targets
        if targets.shape[1] == 1 or fit.takes_several:
            models = [fit(targets, rows)]
        else:
            models = [fit(targets[[name]], rows) for name in targets]
        names = [name for block in train for name in block.names]
        fitted = FittedArm(recipe, latents, names, models, library, fit.floats)
        if recipe["shrink"] is None:
            return fitted
        familiar = self._latents_of(recipe["shrink"], 0)
        shrinker = self._shrinker(familiar)
        return fitted._replace(shrinker=shrinker, shrinks_by=familiar)

    def predict(self, fitted: FittedArm) -> NDArray[np.float64]:
        """Return the predictions of the test rows by an arm of `fit`."""
        by_trees = fitted.library is not None
        test = self._test_blocks(fitted.recipe, fitted.latents, as_table=by_trees)
        shown: Any
        if by_trees:
            shown = as_input(as_table(test), fitted.library)
        else:
            shown = as_array(test, floats=fitted.floats)
        options = {"eras": self.panel.eras[self.fold.test]}
        if "eras" not in extras_of(fitted.models[0].predict):
            options = {}
        each = [
            np.asarray(model.predict(shown, **options), np.float64)
            for model in fitted.models
        ]
        predicted = each[0] if len(each) == 1 else np.column_stack(each)
        if predicted.ndim == 1 or predicted.shape[1] == 1:
            return self._after(fitted, predicted.reshape(-1))
        eras = encode_eras(self.panel.eras[self.fold.test])
        ranked, n = rank_rows(predicted, eras, "gauss"), predicted.shape[1]
        return self._after(fitted, weighted_sum(ranked, np.full(n, 1 / n)))

    def _latents_of_arm(
        self, recipe: Recipe, width: int, tell: Tell
    ) -> list[FoldLatents]:
        if recipe["latents"] or recipe["shrink"]:
            tell("latents")
        return [self._latents_of(name, width) for name in recipe["latents"]]

    def _latents_of(self, name: str, width: int) -> FoldLatents:
        if name not in self._latents:
            self._latents[name] = FoldLatents(
                name,
                self.experiment,
                self.panel,
                self.fold,
                self.seed,
                width,
                self.benchmark,
            )
        return self._latents[name]

    def _training_rows(self, recipe: Recipe) -> Training:
        """Return the training rows with their targets, and the rows that are added."""
        import pandas as pd

        train, n_given = self.fold.train, len(self.panel.eras[self.fold.train])
        names = recipe["target"] or [self.experiment["targets"]["main"]]
        eras = self.panel.eras[train]
        y: Any = np.column_stack([self.panel.y(name)[train] for name in names])
        if recipe["residual_to"] is not None:
            y = residual_targets(
                y.astype(np.float64),
                self._benchmark(train),
                encode_eras(eras),
                proportion=recipe["proportion"],
            )
        targets = pd.DataFrame(y, columns=names)
        needed = recipe["benchmark_feature"] or wants_benchmark(
            self.experiment.tables, recipe["model"]
        )
        benchmark = self._benchmark(train) if needed else None
        if not recipe["augment"]:
            return Training(targets, eras, n_given, benchmark=benchmark)
        rows, benchmark = resample_beside(
            self._augmenter(recipe["augment"]),
            self.train_X,
            targets if len(names) > 1 else targets[names[0]],
            eras,
            benchmark,
        )
        keep = slice(n_given if recipe["only_new_rows"] else 0, None)
        y = np.asarray(rows.y)[keep].reshape(-1, len(names))
        weights = None if rows.sample_weight is None else rows.sample_weight[keep]
        if not len(y):
            raise ValueError(
                f"augment = {recipe['augment']} adds no rows, and only_new_rows = true "
                "leaves none. Use an augmenter that adds rows."
            )
        return Training(
            pd.DataFrame(y, columns=names),
            np.asarray(rows.eras)[keep],
            0 if recipe["only_new_rows"] else n_given,
            rows.X[keep],
            weights,
            None if benchmark is None else benchmark[keep],
        )

    def _augmenter(self, names: list[str]) -> Any:
        from numerai_features.augmenters import ComposeAugmenters

        tables = self.experiment.tables
        parts = [
            make_part(tables["augment"][name], tables, self.seed) for name in names
        ]
        return parts[0] if len(parts) == 1 else ComposeAugmenters(parts)

    def _blocks(
        self,
        recipe: Recipe,
        rows: Training,
        latents: list[FoldLatents],
        *,
        as_table: bool,
    ) -> list[Block]:
        """Return the columns of the training rows."""
        X, new = rows.originals, slice(rows.n_given, None)
        if X is None:
            own = self.train_table if as_table else self.train_X
            blocks = [self._features(recipe, own)]
            blocks += [self._named(part, part.train) for part in latents]
        else:
            blocks = [self._features(recipe, X)]
            for part in latents:
                values = part.train[: rows.n_given]
                added = part.of(X[new], rows.eras[new])
                blocks.append(self._named(part, np.concatenate([values, added])))
        return [*blocks, *self._extra(recipe, rows.eras, rows.benchmark)]

    def _test_blocks(
        self, recipe: Recipe, latents: list[FoldLatents], *, as_table: bool
    ) -> list[Block]:
        rows = self.fold.test
        own = self.test_table if as_table else self.test_X
        blocks = [self._features(recipe, own)]
        blocks += [self._named(part, part.test) for part in latents]
        benchmark = self._benchmark(rows) if recipe["benchmark_feature"] else None
        return [*blocks, *self._extra(recipe, self.panel.eras[rows], benchmark)]

    def _features(self, recipe: Recipe, own: NDArray[Any] | pa.Table) -> Block:
        names = self.panel.feature_names
        if recipe["features"] is None:
            return Block(names, own)
        places = places_of(self.experiment, self.panel, recipe["features"])
        names = [names[j] for j in places]
        if isinstance(own, pa.Table):
            return Block(names, own.select(names))
        return Block(names, take(own, slice(None), places))

    def _named(self, part: FoldLatents, values: NDArray[Any]) -> Block:
        taken, own = self.panel.feature_names, map(str, range(values.shape[1]))
        counts = getattr(part.embedder, "n_categories_", ())
        categories = tuple(np.flatnonzero(counts).tolist())
        return Block(unlike(taken, own, part.name, always=True), values, categories)

    def _extra(
        self, recipe: Recipe, eras: NDArray[Any], benchmark: NDArray[np.float64] | None
    ) -> list[Block]:
        added: list[tuple[str, Any]] = []
        if recipe["era_feature"]:
            added.append((_ERA, eras))
        if recipe["benchmark_feature"]:
            added.append((_BENCHMARK, benchmark))
        blocks = []
        for name, values in added:
            names = unlike(self.panel.feature_names, [name], "arm", always=False)
            blocks.append(Block(names, values[:, None].astype(np.float32)))
        return blocks

    def _benchmark(self, rows: Any) -> Any:
        assert self.benchmark is not None  # data.benchmark is checked
        return self.benchmark[rows]

    def _after(
        self, fitted: FittedArm, prediction: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Neutralise and shrink predictions of the test rows, as an arm wants it."""
        neutralize = fitted.recipe.get("neutralize")
        if neutralize is not None:
            prediction = self._neutral(neutralize, prediction)
        if fitted.shrinks_by is not None:
            rows = self.fold.test
            eras = self.panel.eras[rows]
            shown = fitted.shrinks_by.of_embedder(self.test_X)
            factors = fitted.shrinker.factors(shown, eras=eras)
            prediction = rank_rows(prediction, encode_eras(eras), "gauss") * factors
        return prediction

    def _neutral(
        self, neutralize: dict[str, Any], prediction: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return predictions of the test rows without features or the benchmark."""
        rows, share = self.fold.test, neutralize["proportion"]
        index = encode_eras(self.panel.eras[rows])
        if neutralize["to"] == "features":
            columns, chosen = None, neutralize["features"]
            if chosen is not None:
                columns = places_of(self.experiment, self.panel, chosen)
            return neutral_rows(prediction, self.test_X, index, share, columns=columns)
        benchmark, out = self._benchmark(rows), prediction.copy()
        for _, own in index.rows_by_era():
            known = ~np.isnan(benchmark[own])
            if known.any():
                values, side = prediction[own], benchmark[own][known][:, None]
                # Other rows lose the constant alone, so that all have one scale.
                rest = values - share * values[known].mean()
                one = encode_eras(np.ones(known.sum(), int))
                rest[known] = neutral_rows(values[known], side, one, share)
                out[own] = rest
        return out

    def _shrinker(self, latents: FoldLatents) -> Any:
        """Return what shrinks predictions of rows that are unlike the training rows."""
        from sklearn.dummy import DummyRegressor
        from sklearn.frozen import FrozenEstimator

        from numerai_features.compose import FamiliarityShrinker

        shrinker: Any = FamiliarityShrinker(
            DummyRegressor(), FrozenEstimator(latents.embedder)
        )
        train = self.fold.train
        y = self.panel.y(self.experiment["targets"]["main"])[train]
        X = latents.of_embedder(self.train_X)
        shrinker.fit(X, y, eras=self.panel.eras[train])
        return shrinker
