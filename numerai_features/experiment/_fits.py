"""The fits of an experiment: one for each arm of each fold and seed."""

from __future__ import annotations

import time
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from numerai_features._eras import encode_eras
from numerai_features._names import unlike
from numerai_features._residual import residual_targets
from numerai_features.augmenters._base import resample_beside
from numerai_features.compose._era_ranker import rank_rows
from numerai_features.compose._neutral import neutral_rows
from numerai_features.experiment._benchmark import benchmark_key
from numerai_features.experiment._inputs import (
    Block,
    as_array,
    as_input,
    as_table,
    categories_of,
)
from numerai_features.experiment._latents import FoldLatents, places_of
from numerai_features.experiment._parts import library_of, make_model, make_part
from numerai_features.experiment._store import ArmResult
from numerai_features.model_selection._folds import Fold
from numerai_features.model_selection._runner import Tell
from numerai_features.trees import tree_table

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.datasets import EraPanel
    from numerai_features.experiment._arms import Recipe
    from numerai_features.experiment._experiment import Experiment

_ERA, _BENCHMARK = "era_number", "benchmark"


class _Training(NamedTuple):
    """The rows that a model is trained on."""

    targets: pd.DataFrame
    eras: NDArray[Any]
    n_given: int  # rows of the panel, before the new ones
    originals: NDArray[Any] | None = None  # only if there are new rows
    weights: NDArray[np.float64] | None = None
    benchmark: NDArray[np.float64] | None = None  # only if it is needed


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

    @cached_property
    def train_table(self) -> pa.Table:
        """The original features of the training rows, one byte per cell."""
        return tree_table(self.panel.X[self.fold.train], self.panel.feature_names)

    @cached_property
    def test_table(self) -> pa.Table:
        """The original features of the test rows, one byte per cell."""
        return tree_table(self.panel.X[self.fold.test], self.panel.feature_names)

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
        recipe = self.experiment.recipes[arm]
        start = time.perf_counter()
        if recipe["latents"] or recipe["shrink"]:
            tell("latents")
        latents = [self._latents_of(name, width) for name in recipe["latents"]]
        n_latents = sum(part.train.shape[1] for part in latents)
        middle = time.perf_counter()
        if recipe["augment"]:
            tell("new rows")
        rows = self._training_rows(recipe)
        tell("model")
        prediction = self._predict(recipe, rows, latents)
        prediction = self._after(recipe, prediction)
        end = time.perf_counter()
        return ArmResult(
            prediction.astype(np.float32), n_latents, middle - start, end - middle
        )

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

    def _training_rows(self, recipe: Recipe) -> _Training:
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
        needed = recipe["benchmark_feature"] or self.wants_benchmark(recipe["model"])
        benchmark = self._benchmark(train) if needed else None
        if not recipe["augment"]:
            return _Training(targets, eras, n_given, benchmark=benchmark)
        rows, benchmark = resample_beside(
            self._augmenter(recipe["augment"]),
            self.panel.X[train],
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
        return _Training(
            pd.DataFrame(y, columns=names),
            np.asarray(rows.eras)[keep],
            0 if recipe["only_new_rows"] else n_given,
            rows.X[keep],
            weights,
            None if benchmark is None else benchmark[keep],
        )

    def wants_benchmark(self, name: str | None) -> bool:
        """Whether the fit of a model takes the benchmark itself."""
        part = {} if name is None else self.experiment["models"][name]
        return benchmark_key(part) is not None

    def _augmenter(self, names: list[str]) -> Any:
        from numerai_features.augmenters import ComposeAugmenters

        tables = self.experiment.tables
        parts = [
            make_part(tables["augment"][name], tables, self.seed) for name in names
        ]
        return parts[0] if len(parts) == 1 else ComposeAugmenters(parts)

    def _predict(
        self, recipe: Recipe, rows: _Training, latents: list[FoldLatents]
    ) -> Any:
        """Train the model of an arm, and predict the test rows."""
        name = recipe["model"]
        library = library_of(self.experiment.tables, name)
        train = self._blocks(recipe, rows, latents, as_table=library is not None)
        test = self._test_blocks(recipe, latents, as_table=library is not None)
        fit = _Model(self, name, library, train, test)
        targets = rows.targets
        if targets.shape[1] == 1 or fit.takes_several:
            predicted = fit(targets, rows)
        else:
            each = [fit(targets[[name]], rows) for name in targets]
            predicted = np.column_stack(each)
        if predicted.ndim == 1 or predicted.shape[1] == 1:
            return predicted.reshape(-1)
        eras = encode_eras(self.panel.eras[self.fold.test])
        return rank_rows(predicted, eras, "gauss").mean(axis=1)

    def _blocks(
        self,
        recipe: Recipe,
        rows: _Training,
        latents: list[FoldLatents],
        *,
        as_table: bool,
    ) -> list[Block]:
        """Return the columns of the training rows."""
        X, new = rows.originals, slice(rows.n_given, None)
        if X is None:
            own = self.train_table if as_table else self.panel.X[self.fold.train]
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
        own = self.test_table if as_table else self.panel.X[rows]
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
        return Block(names, own[:, places])

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
        self, recipe: Recipe, prediction: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Neutralise and shrink predictions of the test rows, as an arm wants it."""
        rows = self.fold.test
        eras = self.panel.eras[rows]
        neutralize = recipe.get("neutralize")
        if neutralize is not None:
            prediction = self._neutral(neutralize, prediction)
        if recipe["shrink"] is not None:
            factors = self._familiarity(recipe["shrink"])
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
            table = self.panel.X[rows]
            return neutral_rows(prediction, table, index, share, columns=columns)
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

    def _familiarity(self, name: str) -> Any:
        """Return the factors by which `FamiliarityShrinker` shrinks the test rows."""
        from sklearn.dummy import DummyRegressor
        from sklearn.frozen import FrozenEstimator

        from numerai_features.compose import FamiliarityShrinker

        latents = self._latents_of(name, 0)
        shrinker: Any = FamiliarityShrinker(
            DummyRegressor(), FrozenEstimator(latents.embedder)
        )
        X, eras, train = self.panel.X, self.panel.eras, self.fold.train
        y = self.panel.y(self.experiment["targets"]["main"])[train]
        shrinker.fit(latents.of_embedder(X[train]), y, eras=eras[train])
        test = latents.of_embedder(X[self.fold.test])
        return shrinker.factors(test, eras=eras[self.fold.test])


class _Model:
    """A model of a fold, with its rows in the form that its library takes.

    Parameters
    ----------
    fits : FoldFits
    name : str or None
        A ``[models]`` table; None for ``[model]``.
    library : str or None
        Its tree library, if it is one's.
    train, test : list of Block
        The columns of the training and the test rows.
    """

    def __init__(
        self,
        fits: FoldFits,
        name: str | None,
        library: str | None,
        train: list[Block],
        test: list[Block],
    ) -> None:
        self._fits, self._name, self._library = fits, name, library
        self._model, self._categories = self._made(), categories_of(train)
        form: Any = as_table
        if library is None:
            form = partial(as_array, floats=not self._is_ours)
        self._train, self._test = form(train), form(test)

    @property
    def takes_several(self) -> bool:
        """Whether the model is trained on several targets at once."""
        if self._is_ours:
            return hasattr(self._model, "transform")  # an embedder that predicts
        return self._library == "xgboost" and _has_vector_leaves(self._model)

    def __call__(self, targets: pd.DataFrame, rows: _Training) -> NDArray[np.float64]:
        """Train on rows whose targets are known; return predictions of test rows."""
        model = self._made()
        single = targets.shape[1] == 1
        y: Any = targets.iloc[:, 0] if single else targets
        known = ~targets.isna().to_numpy()
        # Networks learn from each target that is known; others need all of them.
        use = known.any(axis=1) if self._is_ours else known.all(axis=1)
        if not use.any():
            raise ValueError(
                f"no training row has a known target ({', '.join(targets)}). Train on "
                "eras that have it."
            )
        options: dict[str, Any] = {}
        if rows.weights is not None:
            options["sample_weight"] = rows.weights
        if self._is_ours:
            if self._fits.wants_benchmark(self._name):
                options["benchmark"] = rows.benchmark
            model.fit(self._train, y, eras=rows.eras, **options)
            return np.asarray(model.predict(self._test), np.float64)
        if not single and self._library is not None:
            model.set_params(multi_strategy="multi_output_tree")
        options = {name: value[use] for name, value in options.items()}
        X, shown = self._train, self._test
        if not use.all():
            X = X[use] if self._library is None else X.filter(pa.array(use))
        if self._library is not None:
            X, shown = (as_input(table, self._library) for table in (X, shown))
        if self._library == "lightgbm" and self._categories:
            options["categorical_feature"] = self._categories
        _fit(model, X, y.to_numpy()[use], options)
        return np.asarray(model.predict(shown), np.float64)

    @property
    def _is_ours(self) -> bool:
        return type(self._model).__module__.startswith("numerai_features.")

    def _made(self) -> Any:
        return make_model(self._fits.experiment.tables, self._name, self._fits.seed)


def _has_vector_leaves(model: Any) -> bool:
    """Whether XGBoost can grow one tree for several targets, with these settings."""
    import xgboost  # the name of its distribution varies

    own = model.get_params()
    constraints = ("monotone_constraints", "interaction_constraints")
    return (
        int(xgboost.__version__.split(".")[0]) >= 2
        and own.get("tree_method") in (None, "auto", "hist")
        and all(own.get(name) is None for name in constraints)
    )


def _fit(model: Any, X: Any, y: NDArray[Any], options: dict[str, Any]) -> None:
    try:
        model.fit(X, y, **options)
    except Exception as error:  # LightGBM's own error is no ValueError
        if type(error).__name__ != "LightGBMError":
            raise
        raise ValueError(f"LightGBM rejects model.params: {error}") from error
